"""The configuration as text: to copy, to take away as YAML or as a command, and to fill the form from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.choices import DELIMITER_NAMES, QUOTE_NAMES
from mtl.config import RunConfig
from mtl.config_text import MAX_YAML_BYTES, from_dict, read_yaml, to_yaml
from mtl.data.profile import profile
from mtl.errors import ConfigError, UserError
from mtl.ui import html
from mtl.ui.context import guarded
from mtl.ui.events import LATEST, PRIVATE
from mtl.ui.train.as_text import command, differing_yaml
from mtl.ui.train.data import GUESS, NO_GROUP, NO_SPLIT, DataSection, data_values, merge_choice, summary_of
from mtl.ui.train.heads import Heads
from mtl.ui.train.values import HEADS, to_form
from mtl.ui.train.widgets import heading
from mtl.ui.uploads import understood_data

SOURCE = "The pasted text"
CHANGED, ALL = "changed", "all"
MERGES = "merges"


@dataclass(frozen=True)
class Exchange:
    """The components.

    Attributes:
        view: Whether all settings are shown or those that were changed.
        yaml: The configuration.
        command: The same, as a command.
        pasted: A configuration to fill the form from.
        load: A file of one.
        apply: Fills the form.
        answer: What came of it.
    """

    view: gr.Radio
    yaml: gr.Code
    command: gr.Code
    pasted: gr.Textbox
    load: gr.UploadButton
    apply: gr.Button
    answer: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `drawn` updates."""
        return [self.yaml, self.command]

    def drawn(self, config: RunConfig | None, files: Sequence[Sequence[str]], view: str) -> dict[Any, Any]:
        """Show a configuration as text; None: there is none just now."""
        if config is None:
            return {}
        named = [name for _, name in files or ()]
        text = to_yaml(config) if view == ALL else differing_yaml(config)
        return {self.yaml: text, self.command: command(config, named)}


def build() -> Exchange:
    """Lay it out, folded."""
    with gr.Accordion("As YAML, as a command", open=False, elem_id="exchange", elem_classes="groups"):
        heading("This plan as text", "The same settings for the command line, a script, or another day.")
        view = gr.Radio(
            [("What differs from the defaults", CHANGED), ("Everything", ALL)], value=CHANGED, show_label=False,
            label="Which settings", container=False, interactive=True, elem_classes="choice", elem_id="yaml-view",
        )  # fmt: skip
        yaml = _code("config.yaml", "yaml", "plan-yaml", ["copy", "download"])
        shell = _code("Copy as command", "shell", "plan-command", ["copy"])
        heading("Fill the form from YAML", "Paste a configuration, or load the file of an earlier run.")
        pasted = gr.Textbox(
            label="YAML", lines=5, max_lines=16, interactive=True, elem_id="yaml-pasted",
            placeholder="training:\n  preset: progressive\n  weighting: uncertainty",
        )  # fmt: skip
        with gr.Row(elem_classes="fields"):
            load = gr.UploadButton(
                "Load a file", file_types=[".yaml", ".yml"], size="sm", elem_id="yaml-load", min_width=120
            )
            apply = gr.Button("Apply", size="sm", variant="primary", elem_id="yaml-apply", min_width=120)
        answer = gr.HTML(elem_id="yaml-answer")
    return Exchange(view, yaml, shell, pasted, load, apply, answer)


def _code(label: str, language: Any, elem_id: str, buttons: list[Any]) -> gr.Code:
    return gr.Code(
        language=language, label=label, interactive=False, buttons=buttons, wrap_lines=True, max_lines=18, lines=2,
        show_line_numbers=False, elem_id=elem_id,
    )  # fmt: skip


def wire(exchange: Exchange, data: DataSection, heads: Heads, fields: Mapping[str, Any]) -> None:
    """Fill the form from pasted or loaded YAML.

    Args:
        exchange: The components here.
        data: The section of the data, which a configuration says something of too.
        heads: The settings of each head.
        fields: Path in the configuration -> component.
    """
    assert data.summary is not None
    inputs = {exchange.pasted, heads.facts, heads.chosen, *data.inputs}
    outputs = [exchange.answer, *fields.values(), *heads.outputs, *_data_widgets(data).values()]

    def applied(given: Mapping[Any, Any]) -> dict[Any, Any]:
        try:
            config = from_dict(read_yaml(str(given[exchange.pasted] or ""), SOURCE), SOURCE)
            return {exchange.answer: _answer(config)} | _filled(config, given, data, heads, fields)
        except UserError as error:
            return {exchange.answer: html.refusal(str(error))}

    def understood(given: Mapping[Any, Any]) -> str:
        return summary_of(data, given)

    loaded = exchange.load.upload(guarded(_text_of), exchange.load, exchange.pasted, **LATEST)
    filling: dict[str, Any] = {"fn": guarded(applied), "inputs": inputs, "outputs": outputs} | PRIVATE
    for filled in (loaded.success(**filling), exchange.apply.click(**filling)):
        filled.success(guarded(understood), data.inputs, data.summary, **PRIVATE)


def _text_of(path: str) -> str:
    """Read a loaded file.

    Raises:
        ConfigError: It is too large, or no text.
    """
    file = Path(path)
    if file.stat().st_size > MAX_YAML_BYTES:
        raise ConfigError(f"The file is larger than {MAX_YAML_BYTES // 1024} kB; that is not a configuration.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("The file is not UTF-8 text.") from None


def _answer(config: RunConfig) -> str:
    notes = ["The form holds this configuration now."]
    if config.data.files:
        named = ", ".join(config.data.files)
        notes.append(f"Not taken over: data.files ({named}). The files are those above.")
    return html.notes(notes)


def _filled(
    config: RunConfig, given: Mapping[Any, Any], data: DataSection, heads: Heads, fields: Mapping[str, Any]
) -> dict[Any, Any]:
    """Return the updates that make the form say what a configuration says."""
    form = to_form(config)
    updates = {component: gr.update(value=form[path]) for path, component in fields.items()}
    known = data_updates(config, given, data)
    widgets = _data_widgets(data)
    updates |= {widgets[path]: value for path, value in known.items()}
    tasks = list(config.data.task_columns or config.tasks or given[data.task_columns] or ())
    facts = {task: (given[heads.facts] or {}).get(task, {}) for task in tasks}
    kept = _without_ticked(form[HEADS], known[MERGES])
    return updates | heads.filled(tasks, kept, facts, given[heads.chosen] or "")


def _data_widgets(data: DataSection) -> dict[str, Any]:
    """Return path -> widget of the section of the data."""
    named = {"data.text_column": data.text_column, "data.task_columns": data.task_columns, MERGES: data.merges}
    return named | data.corrections


def data_updates(config: RunConfig, given: Mapping[Any, Any], data: DataSection) -> dict[str, Any]:
    """Return what the widgets of the data are to hold; a column that is left to be guessed stays as it was guessed."""
    reading, split = config.data.reading, config.data.split
    tasks = config.data.task_columns or tuple(config.tasks)
    marks = {mark: name for names in (DELIMITER_NAMES, QUOTE_NAMES) for name, mark in names.items()}
    yes_or_no = {None: GUESS, True: "true", False: "false"}
    found: dict[str, Any] = {
        "data.reading.encoding": reading.encoding or GUESS,
        "data.reading.delimiter": GUESS if reading.delimiter is None else marks[reading.delimiter],
        "data.reading.quote": GUESS if reading.quote is None else marks[reading.quote],
        "data.reading.header": yes_or_no[reading.header],
        "data.separate_tasks": yes_or_no[config.data.separate_tasks],
        "data.split.group_column": split.group_column or NO_GROUP,
        MERGES: _ticks(config, given, data),
    }
    if split.column is not None:
        found["data.split.column"] = split.column or NO_SPLIT
    if config.data.text_column:
        found["data.text_column"] = list(config.data.text_column)
    if tasks:
        found["data.task_columns"] = list(tasks)
    return found


def _ticks(config: RunConfig, given: Mapping[Any, Any], data: DataSection) -> list[str]:
    """Return those of the merges that the page offers that the configuration has."""
    own = {name: dict(task.merge) for name, task in config.tasks.items()}
    found = []
    for choice in _offered(given, data):
        task, labels = json.loads(choice)
        if own.get(task, {}).items() >= labels.items():
            found.append(choice)
    return found


def _offered(given: Mapping[Any, Any], data: DataSection) -> list[str]:
    """Return the merges that the page offers, whichever are ticked."""
    values = data_values(data, given) | {"tasks": {}}
    try:
        understood = understood_data(given[data.files], from_dict(values))
    except UserError:
        return []
    return [merge_choice(merge)[1] for merge in profile(understood).merges]


def _without_ticked(heads: Mapping[str, dict[str, Any]], ticks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Take out of the heads' values the merges that are ticked in the section of the data."""
    kept = {name: dict(values) for name, values in heads.items()}
    for task, labels in map(json.loads, ticks):
        rest = {label: into for label, into in kept[task].pop("merge").items() if label not in labels}
        kept[task] |= {"merge": rest} if rest else {}
    return kept
