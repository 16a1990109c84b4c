"""The widgets that a form of settings is laid out with, so that all of it looks and behaves alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from mtl.ui import html
from mtl.ui.events import LATEST

NARROW = 92


def heading(title: str, about: str = "") -> None:
    """Begin a group of settings."""
    words = f"<p>{html.escape(about)}</p>" if about else ""
    gr.HTML(f'<div class="group"><h3>{html.escape(title)}</h3>{words}</div>')


def number(
    value: float,
    label: str,
    info: str = "",
    *,
    least: float = 0,
    most: float | None = None,
    whole: bool = False,
    step: float | None = None,
    visible: bool = True,
) -> gr.Number:
    """Make a field for a number; it cannot be empty."""
    return gr.Number(
        value, label=label, info=info or None, minimum=least, maximum=most, precision=0 if whole else None,
        step=step or 1, min_width=NARROW, visible=visible, interactive=True,
    )  # fmt: skip


def choice(label: str, helps: Mapping[Any, str], value: str, **options: Any) -> gr.Dropdown:
    """Offer names, and say under the label what the chosen one means."""
    made = gr.Dropdown(
        list(helps), value=value, label=label, info=helps[value], interactive=True, min_width=150, **options
    )
    made.change(lambda name: gr.update(info=helps.get(name, "")), made, made, **LATEST)
    return made


def reveal(chooser: Any, shown: Mapping[Any, Sequence[gr.components.Component]]) -> None:
    """Show the widgets that matter for what is chosen, and only those.

    Args:
        chooser: What is chosen with.
        shown: Its value -> the widgets that matter then.
    """
    every = list(dict.fromkeys(component for group in shown.values() for component in group))

    def update(value: Any) -> Any:
        wanted = shown.get(value, ())
        updates = [gr.update(visible=component in wanted) for component in every]
        return updates if len(updates) > 1 else updates[0]

    chooser.change(update, chooser, every, **LATEST)
