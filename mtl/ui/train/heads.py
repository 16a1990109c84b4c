"""The settings of each head: one is chosen and edited at a time, the others are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.choices import CLASS_WEIGHTS_HELP, HEAD_HELP, LOSS_HELP, SCHEDULE_HELP, SCORE_NAMES, SCORES
from mtl.config import TaskConfig
from mtl.data.preparing import Understood
from mtl.tasks import TaskKind
from mtl.ui import html
from mtl.ui.events import LATEST
from mtl.ui.train.values import head_values, head_widgets
from mtl.ui.train.widgets import choice, heading, number, reveal

KINDS: dict[TaskKind, str] = {"classification": "one class per text", "token_classification": "entities in the text"}
PREDICTS = "it predicts"
AS_ABOVE, USUAL = "as for the rest", "the usual one"
MOST_LABELS = 200  # offered to be put in order
Facts = dict[str, dict[str, Any]]  # task -> its kind and labels, from the file


@dataclass(frozen=True)
class Heads:
    """The editor.

    Attributes:
        box: All of it; there once there are tasks.
        chosen: The task whose head is edited.
        shown: The task whose values the widgets hold; it changes together with them.
        kept: State: task -> the values of its head that are not the usual ones, as of the last change of `chosen`.
        facts: State: what the file says of each task.
        widgets: Field of `TaskConfig` -> widget.
    """

    box: gr.Column
    chosen: gr.Dropdown
    shown: gr.Textbox
    kept: gr.State
    facts: gr.State
    widgets: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        """What `values` needs."""
        return [self.shown, self.kept, *self.widgets.values()]

    @property
    def outputs(self) -> list[Any]:
        """What `filled` updates."""
        return [self.box, self.chosen, self.shown, self.kept, self.facts, *self.widgets.values()]

    def values(self, given: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
        """Return task -> the values of its head that are not the usual ones, the one being edited included."""
        kept, shown = dict(given[self.kept] or {}), given[self.shown]
        if shown:
            own = head_values({name: given[widget] for name, widget in self.widgets.items()})
            known = {name: value for name, value in kept.get(shown, {}).items() if name == "kind"}
            kept[shown] = known | own
        return kept

    def filled(self, tasks: Sequence[str], kept: Mapping[str, Any], facts: Facts, chosen: str = "") -> dict[Any, Any]:
        """Fill the editor with a task: the one given, if it is there, else the first."""
        task = chosen if chosen in tasks else next(iter(tasks), "")
        known = facts.get(task, {})
        kind: TaskKind = known.get("kind") or kept.get(task, {}).get("kind") or "classification"
        values = head_widgets(kept.get(task, {}))
        scores = [(USUAL, ""), *((SCORE_NAMES[score], score) for score in SCORES[kind])]
        updates = {self.widgets[name]: gr.update(value=value) for name, value in values.items()}
        updates[self.widgets["main_score"]] = gr.update(choices=scores, value=values["main_score"])
        labels = list(dict.fromkeys([*values["labels"], *known.get("labels", ())]))
        updates[self.widgets["labels"]] = gr.update(choices=labels[:MOST_LABELS], value=values["labels"])
        return updates | {
            self.box: gr.update(visible=bool(tasks)),
            self.chosen: gr.update(choices=list(tasks), value=task or None, info=f"{PREDICTS} {KINDS[kind]}"),
            self.shown: task,
            self.kept: dict(kept),
            self.facts: facts,
        }


def build() -> Heads:
    """Lay the editor out, hidden until there are tasks."""
    usual = head_widgets({})
    with gr.Column(visible=False, elem_id="heads", elem_classes="stack") as box:
        heading("Heads", "Each task has a head of its own; what is set here is for one of them.")
        with gr.Row(elem_classes="fields"):
            chosen = gr.Dropdown(
                [], label="Head of", info=PREDICTS, interactive=True, elem_id="head", scale=2, min_width=150
            )
            freeze = gr.Checkbox(
                usual["freeze"], label="Freeze this head", info="it stays as it is", interactive=True,
                elem_id="head-freeze", min_width=140,
            )  # fmt: skip
        widgets = {"freeze": freeze} | _learning(usual) | _loss(usual) | _weights(usual)
        with gr.Accordion("Labels: order and merging", open=False):
            widgets |= _labels()
        shown = gr.Textbox("", visible=False)
    heads = Heads(box, chosen, shown, gr.State({}), gr.State({}), widgets)
    _wire(heads)
    return heads


def _learning(usual: Mapping[str, Any]) -> dict[str, Any]:
    with gr.Row(elem_classes="fields"):
        found: dict[str, Any] = {"head": choice("Shape", HEAD_HELP, usual["head"], elem_id="head-shape")}
        found["schedule"] = gr.Dropdown(
            [(AS_ABOVE, ""), *SCHEDULE_HELP], value="", label="Schedule of its rate", info="linear, cosine or constant",
            min_width=150, interactive=True,
        )  # fmt: skip
    with gr.Row(elem_classes="fields"):
        found["learning_rate"] = number(0, "Rate", "0: Rate of heads", most=1)
        found["dropout"] = number(usual["dropout"], "Dropout", "of its input", most=0.99, step=0.05)
        found["label_smoothing"] = number(
            usual["label_smoothing"], "Label smoothing", "share for all classes", most=0.99, step=0.05
        )
    return found


def _loss(usual: Mapping[str, Any]) -> dict[str, Any]:
    with gr.Row(elem_classes="fields"):
        found: dict[str, Any] = {"loss": choice("Loss", LOSS_HELP, usual["loss"], elem_id="head-loss")}
        found["class_weights"] = choice("Class weights", CLASS_WEIGHTS_HELP, usual["class_weights"])
        found["focal_gamma"] = number(
            usual["focal_gamma"], "Focal gamma", "how far from the easy", most=10, step=0.5, visible=False
        )
    reveal(found["loss"], {"focal": [found["focal_gamma"]]})
    return found


def _weights(usual: Mapping[str, Any]) -> dict[str, Any]:
    with gr.Row(elem_classes="fields"):
        found: dict[str, Any] = {
            "main_score": gr.Dropdown(
                [(USUAL, "")], value="", label="Main score", info="it is compared by", min_width=150,
                interactive=True, allow_custom_value=True,
            )
        }  # fmt: skip
        found["score_weight"] = number(usual["score_weight"], "Score weight", "by weighted score", most=1000, step=0.5)
        found["loss_weight"] = number(usual["loss_weight"], "Loss weight", "in the sum", most=1000, step=0.5)
        found["final_loss_weight"] = number(
            usual["final_loss_weight"], "Last loss weight", "in the last epoch", most=1000, step=0.5, visible=False
        )
    return found


def _labels() -> dict[str, Any]:
    labels = gr.Dropdown(
        [], value=[], label="Order of the labels", info="Empty: those of the file, sorted. Otherwise list all of them.",
        multiselect=True, allow_custom_value=True, interactive=True,
    )  # fmt: skip
    merge = gr.Dataframe(
        headers=["label", "is read as"], datatype=["str", "str"], type="array", column_count=2, row_count=1,
        interactive=True, label="Labels to read as another one", elem_id="head-merge", buttons=[],
    )  # fmt: skip
    return {"labels": labels, "merge": merge}


def _wire(heads: Heads) -> None:
    """Keep the values of the head that is left, and show those of the one that is chosen."""
    inputs = {heads.chosen, heads.facts, *heads.inputs}

    def switched(given: Mapping[Any, Any]) -> dict[Any, Any]:
        facts = given[heads.facts] or {}
        return heads.filled(list(facts), heads.values(given), facts, given[heads.chosen] or "")

    heads.chosen.input(switched, inputs, heads.outputs, **LATEST)


def facts_of(tasks: Sequence[str], understood: Understood | None) -> Facts:
    """Say what the file knows of each task: its kind and its labels."""
    found: Facts = {}
    for name in tasks:
        entities = understood.entities.get(name) if understood else None
        column = next((one for one in understood.columns.all if one.name == name), None) if understood else None
        labels = list(entities.types) if entities else list(column.counts) if column else []
        found[name] = {"kind": "token_classification" if entities else "classification", "labels": labels}
    return found


def heads_html(given: Mapping[str, TaskConfig], known: Mapping[str, TaskConfig]) -> str:
    """Draw all heads at a glance, folded while all are as usual: what each predicts, and what of it is not as usual.

    Args:
        given: Task -> what was set for its head; the others are as usual.
        known: All tasks, with their kinds.
    """
    rows = [
        (name, KINDS[task.kind or "classification"], _words(given.get(name, TaskConfig())) or "as usual")
        for name, task in known.items()
    ]
    changed = sum(words != "as usual" for *_, words in rows)
    title = f"{changed} of {len(rows)} set otherwise than usual" if changed else "all as usual"
    table = html.table(["head", "predicts", "set"], rows, numbers_from=9)
    return html.details(title, table, name="Heads", opened=bool(changed))


def _words(task: TaskConfig) -> str:
    """Say what of a head is not as usual."""
    values = task.model_dump(mode="json", exclude_defaults=True)
    words = {"labels": "labels in your order", "merge": f"labels merged: {len(task.merge)}", "freeze": "frozen"}
    found = [
        words.get(name) or f"{name.replace('_', ' ')} {str(value).replace('_', ' ')}"
        for name, value in values.items()
        if name != "kind"
    ]
    return ", ".join(found)
