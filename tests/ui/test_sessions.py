"""What a session costs, and that it still knows its own states."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import gradio as gr
import pytest
from gradio import state_holder

from mtl.ui import sessions

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[gr.Blocks]:
    """A page with a state, whose sessions are ours."""
    monkeypatch.setattr(state_holder, "SessionState", state_holder.SessionState)
    with gr.Blocks() as blocks:
        gr.State([1])
        gr.Textbox("a text")
    sessions.install()
    yield blocks
    gc.collect()  # gradio leaves event loops and sockets to the collector: here, where nobody minds


def test_session_keeps_states_and_no_description(demo: gr.Blocks) -> None:
    holder = state_holder.StateHolder()
    holder.set_blocks(demo)
    state, text = (
        next(key for key, one in demo.blocks.items() if isinstance(one, kind)) for kind in (gr.State, gr.Textbox)
    )
    mine, other = holder["mine"], holder["other"]
    assert isinstance(mine, sessions.Session)
    mine[state].append(2)
    mine._update_value_in_config(text, "x" * 1_000)
    mine._update_config(text)
    assert (holder["mine"][state], other[state]) == ([1, 2], [1])
    assert mine.config_values == {}


def test_session_has_what_gradio_expects_of_one(demo: gr.Blocks) -> None:
    """A new version of Gradio may keep more in a session; it must be kept here too."""
    [theirs] = [kind for kind in sessions.Session.__mro__ if kind.__module__ == "gradio.state_holder"]
    assert set(vars(sessions.Session(demo))) == set(vars(theirs(demo)))
