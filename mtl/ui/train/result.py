"""Section 4 of the Train tab: what came out of a run, and taking it away."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.errors import UserError
from mtl.runs.store import STARTER, Run
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded
from mtl.ui.events import PRIVATE
from mtl.ui.runs.cards import sentence
from mtl.ui.train import report, sharing
from mtl.ui.train.live import POLL_SECONDS, LiveSection

FILES = ("config.yaml", "plan.json", "metrics.csv", "report.json")
OWN_FILES = ("predictions.csv", "predictions.jsonl")  # every test text: not for those who only read the run


@dataclass(frozen=True)
class _Result:
    """What the end of a run may change."""

    box: gr.Column
    summary: gr.HTML
    report: report.ReportSection
    comparison: gr.HTML
    timer: gr.Timer
    compared: gr.State
    prepare: gr.Button
    files: gr.File

    @property
    def outputs(self) -> list[Any]:
        mine = [self.box, self.summary, self.comparison, self.timer, self.compared, self.prepare, self.files]
        return [*mine, *self.report.outputs]


def build(context: AppContext, live: LiveSection) -> None:
    """Lay out the result and fill it when a run's end is seen."""
    timer, compared = gr.Timer(2 * POLL_SECONDS, active=False), gr.State("")
    with gr.Column(visible=False, elem_id="result") as box:
        gr.HTML('<h2 class="step"><span>4</span> Result</h2>')
        words = gr.HTML(elem_id="result-words")
        comparison = gr.HTML(elem_id="comparison", visible=False)
        overview = report.build_overview("result-")
        prepare = gr.Button("Prepare the download", elem_id="prepare-download")
        files = build_files("")
        scores = report.build(overview, "result-")
    result = _Result(box, words, scores, comparison, timer, compared, prepare, files)
    known = [live.finished, live.token]
    live.finished.change(
        guarded(lambda name, token: _result(context, result, name, token)), known, result.outputs, **PRIVATE
    )
    live.run.change(lambda: (gr.update(visible=False), gr.Timer(active=False)), None, [box, timer], **PRIVATE)
    timer.tick(
        guarded(lambda name, token, seen: _compared(context, result, name, token, seen)),
        [*known, compared],
        [comparison, timer, compared],
        **PRIVATE,
    )
    report.wire(scores, context, live.run, live.token)
    wire_download(context, prepare, files, live.run, live.token)


def _result(context: AppContext, result: _Result, name: str, token: str) -> dict[Any, Any]:
    if not name:
        return {result.box: gr.update(visible=False), result.timer: gr.Timer(active=False)}
    run = context.open(name, token)
    return {
        result.box: gr.update(visible=True),
        result.summary: result_html(run),
        result.prepare: gr.update(visible=True),
        result.files: gr.update(value=None, visible=False),
        **report.show(result.report, run),
        **_compared(context, result, name, token, ""),
    }


def _compared(context: AppContext, result: _Result, name: str, token: str, seen: str) -> dict[Any, Any]:
    """Draw how far the comparison is, and go on looking while it is not at its end."""
    try:
        found = sharing.outcome(context, context.open(name, token))
    except UserError:  # deleted meanwhile
        found = None
    drawn = sharing.comparison_html(found)
    going = found is not None and not found["finished"]
    shown = gr.update(value=drawn, visible=found is not None)
    news = {} if drawn == seen and seen else {result.comparison: shown, result.compared: drawn}
    return news | {result.timer: gr.Timer(active=going)}


def result_html(run: Run) -> str:
    """Say what came of a run in words; the scores are the report's."""
    status = run.status
    if not run.has_checkpoint:
        return html.empty("No checkpoint", "The run ended before it had learnt anything to keep. " + status.reason)
    answers = "This checkpoint now answers on the other tabs."
    if run.report() is None:
        return html.notes([sentence(status.reason), answers] if status.reason else [answers])
    return html.notes([answers])


def build_files(prefix: str) -> gr.File:
    """Lay out the place of the files that a button makes."""
    return gr.File(
        label="The model, and its scores and plots", file_count="multiple", visible=False, interactive=False,
        elem_id=f"{prefix}downloads",
    )  # fmt: skip


def wire_download(context: AppContext, prepare: gr.Button, files: gr.File, run: gr.State, token: gr.State) -> None:
    """Make the files of the run that is shown."""
    prepare.click(
        guarded(lambda name, secret: gr.update(value=download(context, name, secret), visible=True)),
        [run, token],
        files,
        show_progress_on=[files, prepare],
        api_visibility="private",
        concurrency_limit=None,
    )


def download(context: AppContext, name: str, token: str) -> list[str]:
    """Copy what the visitor may have into a folder of their own; the run folder itself is never served.

    Returns:
        Paths of the archives: the model, if there is one, and the results.
    """
    run = context.open(name, token)
    folder = download_folder()
    results = folder / f"{name}-results"
    (results / "plots").mkdir(parents=True)
    for file in FILES + (OWN_FILES if context.is_own(run, token) or name == STARTER else ()):
        if (run.path / file).exists():
            shutil.copy(run.path / file, results / file)
    for plot in (run.path / "plots").glob("*.png"):
        shutil.copy(plot, results / "plots" / plot.name)
    archive = shutil.make_archive(str(results), "zip", folder, results.name)
    if not run.has_checkpoint:
        return [archive]
    from mtl.sharing.bundle import export_bundle

    model = folder / f"{name}-model.zip"
    export_bundle(context.predictor(name, token), model, name)
    return [str(model), archive]
