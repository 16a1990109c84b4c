"""Where a run stands, as HTML: the headline, the bar, patience and phase, what is wrong, the last epoch's scores."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl.choices import SCORES
from mtl.config import TrainingConfig
from mtl.reports.diagnosis import diagnose
from mtl.reports.plots import History, epochs, main_scores, score_name, steps
from mtl.runs.progress import duration, progress
from mtl.runs.store import Run, Status
from mtl.ui import html


def status_html(
    run: Run,
    status: Status,
    events: History,
    timings: Sequence[dict[str, Any]],
    ahead: int,
    wait_seconds: float | None = None,
) -> str:
    """Draw where a run stands: a headline, a progress bar, the time left, and what one should know."""
    now = progress(status, events, timings, ahead, wait_seconds)
    left = f" · {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
    begin = _begin(events)
    chips = [("run", run.name), *(("name", title) for title in [run.title] if title)]
    return (
        f'<div class="status {status.state}" role="status" aria-live="polite">'
        f'<div class="headline"><span class="dot"></span><b>{html.escape(now.headline)}</b>'
        f"<span>{html.escape(now.detail)}{html.escape(left)}</span></div>"
        f"{html.bar(now.fraction or 0.0, 'progress of the run')}"
        f"{html.notes(diagnose(events), 'problem diagnosis')}"
        f"{html.chips([*chips, *_facts(begin), *_waiting(run, status, events)])}"
        f"{html.notes(begin.get('warnings', ()), 'problem')}</div>"
    )


def _begin(events: History) -> dict[str, Any]:
    return next((event for event in events if event["event"] == "RunBegin"), {})


def _facts(begin: dict[str, Any]) -> list[tuple[str, str]]:
    if not begin:
        return []
    numerics = begin["numerics"]
    return [
        ("learning", f"{begin['trainable'] / 1e6:.2f} M of {begin['parameters'] / 1e6:.2f} M"),
        ("computed", f"{numerics['device']}, {numerics['precision']}"),
    ]


def _waiting(run: Run, status: Status, events: History) -> list[tuple[str, str]]:
    """Say what a run waits for: the phase it is in, its best epoch, and how much patience is left."""
    where, ends = standing(run, events), epochs(events)
    chips = []
    if where["phases"] > 1:
        chips.append(("unfreezing", f"phase {where['phase']} of {where['phases']}"))
    if where["best_epoch"]:
        chips.append(("best so far" if not status.is_final else "best", f"epoch {where['best_epoch']}"))
    if not status.is_final and ends and ends[-1]["validation"]:
        chips.append(("patience", patience_words(where)))
    return chips


def standing(run: Run, events: History) -> dict[str, Any]:
    """Say how far a run's patience and its unfreezing are, as plain values.

    Returns:
        `epochs_without_improvement`, `patience`, `patience_in_phases`, `phase`, `phases`, `best_epoch`, and
        `best_epochs` of each task. What is not known yet is 0 or None.
    """
    ends, training = epochs(events), _training(run.path)
    plan = [epoch["phase"] for epoch in (_begin(events).get("plan") or {}).get("epochs", [])]
    now = max([event["epoch"] for event in (*steps(events)[-1:], *ends[-1:])], default=0)
    phase = plan[now - 1] if 0 < now <= len(plan) else 1
    best_epochs = {task: event["epoch"] for event in ends for task in event.get("best_tasks") or ()}
    return {
        "epochs_without_improvement": ends[-1]["epochs_without_improvement"] if ends else 0,
        "patience": training.patience,
        "patience_in_phases": training.patience_in_phases,
        "phase": phase,
        "phases": max(plan, default=1),
        "best_epoch": max((event["epoch"] for event in ends if event["improved"]), default=None),
        "best_epochs": best_epochs,
    }


@functools.lru_cache(maxsize=128)
def _training(path: Path) -> TrainingConfig:
    """Read a run's training settings, which never change, once."""
    return Run(path).config.training


def patience_words(where: dict[str, Any]) -> str:
    """Say how long there was no gain, and what comes when that lasts."""
    stale, patience = where["epochs_without_improvement"], where["patience"]
    early = where["phase"] < where["phases"]
    if not stale:
        return "the last epoch was the best"
    if early and where["patience_in_phases"] == "wait":
        return f"no gain for {_epochs(stale)}; it counts in the last phase"
    after = ", then the next phase" if early and where["patience_in_phases"] == "next" else ""
    return f"no gain for {stale} of {_epochs(patience)}{after}" if patience else f"no gain for {_epochs(stale)}"


def _epochs(count: int) -> str:
    return f"{count} epoch" + ("" if count == 1 else "s")


def last_epoch_html(events: History) -> str:
    """Draw the last epoch's scores of each task, and each task's own best epoch beside the best of all."""
    ends = epochs(events)
    if not ends:
        return ""
    last, main = ends[-1], main_scores(events)
    side = last["validation"] or last["train"]
    best = max((event["epoch"] for event in ends if event["improved"]), default=None)
    best_of = {task: event["epoch"] for event in ends for task in event.get("best_tasks") or ()}
    second = {task: _second(main[task], scores) for task, scores in side["scores"].items()}
    header, with_names = _score_header([main[task] for task in side["scores"]], list(second.values()))
    rows = [
        (
            task,
            f"{side['losses'][task]:.3f}",
            _cell(scores, main[task], with_names),
            _cell(scores, second[task], with_names),
            *([best_of.get(task, "–")] if best_of else []),
        )
        for task, scores in side["scores"].items()
    ]
    what = "validation" if last["validation"] else "training"
    caption = f"Epoch {last['epoch']}, {what}; the best so far is epoch {best}"
    return html.table(["task", "loss", *header, *(["best epoch"] if best_of else [])], rows, caption=caption)


def _second(main: str, scores: dict[str, float]) -> str:
    """Choose one more score to show beside the main one: the first other one of its kind."""
    kind = next((names for names in SCORES.values() if main in names), ())
    return next((name for name in (*kind, *scores) if name != main and name in scores), main)


def _score_header(main: list[str], second: list[str]) -> tuple[list[str], bool]:
    """Name the columns by their scores where all tasks have the same ones; else the cells name them."""
    if len(set(main)) == len(set(second)) == 1:
        return [score_name(main[0]), score_name(second[0])], False
    return ["main score", "also"], True


def _cell(scores: dict[str, float], metric: str, with_name: bool) -> str:
    if metric not in scores:
        return "–"
    return f"{scores[metric]:.3f} {score_name(metric)}" if with_name else f"{scores[metric]:.3f}"
