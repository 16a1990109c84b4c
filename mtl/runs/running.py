"""One run from its folder to its end, or on from where it was: what a process does that trains it.

What happens is journaled and saved between two events of the training loop; the run folder's files are the protocol.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mtl.config import task_specs
from mtl.runs.files import cut_records, mend, write_csv, write_json, write_twins
from mtl.runs.limits import check_run
from mtl.runs.resuming import Journal, Point, drop_points, find_point, inputs_of, load_state, save_point
from mtl.runs.starting import Start, score_earlier, start_model
from mtl.runs.store import Phase, Run, State
from mtl.settings import settings

if TYPE_CHECKING:
    from torch import Tensor

    from mtl.data.splitting import Splits
    from mtl.modeling.multitask import MultiTaskModel
    from mtl.runs.checkpoint import Made
    from mtl.training.events import EpochEnd, Event, RunEnd, StepEnd

log = logging.getLogger(__name__)
PHASES: dict[str, Phase] = {"embedding": "embedding", "validation": "validating", "test": "testing"}
SAVE_SECONDS = 30.0


class StopRequest:
    """A wish to stop, from a signal, a file or a dead server; the first reason counts.

    Args:
        may_exit: Whether the process belongs to the run, so that it may end at once while the libraries load.
    """

    def __init__(self, *, may_exit: bool = False) -> None:
        self.state: State | None = None
        self.reason = ""
        self.goes_on = False
        self.may_exit = may_exit

    def ask(self, state: State, reason: str, *, goes_on: bool = False) -> None:
        """Ask for a stop that ends in this state; `goes_on` says whether the run is to go on by itself later."""
        if self.state is None:
            self.reason, self.goes_on, self.state = reason, goes_on, state


class Running:
    """The state of one training process; it holds the run's lease.

    Args:
        run: New, or left by a process that is gone.
        stop: Looked at between two events.
        on_event: Called with every event, for a progress bar.
    """

    def __init__(self, run: Run, stop: StopRequest, on_event: Callable[[Event], None] | None) -> None:
        self.run, self.stop, self.on_event = run, stop, on_event
        self.config, self.tasks = run.config, task_specs(run.config)
        self.made: Made | None = None
        self.earlier: dict[str, Any] = {}
        self.start: Start
        self.model: MultiTaskModel
        self.phase: Phase = "starting"
        self.unsaved: StepEnd | None = None
        self._find()

    def _find(self) -> None:
        """Find where the run was, and bring its folder back to that moment; no torch yet."""
        mend(self.run.path)
        if (self.run.path / "resume").is_dir():
            mend(self.run.path / "resume")
        self.inputs = inputs_of(self.run)
        recorded, _ = self.run.events()
        self.numerics = recorded[0]["numerics"] if recorded and recorded[0]["event"] == "RunBegin" else None
        self.point: Point | None = find_point(self.run, self.inputs, len(recorded))
        journal = self.point.journal if self.point else Journal(0, 0, 0.0)
        self.history = cut_records(self.run.path / "events.jsonl", journal.records)
        self.timings = len(cut_records(self.run.path / "timing.jsonl", journal.timings))
        self.started = self.saved = time.monotonic() - journal.seconds

    def train(self) -> None:
        """Train, journal and save until the end or a stop.

        Raises:
            UserError: Something the person can put right.
            OSError: The disk does not take a file.
        """
        self.run.set_status("running", "starting", attempt=self.run.status.attempt + 1)
        # torch and transformers take seconds to import: the run says "starting" before they do
        from mtl.data.preparing import cut
        from mtl.runs.checkpoint import Made
        from mtl.training.loop import train
        from mtl.training.numerics import from_text

        self.table = self.run.table()
        check_run(self.config, len(self.table))
        splits = cut(self.table, self.config, self.run.split())
        self.start = start_model(self.config, self.run.source)
        self.model, earlier = self.start.model, self.start.earlier
        self.earlier = {"before": score_earlier(self.model, earlier)} if earlier else {}
        state = load_state(self.point) if self.point else None
        made = self.point.journal.made if self.point else None
        self.made = Made(**made) if made else None
        self.saved, first = time.monotonic(), True
        for event in train(
            self.model,
            splits,
            self.config,
            cache_dir=settings().cache_dir,
            notes=self.start.notes,
            numerics=from_text(self.numerics) if self.numerics else None,
            resume=state,
        ):
            if first:  # the loop has told the model what it is that learns
                self._mend_best(state.best if state else {})
                first = False
            self._handle(event, splits)
            self._look_for_a_stop()
            if self.stop.state and not self.run.status.is_final:
                self._end_early()
                return

    def _mend_best(self, best: Mapping[str, Tensor]) -> None:
        """Make the best checkpoint that of the resume point: the process may have died between the two."""
        from mtl.runs.checkpoint import made_of
        from mtl.training.course import restore

        if self.made is None:
            shutil.rmtree(self.run.best, ignore_errors=True)
        elif made_of(self.run.best) != self.made:
            now = {name: value.detach().clone() for name, value in self.model.named_parameters() if name in best}
            restore(self.model, best)
            self._save_best()
            restore(self.model, now)

    def _look_for_a_stop(self) -> None:
        if self.run.stop_requested:
            self.stop.ask("stopped", "Stopped on request.")
        limit = settings().max_run_seconds
        if limit is not None and time.monotonic() - self.started > limit:
            self.stop.ask("stopped", f"The time that a run may take here is over ({limit:,.0f} seconds).")

    def _handle(self, event: Event, splits: Splits) -> None:
        from mtl.training.events import EpochEnd, EvaluationStep, RunBegin, RunEnd, StepEnd, as_json

        if self.on_event:
            self.on_event(event)
        if isinstance(event, EvaluationStep):
            self._enter(PHASES[event.side])
            return
        self._enter("training")
        value = as_json(event)
        self.history.append(value)
        self.run.append_event(value)
        match event:
            case StepEnd():
                self._end_step(event)
            case EpochEnd():
                self._end_epoch(event)
            case RunEnd():
                self._end_run(event, splits)
            case RunBegin():
                write_json(self.run.path / "plan.json", event.plan)

    def _enter(self, phase: Phase) -> None:
        if phase != self.phase and self.phase != "finished":
            self.phase = phase
            self.run.set_status("running", phase)

    def _end_step(self, event: StepEnd) -> None:
        now = time.monotonic()
        self.run.append_timing({"step": event.step, "seconds": round(now - self.started, 3)})
        self.timings += 1
        self.unsaved = event
        if now - self.saved >= SAVE_SECONDS:
            self._save_point(event)

    def _end_epoch(self, event: EpochEnd) -> None:
        from mtl.reports.report import metrics_table
        from mtl.runs.checkpoint import Made

        if event.improved:
            scores = event.validation.scores if event.validation else {}
            self.made = Made(event.epoch, event.step, event.validation is not None, scores)
            self._save_best()
        write_csv(self.run.path / "metrics.csv", *metrics_table(self.history, self.tasks))
        self._save_point(event)

    def _save_point(self, event: StepEnd | EpochEnd) -> None:
        assert event.capture is not None
        made = asdict(self.made) if self.made else None
        journal = Journal(len(self.history), self.timings, time.monotonic() - self.started, made)
        save_point(self.run, event.capture(), journal, self.inputs)
        self.saved, self.unsaved = time.monotonic(), None

    def _save_best(self) -> None:
        from mtl.runs.checkpoint import save_checkpoint

        assert self.made is not None
        save_checkpoint(self.run.best, self.model, self.start.config, self.start.base_sha256, self.made)

    def _end_run(self, event: RunEnd, splits: Splits) -> None:
        from mtl.reports.png import save_report_plots
        from mtl.reports.report import prediction_table
        from mtl.reports.testing import test_report

        report = test_report(
            event,
            self.tasks,
            train=splits.train,
            test=splits.test,
            places=self.table.place,
            validation=self.made.scores if self.made else None,
        )
        if event.temperatures and self.made:  # the heads know now how sure to be
            self._save_best()
        if self.start.earlier:
            rows = len(self.start.earlier.examples or ())
            earlier = self.start.earlier
            after = {"run": earlier.name, "rows": rows, "after": score_earlier(self.model, earlier)}
            report["earlier"] = self.earlier | after
        write_json(self.run.path / "report.json", report)
        if event.test:
            table = prediction_table(self.table, splits.test, event.test, self.tasks, event.temperatures)
            with write_twins(self.run.path / "predictions.csv") as write:
                write(*table)
        self._plots()
        save_report_plots(report, self.tasks, self.run.path / "plots")
        self.phase = "finished"
        self.run.set_status(event.outcome, "finished", event.reason)
        drop_points(self.run)

    def _end_early(self) -> None:
        """Keep where the run is, and the best checkpoint or else the current weights, marked as not validated."""
        from mtl.runs.checkpoint import Made

        taken = [event for event in self.history if event["event"] == "StepEnd"]
        if self.unsaved:
            self._save_point(self.unsaved)
        if not taken:
            kept = "No step was taken yet, so there is nothing to keep."
        elif self.run.has_checkpoint:
            kept = "The best checkpoint so far is kept."
        else:
            self.made = Made(taken[-1]["epoch"] - 1, taken[-1]["step"], False, {})
            self._save_best()
            kept = "The weights of the last step are kept; they were not validated."
        if taken:
            self._plots()
        self.phase = "finished"
        self.run.set_status(
            self.stop.state or "stopped", "finished", f"{self.stop.reason} {kept}", goes_on=self.stop.goes_on
        )

    def _plots(self) -> None:
        from mtl.reports.png import save_plots

        save_plots(self.history, self.tasks, self.run.path / "plots")
