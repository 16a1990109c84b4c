"""The Train tab: data and plan on one side, the live run and its result on the other."""

from __future__ import annotations

import gradio as gr

from mtl.ui.context import AppContext
from mtl.ui.train import checks, data, live, plan, preflight, result
from mtl.ui.train.live import LiveSection


def build(context: AppContext, blocks: gr.Blocks) -> LiveSection:
    """Lay out the tab."""
    with gr.Row(elem_id="train"):
        with gr.Column(scale=5, min_width=340, elem_classes="card"):
            file = data.build()
            form = plan.build(file, checks.build(file))
            buttons = live.build_buttons(file)
            tried = preflight.build()
        with gr.Column(scale=6, min_width=340, elem_classes="card sticky"):
            section = live.build(context, blocks, file, form, buttons)
            result.build(context, section)
    preflight.wire(context, file, form, tried, section.token)
    plan.wire_runs(form, context, blocks, token=section.token, changes=[section.finished, section.changed])
    return section
