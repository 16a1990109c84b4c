"""The Predict tab: one text, every head, from one pass of the encoder."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mtl.errors import DataError
from mtl.ui import html
from mtl.ui.context import AppContext, guarded, lines
from mtl.ui.page import Page

EXAMPLE = "The opposition leader in Lisbon gave a dreadful speech and half the hall walked out."


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
