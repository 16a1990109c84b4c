"""Section 4 of the Train tab: what came out of a run, and taking it away."""

from __future__ import annotations

import shutil
from typing import Any

import gradio as gr

from mtl.runs.store import Run
from mtl.ui import html
from mtl.ui.context import AppContext, download_folder, guarded
from mtl.ui.train.live import LiveSection

FILES = ("config.yaml", "metrics.csv", "report.json", "predictions.csv")


def build(context: AppContext, live: LiveSection) -> None:
    """Lay out the result and fill it when a run's end is seen."""
    with gr.Column(visible=False, elem_id="result") as box:
        gr.HTML('<h2 class="step"><span>4</span> Result</h2>')
        summary = gr.HTML(elem_id="result-summary")
        prepare = gr.Button("Prepare the download", elem_id="prepare-download")
        files = gr.File(
            label="The model, and its scores and plots", file_count="multiple", visible=False, elem_id="downloads"
        )
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None}
    live.finished.change(
        guarded(lambda name, token: _result(context, name, token)),
        [live.finished, live.token],
        [box, summary, prepare, files],
        show_progress="hidden",
        **private,
    )
    live.run.change(lambda: gr.update(visible=False), None, box, show_progress="hidden", **private)
    prepare.click(
        guarded(lambda name, token: _download(context, name, token)), [live.run, live.token], files,
        show_progress_on=[files, prepare], **private,
    )  # fmt: skip


def _result(context: AppContext, name: str, token: str) -> tuple[Any, ...]:
    if not name:
        return gr.update(visible=False), "", gr.skip(), gr.update(visible=False)
    run = context.open(name, token)
    usable = run.has_checkpoint
    return gr.update(visible=True), result_html(run), gr.update(visible=usable), gr.update(value=None, visible=False)


def result_html(run: Run) -> str:
    """Say what came out: the test scores, once, or why there are none."""
    status, report = run.status, run.report()
    if not run.has_checkpoint:
        return html.empty("No checkpoint", "The run ended before it had learnt anything to keep. " + status.reason)
    if report and report["test"]:
        rows = [
            (task, f"{score['accuracy']:.3f}", f"{score['macro_f1']:.3f}", f"{report['test_rows'][task]:,}")
            for task, score in report["test"].items()
        ]
        scores = html.table(
            ["task", "accuracy", "macro F1", "rows"],
            rows,
            caption=f"Test rows, scored once with the best checkpoint (epoch {report['best_epoch']})",
        )
        return scores + html.notes(["This checkpoint now answers on the other tabs."])
    why = "There are no test rows." if report else "The test rows were not scored, since the run did not end by itself."
    return html.notes([status.reason, why, "This checkpoint now answers on the other tabs."])


def _download(context: AppContext, name: str, token: str) -> Any:
    """Copy what the visitor may have into a folder of their own; the run folder itself is never served."""
    run = context.open(name, token)
    folder = download_folder()
    results = folder / f"{name}-results"
    (results / "plots").mkdir(parents=True)
    for file in FILES:
        if (run.path / file).exists():
            shutil.copy(run.path / file, results / file)
    for plot in (run.path / "plots").glob("*.png"):
        shutil.copy(plot, results / "plots" / plot.name)
    from mtl.sharing.bundle import export_bundle

    model = folder / f"{name}-model.zip"
    export_bundle(context.predictor(name, token), model, name)
    archive = shutil.make_archive(str(results), "zip", folder, results.name)
    return gr.update(value=[str(model), archive], visible=True)
