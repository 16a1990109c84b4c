"""The Guide tab: `GUIDE.md`, as it is in the repository, and what this page allows."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from mtl.settings import Settings, settings
from mtl.ui import html
from mtl.ui.page import Page

GUIDE = Path(__file__).resolve().parents[3] / "GUIDE.md"
# what is of the server's own concern, and its folders
NOT_SHOWN = {
    "profile", "public", "runs_dir", "cache_dir", "max_cache_bytes", "log_json", "precision", "standby",
    "max_sessions", "trusted_proxies",
}  # fmt: skip
PROFILES = {
    "local": "This page is a person's own: whoever opens it sees all runs of this machine.",
    "public": "Strangers share this page: you see the shipped checkpoint and your own runs, which a secret in your "
    "browser opens.",
}


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Accordion("Limits of this page", open=False, elem_id="limits"):
        gr.HTML(limits_html(settings()))
    gr.Markdown(GUIDE.read_text(encoding="utf-8"), elem_id="guide")


def limits_html(found: Settings) -> str:
    """Draw what the page allows, in plain words."""
    rows = [
        (field.description or name, _value(name, getattr(found, name)))
        for name, field in Settings.model_fields.items()
        if name not in NOT_SHOWN
    ]
    hint = f'<p class="hint">{PROFILES[found.profile]}</p>'
    return hint + html.table(["what", "limit"], rows, numbers_from=2, caption=f"Profile: {found.profile}")


def _value(name: str, value: object) -> str:
    """Write a value with its unit, which its name says."""
    if value is None:
        return "no limit"
    if isinstance(value, tuple):
        return ", ".join(value)
    if not isinstance(value, int):
        return str(value)
    if "bytes" in name:
        return f"{value / 1e6:,g} MB"
    return f"{value:,} s" if name.endswith("_seconds") else f"{value:,}"
