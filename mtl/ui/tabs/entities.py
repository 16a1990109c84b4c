"""The Entities tab: named entities that a head marks in several texts at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from mtl.errors import LimitError
from mtl.runs.files import write_twins
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded, lines
from mtl.ui.events import LATEST
from mtl.ui.marks import colours, legend, marked
from mtl.ui.page import Page
from mtl.ui.tabs.classify import candidates, head_names

if TYPE_CHECKING:
    from mtl.inference.predictor import Predictor

EXAMPLES = (
    "Anna Moreau moved from Lisbon to Oslo to work for Northwind Bank.",
    "The mayor of Trieste thanked Ravensburg Steel and its founder, Ilse Brandt.",
    "Nothing happened today.",
)
SHOWN_TEXTS, SHOWN_ENTITIES = 100, 200
HEADER = ["text_number", "entity", "type", "start", "end", "confidence", "text"]
NO_TEXT = html.empty("No text yet", "Type texts, one a line, or try the examples.")
NO_HEAD = html.empty(
    "This checkpoint finds no entities",
    "It has no head for them. Choose another one at the top of the page, or train one on a file with a column of "
    "entities: the sample has one.",
)


@dataclass(frozen=True)
class Found:
    """What a head found.

    Attributes:
        texts: For each text `text`, as typed, and `entities`.
        types: All that the head knows.
        unread: Position of a text -> the character from which on the encoder did not read it: it was too long.
        longest: How many tokens the encoder reads.
    """

    texts: list[dict[str, Any]]
    types: tuple[str, ...]
    unread: dict[int, int]
    longest: int


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            head = gr.Dropdown(
                [], label="Head", info="which of the checkpoint's tasks answers", interactive=True,
                allow_custom_value=True, elem_id="entities-head",
            )  # fmt: skip
            texts = gr.Textbox(
                label="Texts", lines=5, max_lines=14, placeholder="One text a line", elem_id="entities-texts"
            )
            go = gr.Button("Find the entities", variant="primary", elem_id="entities-go")
            gr.Examples([["\n".join(EXAMPLES)]], [texts], label="Try these", elem_id="entities-examples")
        with gr.Column(scale=3, min_width=320):
            nothing = gr.HTML(NO_HEAD, visible=False, elem_id="entities-none")
            with gr.Column(elem_id="entities-found") as box:
                answer = gr.HTML(NO_TEXT, elem_id="entities-answer")
                files = gr.File(
                    label="For spreadsheets (CSV), and exactly (JSON lines)", file_count="multiple", visible=False,
                    interactive=False, elem_id="entities-downloads",
                )  # fmt: skip
                listed = gr.HTML(elem_id="entities-list")
    gr.on(
        [page.blocks.load, page.checkpoint.change, page.token.change],
        guarded(lambda name, secret: _offer(page.context, name, secret)),
        [page.checkpoint, page.token], [head, go, nothing, box], **LATEST,
    )  # fmt: skip
    gr.on(
        [go.click, texts.submit],
        guarded(lambda given, task, name, secret: _answer(page.context, given, task, name, secret)),
        [texts, head, page.checkpoint, page.token], [answer, files, listed],
        api_visibility="private", concurrency_limit=4,
    )  # fmt: skip


def _offer(context: AppContext, name: str | None, token: str) -> tuple[Any, ...]:
    """Offer the checkpoint's heads; without any, say what to do instead."""
    names = head_names(context, name, token, "token_classification")
    able = bool(names)
    return (
        gr.update(choices=names, value=next(iter(names), None), interactive=able),
        gr.update(interactive=able),
        gr.update(visible=not able),
        gr.update(visible=able),
    )


def _answer(context: AppContext, texts: str, task: str | None, name: str, token: str) -> tuple[str, Any, str]:
    found = find(context, texts, task or "", name, token)
    rows = list(rows_of(found))
    files = gr.update(value=_files(rows), visible=True) if rows else gr.update(value=None, visible=False)
    return answer_html(found), files, list_html(rows)


def find(context: AppContext, texts: str | list[str], task: str, name: str, token: str) -> Found:
    """Find the entities of texts.

    Args:
        context: The server's.
        texts: A text a line, or a list. They stay as typed: offsets count their characters.
        task: The head's task; empty: the first that finds entities.
        name: The run that answers.
        token: The visitor's secret.
    """
    given = as_typed(texts)
    predictor = context.predictor(name, token)
    from mtl.inference.answers import as_values

    chosen = candidates(predictor.tasks, task, "token_classification")[0]
    answers = predictor.predict(given, [chosen])
    types = next(spec.labels for spec in predictor.tasks if spec.name == chosen)
    unread, longest = _unread(predictor, given)
    return Found(
        [{"text": text, **as_values(answer[chosen], text)} for text, answer in zip(given, answers, strict=True)],
        types, unread, longest,
    )  # fmt: skip


def as_typed(texts: str | list[str]) -> list[str]:
    """Turn a text box or an API list into texts, as `lines` does, but leave the blanks around them.

    Raises:
        DataError: Nothing was given.
        LimitError: More or longer texts than are accepted at once.
    """
    lines(texts)
    given = [text for text in (texts.splitlines() if isinstance(texts, str) else texts) if text.strip()]
    most = settings().max_text_characters
    for number, text in enumerate(given, start=1):
        if len(text) > most:
            raise LimitError(f"Text {number} has {len(text):,} characters with its blanks; at most {most:,} are taken.")
    return given


def _unread(predictor: Predictor, texts: list[str]) -> tuple[dict[int, int], int]:
    """Say which texts were cut, and where; and how many tokens the encoder reads."""
    from mtl.data.batching import tokenise_with_offsets
    from mtl.modeling.encoder import max_length_of

    longest = max_length_of(predictor.model.encoder)
    _, offsets = tokenise_with_offsets(texts, predictor.model.encoder.tokenizer, longest)
    ends = {i: max(end for _, end in row) for i, row in enumerate(offsets) if len(row) >= longest}
    return {i: end for i, end in ends.items() if texts[i][end:].strip()}, longest


def answer_html(found: Found) -> str:
    """Draw the texts with their entities marked."""
    palette = colours(found.types)
    counts = Counter(entity["label"] for one in found.texts for entity in one["entities"])
    items = "".join(
        f'<li dir="auto"><span>{marked(one["text"], one["entities"], palette, unread=found.unread.get(i))}</span></li>'
        for i, one in enumerate(found.texts[:SHOWN_TEXTS])
    )
    shown = legend({kind: counts[kind] for kind in found.types}, palette)
    texts = f'<article class="answer">{shown}<ol class="marked">{items}</ol></article>'
    return f'<div class="answers">{texts}{html.notes(_notes(found))}</div>'


def _notes(found: Found) -> Iterator[str]:
    if found.unread:
        numbers = ", ".join(str(i + 1) for i in list(found.unread)[:10]) + (" …" if len(found.unread) > 10 else "")
        yield f"Too long for the encoder, which reads {found.longest} tokens; the rest is in italics. Texts: {numbers}."
    if len(found.texts) > SHOWN_TEXTS:
        yield f"The first {SHOWN_TEXTS} of {len(found.texts):,} texts are shown; the files have the entities of all."
    if not any(one["entities"] for one in found.texts):
        yield "The head found no entity."


def rows_of(found: Found) -> Iterator[list[Any]]:
    """List the entities as rows below `HEADER`."""
    for number, one in enumerate(found.texts, start=1):
        for entity in one["entities"]:
            sure = round(entity["confidence"], 4)
            yield [number, entity["text"], entity["label"], entity["start"], entity["end"], sure, one["text"]]


def list_html(rows: Sequence[Sequence[Any]]) -> str:
    """Draw the entities as a table."""
    if not rows:
        return ""
    shown = [[*row[:5], f"{100 * row[5]:.1f}%"] for row in rows[:SHOWN_ENTITIES]]
    what = f"{len(rows):,} {'entity' if len(rows) == 1 else 'entities'}"
    caption = what if len(shown) == len(rows) else f"The first {SHOWN_ENTITIES} of {what}; the files have all"
    header = ["text", "entity", "type", "start", "end", "confidence"]
    hint = '<p class="hint">Positions count the characters of the text from 0; the end is excluded.</p>'
    return f"{html.table(header, shown, numbers_from=3, caption=caption)}{hint}"


def _files(rows: list[list[Any]]) -> list[str]:
    """Write the entities into a folder of the visitor's own."""
    output = download_folder() / "entities.csv"
    with write_twins(output) as write:
        write(HEADER, rows)
    return [str(output), str(output.with_suffix(".jsonl"))]
