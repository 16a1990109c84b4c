"""What every inference tab gets to build itself."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from mtl.ui.context import AppContext


@dataclass(frozen=True)
class Page:
    """The page around a tab.

    Attributes:
        context: The server's.
        blocks: The whole page.
        checkpoint: The picker: the name of the run that answers.
        token: State: the visitor's secret.
    """

    context: AppContext
    blocks: gr.Blocks
    checkpoint: gr.Dropdown
    token: gr.State
