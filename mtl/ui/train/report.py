"""The Report of a run, on the Train and on the Runs tab: what the one look at the test rows says, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mtl.reports.plots import score_name
from mtl.reports.test_plots import confusion_map, reliability_diagram
from mtl.runs.store import Run
from mtl.runs.summary import scores_that_count
from mtl.ui import html
from mtl.ui.context import AppContext, guarded
from mtl.ui.events import LATEST
from mtl.ui.live_plot import live_plot

Found = Mapping[str, Any]
BASELINES = {"majority": "most frequent class", "tfidf": "TF-IDF", "nothing": "no entities", "dictionary": "dictionary"}
MIXED_BASELINES = ["guess", "no network"]
OPEN_CLASSES, OPEN_MISTAKES = 12, 5  # what is longer is folded


@dataclass(frozen=True)
class ReportSection:
    """The components, from top to bottom.

    Attributes:
        overview: All tasks, beside the baselines.
        choice: The task that the rest is about.
        detail: Its scores and classes.
        confusion: What its classes are predicted as.
        calibration: How far its confidence can be trusted.
        reliability: The same as a diagram.
        mistakes: Where it was wrong and most sure.
    """

    overview: gr.HTML
    choice: gr.Radio
    detail: gr.HTML
    confusion: gr.HTML
    calibration: gr.HTML
    reliability: gr.HTML
    mistakes: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """Everything that `show` may change."""
        return [self.overview, self.choice, *self.of_task]

    @property
    def of_task(self) -> list[Any]:
        """What is about one task."""
        return [self.detail, self.confusion, self.calibration, self.reliability, self.mistakes]


def build_overview(prefix: str) -> gr.HTML:
    """Lay out what comes first; `prefix` keeps the ids of two reports apart."""
    return gr.HTML(elem_id=f"{prefix}summary")


def build(overview: gr.HTML, prefix: str) -> ReportSection:
    """Lay out the rest of the report."""
    return ReportSection(
        overview=overview,
        choice=gr.Radio(
            [],
            label="Look closer at",
            visible=False,
            elem_id=f"{prefix}task",
            elem_classes="choice",
            interactive=True,
            container=False,
        ),
        detail=gr.HTML(visible=False, elem_id=f"{prefix}detail"),
        confusion=live_plot("Confusion matrix", elem_id=f"{prefix}confusion", visible=False, height=360),
        calibration=gr.HTML(visible=False, elem_id=f"{prefix}calibration"),
        reliability=live_plot("Reliability diagram", elem_id=f"{prefix}reliability", visible=False, height=320),
        mistakes=gr.HTML(visible=False, elem_id=f"{prefix}mistakes"),
    )


def wire(section: ReportSection, context: AppContext, run: gr.State, token: gr.State) -> None:
    """Show another task when it is chosen."""

    def closer(name: str, secret: str, task: str) -> dict[Any, Any]:
        return show_task(section, context.open(name, secret).report(), task)

    section.choice.input(
        guarded(closer),
        [run, token, section.choice],
        section.of_task,
        **LATEST,
    )


def show(section: ReportSection, run: Run) -> dict[Any, Any]:
    """Fill the report of a run; without one, or with an older one, what there is."""
    report = run.report()
    tasks = list((report or {}).get("tasks") or {})
    choice = gr.update(choices=tasks, value=tasks[0] if tasks else None, visible=len(tasks) > 1)
    first = show_task(section, report, tasks[0] if tasks else "")
    return {section.overview: report_html(report) or _missing(run), section.choice: choice} | first


def _missing(run: Run) -> str:
    if not run.status.is_final:
        return html.notes(["The test rows are scored once, when the run ends."])
    return html.notes(["The test rows were not scored, since the run did not end by itself."])


def show_task(section: ReportSection, report: Found | None, task: str) -> dict[Any, Any]:
    """Fill what is about one task; a name that is not in the report empties it."""
    found = ((report or {}).get("tasks") or {}).get(str(task))
    if not found:
        return dict.fromkeys(section.of_task, gr.update(visible=False))
    return {
        section.detail: gr.update(value=task_html(task, found), visible=True),
        section.confusion: _plot(confusion_map(found), there=bool(found.get("confusion"))),
        section.calibration: gr.update(value=calibration_html(found.get("calibration")), visible=True),
        section.reliability: _plot(
            reliability_diagram(found) if found.get("calibration") else {}, there=bool(found.get("calibration"))
        ),
        section.mistakes: gr.update(value=mistakes_html(found.get("mistakes", ())), visible=True),
    }


def _plot(figure: dict[str, Any], *, there: bool) -> Any:
    return gr.update(value=figure, visible=True) if there else gr.update(visible=False)


def report_html(report: Found | None) -> str:
    """Draw all tasks: their main scores with intervals beside the baselines; and the tasks of the run before."""
    if not report:
        return ""
    notes = list(report.get("notes") or ())
    if not report.get("test"):
        return html.notes(notes or ["There are no test rows, so no test score is claimed."])
    rows_of = report.get("test_rows") or {}
    tasks = report.get("tasks") or {}
    header, rows = _overview(report["test"], tasks, rows_of) if tasks else _older(report["test"], rows_of)
    once = f"Test rows were scored once, with the best checkpoint (epoch {report.get('best_epoch')})"
    parts = [html.table(header, rows, caption=once), html.notes(notes), earlier_html(report.get("earlier"))]
    return f'<div class="understood">{"".join(parts)}</div>'


def _overview(test: Found, tasks: Found, rows_of: Found) -> tuple[list[str], list[list[str]]]:
    kinds = {name for found in tasks.values() for name in found.get("baselines") or {}}
    pairs = [pair for pair in (("majority", "nothing"), ("tfidf", "dictionary")) if kinds.intersection(pair)]
    scores = scores_that_count({"test": test, "tasks": tasks})
    names = {main for main, _ in scores.values()}
    mixed = len({found["kind"] for found in tasks.values()}) > 1
    beside = MIXED_BASELINES[: len(pairs)] if mixed else [BASELINES[_given(kinds, pair)] for pair in pairs]
    header = ["task", score_name(names.pop()) if len(names) == 1 else "score", "95 % interval", *beside, "rows"]
    rows = []
    for task, (main, value) in scores.items():
        found = tasks.get(task) or {}
        simple = [_baseline(found, _given(set(found.get("baselines") or {}), pair), main) for pair in pairs]
        score = f"{value:.3f} {score_name(main)}" if header[1] == "score" else f"{value:.3f}"
        rows.append([task, score, _interval(found, main), *simple, f"{rows_of.get(task, 0):,}"])
    return header, rows


def _given(names: set[str], pair: Sequence[str]) -> str:
    return next((name for name in pair if name in names), pair[0])


def _baseline(found: Found, name: str, metric: str) -> str:
    scores = (found.get("baselines") or {}).get(name)
    return f"{scores[metric]:.3f}" if scores and metric in scores else "–"


def _interval(found: Found, metric: str) -> str:
    low, high = (found.get("intervals") or {}).get(metric) or (None, None)
    return f"{low:.3f}–{high:.3f}" if low is not None else "–"


def _older(test: Found, rows_of: Found) -> tuple[list[str], list[list[str]]]:
    """Draw a report of an earlier version, which has accuracy and macro F1 alone."""
    rows = [
        [task, f"{scores['accuracy']:.3f}", f"{scores['macro_f1']:.3f}", f"{rows_of.get(task, 0):,}"]
        for task, scores in test.items()
    ]
    return ["task", "accuracy", "macro F1", "rows"], rows


def earlier_html(earlier: Found | None) -> str:
    """Draw what became of the tasks of the run that was learnt on from, on its own validation rows."""
    if not earlier or not earlier.get("before"):
        return ""
    rows = []
    for task, before in earlier["before"].items():
        after = (earlier.get("after") or {}).get(task) or {}
        main = next((name for name in ("macro_f1", "entity_f1") if name in before), None)
        if main and main in after:
            change = f"{after[main] - before[main]:+.3f}".replace("-", "\N{MINUS SIGN}")
            rows.append((task, score_name(main), f"{before[main]:.3f}", f"{after[main]:.3f}", change))
    caption = f"Tasks of {earlier.get('run', 'the run before')}, on its {earlier.get('rows', 0):,} validation rows"
    return html.table(["task", "score", "before", "after", "change"], rows, numbers_from=2, caption=caption)


def task_html(task: str, found: Found) -> str:
    """Draw one task: every score with its interval beside the baselines, and the scores of each class."""
    baselines = list(found.get("baselines") or {})
    rows = [
        [score_name(name), f"{value:.3f}", _interval(found, name), *(_baseline(found, b, name) for b in baselines)]
        for name, value in found["scores"].items()
    ]
    header = ["score", "test", "95 % interval", *(BASELINES.get(name, name) for name in baselines)]
    notes = [f"{BASELINES.get(name, name)}: {note}" for name, note in (found.get("baseline_notes") or {}).items()]
    title = f'<h3 class="section">{html.escape(task)}</h3>'
    confusion = '<h4 class="section">Confusion</h4><p class="hint">Rows are the true classes, columns what they are '
    confusion += "predicted as; what is off the diagonal is wrong.</p>"
    return (
        f'<div class="understood">{title}{html.table(header, rows, caption="Scores")}{html.notes(notes)}'
        f"{_classes_html(found)}{confusion if found.get('confusion') else ''}</div>"
    )


def _classes_html(found: Found) -> str:
    classes = found.get("classes") or []
    what = "class" if found.get("kind") == "classification" else "type"
    rows = [
        (entry["label"], *(f"{entry[name]:.3f}" for name in ("precision", "recall", "f1")), f"{entry['support']:,}")
        for entry in classes
    ]
    header = [what, "precision", "recall", "F1", "rows" if what == "class" else "entities"]
    if len(rows) <= OPEN_CLASSES:
        return html.table(header, rows, caption=f"Each {what}")
    plural = "classes" if what == "class" else "types"
    return html.details(f"The scores of {len(rows)} {plural}", html.table(header, rows))


def calibration_html(found: Found | None) -> str:
    """Say how far confidence and accuracy are apart, before and after the temperature."""
    if not found:
        return ""
    before, after = found["ece_before"], found["ece_after"]
    unit = found.get("unit", "texts")
    return (
        '<h4 class="section">Calibration</h4>'
        f'<p class="hint">Confidence is divided by a temperature of {found["temperature"]:.2f}, fitted on the '
        f"validation rows. On the {html.escape(unit)} of the test rows, confidence and accuracy are "
        f"{100 * before:.1f} points apart before and {100 * after:.1f} after (expected calibration error).</p>"
    )


def mistakes_html(mistakes: Sequence[Found]) -> str:
    """Draw where the model was wrong and most sure; the texts are people's own, and stay texts."""
    if not mistakes:
        return '<h4 class="section">Mistakes</h4><p class="hint">There are none on the test rows.</p>'
    first, rest = "".join(map(_mistake, mistakes[:OPEN_MISTAKES])), "".join(map(_mistake, mistakes[OPEN_MISTAKES:]))
    more = html.details(f"{len(mistakes) - OPEN_MISTAKES} more", rest) if rest else ""
    return f'<h4 class="section">Most confident mistakes</h4>{first}{more}'


def _mistake(found: Found) -> str:
    confidence = found.get("confidence")
    sure = "overlooked" if confidence is None else f"{100 * confidence:.0f} % sure"
    said, true = found.get("predicted") or "nothing", found.get("label") or "nothing"
    return (
        f'<div class="finding"><div><span>Row {html.escape(found["row"])} · {sure}</span>'
        f"<span><b>{html.escape(said)}</b> instead of <b>{html.escape(true)}</b></span></div>"
        f"<p>{html.escape(found['text'])}</p></div>"
    )
