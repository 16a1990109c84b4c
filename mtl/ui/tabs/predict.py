"""The Predict tab: every head, from one pass of the encoder, for one text or for a whole file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.errors import DataError
from mtl.tasks import TaskSpec
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded, guarded_stream
from mtl.ui.marks import colours, marked
from mtl.ui.page import Page
from mtl.ui.tabs.entities import as_typed

EXAMPLE = "The opposition leader in Lisbon gave a dreadful speech and half the hall walked out."
FILE_TYPES = [".csv", ".tsv", ".txt"]
SHOWN_ROWS, SHOWN_CHARACTERS = 8, 120
LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # where str.splitlines splits


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            text = gr.Textbox(label="Text", lines=4, placeholder="One sentence", elem_id="predict-text")
            go = gr.Button("Ask every head", variant="primary", elem_id="predict-go")
            gr.Examples([[EXAMPLE]], [text], label="Try this", elem_id="predict-examples")
        with gr.Column(scale=3, min_width=320):
            answer = gr.HTML(
                html.empty("No text yet", "Every task of the checkpoint answers from a single pass of the encoder."),
                elem_id="predict-answer",
            )
    gr.on(
        [go.click, text.submit],
        guarded(lambda given, name, secret: _answer(page.context, given, name, secret)),
        [text, page.checkpoint, page.token],
        answer,
        api_visibility="private",
        concurrency_limit=4,
    )
    _build_file(page)


def _build_file(page: Page) -> None:
    gr.HTML('<h3 class="section">A whole file</h3>')
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            file = gr.File(label="CSV file", file_types=FILE_TYPES, height=132, elem_id="predict-file")
            with gr.Row():
                go = gr.Button("Predict every row", variant="primary", elem_id="predict-file-go")
                stop = gr.Button("Stop", elem_id="predict-file-stop", scale=0, min_width=90)
        with gr.Column(scale=3, min_width=320):
            files = gr.File(
                label="For spreadsheets (CSV), and exactly (JSON lines)", file_count="multiple", visible=False,
                interactive=False, elem_id="predict-file-downloads",
            )  # fmt: skip
            status = gr.HTML(
                html.empty(
                    "No file yet",
                    "It comes back with all its columns, and each task's prediction and confidence after them.",
                ),
                elem_id="predict-file-status",
            )

    def run(path: str | None, name: str, secret: str) -> Iterator[tuple[Any, ...]]:
        yield from predict_upload(page.context, path, name, secret)

    predicted = go.click(
        guarded_stream(run), [file, page.checkpoint, page.token], [status, files], api_visibility="private",
        concurrency_limit=2, show_progress="hidden",
    )  # fmt: skip
    stop.click(
        lambda: html.empty("Stopped", "Nothing was written. Press the button to begin again."), None, status,
        cancels=predicted, api_visibility="private", show_progress="hidden",
    )  # fmt: skip


def _answer(context: AppContext, given: str, name: str, token: str) -> str:
    answers = predict(context, given, name, token)
    return answer_html(given, answers, context.predictor(name, token).tasks)


def predict(context: AppContext, text: str, name: str, token: str) -> dict[str, Any]:
    """Ask every head about one text; each line break in it counts as a blank.

    Returns:
        Task name -> `label`, `confidence`, `probabilities`; or, of a head that finds them, `entities`.
    """
    if not isinstance(text, str):
        raise DataError("Give one text; for several, ask /topic, /sentiment, /entities or the command line.")
    (given,) = as_typed(LINE_BREAK.sub(" ", text))
    answers = context.predictor(name, token).predict([given])[0]
    from mtl.inference.answers import as_values

    return {task: as_values(answer, given) for task, answer in answers.items()}


def answer_html(text: str, answers: Mapping[str, Any], tasks: Sequence[TaskSpec]) -> str:
    """Draw a card for each head: its probabilities, or the text with its entities marked."""
    cards = "".join(
        f'<article class="answer"><h3>{html.escape(task.name)}</h3>{_card(text, answers[task.name], task)}</article>'
        for task in tasks
    )
    return f'<div class="answers">{cards}</div>'


def _card(text: str, answer: Mapping[str, Any], task: TaskSpec) -> str:
    if "entities" not in answer:
        return html.probabilities(answer["probabilities"])
    drawn = marked(text, answer["entities"], colours(task.labels), sure=True)
    none = "" if answer["entities"] else '<p class="hint">No entity was found.</p>'
    return f'<p class="quote marked" dir="auto">{drawn}</p>{none}'


def predict_upload(context: AppContext, path: str | None, name: str, token: str) -> Iterator[tuple[Any, ...]]:
    """Predict an uploaded file, chunk by chunk.

    Yields:
        What the page shows: progress, at the end the first rows; and the files to download.
    """
    if not path:
        raise DataError("Choose a CSV file first.")
    yield _progress(0, 1, "Looking through the file"), gr.update(visible=False)
    predictor = context.predictor(name, token)
    from mtl.inference.table import predict_file

    output = download_folder() / f"{Path(path).stem[:80]}-predicted.csv"
    steps = predict_file(predictor, Path(path), output)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            header, *rows = end.value
            break
        yield _progress(done, total, f"{done:,} of {total:,} rows"), gr.skip()
    written = [str(output), str(output.with_suffix(".jsonl"))]
    yield (
        _first_rows(header, rows[:SHOWN_ROWS], total, predictor.tasks),
        gr.update(value=written, visible=True),
    )


def _progress(done: int, total: int, words: str) -> str:
    return (
        f'<div class="status running"><span>{html.escape(words)}</span>{html.bar(done / total, "rows predicted")}</div>'
    )


def _first_rows(header: list[str], rows: list[list[Any]], total: int, tasks: Sequence[TaskSpec]) -> str:
    """Draw the first rows, what was predicted before what was there: a page is narrow."""
    predicted = 2 * len(tasks)
    spans = {2 * number for number, task in enumerate(tasks) if task.kind == "token_classification"}
    shown = [
        [_short(_in_words(cell) if place in spans else cell) for place, cell in enumerate(row[-predicted:])]
        + [_short(cell) for cell in row[:-predicted]]
        for row in rows
    ]
    caption = f"The first {len(rows)} of {total:,} rows" if len(rows) < total else f"All {total:,} rows"
    return html.table([*header[-predicted:], *header[:-predicted]], shown, numbers_from=len(header), caption=caption)


def _in_words(cell: str | None) -> str | None:
    """Say the entities of a cell; the file has them as JSON."""
    if cell is None:
        return None
    return "; ".join(f"{span['text']} ({span['label']})" for span in json.loads(cell)) or "none"


def _short(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
