"""What a request puts into the page's fields: of the kind that the field takes, or refused in a sentence.

A browser sends what its fields allow. A program can send anything to any event, and Gradio lets a list through where
one choice is meant, text where a number is, and so on; what it does refuse, it prints with a traceback and the value.
"""

from __future__ import annotations

import html
import logging
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr

from mtl.errors import UserError

MOST_CHARACTERS = 300
MOST_CHOSEN = 1_000
TITLE = "That did not work"
NEVER_EMPTY = (gr.Checkbox, gr.Slider, gr.UploadButton, gr.Dataset)
UNOFFERED = "not in the list of choices"  # how Gradio says it, with the value and the whole list
GONE = "What was chosen is not offered any more: the list was renewed meanwhile. Choose again."
ODD = "A value of the request is not one that its field takes."
log = logging.getLogger(__name__)


def guard_fields(demo: gr.Blocks) -> None:
    """Check what every event of a page is sent, and let none of them end in a traceback."""
    prepare, process = demo.preprocess_data, demo.process_api

    async def prepared(block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        for component, value in zip(block_fn.inputs, inputs, strict=False):  # gradio itself counts them
            if wanted := fault(component, value):
                raise _refused(f'"{getattr(component, "label", None) or component.get_block_name()}" takes {wanted}.')
        try:
            return await prepare(block_fn, inputs, *args, **kwargs)
        except gr.Error as error:
            raise _refused(GONE if UNOFFERED in str(error.message) else str(error.message)) from None
        except Exception:  # noqa: BLE001  # a component fails in its own way at a value of another type
            raise _refused(ODD) from None

    async def processed(block_fn: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await process(block_fn, *args, **kwargs)
        except gr.Error:
            raise
        except UserError as error:
            raise _refused(str(error)) from None
        except Exception:
            number = secrets.token_hex(4)
            log.exception("report %s: event %s", number, getattr(block_fn, "name", block_fn))
            raise _refused(f"Something went wrong on our side (report {number}).") from None

    demo.preprocess_data = prepared  # type: ignore[method-assign]
    demo.process_api = processed  # type: ignore[method-assign]


def _refused(sentence: str) -> gr.Error:
    return gr.Error(html.escape(sentence[:MOST_CHARACTERS], quote=False), title=TITLE, print_exception=False)


def fault(component: Any, value: Any) -> str:
    """Say what a field takes if this value is not of that kind; empty if it is.

    What is a file, a table or JSON is looked at by Gradio and by who reads it.
    """
    if value is None and _may_be_empty(component):
        return ""
    for kinds, fits, words in KINDS:
        if isinstance(component, kinds):
            return "" if fits(component, value) else words
    return ""


def _may_be_empty(component: Any) -> bool:
    """Say whether a browser ever sends nothing: from a number that was cleared, or a field that begins empty."""
    if isinstance(component, NEVER_EMPTY):
        return False
    begins_empty = getattr(component, "value", None) is None
    return begins_empty or isinstance(component, gr.Number) or getattr(component, "allow_custom_value", False)


def _is_bool(_: Any, value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(component: Any, value: Any) -> bool:
    most = getattr(component, "max_length", None)
    return isinstance(value, str) and (most is None or len(value) <= most)


def _is_choice(component: Any, value: Any) -> bool:
    return _are_chosen(component, value) if getattr(component, "multiselect", False) else isinstance(value, CHOICE)


def _are_chosen(component: Any, value: Any) -> bool:
    most = getattr(component, "max_choices", None) or MOST_CHOSEN
    fits = isinstance(value, list) and len(value) <= most and all(isinstance(one, CHOICE) for one in value)
    return fits and len(set(value)) == len(value)


def _is_position(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


CHOICE = (str, int, float)
KINDS: tuple[tuple[Any, Callable[[Any, Any], bool], str], ...] = (
    (gr.CheckboxGroup, _are_chosen, "a list of different choices"),
    ((gr.Dropdown, gr.Radio), _is_choice, "one choice, or different ones where several may be made"),
    (gr.Checkbox, _is_bool, "true or false"),
    ((gr.Slider, gr.Number), _is_number, "a number"),
    (gr.Textbox, _is_text, "text, and no more than it is long"),
    (gr.UploadButton, lambda _, value: value is not None, "a file"),
    (gr.Dataset, _is_position, "the number of an example"),
)
