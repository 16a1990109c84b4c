"""The Topic and the Sentiment tab: class probabilities of one head, for several texts at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.errors import DataError, UserError
from mtl.tasks import TaskKind, TaskSpec
from mtl.ui import html
from mtl.ui.context import AppContext, guarded, lines
from mtl.ui.events import LATEST
from mtl.ui.page import Page


@dataclass(frozen=True)
class Kind:
    """What a tab looks for.

    Attributes:
        name: Of the tab.
        words: Task names that mean it, the best first.
        examples: Texts to try.
    """

    name: str
    words: tuple[str, ...]
    examples: tuple[str, ...]


TOPIC = Kind(
    "Topic",
    ("topic", "category", "subject", "theme", "domain", "intent", "section", "class", "label"),
    (
        "The goalkeeper saved two penalties and the whole stand sang.",
        "The new laptop runs a full day on one charge.",
        "Parliament votes on the pension bill on Thursday.",
    ),
)
SENTIMENT = Kind(
    "Sentiment",
    ("sentiment", "polarity", "emotion", "feeling", "mood", "opinion", "rating", "stars"),
    (
        "I could not be happier with how they treated us.",
        "The meeting starts at nine in room four.",
        "Two hours on hold and nobody knew a thing.",
    ),
)
KINDS = (TOPIC, SENTIMENT)
VAGUE = {"class", "label"}  # may belong to any task

NOT_THIS: dict[TaskKind, str] = {
    "classification": "gives a class and finds no entities; ask the Topic or the Sentiment tab, or /topic",
    "token_classification": "finds entities and gives no class; ask the Entities tab, or /entities",
}
NONE_OF: dict[TaskKind, str] = {
    "classification": "no head that gives a class: all of them find entities. Ask the Entities tab, or /entities",
    "token_classification": "no head that finds entities. Choose another one, or train one on a column of entities",
}


def head_names(context: AppContext, name: str | None, token: str, kind: TaskKind) -> list[str]:
    """Name the heads of a kind that a checkpoint has, those kept from an earlier run too; none if it cannot be read."""
    try:
        tasks = context.open(name or "", token).tasks
    except UserError:
        return []
    return [task for task, config in tasks.items() if (config.kind or "classification") == kind]


def candidates(tasks: Sequence[TaskSpec], asked: Any, kind: TaskKind) -> list[str]:
    """Name the heads that may answer: the one that was asked for, else all of a kind.

    Raises:
        DataError: What was asked for is no name, or a head of another kind; or there is none of this kind.
    """
    if not isinstance(asked, str):
        raise DataError("Give the head as the name of one task.")
    other = next((spec for spec in tasks if spec.name == asked and spec.kind != kind), None)
    if other:
        raise DataError(f'The head "{asked}" {NOT_THIS[other.kind]}.')
    names = [spec.name for spec in tasks if spec.kind == kind]
    if not names:
        raise DataError(f"This checkpoint has {NONE_OF[kind]}.")
    return [asked] if asked else names


def best_head(names: Sequence[str], kind: Kind) -> str | None:
    """Choose the head whose name says this kind best; else one whose name says no other kind; else the first."""
    words = {name: re.findall(r"[^\W_]+", name.lower()) for name in names}
    others = {word for other in KINDS if other is not kind for word in other.words} - VAGUE
    free = [name for name in names if not others.intersection(words[name])]
    for word in kind.words:
        for name in free:
            if words[name] == [word]:
                return name
    for word in kind.words:
        for name in free:
            if word in words[name]:
                return name
    return next(iter(free or names), None)


def build(page: Page, kind: Kind) -> None:
    """Lay out the tab."""
    slug = kind.name.lower()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            head = gr.Dropdown(
                [],
                label="Head",
                info="which of the checkpoint's tasks answers",
                interactive=True,
                allow_custom_value=True,
                elem_id=f"{slug}-head",
            )
            texts = gr.Textbox(
                label="Texts", lines=5, max_lines=14, placeholder="One text a line", elem_id=f"{slug}-texts"
            )
            go = gr.Button(f"Classify the {slug}", variant="primary", elem_id=f"{slug}-go")
            gr.Examples([["\n".join(kind.examples)]], [texts], label="Try these", elem_id=f"{slug}-examples")
        with gr.Column(scale=3, min_width=320):
            answer = gr.HTML(
                html.empty("No text yet", "Type one sentence a line, or try the examples."), elem_id=f"{slug}-answer"
            )
    gr.on(
        [page.blocks.load, page.checkpoint.change, page.token.change],
        guarded(lambda name, secret: _heads(page.context, name, secret, kind)),
        [page.checkpoint, page.token],
        head,
        **LATEST,
    )
    go.click(
        guarded(lambda text, task, name, secret: _answer(page.context, text, task, name, secret, kind)),
        [texts, head, page.checkpoint, page.token], answer, api_visibility="private", concurrency_limit=4,
    )  # fmt: skip


def _heads(context: AppContext, name: str | None, token: str, kind: Kind) -> Any:
    names = head_names(context, name, token, "classification")
    return gr.update(choices=names, value=best_head(names, kind))


def _answer(context: AppContext, text: str, task: str | None, name: str, token: str, kind: Kind) -> str:
    return answer_html(classify(context, text, task or "", name, token, kind))


def classify(
    context: AppContext, texts: str | list[str], task: str, name: str, token: str, kind: Kind
) -> list[dict[str, Any]]:
    """Classify texts with one head.

    Args:
        context: The server's.
        texts: A text a line, or a list.
        task: The head's task; empty: the best match for the kind.
        name: The run that answers.
        token: The visitor's secret.
        kind: Topic or sentiment.

    Returns:
        For each text: `text`, `label`, `confidence`, `probabilities`.
    """
    given = lines(texts)
    predictor = context.predictor(name, token)
    from mtl.inference.answers import as_values

    chosen = best_head(candidates(predictor.tasks, task, "classification"), kind) or ""
    predictions = predictor.predict(given, [chosen])
    return [{"text": text, **as_values(answer[chosen], text)} for text, answer in zip(given, predictions, strict=True)]


def answer_html(answers: list[dict[str, Any]]) -> str:
    """Draw each text with its class probabilities."""
    cards = "".join(
        f'<article class="answer"><p class="quote">{html.escape(answer["text"])}</p>'
        f"{html.probabilities(answer['probabilities'])}</article>"
        for answer in answers
    )
    return f'<div class="answers">{cards}</div>'
