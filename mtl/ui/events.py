"""How the page's events behave: whether an event that comes while the one before is answered is dropped or kept."""

from __future__ import annotations

from typing import Any

# a press: what comes while it is answered is dropped, so a double click is one click
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
# a choice, or a look at what there is now: the last one is answered too. Gradio's `on` would take the mode from the
# first of its triggers alone, and drop what the others say.
LATEST: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last"}
