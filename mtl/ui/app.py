"""The whole page: the header with the checkpoint picker, the tabs, and how it is launched."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Route

from mtl.runs.store import SHIPPED, RunStore
from mtl.settings import settings
from mtl.ui import api, fields, picker, sessions
from mtl.ui.context import SAMPLE, AppContext
from mtl.ui.door import Guard
from mtl.ui.health import Health, banner, probe
from mtl.ui.page import Page
from mtl.ui.tabs import embeddings, entities, guide, predict, runs, sentiment, similarity, topic, train

log = logging.getLogger(__name__)
TITLE = "Multi-task sentence encoder"
ASSETS = Path(__file__).resolve().parents[2] / "assets"
TABS: dict[str, Callable[[Page], None]] = {
    "Predict": predict.build,
    "Topic": topic.build,
    "Sentiment": sentiment.build,
    "Entities": entities.build,
    "Embeddings": embeddings.build,
    "Similarity": similarity.build,
    "Guide": guide.build,
}
HEADER = f"""<div class="brand"><h1>{TITLE}</h1>
<p>One shared encoder, several task heads, fine-tuned from your CSV.</p></div>"""


def open_context() -> AppContext:
    """Open the runs in `MTL_RUNS_DIR`, and see to it that the end of this program ends what trains."""
    context = AppContext(RunStore(settings().runs_dir, SHIPPED))
    if problem := probe(context.store.root):
        log.error("%s The page answers, and does not train.", problem)
    else:
        context.queue.recover()
    atexit.register(context.queue.close)
    return context


def build_demo(context: AppContext | None = None) -> gr.Blocks:
    """Build the page. Nothing here imports torch.

    Args:
        context: For tests; by default the runs in `MTL_RUNS_DIR`.
    """
    if context is None:
        context = open_context()
    # a shared page forgets what was uploaded after an hour; a run has a copy of its data
    delete_cache = (600, 3600) if settings().public else (3600, 86_400)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=delete_cache) as demo:
        # closed: with it, a request could go past the queue, its limits and the validation of values. And first: each
        # call describes the whole page, as far as there is one
        demo.queue(max_size=100 if settings().public else 200, default_concurrency_limit=4, api_open=False)
        if notice := banner(probe(context.store.root)):
            gr.HTML(notice, elem_id="notice")
        with gr.Row(elem_id="header"):
            with gr.Column(scale=3, min_width=280):
                gr.HTML(HEADER)
            with gr.Column(scale=2, min_width=280, elem_id="picker"):
                chosen = picker.build(context)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Train", id="train"):
                live = train.build(context, demo)
            page = Page(context, demo, chosen.checkpoint, live.token)
            with gr.Tab("Runs", id="runs") as tab:
                runs.build(page, live, tab, tabs)
            for name, build in TABS.items():
                with gr.Tab(name, id=name.lower()):
                    build(page)
        picker.wire(context, chosen, demo, finished=live.finished, changed=live.changed, token=live.token)
        api.build(context)
        zero_gpu()  # before torch is imported
    fields.guard_fields(demo)
    sessions.install()
    return demo


def zero_gpu() -> None:
    """Declare the function that a ZeroGPU Space demands; elsewhere `spaces` is not installed and nothing happens."""
    try:
        import spaces
    except ImportError:
        return

    @spaces.GPU(duration=60)
    def gpu_is_there() -> bool:
        """Say whether this Space has a GPU; training itself uses the Space's CPU."""
        import torch

        return torch.cuda.is_available()

    gr.api(gpu_is_there, api_name="gpu", api_visibility="private")


def theme() -> gr.themes.Base:
    """Return the theme: offline fonts, and contrast that passes WCAG AA in light and dark."""
    return gr.themes.Default(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        font=["Plex Sans", "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono"), "ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color_dark="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
    )


def launch_options(context: AppContext) -> dict[str, Any]:
    """Return how the page is launched; host and port are left to GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""
    return {
        "theme": theme(),
        "css_paths": [ASSETS / "style.css"],
        "favicon_path": ASSETS / "favicon.svg",
        "show_error": False,  # our handlers speak for themselves; anything else must not leak
        "run_history": False,
        "quiet": settings().log_json,  # what gradio prints is no JSON
        "max_file_size": settings().max_bytes,
        "footer_links": ["api"],
        "enable_monitoring": False,
        "strict_cors": True,
        "ssr_mode": False,
        "pwa": False,
        "state_session_capacity": settings().max_sessions,
        "allowed_paths": [str(SAMPLE)],
        # run folders hold people's files: what may be downloaded is copied out of them first
        "blocked_paths": [str(context.store.root.resolve())],
        "app_kwargs": {
            "middleware": [Middleware(Guard)],
            "routes": [Route("/healthz", Health(context).answer)],
        },
    }
