"""Section 2 of the Train tab: the configuration of the run, and what it would train, live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from mtl.choices import Preset
from mtl.config import RunConfig, UnfreezingConfig
from mtl.config_text import from_dict
from mtl.errors import UserError
from mtl.runs.limits import check_encoder
from mtl.training.demands import check_installed
from mtl.ui import picker
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST
from mtl.ui.live_plot import live_plot
from mtl.ui.train import balancing, basics, exchange, heads, options, phases
from mtl.ui.train.basics import FREEZE, FRESH, START_FROM
from mtl.ui.train.data import DataSection, data_values, understood_or_none
from mtl.ui.train.exchange import Exchange
from mtl.ui.train.heads import Heads
from mtl.ui.train.planning import layer_count
from mtl.ui.train.preview import Preview, preview
from mtl.ui.train.values import HEADS, PHASES, to_form, to_values

DEFAULTS = to_form(RunConfig())
NAME = "encoder.name"
# What a preset decides, in the order of the form; what is in the unfreezing follows.
PRESET_FIELDS = (
    "epochs", "batch_size", "freeze", "embeddings_learning_rate", "encoder_learning_rate", "head_learning_rate",
    "layer_decay", "projection_learning_rate", "patience", "warmup", "unfreezing",
)  # fmt: skip


@dataclass
class PlanSection:
    """The form.

    Attributes:
        data: The section above.
        looks: State: changes when more is known of the data than before.
        fields: Path in the configuration, such as `training.epochs` -> component.
        heads: The settings of each head.
        exchange: The configuration as text.
        summary: What it would train: the first words, the map of the rates, and the rest.
    """

    data: DataSection
    looks: gr.State
    fields: dict[str, Any] = field(default_factory=dict)
    heads: Heads | None = None
    exchange: Exchange | None = None
    summary: tuple[gr.HTML, gr.HTML, gr.HTML] | None = None

    @property
    def preset_paths(self) -> list[str]:
        """The paths of what a preset decides."""
        unfreezing = [f"{phases.UNFREEZING}.{name}" for name in UnfreezingConfig.model_fields]
        return [f"training.{name}" for name in PRESET_FIELDS] + unfreezing + [PHASES]


def build(data: DataSection, looks: gr.State) -> PlanSection:
    """Lay out the form; `wire_runs` gives it the rest of its life once the visitor is known.

    Args:
        data: The section above.
        looks: Changes when more is known of the data than before.
    """
    section = PlanSection(data, looks)
    gr.HTML('<h2 class="step"><span>2</span> Plan</h2>')
    with gr.Column(elem_classes="groups stack"):
        section.fields = basics.build(DEFAULTS)
    with gr.Accordion("Advanced", open=False, elem_id="advanced", elem_classes="groups"):
        section.heads = heads.build()
        section.fields |= _advanced(section.heads, data)
    section.exchange = exchange.build()
    with gr.Column(elem_id="plan-summary", elem_classes="stack"):
        first = gr.HTML(elem_id="plan-first")
        rates = live_plot(
            "Learning rate of each part of the model in each epoch", height=380, elem_id="plan-map", visible=False
        )
        section.summary = (first, rates, gr.HTML(elem_id="plan-rest"))
    _wire(section)
    return section


def _advanced(editor: Heads, data: DataSection) -> dict[str, Any]:
    """Lay out the rest, group by group."""
    fields = balancing.build(DEFAULTS, data, editor.widgets["final_loss_weight"])
    fields |= options.sampling(DEFAULTS)
    fields |= options.learning(DEFAULTS)
    fields |= phases.build(DEFAULTS)
    fields |= options.choosing(DEFAULTS)
    fields |= options.encoder(DEFAULTS)
    fields |= options.split(DEFAULTS)
    return fields | options.machine(DEFAULTS)


def _wire(section: PlanSection) -> None:
    """Wire what concerns the form alone."""
    fields, data, editor = section.fields, section.data, section.heads
    assert editor is not None
    preset, unfreezing = fields["training.preset"], fields[phases.UNFREEZING]
    filled = [fields[path] for path in section.preset_paths]
    preset.input(guarded(lambda name: _preset_values(section, name)), preset, filled, **LATEST)
    zeros = [fields["training.embeddings_learning_rate"], fields["training.head_learning_rate"]]
    preset.change(guarded(basics.preset_infos), preset, [preset, *zeros], **LATEST)
    unfreezing.input(phases.without_unfreezing, [preset, unfreezing, fields[PHASES]], preset, **LATEST)
    balanced, weights = fields["training.sampling_options.balance_task"], fields["data.weight_column"]
    data.task_columns.change(
        guarded(lambda given: _tasks_changed(section, given)),
        {*data.inputs, editor.chosen, fields[NAME], *editor.inputs},
        [*editor.outputs, fields[FREEZE], balanced, weights],
        **LATEST,
    )
    gr.on(
        [fields[NAME].blur, fields[NAME].submit],
        guarded(lambda name, tasks: gr.update(choices=basics.freeze_choices(tasks or (), layer_count(name)))),
        [fields[NAME], data.task_columns],
        fields[FREEZE],
        **LATEST,
    )


def _preset_values(section: PlanSection, preset: Preset) -> list[Any]:
    """Fill the form with a preset; phases of one's own are a plan too, so they go."""
    form = to_form(from_dict({"training": {"preset": preset}}))
    return [form[path] for path in section.preset_paths]


def _tasks_changed(section: PlanSection, given: Mapping[Any, Any]) -> dict[Any, Any]:
    """Offer a head for each chosen task wherever one can be chosen; what was set for a task is kept."""
    data, editor, fields = section.data, section.heads, section.fields
    assert editor is not None
    tasks, understood = list(given[data.task_columns] or []), understood_or_none(data, given)
    facts = heads.facts_of(tasks, understood)
    columns = list(understood.table.headers) if understood else []
    return editor.filled(tasks, editor.values(given), facts, given[editor.chosen] or "") | {
        fields[FREEZE]: gr.update(choices=basics.freeze_choices(tasks, layer_count(given[fields[NAME]]))),
        fields["training.sampling_options.balance_task"]: gr.update(choices=[(options.ALL_TASKS, ""), *tasks]),
        fields["data.weight_column"]: gr.update(choices=[(options.NO_COLUMN, ""), *columns]),
    }


def wire_runs(
    section: PlanSection,
    context: AppContext,
    blocks: gr.Blocks,
    *,
    token: gr.State,
    changes: Sequence[gr.State],
) -> None:
    """Offer the visitor's runs to start from, keep the preview up to date, and take in configurations.

    Args:
        section: The form.
        context: The server's.
        blocks: The page.
        token: State: the visitor's secret.
        changes: States that change when a run ends, is renamed or deleted.
    """
    start = section.fields[START_FROM]
    offer = guarded(lambda secret: gr.update(choices=start_choices(context, secret)))
    gr.on(
        [blocks.load, token.change, start.focus, start.change, *(state.change for state in changes)],
        offer, token, start, **LATEST,
    )  # fmt: skip
    assert section.exchange is not None and section.heads is not None and section.summary is not None
    inputs = form_inputs(section, section.data) | {token, section.exchange.view}

    def redraw(values: Mapping[Any, Any]) -> dict[Any, Any]:
        return redrawn(section, context, values, str(values[token] or ""))

    # an encoder's name is looked up when it is complete, not letter by letter
    name = section.fields[NAME]
    others = [component for path, component in section.fields.items() if path != NAME]
    changing = [*others, *section.heads.widgets.values(), *section.data.inputs, section.looks, section.exchange.view]
    gr.on(
        [blocks.load, name.blur, name.submit, *(component.change for component in changing)],
        guarded(redraw), inputs, [*section.summary, *section.exchange.outputs], **LATEST,
    )  # fmt: skip
    exchange.wire(section.exchange, section.data, section.heads, section.fields)


def start_choices(context: AppContext, token: str) -> list[tuple[str, str]]:
    """Offer what a run can start from: nothing, or a run of this visitor that has a checkpoint."""
    return [(FRESH, ""), *picker.choices(context.checkpoints(token))]


def redrawn(section: PlanSection, context: AppContext, values: Mapping[Any, Any], token: str) -> dict[Any, Any]:
    """Draw what the form stands for: the preview, and the configuration as text."""
    assert section.summary is not None and section.exchange is not None
    data, files = section.data, values[section.data.files]
    if files and not values[data.text_column]:  # new files: the widgets are being filled
        return section.exchange.drawn(None, files, "") | _drawn(section, Preview())
    try:
        config = form_values(section, data, values)
        text = section.exchange.drawn(config, files, values[section.exchange.view])
        check_encoder(config)
        return text | _drawn(section, preview(context, config, files, token))
    except UserError as error:  # on the way to a legal form; Start says it as a toast
        return _drawn(section, Preview.problem(str(error)))


def _drawn(section: PlanSection, shown: Preview) -> dict[Any, Any]:
    assert section.summary is not None
    first, rates, rest = section.summary
    plot = gr.update(visible=False) if shown.figure is None else gr.update(value=shown.figure, visible=True)
    return {first: shown.first, rates: plot, rest: shown.rest}


def form_inputs(section: PlanSection, data: DataSection) -> set[gr.components.Component]:
    """List what a handler needs to build the configuration."""
    assert section.heads is not None
    return {*section.fields.values(), *section.heads.inputs, *data.inputs}


def form_values(section: PlanSection, data: DataSection, values: Mapping[gr.components.Component, Any]) -> RunConfig:
    """Build the configuration from the form; what the preset says is left to it.

    Raises:
        ConfigError: A value is out of range, or a method is chosen that is not installed.
    """
    assert section.heads is not None
    form = {path: values[component] for path, component in section.fields.items()}
    form[HEADS] = section.heads.values(values)
    tasks, from_data = list(values[data.task_columns] or []), data_values(data, values)
    nested = to_values(form, tasks)
    split = nested["data"].get("split", {}) | from_data["data"].pop("split")
    nested["data"] = nested["data"] | from_data["data"] | {"split": split}
    for name, merged in from_data["tasks"].items():
        own = nested["tasks"].setdefault(name, {})
        own["merge"] = own.get("merge", {}) | merged["merge"]
    config = from_dict(nested)
    check_installed(config.training.weighting)
    return config
