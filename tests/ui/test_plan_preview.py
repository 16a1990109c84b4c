"""The preview is what the run does: its plan, its steps and its heads are those of the run that is then trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.preparing import cut
from mtl.data.reading import read_table
from mtl.errors import ConfigError
from mtl.runs.starting import start_model
from mtl.runs.store import Run, RunStore
from mtl.settings import settings
from mtl.training.events import RunBegin
from mtl.training.setup import Setup
from mtl.ui.context import AppContext
from mtl.ui.train.planning import Planned, plan_run
from mtl.ui.train.preview import preview

PLANS = [
    ["training.preset=progressive", "training.epochs=4", "training.unfreezing={heads_epochs: 1, layers: 1, epochs: 1}"],
    [
        "training.sampling=uniform",
        "training.curriculum={}",
        "training.epochs=2",
        "tasks={mood: {freeze: true}, topic: {}}",
    ],
    ["training.phases=[{epochs: 1}, {learn: everything, layer_decay: 0.5}]", "training.freeze=bottom.1"],
]


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    return AppContext(RunStore(tmp_path / "runs"))


def plan(context: AppContext, config: RunConfig, file: Path, token: str = "") -> Planned:
    return plan_run(context, config, [(str(file), file.name)], near=True, token=token)


def begun(context: AppContext, config: RunConfig, file: Path) -> RunBegin:
    """Create a run, prepare it as its worker does, and return what it says at its beginning."""
    run = context.store.create(config, read_table(file.read_bytes()))
    start = start_model(run.config, run.source)
    return Setup(start.model, cut(run.table(), run.config, run.split()), run.config, None).begin


@pytest.mark.parametrize("settings_", PLANS)
def test_preview_is_the_plan_that_the_run_follows(
    context: AppContext, raw_config: RunConfig, tiny_csv: Path, settings_: list[str]
) -> None:
    config = override(raw_config, settings_)
    found = plan(context, config, tiny_csv)
    begin = begun(context, config, tiny_csv)
    assert found.plan.as_dict() == begin.plan
    assert found.plan.steps == begin.steps
    warnings = found.plan.warnings + [f"{name} is frozen" for name in found.frozen]
    assert len(warnings) == len(begin.warnings)
    assert all(any(ours in theirs for theirs in begin.warnings) for ours in warnings)


@pytest.mark.parametrize("columns", ["text,topic,mood", "text,topic"])
def test_preview_of_a_run_that_learns_on_has_the_heads_of_both(
    context: AppContext, finished_run: Run, raw_config: RunConfig, tiny_csv: Path, columns: str
) -> None:
    context.store.root.parent.mkdir(exist_ok=True)
    (context.store.root).mkdir()
    (context.store.root / finished_run.name).symlink_to(finished_run.path)
    lines = [line for line in tiny_csv.read_text().splitlines() if columns == "text,topic,mood" or '",,' not in line]
    count = len(columns.split(","))
    tiny_csv.write_text("\n".join([columns, *(_cut(line, count) for line in lines[1:])]))
    config = override(raw_config, [f"training.start_from={finished_run.name}", "training.epochs=1"])
    found = plan(context, config, tiny_csv)
    assert found.plan.as_dict() == begun(context, config, tiny_csv).plan
    assert {"head.topic", "head.mood"} <= set(found.plan.sizes)
    assert ("head.mood" in found.plan.ever_learning) == (count == 3)
    assert found.frozen == ()
    notes = " ".join(found.notes)
    assert ("kept as they are" in notes) == (count == 2)


def _cut(line: str, columns: int) -> str:
    return line if columns == 3 else line.rpartition(",")[0]


def test_preview_opens_no_strangers_run(
    context: AppContext, raw_config: RunConfig, tiny_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = context.store.create(raw_config, read_table(tiny_csv.read_bytes()), token="mine")
    config = override(raw_config, [f"training.start_from={run.name}"])
    with pytest.raises(ConfigError, match="no checkpoint"):
        plan(context, config, tiny_csv, token="mine")
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    for name in (run.name, "no-such-run", "../../etc"):
        with pytest.raises(ConfigError, match="there is no such run"):
            plan(context, override(raw_config, [f"training.start_from={name}"]), tiny_csv, token="theirs")


def test_preview_draws_everything_of_a_plan(context: AppContext, raw_config: RunConfig, tiny_csv: Path) -> None:
    config = override(raw_config, ["training.sampling=annealed", "tasks={topic: {}, mood: {head: mlp, freeze: true}}"])
    shown = preview(context, config, [(str(tiny_csv), "tiny.csv")])
    assert "parameters learn" in shown.first
    assert "head.mood is frozen" in shown.first or "mood is frozen" in shown.first
    assert shown.figure is not None
    assert shown.figure["data"][1]["y"][-2:] == ["head.topic", "head.mood"]
    for words in (
        "Training rows in an epoch",
        "0 leaks",
        "head mlp, frozen",
        "Epoch by epoch",
        "Part by part",
        "tokens",
    ):
        assert words in shown.rest
    assert preview(context, config, []).figure is None


def test_preview_is_made_once_for_the_same_data(
    context: AppContext, raw_config: RunConfig, tiny_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(context, raw_config, tiny_csv)
    again = plan(context, override(raw_config, ["training.encoder_learning_rate=1e-5"]), tiny_csv)
    assert again.exposure is first.exposure
    other = plan(context, override(raw_config, ["training.batch_size=5"]), tiny_csv)
    assert other.exposure is not first.exposure
    assert other.plan.steps > first.plan.steps
