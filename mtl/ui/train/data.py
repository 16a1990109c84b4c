"""Section 1 of the Train tab: the file, and what was understood of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.data.columns import Columns
from mtl.data.preparing import Prepared, prepare, split_counts
from mtl.data.profile import problems
from mtl.data.reading import Table
from mtl.errors import UserError
from mtl.ui import html
from mtl.ui.context import SAMPLE, guarded, read_upload

EMPTY = html.empty(
    "No file yet",
    "Drop a CSV with a text column and one or more label columns. Empty cells are fine: they are skipped.",
)
ROLES = {"text": "text", "task": "task", "entities": "entities", "ignored": "not used"}


@dataclass(frozen=True)
class DataSection:
    """The components other sections need.

    Attributes:
        path: State: where the file is; empty if there is none.
        name: State: what the person calls it.
        text_column: The text column's header.
        task_columns: The label columns' headers.
        summary: What was understood.
    """

    path: gr.State
    name: gr.State
    text_column: gr.Dropdown
    task_columns: gr.Dropdown
    summary: gr.HTML


def build() -> DataSection:
    """Lay out the section and wire what concerns only the file."""
    path, name = gr.State(""), gr.State("")
    gr.HTML('<h2 class="step"><span>1</span> Data</h2>')
    with gr.Row(elem_classes="compact"):
        file = gr.File(
            label="CSV file", file_types=[".csv", ".tsv", ".txt"], height=132, elem_id="csv", scale=3, min_width=220
        )
        with gr.Column(scale=1, min_width=170):
            sample = gr.Button("Use the sample", variant="secondary", elem_id="use-sample")
            gr.DownloadButton("Download the template", value=SAMPLE, elem_id="template")
    summary = gr.HTML(EMPTY, elem_id="data-summary")
    with gr.Accordion("Correct the columns", open=False, visible=False, elem_id="columns") as correct:
        with gr.Row():
            text_column = gr.Dropdown(
                [], label="Text column", interactive=True, allow_custom_value=True, elem_id="text-column"
            )
            task_columns = gr.Dropdown(
                [],
                label="Task columns",
                multiselect=True,
                interactive=True,
                allow_custom_value=True,
                elem_id="task-columns",
            )
    section = DataSection(path, name, text_column, task_columns, summary)
    outputs = [path, name, summary, text_column, task_columns, correct]
    private: dict[str, Any] = {"api_visibility": "private"}
    read = file.upload(guarded(_uploaded), file, outputs, **private)
    # a file that was refused leaves nothing behind, or Start would train on the one before it
    read.failure(lambda: (*_cleared(), None), None, [*outputs, file], **private)
    file.clear(guarded(_cleared), None, outputs, **private)
    sample.click(guarded(_sample), None, outputs, **private)
    gr.on(
        [text_column.input, task_columns.input],
        guarded(_corrected),
        [path, text_column, task_columns],
        summary,
        **private,
    )
    return section


def _uploaded(path: str | None) -> tuple[Any, ...]:
    return _understood(path or "", Path(path).name if path else "")


def _sample() -> tuple[Any, ...]:
    return _understood(str(SAMPLE), "data/sample.csv")


def _cleared() -> tuple[Any, ...]:
    return "", "", EMPTY, gr.update(choices=[], value=None), gr.update(choices=[], value=[]), gr.update(visible=False)


def _understood(path: str, name: str) -> tuple[Any, ...]:
    table = read_upload(path)
    headers = list(table.headers)
    try:
        prepared = prepare(table, RunConfig())
    except UserError as error:  # readable, but no tasks found: the person can still name the columns
        summary = html.notes([str(error)], "problem")
        return (
            path,
            name,
            summary,
            gr.update(choices=headers, value=None),
            gr.update(choices=headers, value=[]),
            gr.update(visible=True, open=True),
        )
    return (
        path,
        name,
        summary_html(table, prepared, name),
        gr.update(choices=headers, value=prepared.columns.text),
        gr.update(choices=headers, value=list(prepared.columns.tasks)),
        gr.update(visible=True),
    )


def _corrected(path: str, text_column: str | None, task_columns: list[str] | None) -> str:
    table = read_upload(path)
    data: dict[str, Any] = {"text_column": text_column or None, "task_columns": tuple(task_columns or ()) or None}
    config = RunConfig().model_copy(update={"data": RunConfig().data.model_copy(update=data)})
    try:
        return summary_html(table, prepare(table, config), "")
    except UserError as error:
        return html.notes([str(error)], "problem")


def summary_html(table: Table, prepared: Prepared, name: str) -> str:
    """Say what was understood: columns with reasons, classes with counts, the split, problem rows."""
    columns, split = prepared.columns, prepared.split
    facts = [
        ("rows", f"{len(table):,}"),
        ("training", f"{len(split.train):,}"),
        ("validation", f"{len(split.validation):,}"),
        ("test", f"{len(split.test):,}"),
    ]
    found = problems(table, columns)
    parts = [
        f'<div class="file-name">{html.escape(name)}</div>' if name else "",
        html.chips(facts),
        html.table(["column", "used as", "why"], _column_rows(columns), numbers_from=9, caption="Columns"),
        *(_classes(columns, task, len(table)) for task in columns.tasks),
        html.notes([problem.sentence for problem in found[:8]], "problem"),
    ]
    return f'<div class="understood">{"".join(parts)}</div>'


def _column_rows(columns: Columns) -> list[tuple[str, str, str]]:
    rows = []
    for column in columns.all:
        empty = f"; {column.missing:,} empty" if column.missing else ""
        rows.append((column.name, ROLES[column.role], column.reason + empty))
    return rows


def _classes(columns: Columns, task: str, rows: int) -> str:
    """Draw a task's classes with their counts as bars."""
    counts = columns[task].counts
    largest = max(counts.values())
    labelled = sum(counts.values())
    shown = list(counts.items())[:12]
    bars = "".join(
        f'<div class="prob"><span class="prob-label">{html.escape(label)}</span>'
        f'<span class="prob-track"><span style="width:{100 * count / largest:.1f}%"></span></span>'
        f'<span class="prob-value">{count:,}</span></div>'
        for label, count in shown
    )
    more = f'<div class="more">and {len(counts) - 12} more classes</div>' if len(counts) > 12 else ""
    return (
        f'<details class="classes" open><summary><b>{html.escape(task)}</b> '
        f"{len(counts)} classes, {labelled:,} of {rows:,} rows labelled</summary>"
        f'<div class="probs">{bars}{more}</div></details>'
    )


def inspect(path: str) -> dict[str, Any]:
    """Return what is understood of a file as plain data, for the API."""
    table = read_upload(path)
    prepared = prepare(table, RunConfig())
    columns = prepared.columns
    return {
        "rows": len(table),
        "encoding": table.encoding,
        "delimiter": table.delimiter,
        "text_column": columns.text,
        "columns": [
            {"name": c.name, "role": c.role, "reason": c.reason, "missing": c.missing, "labels": c.counts}
            for c in columns.all
        ],
        "tasks": {name: list(task.labels or ()) for name, task in prepared.config.tasks.items()},
        "split": split_counts(table, prepared.config, prepared.split),
        "problems": [{"rows": list(p.rows[:1000]), "problem": p.sentence} for p in problems(table, columns)],
    }
