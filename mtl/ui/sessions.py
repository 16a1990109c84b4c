"""What the server keeps of each open page: its states, and not a description of the whole page for each of them.

Gradio describes every component anew for each session, for links that carry all values of a page. The door closes
those, and the descriptions cost most of a megabyte and the time of five calls. A program that calls an endpoint is a
session with every call, and Gradio forgets a session only when there are too many of them.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from gradio import Blocks, state_holder


class Session(state_holder.SessionState):
    """A session without descriptions.

    Args:
        blocks: The page.
    """

    def __init__(self, blocks: Blocks) -> None:  # not the one it inherits, which is what costs
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, dict[str, Any]] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def _update_config(self, key: int) -> None:
        """Describe nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep no value that the page has already: those of plots are large."""


def install() -> None:
    """Let Gradio make such sessions."""
    state_holder.SessionState = Session  # type: ignore[misc]
