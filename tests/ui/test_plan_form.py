"""The handlers of the plan, as plain functions: filling the form, and reading it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from mtl.choices import PRESETS, WEIGHTING_EXTRAS, Preset
from mtl.config import RunConfig, resolve
from mtl.config_text import from_dict
from mtl.errors import ConfigError
from mtl.runs.store import RunStore
from mtl.ui.context import AppContext
from mtl.ui.train import balancing, data, exchange, phases, plan
from mtl.ui.train.plan import PlanSection, form_inputs, form_values
from mtl.ui.train.values import HEADS, PHASES

Values = dict[Any, Any]


@pytest.fixture(scope="module")
def section() -> PlanSection:
    """The form on a page of its own."""

    async def built() -> PlanSection:  # in a loop, else gradio makes loops and leaves them open
        with gr.Blocks():
            return plan.build(data.build(), gr.State(0))

    return asyncio.run(built())


def at_first(section: PlanSection) -> Values:
    """Return what the widgets hold on a fresh page."""
    found = {component: component.value for component in form_inputs(section, section.data)}
    return {one: [] if isinstance(one, gr.Dataframe) else value for one, value in found.items()}


@pytest.fixture
def values(section: PlanSection, tiny_csv: Path) -> Values:
    """What the widgets hold once the tiny file is there."""
    found = at_first(section)
    found[section.data.files] = [[str(tiny_csv), "tiny.csv"]]
    found[section.data.text_column], found[section.data.task_columns] = ["text"], ["topic", "mood"]
    assert section.heads is not None and section.exchange is not None
    found |= {section.heads.chosen: "", section.heads.facts: {}, section.exchange.view: exchange.CHANGED}
    return changed(found, plan._tasks_changed(section, found))


def changed(values: Values, updates: Mapping[Any, Any]) -> Values:
    """Do to the widgets what the page does with the updates of a handler."""
    told = {}
    for component, update in updates.items():
        if not isinstance(update, dict) or update.get("__type__") != "update":
            told[component] = update
        elif "value" in update:
            told[component] = update["value"]
    return values | told


def applied(section: PlanSection, values: Values, config: RunConfig) -> Values:
    assert section.heads is not None
    return changed(values, exchange._filled(config, values, section.data, section.heads, section.fields))


def test_plan_form_begins_as_the_default_configuration(section: PlanSection, values: Values) -> None:
    config = form_values(section, section.data, values)
    columns = {"text_column": ("text",), "task_columns": ("topic", "mood"), "split": {"column": ""}}
    assert config == from_dict({"data": columns})


@pytest.mark.parametrize("preset", PRESETS)
def test_plan_form_filled_by_a_preset_is_that_preset(section: PlanSection, values: Values, preset: Preset) -> None:
    updates = plan._preset_values(section, preset)
    filled = [section.fields[path] for path in section.preset_paths]
    now = changed(values, dict(zip(filled, updates, strict=True))) | {section.fields["training.preset"]: preset}
    config = form_values(section, section.data, now)
    assert resolve(config, 40).training == resolve(from_dict({"training": {"preset": preset}}), 40).training
    assert config.training.model_dump(exclude_defaults=True) == ({} if preset == "balanced" else {"preset": preset})


CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"training": {"preset": "progressive", "weighting": "ramp", "conflict_every": 7, "curriculum": {"start": 0.5}},
     "tasks": {"mood": {"final_loss_weight": 0.0, "loss": "focal"}, "topic": {"head": "mlp", "freeze": True}}},
    {"training": {"phases": [{"epochs": 2}, {"learn": ["top.2"], "encoder_learning_rate": 1e-5}], "seed": 3},
     "data": {"split": {"column": "", "group_column": "mood", "near_duplicates": 0.9}, "task_columns": ["topic"]}},
    {"data": {"reading": {"encoding": "utf-8", "delimiter": ",", "quote": '"', "header": True},
              "text_column": ["text"], "separate_tasks": False, "split": {"column": ""}}},
    {"training": {"row_sampling": "weight_column"}, "data": {"weight_column": "topic", "task_columns": ["mood"]}},
    {"tasks": {"mood": {"merge": {"good": "fine", "Bad": "bad"}, "labels": ["fine", "bad"]}}},
]  # fmt: skip


@pytest.mark.parametrize("given", CONFIGURATIONS)
def test_plan_form_filled_from_yaml_says_the_same(section: PlanSection, values: Values, given: dict[str, Any]) -> None:
    config = from_dict(given)
    found = form_values(section, section.data, applied(section, values, config))
    columns = config.data.model_dump() | {"text_column": ("text",), "task_columns": found.data.task_columns}
    columns["split"] |= {"column": ""}
    assert found.data.task_columns == (config.data.task_columns or tuple(config.tasks) or ("topic", "mood"))
    expected = config.model_copy(update={"data": from_dict({"data": columns, **_rows(config)}).data})
    assert resolve(found, 40) == resolve(expected, 40)
    again = form_values(section, section.data, applied(section, values, found))
    assert again == found


def _rows(config: RunConfig) -> dict[str, Any]:
    return {"training": {"row_sampling": config.training.row_sampling}}


def test_plan_form_ticks_the_merges_it_offers_and_keeps_the_others(section: PlanSection, tmp_path: Path) -> None:
    file = tmp_path / "moods.csv"
    rows = [f"the text number {number} says it,{('good', 'bad', 'good', 'Good')[number % 4]}" for number in range(60)]
    file.write_text("\n".join(["text,mood", *rows]))
    found = at_first(section)
    found |= {section.data.files: [[str(file), "moods.csv"]], section.data.text_column: ["text"]}
    found |= {section.data.task_columns: ["mood"], section.heads.chosen: "", section.heads.facts: {}}  # type: ignore
    merge = {"Good": "good", "awful": "bad"}
    now = applied(section, found, from_dict({"tasks": {"mood": {"merge": merge}}}))
    (tick,) = now[section.data.merges]
    assert json.loads(tick) == ["mood", {"Good": "good"}]
    assert form_values(section, section.data, now).tasks["mood"].merge == merge


def test_plan_heads_keep_what_was_set_when_another_one_is_chosen(section: PlanSection, values: Values) -> None:
    heads = section.heads
    assert heads is not None
    assert values[heads.shown] == "topic"
    values = values | {heads.widgets["dropout"]: 0.5, heads.chosen: "mood"}
    facts = values[heads.facts]
    assert facts == {"topic": {"kind": "classification", "labels": ["sports", "weather", "food"]} | facts["topic"],
                     "mood": facts["mood"]}  # fmt: skip
    values = changed(values, heads.filled(list(facts), heads.values(values), facts, "mood"))
    assert (values[heads.shown], values[heads.widgets["dropout"]]) == ("mood", 0.1)
    values = values | {heads.widgets["head"]: "mlp"}
    tasks = form_values(section, section.data, values).tasks
    assert {name: task.model_dump(exclude_defaults=True) for name, task in tasks.items()} == {
        "topic": {"dropout": 0.5},
        "mood": {"head": "mlp"},
    }
    fewer = changed(values, plan._tasks_changed(section, values | {section.data.task_columns: ["topic"]}))
    assert fewer[heads.widgets["dropout"]] == 0.5
    assert set(form_values(section, section.data, fewer | {section.data.task_columns: ["topic"]}).tasks) == {"topic"}
    again = changed(fewer, plan._tasks_changed(section, fewer))
    assert set(form_values(section, section.data, again).tasks) == {"topic", "mood"}, "it is still known"


def test_plan_offers_heads_and_columns_of_the_file(section: PlanSection, values: Values) -> None:
    updates = plan._tasks_changed(section, values)
    freeze = updates[section.fields["training.freeze"]]["choices"]
    assert {"everything", "encoder", "embeddings", "bottom.1", "bottom.6", "layer.5", "head.mood"} <= set(freeze)
    columns = updates[section.fields["data.weight_column"]]["choices"]
    assert columns[1:] == ["text", "topic", "mood"]


@pytest.fixture
def without_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.training.demands.find_spec", lambda name: None)


@pytest.mark.usefixtures("without_solvers")
@pytest.mark.parametrize("weighting", WEIGHTING_EXTRAS)
def test_plan_says_what_to_install_for_a_weighting_and_does_not_start_it(
    section: PlanSection, values: Values, weighting: Any
) -> None:
    modules, extra = WEIGHTING_EXTRAS[weighting]
    assert all(module in balancing.label(weighting) for module in modules)
    assert f"torchjd[{extra}]" in balancing.about_html(weighting, 2, 0)
    with pytest.raises(ConfigError, match="Install it"):
        form_values(section, section.data, values | {section.fields["training.weighting"]: weighting})


@pytest.mark.parametrize(
    ("weighting", "clip", "words"),
    [("fixed", 0, "one backward pass,"), ("pcgrad", 0, "3 backward passes"), ("dwa", 0.5, "3 backward passes")],
)
def test_plan_says_what_a_weighting_costs(weighting: Any, clip: float, words: str) -> None:
    assert words in balancing.about_html(weighting, 3, clip)


def test_plan_phases_are_added_and_exclude_the_unfreezing(section: PlanSection, values: Values) -> None:
    rows = phases._added(phases._added([]))
    assert [row[1] for row in rows] == ["heads", "top.3"]
    both = values | {section.fields[PHASES]: rows, section.fields[phases.UNFREEZING]: True}
    with pytest.raises(ConfigError, match="two ways"):
        form_values(section, section.data, both)
    _, note, *_ = phases._looks(True, rows)
    assert "two ways" in note
    assert phases._looks(False, rows)[1] == phases._looks(True, [])[1] == ""
    assert phases.without_unfreezing("progressive", False, []) == "thorough"


def test_plan_redraws_a_mistake_as_a_sentence(section: PlanSection, values: Values, tmp_path: Path) -> None:
    context = AppContext(RunStore(tmp_path / "runs"))
    assert section.summary is not None
    wrong = values | {section.fields["training.batch_size"]: 0}
    shown = plan.redrawn(section, context, wrong, "")
    assert "training.batch_size must be at least 1" in shown[section.summary[0]]
    assert shown[section.summary[1]] == gr.update(visible=False)


def test_plan_says_what_it_did_not_take_from_yaml() -> None:
    assert "data.files (a.csv)" in exchange._answer(from_dict({"data": {"files": "a.csv"}}))
    assert "data.files" not in exchange._answer(RunConfig())


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * 300_000], ids=["no text", "too large"])
def test_plan_refuses_a_file_that_is_no_configuration(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"The file is"):
        exchange._text_of(str(tmp_path / "c.yaml"))


def test_plan_heads_are_part_of_the_form(section: PlanSection) -> None:
    assert HEADS not in section.fields
    assert section.heads is not None
    assert set(section.heads.inputs) <= form_inputs(section, section.data)
