"""Section 1 of the Train tab: the files, what was understood of them, and correcting that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.decoding import LEGACY
from mtl.data.preparing import Understood, require_tasks
from mtl.data.profile import Merge, profile
from mtl.errors import UserError
from mtl.reports.data import describe
from mtl.ui import html
from mtl.ui.context import SAMPLE, guarded
from mtl.ui.train.understood import summary_html
from mtl.ui.uploads import prepared_data, understood_data

EMPTY = html.empty(
    "No file yet",
    "Drop a CSV with a text column and one or more label columns, or several files at once. "
    "Empty cells are fine: they are skipped.",
)
FILE_TYPES = [".csv", ".tsv", ".txt"]
GUESS = "guess"
ENCODINGS = [("Guessed", GUESS), "utf-8", "utf-16", *[(f"{name} ({what})", name) for name, what in LEGACY.items()]]
# path in the configuration -> label and choices of the widgets that correct how a file was read
READING: dict[str, tuple[str, list[Any]]] = {
    "encoding": ("Encoding", ENCODINGS),
    "delimiter": ("Delimiter", [("Guessed", GUESS), "comma", "semicolon", "tab", "bar"]),
    "quote": ("Quotes", [("Guessed", GUESS), "double", "single", "none"]),
    "header": ("First row", [("Guessed", GUESS), ("names the columns", "true"), ("is data", "false")]),
}
SAME_NAME = [("One task if they share a label", GUESS), ("One task", "false"), ("A task in each file", "true")]
NO_SPLIT, NO_GROUP = "none: divide all rows", "none: rows stand alone"


@dataclass
class DataSection:
    """The components other sections need.

    Attributes:
        files: State: path and name of each file; empty if there is none.
        text_column: The headers of the text columns.
        task_columns: The label columns' headers.
        corrections: Path in the configuration -> component, of everything else that can be corrected.
        merges: The labels to merge.
        summary: What was understood.
        problems: Space for the deeper look.
    """

    files: gr.State
    text_column: gr.Dropdown
    task_columns: gr.Dropdown
    corrections: dict[str, gr.Dropdown] = field(default_factory=dict)
    merges: gr.CheckboxGroup | None = None
    summary: gr.HTML | None = None

    @property
    def inputs(self) -> set[gr.components.Component]:
        """What `data_values` needs."""
        assert self.merges is not None
        return {self.files, self.text_column, self.task_columns, self.merges, *self.corrections.values()}


def build() -> DataSection:
    """Lay out the section and wire what concerns only the files."""
    gr.HTML('<h2 class="step"><span>1</span> Data</h2>')
    with gr.Row(elem_classes="compact"):
        file = gr.File(
            label="CSV files", file_count="multiple", file_types=FILE_TYPES, height=132, elem_id="csv", scale=3,
            min_width=220,
        )  # fmt: skip
        with gr.Column(scale=1, min_width=170):
            sample = gr.Button("Use the sample", variant="secondary", elem_id="use-sample")
            gr.DownloadButton("Download the template", value=SAMPLE, elem_id="template")
    summary = gr.HTML(EMPTY, elem_id="data-summary")
    merges = gr.CheckboxGroup(
        [], label="Labels that differ only in case or spaces: merge them?", visible=False, elem_id="merges"
    )
    with gr.Accordion("Correct what was understood", open=False, visible=False, elem_id="columns") as correct:
        section = _corrections()
    section.merges, section.summary = merges, summary
    _wire(section, file, sample, correct)
    return section


def _corrections() -> DataSection:
    reading: dict[str, gr.Dropdown] = {}
    with gr.Row(elem_classes="compact"):
        for name, (label, choices) in READING.items():
            reading[f"data.reading.{name}"] = gr.Dropdown(
                choices, value=GUESS, label=label, interactive=True, min_width=120, elem_id=f"reading-{name}"
            )
    reading["data.separate_tasks"] = gr.Dropdown(
        SAME_NAME, value=GUESS, label="Columns of one name in several files are", visible=False, interactive=True
    )
    with gr.Row(elem_classes="compact"):
        text_column = _columns("Text", "several are joined", "text-column")
        task_columns = _columns("Tasks", "columns of labels", "task-columns")
    section = DataSection(gr.State([]), text_column, task_columns)
    with gr.Row(elem_classes="compact"):
        for path, label, none, info in (
            ("data.split.column", "Ready-made split", NO_SPLIT, "column of train, test …"),
            ("data.split.group_column", "Keep together", NO_GROUP, "rows with one value here"),
        ):
            section.corrections[path] = gr.Dropdown(
                [none], value=none, label=label, info=info, interactive=True, min_width=150, allow_custom_value=True
            )
    section.corrections |= reading
    return section


def _columns(label: str, info: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(
        [], label=label, info=info, multiselect=True, interactive=True, allow_custom_value=True, elem_id=elem_id,
        min_width=180,
    )  # fmt: skip


def _wire(section: DataSection, file: gr.File, sample: gr.Button, correct: gr.Accordion) -> None:
    assert section.summary is not None and section.merges is not None
    private: dict[str, Any] = {"api_visibility": "private"}
    latest = private | {"trigger_mode": "always_last"}
    reading = [component for path, component in section.corrections.items() if "split" not in path]
    guesses: list[Any] = [section.text_column, section.task_columns, *_split_widgets(section), section.merges]
    outputs = [section.files, section.summary, correct, *guesses, *reading]
    kept = [gr.update()] * len(reading)

    def afresh(files: list[list[str]]) -> list[Any]:
        """Take new files: every correction of the ones before is forgotten."""
        separate = gr.update(value=GUESS, visible=len(files) > 1)
        return [files, *_guessed(files, {}), *[gr.update(value=GUESS)] * (len(reading) - 1), separate]

    def reread(values: Mapping[Any, Any]) -> list[Any]:
        """Read the same files another way: their columns may be others, so they are guessed anew."""
        if not values[section.files]:
            return [gr.skip()] * len(outputs)
        options = {path: values[section.corrections[path]] for path in section.corrections if "split" not in path}
        drawn, _, *widgets = _guessed(values[section.files], options)
        return [gr.skip(), drawn, gr.update(visible=True, open=True), *widgets, *kept]  # who corrects is in there

    cleared = [[], EMPTY, gr.update(visible=False), *_no_columns(), *kept]
    file.upload(guarded(lambda paths: afresh(_named(paths))), file, outputs, **latest)
    file.clear(guarded(lambda: cleared), None, outputs, **private)
    sample.click(guarded(lambda: afresh([[str(SAMPLE), "data/sample.csv"]])), None, outputs, **private)
    gr.on([widget.input for widget in reading], guarded(reread), section.inputs, outputs, **latest)
    gr.on(
        [widget.input for widget in guesses], guarded(lambda values: summary_of(section, values)), section.inputs,
        section.summary, **latest,
    )  # fmt: skip


def _split_widgets(section: DataSection) -> list[gr.Dropdown]:
    return [section.corrections["data.split.column"], section.corrections["data.split.group_column"]]


def _named(paths: list[str] | str | None) -> list[list[str]]:
    given = [paths] if isinstance(paths, str) else paths or []
    return [[path, Path(path).name] for path in given]


def _no_columns() -> list[Any]:
    nothing = gr.update(choices=[], value=[])
    split = gr.update(choices=[NO_SPLIT], value=NO_SPLIT)
    group = gr.update(choices=[NO_GROUP], value=NO_GROUP)
    return [nothing, nothing, split, group, gr.update(choices=[], value=[], visible=False)]


def _guessed(files: list[list[str]], reading: Mapping[str, str]) -> list[Any]:
    """Understand files and fill the widgets with what was understood.

    Returns:
        Values of summary, accordion, text, tasks, split, group and merges. A file that cannot be read is said where
        it would be shown, and stays, so that another encoding, delimiter or quote can be tried.
    """
    config = from_dict(nested_sections({path: value for path, value in reading.items() if value != GUESS}))
    try:
        understood = understood_data(files, config)
    except UserError as error:
        return [_refused(files, str(error)), gr.update(visible=True, open=True), *_no_columns()]
    columns, headers = understood.columns, list(understood.table.headers)
    split = next(iter(columns.named("split")), NO_SPLIT)
    merges = [merge_choice(merge) for merge in profile(understood).merges]
    return [
        _summary(files, config),
        gr.update(visible=True, open=not columns.tasks),
        gr.update(choices=headers, value=list(columns.text)),
        gr.update(choices=headers, value=list(columns.tasks)),
        gr.update(choices=[NO_SPLIT, *headers], value=split),
        gr.update(choices=[NO_GROUP, *headers], value=NO_GROUP),
        gr.update(choices=merges, value=[], visible=bool(merges)),
    ]


def _refused(files: list[list[str]], reason: str) -> str:
    names = ", ".join(name for _, name in files)
    return f'<div class="understood"><div class="file-name">{html.escape(names)}</div>{html.refusal(reason)}</div>'


def merge_choice(merge: Merge) -> tuple[str, str]:
    """Offer to merge labels; the value says which, so that nothing has to be looked up when it comes back."""
    shown = ", ".join(f'"{label}"' for label in merge.labels)
    others = {label: merge.into for label in merge.labels if label != merge.into}
    return f'{merge.task}: {shown} → "{merge.into}"', json.dumps([merge.task, others])


def _summary(files: list[list[str]], config: RunConfig) -> str:
    try:
        understood = understood_data(files, config)
    except UserError as error:
        return _refused(files, str(error))
    drawn = summary_html(understood, profile(understood), files)
    try:
        require_tasks(understood.columns)
    except UserError as error:  # readable, but nothing to train on: the person can still name the columns
        return html.refusal(str(error)) + drawn
    return drawn


def summary_of(section: DataSection, values: Mapping[Any, Any]) -> str:
    """Draw what is understood of the files as the widgets say that they are read."""
    if not values[section.files]:
        return EMPTY
    return _summary(values[section.files], from_dict(data_values(section, values)))


def understood_or_none(section: DataSection, values: Mapping[Any, Any]) -> Understood | None:
    """Return what is understood of the files; None if there is none, or it cannot be read."""
    try:
        config = from_dict(data_values(section, values))
        return understood_data(values[section.files], config) if values[section.files] else None
    except UserError:
        return None


def data_values(section: DataSection, values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what the section says of the configuration: `data`, and the labels to merge under `tasks`."""
    assert section.merges is not None
    given = {path: values[component] for path, component in section.corrections.items()}
    nested = nested_sections({path: value for path, value in given.items() if value not in (GUESS, NO_GROUP, None)})
    split = nested.setdefault("data", {}).setdefault("split", {})
    if split.get("column") == NO_SPLIT:
        split["column"] = ""
    tasks = list(values[section.task_columns] or [])
    nested["data"] |= {"text_column": list(values[section.text_column] or []) or None, "task_columns": tasks or None}
    merges: dict[str, dict[str, str]] = {}
    for choice in values[section.merges] or []:
        task, labels = json.loads(choice)
        if task in tasks:
            merges.setdefault(task, {}).update(labels)
    nested["tasks"] = {task: {"merge": labels} for task, labels in merges.items()}
    return nested


def nested_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted paths into nested sections."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        target = nested
        for parent in parents:
            target = target.setdefault(parent, {})
        target[name] = value
    return nested


def inspect(path: str) -> dict[str, Any]:
    """Return what is understood of a file as plain data, for the API.

    Raises:
        UserError: The file is no table, or holds no texts.
    """
    files, config = _named(path), RunConfig()
    understood = understood_data(files, config)
    try:
        return describe(understood, profile(understood), prepared_data(files, config))
    except UserError as error:  # still worth a look
        return describe(understood, profile(understood), None, refusal=str(error))
