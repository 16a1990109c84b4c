"""The link by which others may read a run: its box below the run that is open, for its owner alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from mtl.runs import owners
from mtl.runs.store import Run
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import AppContext, guarded

Updates = dict[Any, Any]
# the server may stand behind another address than the one that the visitor sees
ABSOLUTE = "query => query && new URL(query, location.href).href"
READERS = (
    "Whoever has a link can follow this run, read its report (test sentences are in it), and use and download its "
    "model. They cannot change it. All its links work until you stop sharing."
)
HERE = "Everyone at this machine sees all runs anyway; a link opens the page with this one."


@dataclass(frozen=True)
class LinkBox:
    """The components.

    Attributes:
        share: Makes the first link.
        box: Everything below; it is there while the run is shared.
        link: The link that was made last in this window.
        again: Makes another link.
        stop: Lets no link open the run any more.
    """

    share: gr.Button
    box: gr.Column
    link: gr.Textbox
    again: gr.Button
    stop: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """What opening a run changes."""
        return [self.share, self.box, self.link]


def build_share() -> gr.Button:
    """Lay out the button beside the others."""
    return gr.Button("Share", elem_id="share", size="sm", min_width=90)


def build_box(share: gr.Button) -> LinkBox:
    """Lay out the box."""
    with gr.Column(visible=False, elem_id="run-sharing", elem_classes="group") as box:
        gr.HTML(f'<h3>This run is shared</h3><p class="hint">{html.escape(about())}</p>')
        link = gr.Textbox(
            label="Link", info="Copy it now: it is shown only this once.", buttons=["copy"], interactive=False,
            max_lines=1, visible=False, elem_id="share-link",
        )  # fmt: skip
        with gr.Row(elem_classes="compact"):
            again = gr.Button("Make another link", elem_id="share-again", size="sm", min_width=140)
            stop = gr.Button("Stop sharing", elem_id="unshare", size="sm", min_width=140)
    return LinkBox(share, box, link, again, stop)


def about() -> str:
    """Say what a link gives away."""
    return READERS if settings().public else HERE


def offered(part: LinkBox, run: Run, own: bool, again: bool) -> Updates:
    """Offer what the visitor may do about this run's links; `again`: it was open already, so its link stays."""
    shared = own and owners.is_shared(run.path)
    kept = {} if again and shared else {part.link: gr.update(value="", visible=False)}
    return kept | _states(part, own, shared)


def _states(part: LinkBox, own: bool, shared: bool) -> Updates:
    return {part.share: gr.update(visible=own and not shared), part.box: gr.update(visible=shared)}


def make(context: AppContext, name: str, token: str) -> str:
    """Make a link to a visitor's own run: what comes after the page's address.

    Raises:
        CheckpointError: There is no such run, or it is not theirs.
    """
    return "?" + urlencode({"run": name, "key": owners.share(context.open_own(name, token).path)})


def wire(part: LinkBox, context: AppContext, known: list[Any], private: dict[str, Any]) -> None:
    """Make links and take them back; `known` are the run that is open and what the visitor knows."""

    def shared(name: str, token: str) -> Updates:
        return {part.link: gr.update(value=make(context, name, token), visible=True), **_states(part, True, True)}

    def unshared(name: str, token: str) -> Updates:
        owners.unshare(context.open_own(name, token).path)
        return {part.link: gr.update(value="", visible=False), **_states(part, True, False)}

    def wired(button: gr.Button, handler: Callable[[str, str], Updates]) -> Any:
        return button.click(guarded(handler), known, part.outputs, **private)

    for button in (part.share, part.again):
        wired(button, shared).success(None, part.link, part.link, js=ABSOLUTE, **private)
    wired(part.stop, unshared)
