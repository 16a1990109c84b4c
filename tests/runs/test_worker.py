from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.combining import combine
from mtl.data.reading import Table, read_table
from mtl.errors import CheckpointError, ConfigError, LimitError
from mtl.runs import checkpoint as checkpoint_module
from mtl.runs import running as running_module
from mtl.runs.resuming import points
from mtl.runs.store import Run, RunStore
from mtl.runs.worker import StopRequest, work
from mtl.settings import settings

ROOT = Path(__file__).parents[2]
LONG = ["training.epochs=1000", "training.patience=1000"]
PATIENCE_SECONDS = 400.0  # for a machine with a hundred other things to do; nothing here takes that long


@dataclass
class Worker:
    """A worker process and its run, and what happened when another process wanted the run too."""

    run: Run
    process: subprocess.Popen[bytes]
    refusal: Exception | None = None
    state_after_refusal: str = ""

    @property
    def is_under_way(self) -> bool:
        """Whether there is a checkpoint and a step after it."""
        return self.run.has_checkpoint and self.run.events()[0][-1]["event"] == "StepEnd"

    def log(self) -> str:
        """Read what the worker printed."""
        return (self.run.path / "worker.log").read_text()


Workers = dict[str, Worker]


def started(run: Run) -> Worker:
    with (run.path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mtl.runs.worker", str(run.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "MTL_CACHE_DIR": str(run.path.parent / "cache")},
        )
    return Worker(run, process)


def train_too(worker: Worker) -> None:
    """Want to train the same run in this process, then let the system end its worker."""
    try:
        work(worker.run, StopRequest())
    except CheckpointError as error:
        worker.refusal = error
    worker.state_after_refusal = worker.run.status.state
    worker.process.terminate()


def leave(worker: Worker) -> None:
    """Close the pipe that the server holds."""
    assert worker.process.stdin is not None
    worker.process.stdin.close()


INTERVENTIONS: dict[str, Callable[[Worker], None]] = {
    "stopped": lambda worker: worker.run.request_stop(),
    "orphaned": leave,
    "terminated": train_too,
}


@pytest.fixture(scope="module")
def workers(
    raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Real processes that have ended, each in its way.

    They run at the same time, because each takes seconds to import its libraries; what intervenes does so as soon
    as there is a checkpoint, so that none runs on without need.
    """
    store = RunStore(tmp_path_factory.mktemp("workers"))
    settings = {"done": []} | dict.fromkeys(INTERVENTIONS, LONG)
    running = {
        name: started(store.create(override(raw_config, wanted), read_table(tiny_csv_bytes), files=["tiny.csv"]))
        for name, wanted in settings.items()
    }
    waiting, end = dict(INTERVENTIONS), time.monotonic() + PATIENCE_SECONDS
    try:
        while any(worker.process.poll() is None for worker in running.values()) and time.monotonic() < end:
            for name in [name for name in waiting if running[name].is_under_way]:
                waiting.pop(name)(running[name])
            time.sleep(0.05)
        yield running
    finally:
        for worker in running.values():
            worker.process.kill()
            worker.process.communicate()


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ------------------------------------------------------------------------------------------ to the end


@pytest.fixture
def done(workers: Workers) -> Run:
    """The run of the worker that went to its end."""
    assert workers["done"].process.returncode == 0, workers["done"].log()
    return workers["done"].run


def test_worker_leaves_everything_a_run_is(done: Run) -> None:
    assert (done.status.state, done.status.phase, done.status.reason) == ("done", "finished", "all epochs done")
    found = {path.relative_to(done.path).as_posix() for path in done.path.rglob("*") if path.is_file()}
    assert found == {
        "config.yaml",
        "data.csv",
        "split.json",
        "status.json",
        "lease",
        "worker.log",
        "timing.jsonl",
        "events.jsonl",
        "metrics.csv",
        "plan.json",
        "report.json",
        "predictions.csv",
        "predictions.jsonl",
        *(f"plots/{name}.png" for name in ("loss_curve", "learning_rates", "task_weights")),
        *(
            f"plots/{task}_{what}.png"
            for task in ("topic", "mood")
            for what in ("accuracy", "f1", "confusion", "reliability")
        ),
        "best/model.safetensors",
        "best/tasks.json",
        "best/config.yaml",
        "best/manifest.json",
    }


def test_worker_in_its_own_process_computes_the_same_bits(done: Run, finished_run: Run) -> None:
    assert done.path != finished_run.path
    names = ["events.jsonl", "metrics.csv", "report.json", "predictions.csv", "predictions.jsonl"]
    names += ["best/model.safetensors"]
    names += [f"plots/{path.name}" for path in (done.path / "plots").iterdir()]
    for name in names:
        assert (done.path / name).read_bytes() == (finished_run.path / name).read_bytes(), name


def test_worker_logs_no_trouble_in_an_ordinary_run(workers: Workers, done: Run) -> None:
    assert not re.search(r"WARNING|ERROR|Traceback|Fatal|it/s", workers["done"].log())


def test_worker_journal_tells_the_whole_run(finished_run: Run) -> None:
    events, _ = finished_run.events()
    kinds = [event["event"] for event in events]
    assert kinds[0] == "RunBegin"
    assert kinds[-1] == "RunEnd"
    assert kinds.count("EpochEnd") == 3
    assert kinds.count("StepEnd") == events[0]["steps"] == len(finished_run.timings()[0])
    assert "EvaluationStep" not in kinds, "too many and of no use afterwards"


def test_worker_metrics_have_a_row_per_epoch(finished_run: Run) -> None:
    rows = read_csv(finished_run.path / "metrics.csv")
    epochs = [event for event in finished_run.events()[0] if event["event"] == "EpochEnd"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row, event in zip(rows, epochs, strict=True):
        assert float(row["validation_loss"]) == event["validation"]["loss"]
        assert float(row["train_mean_score"]) == event["train"]["mean_score"]
        assert float(row["topic_validation_macro_f1"]) == event["validation"]["scores"]["topic"]["macro_f1"]
        assert row["best"] == str(int(event["improved"]))


def test_worker_checkpoint_is_that_of_the_best_epoch(finished_run: Run) -> None:
    manifest = checkpoint_module.read_checkpoint_manifest(finished_run.best)
    events = finished_run.events()[0]
    best = [event for event in events if event["event"] == "EpochEnd" and event["improved"]][-1]
    assert manifest["validated"] is True
    assert (manifest["epoch"], manifest["step"]) == (best["epoch"], best["step"])
    assert manifest["epoch"] == events[-1]["best_epoch"]
    assert manifest["scores"] == best["validation"]["scores"]


def test_worker_report_holds_the_test_scores_once(finished_run: Run) -> None:
    report = finished_run.report()
    end = finished_run.events()[0][-1]
    assert report is not None
    assert report["outcome"] == "done"
    assert report["test"] == end["test"]["scores"]
    assert report["test_rows"] == end["test"]["counts"]
    assert report["validation"] == checkpoint_module.read_checkpoint_manifest(finished_run.best)["scores"]


def test_worker_predictions_are_those_the_report_counts(finished_run: Run) -> None:
    rows = read_csv(finished_run.path / "predictions.csv")
    report = finished_run.report()
    table, split = finished_run.table(), finished_run.split()
    assert report is not None
    assert [row["row"] for row in rows] == [table.place(index) for index in split.test]
    for row, index in zip(rows, split.test, strict=True):
        assert (row["text"], row["topic"]) == (table.columns["text"][index], table.columns["topic"][index])
        assert 0 < float(row["mood_confidence"]) <= 1
    for task in ("topic", "mood"):
        labelled = [row for row in rows if row[task]]
        assert len(labelled) == report["test_rows"][task]
        right = sum(row[task] == row[f"{task}_predicted"] for row in labelled)
        assert report["test"][task]["accuracy"] == right / len(labelled)


def test_worker_predictions_have_an_exact_twin(finished_run: Run) -> None:
    safe, exact = read_csv(finished_run.path / "predictions.csv"), read_lines(finished_run.path / "predictions.jsonl")
    assert [{name: str(value) for name, value in row.items()} for row in exact] == safe, "no cell here needed a prefix"
    assert list(exact[0]) == list(safe[0])
    assert all(isinstance(row["topic_confidence"], float) for row in exact)


# ------------------------------------------------------------------------------------------ ended early


def test_worker_stops_in_mid_run_and_keeps_the_best_checkpoint(workers: Workers) -> None:
    worker = workers["stopped"]
    assert worker.process.returncode == 0, worker.log()
    status = worker.run.status
    assert (status.state, status.phase) == ("stopped", "finished")
    assert status.reason == "Stopped on request. The best checkpoint so far is kept."
    model, _, manifest = checkpoint_module.load_checkpoint(worker.run.best)
    assert manifest["validated"] is True
    assert set(model.heads) == {"topic", "mood"}
    assert (worker.run.path / "plots" / "loss_curve.png").is_file()
    assert worker.run.report() is None, "no test score is claimed"
    assert worker.run.events()[0][-1]["event"] != "RunEnd"


def test_worker_saves_and_ends_when_its_server_goes_away(workers: Workers) -> None:
    worker = workers["orphaned"]
    assert worker.process.returncode == 1, worker.log()
    assert worker.run.status.state == "interrupted"
    assert worker.run.status.reason == "The server went away. The best checkpoint so far is kept."
    checkpoint_module.load_checkpoint(worker.run.best)


def test_worker_refuses_a_run_that_another_one_trains(workers: Workers) -> None:
    worker = workers["terminated"]
    assert str(worker.refusal) == "This run is already being trained by another process."
    assert worker.state_after_refusal == "running"


def test_worker_saves_and_ends_when_the_system_asks(workers: Workers) -> None:
    worker = workers["terminated"]
    assert worker.process.returncode == 1, worker.log()
    assert worker.run.status.state == "interrupted"
    assert worker.run.status.reason.startswith("The system ended the run.")
    assert worker.run.status.goes_on


@pytest.fixture
def make(raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path: Path) -> Callable[..., Run]:
    """Create a queued run with some settings."""
    return lambda *settings: RunStore(tmp_path / "runs").create(
        override(raw_config, list(settings)), read_table(tiny_csv_bytes)
    )


def stop_at(run: Run, kind: str, number: int) -> Any:
    """Train in this process and ask for a stop at the n-th event of a kind."""
    seen = 0

    def on_event(event: object) -> None:
        nonlocal seen
        if type(event).__name__ == kind:
            seen += 1
            if seen == number:
                run.request_stop()

    return work(run, StopRequest(), on_event)


def test_worker_stopped_in_its_first_epoch_keeps_weights_marked_as_not_validated(make: Callable[..., Run]) -> None:
    run = make()
    status = stop_at(run, "StepEnd", 2)
    assert status.state == "stopped"
    assert "they were not validated" in status.reason
    model, _, manifest = checkpoint_module.load_checkpoint(run.best)
    assert (manifest["validated"], manifest["epoch"], manifest["step"], manifest["scores"]) == (False, 0, 2, {})
    assert [event["event"] for event in run.events()[0]] == ["RunBegin", "StepEnd", "StepEnd"]
    start = checkpoint_module.build_model(run.config, task_specs(run.config))
    assert not (model.heads["topic"].layers[1].weight == start.heads["topic"].layers[1].weight).any()


def test_worker_stopped_before_its_first_step_keeps_nothing(make: Callable[..., Run]) -> None:
    run = make()
    status = stop_at(run, "RunBegin", 1)
    assert status.state == "stopped"
    assert "nothing to keep" in status.reason
    assert not run.has_checkpoint
    assert not (run.path / "plots").exists()


def test_worker_stops_during_an_evaluation_too(make: Callable[..., Run]) -> None:
    run = make()
    status = stop_at(run, "EvaluationStep", 1)
    assert status.state == "stopped"
    assert checkpoint_module.read_checkpoint_manifest(run.best)["validated"] is False
    assert not any(event["event"] == "EpochEnd" for event in run.events()[0])


def test_worker_asked_to_stop_at_its_end_is_done(make: Callable[..., Run]) -> None:
    run = make("training.epochs=1")
    assert stop_at(run, "RunEnd", 1).state == "done"
    assert run.report() is not None


def test_worker_first_reason_for_a_stop_counts() -> None:
    stop = StopRequest()
    stop.ask("stopped", "first")
    stop.ask("interrupted", "second")
    assert (stop.state, stop.reason) == ("stopped", "first")


def test_worker_tells_what_it_is_doing(make: Callable[..., Run]) -> None:
    run, phases = make("training.epochs=1"), []

    def on_event(event: object) -> None:
        phases.append(run.status.phase)

    work(run, StopRequest(), on_event)
    order = list(dict.fromkeys(phases))
    assert order == ["starting", "training", "validating", "testing"]


# ------------------------------------------------------------------------------------------ in other ways


def test_worker_runs_with_everything_frozen(make: Callable[..., Run]) -> None:
    run = make("training.freeze=everything", "training.epochs=1")
    assert work(run, StopRequest()).state == "done"
    assert run.events()[0][0]["trainable"] == 0
    saved, _, _ = checkpoint_module.load_checkpoint(run.best)
    start = checkpoint_module.build_model(run.config, task_specs(run.config)).state_dict()
    assert all(bool((value == start[name]).all()) for name, value in saved.state_dict().items())


def test_worker_without_a_test_side_claims_no_test_score(make: Callable[..., Run]) -> None:
    split = ["data.split.train=0.8", "data.split.validation=0.2", "data.split.test=0"]
    run = make(*split, "training.epochs=1")
    assert work(run, StopRequest()).state == "done"
    report = run.report()
    assert report is not None
    assert report["test"] is None
    assert not list(run.path.glob("predictions.*"))


def test_worker_without_a_validation_side_keeps_the_last_epoch(make: Callable[..., Run]) -> None:
    run = make("data.split.train=0.8", "data.split.validation=0", "data.split.test=0.2", "training.epochs=2")
    assert work(run, StopRequest()).state == "done"
    manifest = checkpoint_module.read_checkpoint_manifest(run.best)
    assert (manifest["epoch"], manifest["validated"], manifest["scores"]) == (2, False, {})
    assert read_csv(run.path / "metrics.csv")[1]["validation_loss"] == ""


def test_worker_that_diverges_says_so(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from mtl.modeling.heads import ClassificationHead

    monkeypatch.setattr(ClassificationHead, "loss", lambda self, logits, labels: logits.sum() * float("nan"))
    run = make()
    status = work(run, StopRequest())
    assert status.state == "diverged"
    assert "smaller learning rates" in status.reason
    report = run.report()
    assert report is not None
    assert report["outcome"] == "diverged"
    json.dumps(run.events()[0], allow_nan=False)


def test_worker_with_a_mistake_of_the_person_says_it_in_the_status(make: Callable[..., Run]) -> None:
    run = make("training.freeze=layer.9")
    with pytest.raises(ConfigError, match=r"no part layer\.9"):
        work(run, StopRequest())
    assert run.status.state == "failed"
    assert "no part layer.9" in run.status.reason


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (OSError(28, "No space left on device"), "interrupted", "could not be written: the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "interrupted", "the disk is full"),
        (OSError(30, "Read-only file system"), "interrupted", "can only be read"),
        (OSError(122, "Disk quota exceeded"), "interrupted", "quota"),
        (MemoryError(), "failed", "smaller batch size"),
        (
            RuntimeError("inner detail"),
            "failed",
            r"unexpected error ended the run \(RuntimeError\); worker.log has the details",
        ),
    ],
    ids=["disk", "disk, said by a library", "read-only", "quota", "memory", "fault"],
)
def test_worker_that_fails_says_why_and_logs_the_details(
    make: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    state: str,
    reason: str,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint_module, "save_checkpoint", fail)
    run = make()
    with caplog.at_level(logging.ERROR):
        status = work(run, StopRequest())
    assert status.state == state
    assert status == run.status
    assert re.search(reason, status.reason)
    assert "inner detail" not in status.reason
    assert caplog.records[-1].exc_info


def test_worker_lets_go_of_the_run_at_its_end(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("training.epochs=1")
    work(run, StopRequest())
    assert work(run, StopRequest()).state == "done", "the lease was released"


def test_worker_takes_odd_task_names(raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path: Path) -> None:
    header, body = tiny_csv_bytes.split(b"\n", 1)
    assert header == b"text,topic,mood"
    data = 'text,a/b,"Größe, 情感"\n'.encode() + body
    run = RunStore(tmp_path / "runs").create(override(raw_config, ["training.epochs=1"]), read_table(data))
    assert work(run, StopRequest()).state == "done"
    assert {"a_b_accuracy.png", "a_b_confusion.png", "gr_e_f1.png", "gr_e_reliability.png"} <= {
        path.name for path in (run.path / "plots").iterdir()
    }
    assert {"a/b_predicted", "Größe, 情感_predicted"} <= set(read_csv(run.path / "predictions.csv")[0])


def test_worker_trains_on_several_files_of_any_texts_and_its_predictions_are_safe(
    raw_config: RunConfig, tmp_path: Path
) -> None:
    labels = ["=1+1", "@late", "-", "01"]
    rows = [(f"=cmd|' {n} the soup\r\nwas {'NA' if n % 2 else ''} great", labels[n % 4]) for n in range(60)]
    columns = {"text": [text for text, _ in rows], "+topic": [label for _, label in rows]}
    half = [
        Table({name: cells[side::2] for name, cells in columns.items()}, numbers=range(3, 93, 3)) for side in (0, 1)
    ]
    table = combine([("=a.csv", half[0]), ("b.csv", half[1])], separate_tasks=False)
    run = RunStore(tmp_path / "runs").create(override(raw_config, ["training.epochs=1"]), table)
    assert work(run, StopRequest()).state == "done"
    exact, safe = read_lines(run.path / "predictions.jsonl"), read_csv(run.path / "predictions.csv")
    assert list(exact[0]) == ["row", "text", "+topic", "+topic_predicted", "+topic_confidence"]
    assert list(safe[0]) == ["row", "text", "'+topic", "'+topic_predicted", "'+topic_confidence"]
    for index, row, cells in zip(run.split().test, exact, safe, strict=True):
        assert (row["row"], row["text"]) == (table.place(index), table.columns["text"][index])
        assert row["+topic"] == table.columns["+topic"][index]
        assert row["+topic_predicted"] in labels
        assert cells["text"] == f"'{row['text']}"
        for cell in (cells["'+topic"], cells["'+topic_predicted"]):
            assert cell in {"'=1+1", "'@late", "'-", "01"}
    assert {row["row"].partition(" of ")[2] for row in exact} == {"=a.csv", "b.csv"}


# ------------------------------------------------------------------------------------------ going on


def folder_of(run: Run) -> dict[str, str]:
    """Hash what a run says and keeps; clock times and the log are not part of it."""
    files = ["events.jsonl", "metrics.csv", "report.json", "predictions.csv", "plan.json", "best/model.safetensors"]
    return {name: hashlib.sha256((run.path / name).read_bytes()).hexdigest() for name in files}


def twin(run: Run, name: str) -> Run:
    """Copy a run before its first step."""
    shutil.copytree(run.path, run.path.with_name(name))
    return Run(run.path.with_name(name))


def interrupted_at(run: Run, kind: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process until it dies at the n-th event of a kind, as if by kill -9: nothing is said or saved."""
    seen = 0

    def on_event(event: object) -> None:
        nonlocal seen
        seen += type(event).__name__ == kind
        if seen == number:
            raise KeyboardInterrupt  # no `Exception`, so nobody handles it

    with pytest.raises(KeyboardInterrupt):
        work(run, StopRequest(), on_event)
    assert run.status.state == "running"


@pytest.mark.parametrize(
    ("kind", "number"),
    [("RunBegin", 1), ("StepEnd", 3), ("StepEnd", 8), ("EpochEnd", 1), ("EpochEnd", 2), ("RunEnd", 1)],
)
def test_worker_goes_on_after_a_sudden_end_with_the_same_bits(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    monkeypatch.setattr(running_module, "SAVE_SECONDS", 0.0)  # a resume point after every step
    whole = make("training.freeze=nothing")
    cut = twin(whole, "20260101-000000-cut")
    assert work(whole, StopRequest()).state == "done"
    interrupted_at(cut, kind, number, monkeypatch)
    assert len(list((cut.path / "resume").glob("step-*"))) <= 2
    torch.manual_seed(31)
    assert work(cut, StopRequest()).state == "done"
    assert folder_of(cut) == folder_of(whole)
    assert cut.status.attempt == 2
    assert not (cut.path / "resume").exists()


@pytest.mark.parametrize("stop", ["StepEnd", "EpochEnd"])
def test_worker_goes_on_after_a_stop_with_the_same_bits(make: Callable[..., Run], stop: str) -> None:
    whole = make()
    cut = twin(whole, "20260101-000000-cut")
    work(whole, StopRequest())
    stop_at(cut, stop, 2)
    assert cut.status.state == "stopped"
    assert cut.can_go_on
    cut.forget_stop()
    assert work(cut, StopRequest()).state == "done"
    assert folder_of(cut) == folder_of(whole)


def test_worker_passes_over_a_damaged_resume_point(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "SAVE_SECONDS", 0.0)
    whole = make()
    cut = twin(whole, "20260101-000000-cut")
    work(whole, StopRequest())
    interrupted_at(cut, "StepEnd", 8, monkeypatch)
    newest = points(cut)[0]
    data = bytearray((newest / "state.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "state.safetensors").write_bytes(data)
    assert work(cut, StopRequest()).state == "done"
    assert folder_of(cut) == folder_of(whole)


def test_worker_starts_again_where_every_resume_point_is_damaged(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "SAVE_SECONDS", 0.0)
    whole = make()
    cut = twin(whole, "20260101-000000-cut")
    work(whole, StopRequest())
    interrupted_at(cut, "StepEnd", 8, monkeypatch)
    for point in points(cut):
        (point / "manifest.json").unlink()
    assert work(cut, StopRequest()).state == "done"
    assert folder_of(cut) == folder_of(whole)


def test_worker_cuts_a_torn_journal(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make()
    cut = twin(whole, "20260101-000000-cut")
    work(whole, StopRequest())
    interrupted_at(cut, "StepEnd", 8, monkeypatch)
    with (cut.path / "events.jsonl").open("ab") as file:
        file.write(b'12345678 {"event":"StepEnd","step":9')
    assert work(cut, StopRequest()).state == "done"
    assert folder_of(cut) == folder_of(whole)
    steps = [event["step"] for event in cut.events()[0] if event["event"] == "StepEnd"]
    assert steps == sorted(set(steps))


def test_worker_does_not_go_on_with_other_data(make: Callable[..., Run]) -> None:
    run = make()
    stop_at(run, "StepEnd", 8)
    with (run.path / "data.csv").open("ab") as file:
        file.write(b"one more row,sports,good\n")
    with pytest.raises(CheckpointError, match=r"data\.csv of the run .* is not what it began with"):
        work(run, StopRequest())


def test_worker_ends_when_its_time_is_over(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_MAX_RUN_SECONDS", "1")
    settings.cache_clear()
    run = make(*LONG)
    status = work(run, StopRequest())
    assert status.state == "stopped"
    assert "1 seconds" in status.reason


def test_worker_refuses_what_this_installation_does_not_allow(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make()
    monkeypatch.setenv("MTL_MAX_BATCH_SIZE", "4")
    settings.cache_clear()
    with pytest.raises(LimitError, match="training.batch_size is 8"):
        work(run, StopRequest())
    assert run.status.state == "failed"


KILLS: dict[str, Callable[[Run], bool]] = {
    "in the middle of an epoch": lambda run: run.events()[0][-1]["event"] == "StepEnd" and bool(points(run)),
    "while it saves": lambda run: any((run.path / "resume").glob(".step-*.tmp")),
    "after its best checkpoint": lambda run: len(points(run)) == 2 and run.has_checkpoint,
}


def test_worker_killed_three_times_ends_with_the_same_bits(make: Callable[..., Run]) -> None:
    """Real processes and `kill -9`, dropout on, through progressive unfreezing."""
    unfreezing = [f"training.unfreezing.{name}=1" for name in ("heads_epochs", "layers", "epochs")]
    whole = make("training.freeze=nothing", "training.epochs=40", "training.patience=40", *unfreezing)
    cut = twin(whole, "20260101-000000-cut")
    assert work(whole, StopRequest()).state == "done"
    for place, is_there in KILLS.items():
        worker = started(cut)
        end = time.monotonic() + PATIENCE_SECONDS
        begun = len(cut.events()[0])
        while len(cut.events()[0]) <= begun or not is_there(cut):
            assert time.monotonic() < end and worker.process.poll() is None, place
            time.sleep(0.001)
        worker.process.kill()
        worker.process.communicate()
        assert cut.status.state == "running", place
    worker = started(cut)
    assert worker.process.stdin is not None
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log()
    worker.process.stdin.close()
    assert folder_of(cut) == folder_of(whole)
    assert cut.status.attempt == 4
    events = [(event["event"], event.get("step"), event.get("epoch")) for event in cut.events()[0]]
    assert len(events) == len(set(events))
    steps = [timing["step"] for timing in cut.timings()[0]]
    assert steps == sorted(set(steps))
