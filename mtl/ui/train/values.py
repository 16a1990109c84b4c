"""What the widgets of the plan hold, and the configuration that it stands for; both ways.

A number field cannot be empty in a browser: where 0 is no possible value, it stands for "left to the app" or "off".
A value that is what the preset says is left to the preset, so that what is written down is only what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from mtl.choices import PRESETS, Preset
from mtl.config import (
    CurriculumConfig,
    EncoderConfig,
    PhaseConfig,
    RunConfig,
    SamplingOptions,
    TaskConfig,
    TrainingConfig,
    UnfreezingConfig,
    WeightingOptions,
)
from mtl.errors import ConfigError
from mtl.ui.train.data import nested_sections

Form = dict[str, Any]  # path in the configuration -> what its widget holds; `HEADS` and `PHASES` hold several values
Row = Sequence[Any]

HEADS, PHASES = "tasks", "training.phases"
CONFLICT, CONFLICT_STEPS, SOME, NEVER = "training.conflict_every", "training.conflict_every.steps", "some", "never"
FIRST_STEPS = 50
# a preset that leaves to the app whatever can be left to it: what a plan without unfreezing is a variation of
PLAIN_PRESET: Preset = "thorough"
ZERO_IS_NONE = frozenset(
    (
        "encoder.projection",
        "encoder.max_length",
        "data.split.near_duplicates",
        "training.embeddings_learning_rate",
        "training.head_learning_rate",
        "training.clip",
        "training.clip_per_task",
        "training.unfreezing.last_learning_rate",
        "training.unfreezing.last_decay",
    )
)
EMPTY_IS_NONE = frozenset(
    ("training.start_from", "training.sampling_options.balance_task", "data.weight_column"),
)
# sections that are there or not: a checkbox, and the widgets of what is in them
OPTIONAL: dict[str, type[CurriculumConfig] | type[UnfreezingConfig]] = {
    "training.curriculum": CurriculumConfig,
    "training.unfreezing": UnfreezingConfig,
}
PLAIN = (
    *(f"encoder.{name}" for name in EncoderConfig.model_fields),
    *(f"data.split.{name}" for name in ("train", "validation", "test", "seed", "near_duplicates")),
    "data.weight_column",
    *(
        f"training.{name}"
        for name in TrainingConfig.model_fields
        if name not in ("phases", "weighting_options", "sampling_options", "curriculum", "unfreezing", "conflict_every")
    ),
    *(f"training.weighting_options.{name}" for name in WeightingOptions.model_fields),
    *(f"training.sampling_options.{name}" for name in SamplingOptions.model_fields),
)
BOTH_PLANS = (
    "Progressive unfreezing and phases of your own are two ways to say the same: clear the box, or remove the phases."
)


def to_form(config: RunConfig) -> Form:
    """Return what the widgets hold for a configuration; what it leaves to its preset is filled in."""
    training, values = config.training, config.model_dump()
    preset = PRESETS[training.preset]
    values["training"] |= {name: preset.get(name) for name in preset if values["training"][name] is None}
    if training.phases:
        values["training"]["unfreezing"] = None
    form = {path: _widget(path, _at(values, path)) for path in PLAIN}
    for path, kind in OPTIONAL.items():
        section = _at(values, path)
        form[path] = section is not None
        filled = kind(**section or {}).model_dump()
        form |= {f"{path}.{name}": _widget(f"{path}.{name}", value) for name, value in filled.items()}
    form[PHASES] = [phase_row(phase) for phase in training.phases]
    every = training.conflict_every
    form[CONFLICT] = "auto" if every == "auto" else SOME if every else NEVER
    form[CONFLICT_STEPS] = every if isinstance(every, int) and every else FIRST_STEPS
    form[HEADS] = {name: task.model_dump(mode="json", exclude_defaults=True) for name, task in config.tasks.items()}
    return form


def _widget(path: str, value: Any) -> Any:
    """Turn a value of the configuration into what a widget can hold."""
    if path == "training.epochs":
        return 0 if value in (None, "auto") else value
    if value is None:
        return 0 if path in ZERO_IS_NONE else ""
    return list(value) if isinstance(value, tuple) else value


def to_values(form: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """Return the configuration that the widgets stand for, as nested plain values; where it is the default is left out.

    Args:
        form: What they hold.
        tasks: The tasks that are trained; what is known of the heads of others is kept back.

    Raises:
        ConfigError: Two ways to say which parts learn when.
    """
    given = {path: _value(path, form[path]) for path in PLAIN if form[path] is not None}
    for path, kind in OPTIONAL.items():
        inside = {name: form[f"{path}.{name}"] for name in kind.model_fields}
        filled = {name: _value(f"{path}.{name}", value) for name, value in inside.items() if value is not None}
        given[path] = filled if form[path] else None
    given[PHASES] = [found for row in form[PHASES] or () if (found := _phase(row))]
    given[CONFLICT] = {"auto": "auto", NEVER: 0}.get(form[CONFLICT], form[CONFLICT_STEPS])
    if given["training.row_sampling"] != "weight_column":
        given["data.weight_column"] = None
    if given["training.unfreezing"] is not None and given[PHASES]:
        raise ConfigError(BOTH_PLANS)
    nested = nested_sections(_left_to_preset(given))
    ramp = given["training.weighting"] == "ramp"
    heads = {name: _head(form[HEADS].get(name) or {}, ramp=ramp) for name in tasks}
    nested[HEADS] = {name: head for name, head in heads.items() if head}
    return nested


def _value(path: str, value: Any) -> Any:
    """Turn what a widget holds into the value of the configuration."""
    if path == "training.epochs" and value == 0:
        return "auto"
    if (path in ZERO_IS_NONE and value == 0) or (path in EMPTY_IS_NONE and value == ""):
        return None
    return value


def _left_to_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Take out what the preset says anyway; choose another preset where this one says what cannot be taken back."""
    name = given["training.preset"]
    if "unfreezing" in PRESETS[name] and given["training.unfreezing"] is None and not given[PHASES]:
        name = PLAIN_PRESET
    usual = {f"training.{key}": value for key, value in PRESETS[name].items()}
    kept = {path: value for path, value in given.items() if path not in usual or not _same(value, usual[path])}
    return kept | {"training.preset": name}


def _same(value: Any, usual: Any) -> bool:
    return list(value) == list(usual) if isinstance(usual, tuple) else value == usual


def _head(values: Mapping[str, Any], *, ramp: bool) -> dict[str, Any]:
    """Return a head's values; its last loss weight only where the weighting looks at it."""
    return {name: value for name, value in values.items() if ramp or name != "final_loss_weight"}


def phase_row(phase: PhaseConfig) -> list[Any]:
    """Write a phase as a row of the table; an empty cell is null."""
    learn = ", ".join(phase.learn)
    if any("," in part for part in phase.learn):
        learn = yaml.safe_dump(list(phase.learn), default_flow_style=True, width=10**6).strip()
    rates = (phase.encoder_learning_rate, phase.embeddings_learning_rate, phase.head_learning_rate, phase.layer_decay)
    return [phase.epochs, learn, *rates]


def _phase(row: Row) -> dict[str, Any]:
    """Read a row of the table; an empty one is no phase."""
    names = (
        "epochs",
        "learn",
        "encoder_learning_rate",
        "embeddings_learning_rate",
        "head_learning_rate",
        "layer_decay",
    )
    found = {name: cell for name, cell in zip(names, row, strict=False) if not _is_empty(cell)}
    learn = str(found.get("learn", ""))
    if learn.startswith("["):
        found["learn"] = yaml.safe_load(learn)
    return found


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == "" or cell != cell  # an empty number may come as NaN


def head_widgets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the widgets of a head hold for its values."""
    task = TaskConfig.model_construct(**(TaskConfig().model_dump() | dict(values)))
    final = task.loss_weight if task.final_loss_weight is None else task.final_loss_weight
    shown = {name: getattr(task, name) for name in TaskConfig.model_fields if name != "kind"}
    return shown | {
        "labels": list(task.labels or ()),
        "merge": [[label, into] for label, into in task.merge.items()] or [["", ""]],
        "learning_rate": task.learning_rate or 0,
        "schedule": task.schedule or "",
        "main_score": task.main_score or "",
        "final_loss_weight": final,
    }


def head_values(widgets: Mapping[str, Any]) -> dict[str, Any]:
    """Return a head's values as its widgets hold them; the usual ones are left out."""
    usual = head_widgets({})
    found = {name: value for name, value in widgets.items() if value is not None and value != usual[name]}
    found.pop("final_loss_weight", None)
    if widgets["final_loss_weight"] not in (None, widgets["loss_weight"]):
        found["final_loss_weight"] = widgets["final_loss_weight"]
    merge = {str(row[0]): str(row[1]) for row in widgets["merge"] or () if not any(map(_is_empty, row[:2]))}
    found.pop("merge", None)
    return found | ({"merge": merge} if merge else {})


def _at(values: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        values = values[name]
    return values
