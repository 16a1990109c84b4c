"""What the handlers share: which runs are seen, and how texts and errors pass."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import ConfigError, DataError
from mtl.runs.limits import check_encoder
from mtl.runs.store import SHIPPED, RunStore
from mtl.settings import settings
from mtl.ui.context import AppContext, guarded, lines


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    """Make a server whose runs are elsewhere than the shipped one."""
    return AppContext(RunStore(tmp_path / "elsewhere", SHIPPED))


def test_context_offers_the_shipped_checkpoint_wherever_the_runs_are(context: AppContext) -> None:
    assert [run.name for run in context.checkpoints()] == ["starter"]
    assert context.open("starter").has_checkpoint


def test_context_passes_over_a_run_whose_configuration_is_of_another_version(context: AppContext) -> None:
    folder = context.store.root / "20260101-000000-00"
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "manifest.json").write_text("{}")
    (folder / "config.yaml").write_text("something: else")
    assert [run.name for run in context.checkpoints()] == ["starter"]


def test_context_hides_a_strangers_run_on_a_shared_page(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_PUBLIC", "1")
    settings.cache_clear()
    run = context.store.create(RunConfig(), read_table(_csv()), token="mine")
    assert [seen.name for seen in context.runs("mine")] == [run.name, "starter"]
    assert [seen.name for seen in context.runs("theirs")] == ["starter"]
    assert [seen.name for seen in context.runs("")] == ["starter"]
    with pytest.raises(ConfigError, match="the encoder is one of"):
        check_encoder(RunConfig.model_validate({"encoder": {"name": "some/model"}}))


def _csv() -> bytes:
    return b"text,topic\n" + b"".join(b"a sentence number %d,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40))


def test_lines_of_a_box_skip_blanks_and_an_empty_text_of_a_list_is_an_error() -> None:
    assert lines("one\n\n two \n") == ["one", "two"]
    with pytest.raises(DataError, match="Text 2 is empty"):
        lines(["one", " "])


def test_guarded_shows_a_persons_mistake_and_hides_ours() -> None:
    def mistake() -> None:
        raise DataError("Row 3 <b>is</b> odd.")

    def fault() -> None:
        raise RuntimeError("secret")

    with pytest.raises(gr.Error, match="Row 3 &lt;b&gt;is"):
        guarded(mistake)()
    with pytest.raises(gr.Error, match="Something went wrong") as caught:
        guarded(fault)()
    assert "secret" not in str(caught.value)


def test_lines_refuse_half_a_character() -> None:
    with pytest.raises(DataError, match="Text 2 holds half of a character"):
        lines(["fine", "not \ud800 fine"])
