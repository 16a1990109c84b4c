"""The form of the plan and the configuration it stands for: nothing is lost either way."""

from __future__ import annotations

from typing import Any, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtl.choices import PRESETS, SCORES, Preset, Weighting
from mtl.config import PhaseConfig, RunConfig, Section, TaskConfig, resolve
from mtl.config_text import from_dict, override, read_yaml, to_yaml
from mtl.errors import ConfigError
from mtl.ui.train.as_text import command, command_settings, differing, differing_yaml
from mtl.ui.train.data import READING, nested_sections
from mtl.ui.train.plan import DEFAULTS
from mtl.ui.train.values import (
    CONFLICT,
    HEADS,
    OPTIONAL,
    PHASES,
    head_values,
    head_widgets,
    to_form,
    to_values,
)

ROWS = 900
HEAD = {
    "head": "mlp", "loss": "focal", "focal_gamma": 1.5, "label_smoothing": 0.1, "class_weights": "effective",
    "freeze": True, "learning_rate": 3e-3, "schedule": "cosine", "loss_weight": 0.5, "score_weight": 2.0,
    "main_score": "accuracy", "dropout": 0.0, "labels": ["no", "yes"], "merge": {"No": "no", "1e-5": "yes"},
}  # fmt: skip
TRAININGS: list[dict[str, Any]] = [
    {},
    *({"preset": preset} for preset in PRESETS),
    {"preset": "progressive", "epochs": "auto"},
    {"preset": "progressive", "unfreezing": {"layers": 1, "last_learning_rate": None, "last_decay": None}},
    {"preset": "balanced", "unfreezing": {}},
    {"preset": "thorough", "embeddings_learning_rate": 1e-6, "layer_decay": 0.75, "freeze": []},
    {"preset": "classic", "head_learning_rate": 1e-2, "freeze": ["bottom.2", "head.a, b", "layer.4"]},
    {"phases": [{"epochs": 2}, {"learn": "top.2, layer.0", "encoder_learning_rate": 3e-5, "layer_decay": 0.9}]},
    {"preset": "progressive", "phases": [{"epochs": 3, "learn": ["everything"], "head_learning_rate": 1e-4}]},
    {"phases": [{"learn": ["head.a, b", "layer.1"], "embeddings_learning_rate": 1e-6}]},
    {"clip": None, "clip_per_task": 0.5, "conflict_every": 0, "stay_close": 0.25, "patience": 7},
    {"conflict_every": 20, "curriculum": {}, "optimizer": "adam", "schedule": "constant", "warmup": 0.0},
    {"curriculum": {"start": 0.5, "epochs": 4}, "select_by": "weighted_score", "patience_in_phases": "next"},
    {"weighting": "cagrad", "weighting_options": {"caution": 0.2, "alpha": 0.0, "learning_rate": 0.1}},
    {"sampling": "annealed", "sampling_options": {"final_exponent": 0.0, "temperature": 7.5}},
    {"row_sampling": "class_balance", "sampling_options": {"balance_task": "a, b"}},
    {"start_from": "20260101-000000-abcdef", "seed": 2**31 - 1, "precision": "float32", "attention": "eager"},
    {"device": "cpu", "epochs": 1000, "batch_size": 1, "encoder_learning_rate": 1.2345678901234567e-05},
]
OTHERS: list[dict[str, Any]] = [
    {},
    {"encoder": {"name": "other/one", "pooling": "attention", "projection": 64, "layer_norm": True,
                 "normalize": False, "max_length": 128}},
    {"data": {"text_column": ["a b", "c"], "task_columns": ["topic"], "separate_tasks": True,
              "split": {"train": 0.5, "validation": 0.25, "test": 0.25, "seed": 3, "near_duplicates": 0.95,
                        "column": "", "group_column": "author"}}},
    {"data": {"reading": {"encoding": "cp1252", "delimiter": ";", "quote": "'", "header": False}}},
    {"data": {"weight_column": "how often"}, "training": {"row_sampling": "weight_column"}},
    {"tasks": {"topic": HEAD, "a, b": {"learning_rate": 1e-4}, "x.y: {z} # no": {"dropout": 0.25}}},
    {"tasks": {"=1+1": {"head": "mlp"}, "plain": {"loss_weight": 2}}},
    {"training": {"weighting": "ramp"}, "tasks": {"topic": {"final_loss_weight": 0.0, "loss_weight": 3.0}}},
    {"tasks": {"who": {"kind": "token_classification", "main_score": "entity_recall", "labels": ["PER"]}}},
]  # fmt: skip


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {**first, **second, "training": {**first.get("training", {}), **second.get("training", {})}}


# each of the first list with two of the second
CONFIGS = [
    from_dict(merged({"training": training}, OTHERS[(place * step + start) % len(OTHERS)]))
    for start, step in ((0, 1), (4, 2))
    for place, training in enumerate(TRAININGS)
]


def form_of(config: RunConfig) -> RunConfig:
    """Go through the form: what its widgets say, together with what the section of the data says."""
    values = to_values(to_form(config), config.tasks)
    data = config.data.model_dump()
    own = values.pop("data")
    data["split"] |= own.pop("split", {})
    return from_dict(values | {"data": data | own})


def resolved(config: RunConfig) -> RunConfig:
    return resolve(config, ROWS)


def test_plan_form_offers_every_setting_of_a_run() -> None:
    section_of_data = {
        "data.files", "data.text_column", "data.task_columns", "data.separate_tasks", "data.split.column",
        "data.split.group_column", *(f"data.reading.{name}" for name in READING),
    }  # fmt: skip
    offered = {*DEFAULTS, *section_of_data} - {"training.conflict_every.steps"}
    assert offered == {*leaves(RunConfig), *OPTIONAL, HEADS, PHASES}
    assert {*head_widgets({}), "kind"} == set(TaskConfig.model_fields)
    (row,) = to_form(from_dict({"training": {"phases": [{}]}}))[PHASES]
    assert len(row) == len(PhaseConfig.model_fields)


def leaves(model: type[Section], path: str = "") -> list[str]:
    """List the dotted paths of every setting."""
    found = []
    for name, field in model.model_fields.items():
        several = get_origin(field.annotation) in (dict, tuple)
        kinds = [] if several else [field.annotation, *get_args(field.annotation)]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        found += leaves(inner, f"{path}{name}.") if inner else [f"{path}{name}"]
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_plan_form_holds_any_configuration_and_gives_it_back(config: RunConfig) -> None:
    again = form_of(config)
    assert resolved(again) == resolved(config)
    assert to_form(again) | {CONFLICT: None} == to_form(form_of(again)) | {CONFLICT: None}
    assert form_of(again) == again


@pytest.mark.parametrize("config", [form_of(config) for config in CONFIGS])
def test_plan_yaml_and_command_say_exactly_what_the_form_says(config: RunConfig) -> None:
    assert from_dict(read_yaml(differing_yaml(config))) == config
    assert from_dict(read_yaml(to_yaml(config))) == config
    assert override(RunConfig(), command_settings(config)) == config
    form = to_form(config)
    assert to_form(from_dict(read_yaml(differing_yaml(config)))) == form


def test_plan_command_names_only_what_differs_and_is_quoted_for_a_shell() -> None:
    config = form_of(from_dict({"training": {"preset": "progressive", "seed": 1}, "tasks": {"a b": {"head": "mlp"}}}))
    assert command(config, ["it's mine.csv", "-b.csv"]) == (
        "python -m mtl train --data 'it'\"'\"'s mine.csv' --data ./-b.csv "
        "--set 'tasks.a b.head=mlp' --set training.preset=progressive --set training.seed=1"
    )
    assert command(RunConfig(), []) == "python -m mtl train --data FILE.csv"
    assert [setting.path for setting in differing(RunConfig())] == []


def test_plan_yaml_is_commented() -> None:
    text = differing_yaml(form_of(from_dict({"training": {"preset": "classic", "clip": None}})))
    assert text == (
        "training:\n"
        "  preset: classic  # Where the values left at null come from\n"
        "  clip: null  # Largest gradient norm; null: no clipping\n"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_plan_form_of_a_preset_says_only_its_name(preset: Preset) -> None:
    again = form_of(from_dict({"training": {"preset": preset}}))
    assert [setting.path[-1] for setting in differing(again)] == ([] if preset == "balanced" else ["preset"])


def test_plan_form_without_unfreezing_is_no_progressive_plan() -> None:
    form = to_form(from_dict({"training": {"preset": "progressive"}}))
    assert form["training.unfreezing"] is True
    found = resolved(from_dict(to_values(form | {"training.unfreezing": False}, ())))
    assert found.training.unfreezing is None
    kept = {name: value for name, value in PRESETS["progressive"].items() if name != "unfreezing"}
    assert {name: getattr(found.training, name) for name in kept} == kept


def test_plan_form_refuses_two_plans_at_once() -> None:
    form = to_form(from_dict({"training": {"preset": "progressive"}}))
    with pytest.raises(ConfigError, match="two ways to say the same"):
        to_values(form | {PHASES: [[2, "heads", None, None, None, None]]}, ())


@pytest.mark.parametrize("empty", [None, "", float("nan")])
def test_plan_phases_leave_out_what_is_empty(empty: Any) -> None:
    form = to_form(RunConfig())
    rows = [[2, "top.2, layer.0", 3e-5, empty, empty, 0.9], [empty] * 6]
    (phase,) = from_dict(to_values(form | {PHASES: rows}, ())).training.phases
    assert phase == PhaseConfig(epochs=2, learn=("top.2", "layer.0"), encoder_learning_rate=3e-5, layer_decay=0.9)


def test_plan_form_keeps_an_option_that_does_not_count_now_and_says_only_what_does() -> None:
    form = to_form(RunConfig()) | {"data.weight_column": "weight", HEADS: {"topic": {"final_loss_weight": 0.0}}}
    values = to_values(form, ["topic"])
    assert values["data"]["weight_column"] is None
    assert values["tasks"] == {}
    ramp = to_values(form | {"training.weighting": "ramp"}, ["topic"])
    assert ramp["tasks"] == {"topic": {"final_loss_weight": 0.0}}
    rows = to_values(form | {"training.row_sampling": "weight_column"}, ["topic"])
    assert rows["data"]["weight_column"] == "weight"


def test_plan_form_takes_an_emptied_field_for_the_default() -> None:
    form = {path: None if isinstance(value, float) else value for path, value in to_form(RunConfig()).items()}
    assert resolved(from_dict(to_values(form, ()))) == resolved(RunConfig())


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_plan_form_says_every_weighting(weighting: Weighting) -> None:
    form = to_form(RunConfig()) | {"training.weighting": weighting}
    assert from_dict(to_values(form, ())).training.weighting == weighting


tasks = st.fixed_dictionaries(
    {},
    optional={
        "head": st.sampled_from(["linear", "mlp"]),
        "dropout": st.floats(0, 0.99),
        "loss": st.sampled_from(["cross_entropy", "focal"]),
        "focal_gamma": st.floats(0, 10),
        "label_smoothing": st.floats(0, 0.99),
        "class_weights": st.sampled_from(["none", "balanced", "effective"]),
        "freeze": st.booleans(),
        "learning_rate": st.none() | st.floats(1e-9, 1),
        "schedule": st.none() | st.sampled_from(["linear", "cosine", "constant"]),
        "loss_weight": st.floats(0, 1000),
        "score_weight": st.floats(0, 1000),
        "main_score": st.none() | st.sampled_from(SCORES["classification"]),
        "labels": st.none() | st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=4, unique=True),
        "merge": st.dictionaries(st.text("abc", min_size=1), st.text("xyz", min_size=1), max_size=3),
    },
)


@given(tasks)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_plan_head_editor_gives_back_what_it_was_filled_with(values: dict[str, Any]) -> None:
    given_ = TaskConfig(**values)
    shown = head_widgets(given_.model_dump(mode="json", exclude_defaults=True))
    assert TaskConfig(**head_values(shown)) == given_


def test_plan_paths_nest_as_the_configuration_does() -> None:
    assert nested_sections({"a.b.c": 1, "a.d": 2}) == {"a": {"b": {"c": 1}, "d": 2}}
