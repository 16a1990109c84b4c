"""The Guide tab: `GUIDE.md`, as it is in the repository."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from mtl.ui.page import Page

GUIDE = Path(__file__).resolve().parents[3] / "GUIDE.md"


def build(page: Page) -> None:
    """Lay out the tab."""
    gr.Markdown(GUIDE.read_text(encoding="utf-8"), elem_id="guide")
