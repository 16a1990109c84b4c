"""The Predict tab: every head, from one pass of the encoder, for one text or for a whole file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.errors import DataError
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded, guarded_stream, lines
from mtl.ui.page import Page

EXAMPLE = "The opposition leader in Lisbon gave a dreadful speech and half the hall walked out."
FILE_TYPES = [".csv", ".tsv", ".txt"]
SHOWN_ROWS, SHOWN_CHARACTERS = 8, 120


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
        guarded(lambda given, name, secret: _html(predict(page.context, given, name, secret))),
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


def predict(context: AppContext, text: str, name: str, token: str) -> dict[str, Any]:
    """Ask every head about one text; line breaks in it count as blanks.

    Returns:
        Task name -> `label`, `confidence`, `probabilities`.
    """
    if not isinstance(text, str):
        raise DataError("Give one text; for several, ask /topic, /sentiment or the command line.")
    given = " ".join(lines(text))
    answers = context.predictor(name, token).predict([given])[0]
    return {
        task: {"label": p.label, "confidence": p.confidence, "probabilities": p.probabilities}
        for task, p in answers.items()
    }


def _html(answers: dict[str, Any]) -> str:
    cards = "".join(
        f'<article class="answer"><h3>{html.escape(task)}</h3>{html.probabilities(answer["probabilities"])}</article>'
        for task, answer in answers.items()
    )
    return f'<div class="answers">{cards}</div>'


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
        _first_rows(header, rows[:SHOWN_ROWS], total, 2 * len(predictor.tasks)),
        gr.update(value=written, visible=True),
    )


def _progress(done: int, total: int, words: str) -> str:
    return (
        f'<div class="status running"><span>{html.escape(words)}</span>{html.bar(done / total, "rows predicted")}</div>'
    )


def _first_rows(header: list[str], rows: list[list[Any]], total: int, predicted: int) -> str:
    """Draw the first rows, what was predicted before what was there: a page is narrow."""
    shown = [["" if cell is None else _short(cell) for cell in [*row[-predicted:], *row[:-predicted]]] for row in rows]
    caption = f"The first {len(rows)} of {total:,} rows" if len(rows) < total else f"All {total:,} rows"
    return html.table([*header[-predicted:], *header[:-predicted]], shown, numbers_from=len(header), caption=caption)


def _short(cell: Any) -> str:
    text = str(cell)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
