"""The Similarity tab: two lists against each other, or one query against a list or a file."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from mtl.data.columns import find_text_column
from mtl.data.reading import is_missing
from mtl.errors import LimitError
from mtl.reports.plots import heatmap
from mtl.ui import html
from mtl.ui.context import AppContext, guarded, lines
from mtl.ui.live_plot import live_plot
from mtl.ui.page import Page
from mtl.ui.uploads import read_upload

MOST_CELLS = 10_000
LEFT = "The match was postponed because of snow.\nHow do I reset my password?\nThe violinist was wonderful."
RIGHT = "I forgot my login.\nHeavy snowfall delayed kick-off.\nShe played the solo beautifully.\nBread prices rose."


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Tabs():
        with gr.Tab("Compare two lists", id="compare"):
            _build_compare(page)
        with gr.Tab("Search", id="search"):
            _build_search(page)


def _build_compare(page: Page) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            left = gr.Textbox(label="First list", lines=5, placeholder="One text a line", elem_id="similar-left")
            right = gr.Textbox(label="Second list", lines=5, placeholder="One text a line", elem_id="similar-right")
            go = gr.Button("Compare", variant="primary", elem_id="similar-go")
            gr.Examples([[LEFT, RIGHT]], [left, right], label="Try these", elem_id="similar-examples")
        with gr.Column(scale=3, min_width=320):
            best = gr.HTML(
                html.empty("No texts yet", "Fill both lists: each pair gets a cosine similarity from -1 to 1."),
                elem_id="similar-best",
            )
            with gr.Column(visible=False) as box:
                plot = live_plot("Heatmap of the similarities", height=400, elem_id="similar-plot")
    go.click(
        guarded(lambda a, b, name, secret: _compare(page.context, a, b, name, secret)),
        [left, right, page.checkpoint, page.token],
        [best, box, plot],
        api_visibility="private",
        concurrency_limit=4,
    )


def _build_search(page: Page) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            query = gr.Textbox(label="Query", max_lines=2, elem_id="search-query")
            texts = gr.Textbox(
                label="Among these texts", lines=5, placeholder="One text a line", elem_id="search-texts"
            )
            file = gr.File(label="or among the texts of a CSV", file_types=[".csv", ".tsv", ".txt"], height=110)
            top = gr.Slider(1, 50, value=5, step=1, label="How many", elem_id="search-k")
            go = gr.Button("Search", variant="primary", elem_id="search-go")
            gr.Examples([["trouble signing in", RIGHT]], [query, texts], label="Try this", elem_id="search-examples")
        with gr.Column(scale=3, min_width=320):
            found = gr.HTML(
                html.empty("No query yet", "Type what you look for; the texts nearest in meaning come first."),
                elem_id="search-found",
            )

    def run(wanted: str, among: str, path: str | None, k: float, name: str, secret: str) -> str:
        return _search_html(search(page.context, wanted, _candidates(among, path), k, name, secret))

    gr.on(
        [go.click, query.submit],
        guarded(run),
        [query, texts, file, top, page.checkpoint, page.token],
        found,
        api_visibility="private",
        concurrency_limit=4,
    )


def similarity(
    context: AppContext, left: str | list[str], right: str | list[str], name: str, token: str
) -> tuple[list[str], list[str], np.ndarray]:
    """Compare two lists of texts.

    Returns:
        The texts of both, N and M, and their cosine similarities. Shape: (N, M).

    Raises:
        LimitError: More pairs than a page can show.
    """
    first, second = lines(left, "text into the first list"), lines(right, "text into the second list")
    if len(first) * len(second) > MOST_CELLS:
        raise LimitError(f"These are {len(first) * len(second):,} pairs; at most {MOST_CELLS:,} are compared at once.")
    return first, second, context.predictor(name, token).similarity(first, second)


def _compare(context: AppContext, left: str, right: str, name: str, token: str) -> tuple[Any, ...]:
    first, second, scores = similarity(context, left, right, name, token)
    best = scores.argmax(axis=1)
    rows = [(text, second[best[i]], f"{scores[i, best[i]]:.3f}") for i, text in enumerate(first)]
    table = html.table(["text", "best match", "cosine"], rows, numbers_from=2, caption="Best match of each")
    return table, gr.update(visible=True), heatmap(scores, first, second)


def _candidates(among: str, path: str | None) -> list[str]:
    """Return the texts of the file if there is one, else those typed."""
    if not path:
        return lines(among, "text to search among, or choose a file")
    table = read_upload(path)
    return [text for text in table.columns[find_text_column(table)] if not is_missing(text)]


def search(context: AppContext, query: str, texts: list[str], k: float, name: str, token: str) -> list[dict[str, Any]]:
    """Find the texts nearest to a query.

    Returns:
        The k nearest, the nearest first: `text`, `score`, `index` among the texts.

    Raises:
        LimitError: k is not between 1 and 1,000.
    """
    wanted = " ".join(lines(query, "query"))
    if not isinstance(k, int | float) or isinstance(k, bool) or not 1 <= k <= 1000:
        raise LimitError("The number of results must be between 1 and 1,000.")
    found = context.predictor(name, token).search(wanted, texts, int(k))
    return [{"text": texts[index], "score": score, "index": index} for index, score in found]


def _search_html(found: list[dict[str, Any]]) -> str:
    rows = [(rank, hit["text"], f"{hit['score']:.3f}") for rank, hit in enumerate(found, start=1)]
    return html.table(["rank", "text", "cosine"], rows, numbers_from=2, caption="Nearest texts")
