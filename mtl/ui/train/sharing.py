"""Does sharing pay? The button that trains jointly and each task alone, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.config import RunConfig
from mtl.data.reading import Table
from mtl.errors import CheckpointError, ConfigError, LimitError
from mtl.reports.plots import score_name
from mtl.runs import comparing
from mtl.runs.store import Run
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST
from mtl.ui.train.data import DataSection

log = logging.getLogger(__name__)
LABEL = "Does sharing pay?"


@dataclass(frozen=True)
class SharingButton:
    """The button and its options.

    Attributes:
        go: The button.
        seeds: How often everything is trained.
        about: What a press would do.
    """

    go: gr.Button
    seeds: gr.Dropdown
    about: gr.HTML


def build_button(data: DataSection) -> SharingButton:
    """Lay out the button, which needs two tasks or more."""
    with gr.Row(elem_id="sharing"):
        go = gr.Button(LABEL, variant="secondary", elem_id="compare", scale=3, interactive=False, min_width=160)
        seeds = gr.Dropdown(
            [(f"{count} seed" + "s" * (count > 1), count) for count in range(1, comparing.MOST_SEEDS + 1)],
            value=1, label="Seeds", container=False, interactive=True, scale=1, min_width=104, elem_id="compare-seeds",
        )  # fmt: skip
    about = gr.HTML(about_html(0, 1), elem_id="compare-about")
    gr.on(
        [data.task_columns.change, seeds.change],
        guarded(lambda tasks, count: _offer(len(tasks or ()), count)),
        [data.task_columns, seeds],
        [go, about],
        **LATEST,
    )
    return SharingButton(go, seeds, about)


def _offer(tasks: int, seeds: Any) -> tuple[Any, str]:
    return gr.update(interactive=tasks > 1), about_html(tasks, seeds)


def about_html(tasks: int, seeds: Any) -> str:
    """Say what a press would do, or why the button cannot be pressed."""
    if tasks < 2:
        return '<p class="hint">Comparing with each task alone needs two tasks or more.</p>'
    count = (tasks + 1) * (seeds if isinstance(seeds, int) else 1)
    return (
        f'<p class="hint">Trains the {tasks} tasks together, and each one alone: {count} runs, one after the other. '
        "More seeds: a surer answer.</p>"
    )


def create(
    context: AppContext, config: RunConfig, table: Table, seeds: Any, rest: dict[str, Any], address: str = ""
) -> Run:
    """Create the runs of a comparison and queue them, all or none.

    Args:
        context: The server's.
        config: Of the joint run.
        table: The data.
        seeds: How often everything is trained, as it was given.
        rest: What else `mtl.runs.comparing.create` takes.
        address: Where the visitor is.

    Returns:
        The run that heads the comparison.

    Raises:
        UserError: There is one task, or the queue cannot hold them all.
    """
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= comparing.MOST_SEEDS:
        raise ConfigError(f"The number of seeds must be a whole number between 1 and {comparing.MOST_SEEDS}.")
    runs = comparing.create(context.store, config, table, seeds=seeds, **rest)
    try:
        _check_room(context, len(runs))
        for run, title in zip(runs, titles(runs), strict=True):
            run.set_title(title)
        for run in runs:
            context.queue.submit(run, address)
    except LimitError:
        _take_back(context, runs)
        raise
    return runs[0]


def _check_room(context: AppContext, count: int) -> None:
    waiting = sum(run.status.state == "queued" for run in context.queue.active())
    room = settings().max_queued_runs - waiting
    if count > room:
        raise LimitError(
            f"The comparison needs {count} runs, and only {max(room, 0)} more can wait for their turn. "
            "Use fewer seeds, or try again later."
        )


def _take_back(context: AppContext, runs: Sequence[Run]) -> None:
    """Stop and delete what was created; one that has begun meanwhile stops by itself."""
    for run in runs:
        if run.path.is_dir():
            context.queue.stop(run)
            if run.status.state != "running":
                context.store.discard(run)


def titles(runs: Sequence[Run]) -> list[str]:
    """Name the runs of a comparison by what they train."""
    found = []
    for run in runs:
        tasks, seed = list(run.config.tasks), run.config.training.seed
        what = "jointly" if len(tasks) > 1 else f"{tasks[0][:50]} alone"
        found.append(f"{what}, seed {seed}")
    return found


def outcome(context: AppContext, run: Run) -> dict[str, Any] | None:
    """Say how far a run's comparison is; None if it heads none."""
    try:
        return comparing.outcome(context.store, run)
    except (KeyError, ValueError, TypeError, OSError, CheckpointError):
        log.exception("the comparison of %s cannot be read", run.name)
        return {"done": 0, "total": 0, "finished": True, "tasks": [], "gain": None, "sentence": "It cannot be read."}


def comparison_html(found: dict[str, Any] | None) -> str:
    """Draw a comparison as far as it is: how many runs are done, at the end the differences and what to do."""
    if found is None:
        return ""
    title = f'<h3 class="section">{LABEL}</h3>'
    if not found["finished"]:
        words = f"{found['done']} of {found['total']} runs are done. The answer comes when all are."
        share = found["done"] / max(1, found["total"])
        return f'{title}<p class="hint">{words}</p>{html.bar(share, "runs of the comparison done")}'
    return f"{title}{_table(found)}{html.notes([*_gain(found), found['sentence']])}"


def _table(found: dict[str, Any]) -> str:
    if not found["tasks"]:
        return ""
    rows = [
        (
            task["task"],
            score_name(task["metric"]),
            f"{task['joint']:.3f}",
            f"{task['alone']:.3f}",
            f"{_signed(task['difference'])} ({_signed(task['low'])} to {_signed(task['high'])})",
        )
        for task in found["tasks"]
    ]
    header = ["task", "score", "jointly", "alone", "difference (95 % interval)"]
    return html.table(header, rows, numbers_from=2, caption="Test rows; jointly minus alone")


def _gain(found: dict[str, Any]) -> list[str]:
    if found.get("gain") is None:
        return []
    return [f"Mean relative gain of training jointly: {100 * found['gain']:+.1f} %.".replace("-", "\N{MINUS SIGN}")]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
