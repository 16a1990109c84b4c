"""What learns when: progressive unfreezing, or a table of phases of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from mtl.choices import Preset
from mtl.config import PhaseConfig
from mtl.ui import html
from mtl.ui.context import guarded
from mtl.ui.events import LATEST, PRIVATE
from mtl.ui.train.values import BOTH_PLANS, PHASES, PLAIN_PRESET, phase_row
from mtl.ui.train.widgets import heading, number

UNFREEZING = "training.unfreezing"
COLUMNS = ["epochs", "learn", "layers", "embeddings", "heads", "decay"]
HINT = (
    "The heads learn in every phase. Under learn, separated by commas: top.2 (the two uppermost layers), layer.5, "
    "encoder, embeddings, everything. Under layers, embeddings and heads: their rates. What is empty is as set above. "
    "The last phase lasts to the end."
)
# what a new row says: first the heads alone, then more and more
NEXT = (
    PhaseConfig(epochs=2, learn=("heads",)),
    PhaseConfig(epochs=2, learn=("top.3",)),
    PhaseConfig(epochs=2, learn=("encoder",)),
    PhaseConfig(epochs=2, learn=("everything",), encoder_learning_rate=1e-5),
)


def build(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the group out and wire what concerns it alone; return path -> widget."""
    heading("Phases", "Let parts join one after the other instead of all at once.")
    fields: dict[str, Any] = {
        UNFREEZING: gr.Checkbox(
            defaults[UNFREEZING], label="Progressive unfreezing", interactive=True, elem_id="unfreezing",
            info="the heads alone first, then more layers from the top, the word embeddings last (Howard & Ruder 2018)",
        )
    }  # fmt: skip
    with gr.Column(visible=defaults[UNFREEZING], elem_classes="stack") as options:
        fields |= _unfreezing(defaults)
    both = gr.HTML(elem_id="both-plans")
    with gr.Row(elem_classes="fields"):
        add = gr.Button("Add a phase of your own", size="sm", elem_id="add-phase", min_width=150)
        remove = gr.Button("Remove the last", size="sm", elem_id="remove-phase", min_width=120, visible=False)
    with gr.Column(visible=False, elem_classes="stack") as box:
        fields[PHASES] = gr.Dataframe(
            [], headers=COLUMNS, datatype=["number", "str", "number", "number", "number", "number"], type="array",
            column_count=len(COLUMNS), interactive=True, show_label=False, elem_id="phases", buttons=[],
            column_widths=["76px", "118px", "76px", "112px", "72px", "72px"],
        )  # fmt: skip
        gr.HTML(f'<p class="hint">{html.escape(HINT)}</p>')
    on, rows = fields[UNFREEZING], fields[PHASES]
    add.click(guarded(_added), rows, rows, **PRIVATE)
    remove.click(guarded(lambda kept: kept[:-1]), rows, rows, **PRIVATE)
    gr.on([on.change, rows.change], guarded(_looks), [on, rows], [options, both, box, remove], **LATEST)
    return fields


def _unfreezing(defaults: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with gr.Row(elem_classes="fields"):
        for name, label, info, least, most in (
            ("heads_epochs", "Heads alone", "epochs", 0, 1000),
            ("layers", "Layers a phase", "that join, from the top", 1, 1000),
            ("epochs", "Epochs a phase", "the last: to the end", 1, 1000),
        ):
            path = f"{UNFREEZING}.{name}"
            found[path] = number(defaults[path], label, info, least=least, most=most, whole=True)
    with gr.Row(elem_classes="fields"):
        for name, label, info in (
            ("last_learning_rate", "Last rate", "of the layers when all learn; 0: as before"),
            ("last_decay", "Last decay", "from layer to layer then; 0: as before"),
        ):
            path = f"{UNFREEZING}.{name}"
            found[path] = number(defaults[path], label, info, most=1)
    return found


def _added(rows: Sequence[Sequence[Any]] | None) -> list[list[Any]]:
    """Add a phase in which a little more learns than in the one before."""
    kept = [list(row) for row in rows or []]
    return [*kept, phase_row(NEXT[min(len(kept), len(NEXT) - 1)])]


def _looks(unfreezing: bool, rows: Sequence[Sequence[Any]] | None) -> tuple[Any, ...]:
    """Show what matters: the options, the table, and that one excludes the other."""
    some = bool(rows)
    both = html.notes([BOTH_PLANS], "problem") if unfreezing and some else ""
    return gr.update(visible=unfreezing), both, gr.update(visible=some), gr.update(visible=some)


def without_unfreezing(preset: Preset, unfreezing: bool, rows: Sequence[Sequence[Any]] | None) -> Any:
    """Choose another preset when the box is cleared under the one that unfreezes: its numbers stay as they are."""
    if unfreezing or rows or preset != "progressive":
        return gr.skip()
    return PLAIN_PRESET
