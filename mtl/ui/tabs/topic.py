"""The Topic tab."""

from mtl.ui.page import Page
from mtl.ui.tabs import classify


def build(page: Page) -> None:
    """Lay out the tab."""
    classify.build(page, classify.TOPIC)
