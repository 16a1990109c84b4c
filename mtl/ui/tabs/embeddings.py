"""The Embeddings tab: sentence vectors to look at and to take away, and a map of them."""

from __future__ import annotations

import csv
from typing import Any

import gradio as gr
import numpy as np

from mtl.reports.plots import embedding_map
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded, lines
from mtl.ui.live_plot import live_plot
from mtl.ui.page import Page
from mtl.ui.tabs.classify import TOPIC, best_head

PREVIEW_ROWS, PREVIEW_VALUES = 20, 6
EXAMPLES = "\n".join(
    (
        "The striker scored in the last minute.",
        "Our relay squad broke the club record.",
        "The bank raised its lending rates again.",
        "Shares of the shipping firm fell by a tenth.",
        "The orchestra opened with a slow waltz.",
        "Her second novel is even funnier than the first.",
        "The update drains the battery in two hours.",
        "The new compiler halves the build time.",
        "The senate postponed the vote on the treaty.",
        "Thousands marched against the tax bill.",
    )
)


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            texts = gr.Textbox(
                label="Texts", lines=10, max_lines=16, placeholder="One text a line", elem_id="embed-texts"
            )
            go = gr.Button("Embed", variant="primary", elem_id="embed-go")
            gr.Examples([[EXAMPLES]], [texts], label="Try these", elem_id="embed-examples")
        with gr.Column(scale=3, min_width=320):
            summary = gr.HTML(
                html.empty("No vectors yet", "Each text becomes one vector; close meanings lie close together."),
                elem_id="embed-summary",
            )
            with gr.Column(visible=False) as box:
                plot = live_plot("Map of the embeddings", height=380, elem_id="embed-map")
                files = gr.File(label="Vectors as CSV and NPY", file_count="multiple", elem_id="embed-files")
    go.click(
        guarded(lambda given, name, secret: _embed(page.context, given, name, secret)),
        [texts, page.checkpoint, page.token],
        [summary, box, plot, files],
        api_visibility="private",
        concurrency_limit=4,
    )


def _embed(context: AppContext, given: str, name: str, token: str) -> tuple[Any, ...]:
    texts = lines(given)
    predictor = context.predictor(name, token)
    head = best_head([task.name for task in predictor.tasks if task.kind == "classification"], TOPIC)
    vectors, answers = predictor.run(texts, [head] if head else [])
    groups = [answer[head].label for answer in answers] if head else [""] * len(texts)
    shown = _summary(texts, vectors, head)
    return shown, gr.update(visible=True), embedding_map(vectors, texts, groups), _files(texts, vectors)


def _summary(texts: list[str], vectors: np.ndarray, head: str | None) -> str:
    count, size = vectors.shape
    rows = [
        (text[:60], *(f"{value:.3f}" for value in vector[:PREVIEW_VALUES]))
        for text, vector in zip(texts[:PREVIEW_ROWS], vectors, strict=False)
    ]
    header = ["text", *(str(number) for number in range(PREVIEW_VALUES))]
    facts = html.chips([("texts", f"{count:,}"), ("dimensions", f"{size}"), ("coloured by", head or "nothing")])
    caption = f"The first {PREVIEW_VALUES} of {size} values"
    return facts + f'<details class="classes"><summary>{caption}</summary>{html.table(header, rows)}</details>'


def _files(texts: list[str], vectors: np.ndarray) -> list[str]:
    """Write the vectors into a folder of the visitor's own."""
    folder = download_folder()
    np.save(folder / "embeddings.npy", vectors)
    with (folder / "embeddings.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *(f"d{number}" for number in range(vectors.shape[1]))])
        writer.writerows(
            [text, *(f"{value:.6g}" for value in vector)] for text, vector in zip(texts, vectors, strict=True)
        )
    return [str(folder / "embeddings.csv"), str(folder / "embeddings.npy")]
