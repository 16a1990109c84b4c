"""One run in one process: `python -m mtl.runs.worker RUN`.

The page's server holds this process's standard input; its end means that the server died, and the run saves what
it has. The command line calls `work` in its own process instead. Either way the run folder's files are the protocol.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mtl.config import task_specs
from mtl.errors import CheckpointError, UserError
from mtl.runs.files import write_csv, write_json, write_twins
from mtl.runs.starting import Start, score_earlier, start_model
from mtl.runs.store import Phase, Run, State, Status, open_run
from mtl.settings import settings

if TYPE_CHECKING:
    from mtl.data.splitting import Splits
    from mtl.modeling.multitask import MultiTaskModel
    from mtl.runs.checkpoint import Made
    from mtl.training.events import EpochEnd, Event, RunEnd

log = logging.getLogger(__name__)
PHASES: dict[str, Phase] = {"embedding": "embedding", "validation": "validating", "test": "testing"}
STOP_POLL_SECONDS = 0.2


class StopRequest:
    """A wish to stop, from a signal, a file or a dead server; the first reason counts.

    Args:
        may_exit: Whether the process belongs to the run, so that it may end at once while the libraries load.
    """

    def __init__(self, *, may_exit: bool = False) -> None:
        self.state: State | None = None
        self.reason = ""
        self.may_exit = may_exit

    def ask(self, state: State, reason: str) -> None:
        """Ask for a stop that ends in this state."""
        if self.state is None:
            self.reason, self.state = reason, state


def work(run: Run, stop: StopRequest, on_event: Callable[[Event], None] | None = None) -> Status:
    """Train a queued run to its end, in this process.

    Args:
        run: Made by `RunStore.create`.
        stop: Looked at between two batches.
        on_event: Called with every event, for a progress bar.

    Raises:
        CheckpointError: Another process is training this run.
        UserError: Something the person can put right ended the run; its status says the same.
    """
    lease = FileLock(run.path / "lease")
    try:
        held = lease.acquire(timeout=0)
    except Timeout:
        raise CheckpointError("This run is already being trained by another process.") from None
    with held:  # not the lock itself, which would be taken twice and let go once
        if stop.may_exit:
            threading.Thread(target=_watch_start, args=(run, stop), daemon=True).start()
        try:
            _Work(run, stop, on_event).train()
        except UserError as error:
            run.set_status("failed", "finished", str(error))
            raise
        except OSError as error:
            log.exception("the run folder failed")
            run.set_status("failed", "finished", f"A file of the run could not be written: {error.strerror}.")
        except Exception as error:
            log.exception("unexpected")
            run.set_status("failed", "finished", _why(error))
    return run.status


def _why(error: Exception) -> str:
    from mtl.training.memory import is_out_of_memory

    if is_out_of_memory(error):
        return "The memory was not enough; try a smaller batch size or encoder.max_length."
    return f"An unexpected error ended the run ({type(error).__name__}); worker.log has the details."


class _Work:
    """The state of one training process."""

    def __init__(self, run: Run, stop: StopRequest, on_event: Callable[[Event], None] | None) -> None:
        self.run, self.stop, self.on_event = run, stop, on_event
        self.config, self.tasks = run.config, task_specs(run.config)
        self.history: list[dict[str, Any]] = []
        self.made: Made | None = None
        self.earlier: dict[str, Any] = {}
        self.start: Start
        self.started = time.monotonic()
        self.phase: Phase = "starting"

    def train(self) -> None:
        """Train, journal and save until the end or a stop."""
        self.run.set_status("running", "starting")
        # torch and transformers take seconds to import: the run says "starting" before they do
        from mtl.data.preparing import cut
        from mtl.training.loop import train

        self.table = self.run.table()
        splits = cut(self.table, self.config, self.run.split())
        self.start = start_model(self.config, self.run.source)
        model, earlier = self.start.model, self.start.earlier
        self.earlier = {"before": score_earlier(model, earlier)} if earlier else {}
        notes = self.start.notes
        for event in train(model, splits, self.config, cache_dir=settings().cache_dir, notes=notes):
            self._handle(event, model, splits)
            if self.run.stop_requested:
                self.stop.ask("stopped", "Stopped on request.")
            if self.stop.state and not self.run.status.is_final:
                self._end_early(model)
                return

    def _handle(self, event: Event, model: MultiTaskModel, splits: Splits) -> None:
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
                self.run.append_timing({"step": event.step, "seconds": round(time.monotonic() - self.started, 3)})
            case EpochEnd():
                self._end_epoch(event, model)
            case RunEnd():
                self._end_run(event, model, splits)
            case RunBegin():
                write_json(self.run.path / "plan.json", event.plan)

    def _enter(self, phase: Phase) -> None:
        if phase != self.phase and self.phase != "finished":
            self.phase = phase
            self.run.set_status("running", phase)

    def _end_epoch(self, event: EpochEnd, model: MultiTaskModel) -> None:
        from mtl.reports.report import metrics_table

        if event.improved:
            scores = event.validation.scores if event.validation else {}
            self._save(model, event.epoch, event.step, validated=event.validation is not None, scores=scores)
        write_csv(self.run.path / "metrics.csv", *metrics_table(self.history, self.tasks))

    def _save(
        self, model: MultiTaskModel, epoch: int, step: int, *, validated: bool, scores: dict[str, dict[str, float]]
    ) -> None:
        from mtl.runs.checkpoint import Made, save_checkpoint

        self.made = Made(epoch, step, validated, scores)
        save_checkpoint(self.run.best, model, self.start.config, self.start.base_sha256, self.made)

    def _end_run(self, event: RunEnd, model: MultiTaskModel, splits: Splits) -> None:
        from mtl.reports.png import save_report_plots
        from mtl.reports.report import prediction_table
        from mtl.reports.testing import test_report
        from mtl.runs.checkpoint import save_checkpoint

        report = test_report(
            event,
            self.tasks,
            train=splits.train,
            test=splits.test,
            places=self.table.place,
            validation=self.made.scores if self.made else None,
        )
        if event.temperatures and self.made:  # the heads know now how sure to be
            save_checkpoint(self.run.best, model, self.start.config, self.start.base_sha256, self.made)
        if self.start.earlier:
            rows = len(self.start.earlier.examples or ())
            after = {"run": self.start.earlier.name, "rows": rows, "after": score_earlier(model, self.start.earlier)}
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

    def _end_early(self, model: MultiTaskModel) -> None:
        """Keep the best checkpoint, or else the current weights, marked as not validated."""
        taken = [event for event in self.history if event["event"] == "StepEnd"]
        if not taken:
            kept = "No step was taken yet, so there is nothing to keep."
        elif self.run.has_checkpoint:
            kept = "The best checkpoint so far is kept."
        else:
            self._save(model, taken[-1]["epoch"] - 1, taken[-1]["step"], validated=False, scores={})
            kept = "The weights of the last step are kept; they were not validated."
        if taken:
            self._plots()
        self.phase = "finished"
        self.run.set_status(self.stop.state or "stopped", "finished", f"{self.stop.reason} {kept}")

    def _plots(self) -> None:
        from mtl.reports.png import save_plots

        save_plots(self.history, self.tasks, self.run.path / "plots")


def main(arguments: list[str]) -> int:
    """Run one run, started by the page's server."""
    parser = argparse.ArgumentParser(prog="python -m mtl.runs.worker", description=__doc__)
    parser.add_argument("run", help="path of the run folder")
    run = open_run(Path(parser.parse_args(arguments).run))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays responsive
    stop = StopRequest(may_exit=True)
    signal.signal(signal.SIGTERM, lambda *_: stop.ask("interrupted", "The run was asked to end by the system."))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal: the server decides
    threading.Thread(target=_watch_server, args=(stop,), daemon=True).start()
    try:
        return 0 if work(run, stop).state in {"done", "stopped"} else 1
    except UserError as error:
        log.error("%s", error)
        return 1


def _watch_server(stop: StopRequest) -> None:
    """Wait for the end of standard input, which the server holds open."""
    # not through sys.stdin: a thread that waits inside its buffer makes the interpreter abort at exit
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.ask("interrupted", "The server went away.")


def _watch_start(run: Run, stop: StopRequest) -> None:
    """End at once when a stop comes while the libraries load, since there is no step yet to stop after."""
    while (status := run.status).phase in {"waiting", "starting"} and not status.is_final:
        if run.stop_requested:
            stop.ask("stopped", "Stopped on request.")
        if stop.state:
            run.set_status(stop.state, "finished", f"{stop.reason} No step was taken yet, so there is nothing to keep.")
            os._exit(0)
        time.sleep(STOP_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
