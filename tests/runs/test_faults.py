"""The disk refuses, a byte flips, a file is cut off: what was good before is still there, and bad is never loaded."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from mtl.config import RunConfig
from mtl.data.reading import read_table
from mtl.errors import CheckpointError
from mtl.modeling.multitask import MultiTaskModel
from mtl.runs import checkpoint as checkpoint_module
from mtl.runs.checkpoint import Made, load_checkpoint, read_checkpoint_manifest, save_checkpoint
from mtl.runs.files import mend
from mtl.runs.manifest import read_manifest
from mtl.runs.resuming import FORMATS, Journal, find_point, inputs_of, load_state, points, save_point
from mtl.runs.store import Run, RunStore
from mtl.training.state import State

ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS}
MOST_OPERATIONS = 200


class Disk:
    """Counts writes, fsyncs and renames, and refuses some of them.

    Args:
        monkeypatch: Takes the place of the real ones.
        error: What the system says.
        refused: Whether the operation of this number, 0 for the first, is refused.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int, refused: Callable[[int], bool]) -> None:
        self.error, self.refused, self.count, self.refusals = error, refused, 0, 0
        for place, name in ((os, "fsync"), (os, "truncate"), (Path, "rename"), (Path, "replace"), (Path, "mkdir")):
            monkeypatch.setattr(place, name, self._watched(getattr(place, name)))
        monkeypatch.setattr(Path, "open", self._opened(Path.open))
        save = self._watched(safetensors.torch.save_file, half=True)
        monkeypatch.setattr(safetensors.torch, "save_file", save)
        monkeypatch.setattr(checkpoint_module, "save_file", save)

    def _refuses(self) -> bool:
        number, self.count = self.count, self.count + 1
        self.refusals += (refused := self.refused(number))
        return refused

    def _watched(self, real: Callable[..., Any], *, half: bool = False) -> Any:
        def operate(*arguments: Any, **options: Any) -> Any:
            if not self._refuses():
                return real(*arguments, **options)
            if half:  # as the library does it: a file that is not whole, and an error of its own
                Path(arguments[1]).write_bytes(b"half")
                raise SafetensorError(f"I/O error: {os.strerror(self.error)} (os error {self.error})")
            raise OSError(self.error, os.strerror(self.error))

        return operate

    def _opened(self, real: Callable[..., Any]) -> Any:
        def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            file = real(path, mode, *rest, **options)
            if "r" in mode:
                return file
            if self._refuses():
                file.write(b"" if "b" in mode else "")
                file.close()
                raise OSError(self.error, os.strerror(self.error))
            return file

        return opened


def state(step: int, best_epoch: int | None) -> State:
    """Make a state that can be told from another one."""
    tensors = {"model.weight": torch.full((8, 8), float(step)), "random.cpu": torch.arange(step)}
    best = {"weight": torch.full((8, 8), float(best_epoch))} if best_epoch else {}
    return State(tensors, best, {"step": step, "best_epoch": best_epoch})


@pytest.fixture
def run(raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path: Path, tiny_model: MultiTaskModel) -> Run:
    """A run with a checkpoint, a journal and two resume points, as it is in the middle of its training."""
    run = RunStore(tmp_path / "runs").create(raw_config, read_table(tiny_csv_bytes))
    for number in (1, 2):
        run.append_event({"event": "StepEnd", "step": number})
        save_point(run, state(number, 1), Journal(number, 0, 1.0, None), inputs_of(run))
    save_checkpoint(run.best, tiny_model, run.config, "0" * 64, Made(1, 2, True, {}))
    return run


def left_behind(run: Run) -> list[str]:
    return [path.name for path in run.path.rglob("*") if path.name.startswith(".") and path.name != "lease"]


def go_on(run: Run, model: MultiTaskModel) -> None:
    """Write everything that a run writes at the end of an epoch."""
    run.append_event({"event": "StepEnd", "step": 3})
    save_checkpoint(run.best, model, run.config, "0" * 64, Made(2, 3, True, {}))
    save_point(run, state(3, 2), Journal(3, 0, 2.0, None), inputs_of(run))
    run.set_status("running", "validating")


def assert_usable(run: Run) -> None:
    """What is there is whole: the checkpoint of before or of after, and a resume point that is as old or newer."""
    assert read_checkpoint_manifest(run.best)["epoch"] in (1, 2)
    point = find_point(run, inputs_of(run), len(run.events()[0]))
    assert point is not None
    loaded = load_state(point)
    step = loaded.values["step"]
    assert step in (2, 3)
    assert torch.equal(loaded.tensors["model.weight"], torch.full((8, 8), float(step)))
    assert torch.equal(loaded.best["weight"], torch.full((8, 8), 2.0 if step == 3 else 1.0))
    assert run.status.state in {"queued", "running"}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_faults_at_every_operation_leave_what_was_good(
    run: Run, tiny_model: MultiTaskModel, tmp_path: Path, error: int, lasting: bool
) -> None:
    """Fail the n-th write, fsync or rename, for n = 1, 2, … until none fails any more."""
    for number in range(MOST_OPERATIONS):
        copy = Run(tmp_path / f"copy-{number}" / run.name)
        shutil.copytree(run.path, copy.path)
        with pytest.MonkeyPatch.context() as patched:
            disk = Disk(patched, error, lambda n, at=number: n >= at if lasting else n == at)
            failed = False
            try:
                go_on(copy, tiny_model)
            except (OSError, SafetensorError):
                failed = True
        if not disk.refusals:
            break
        assert failed or not lasting
        if lasting:  # even putting back what was there was refused: the next process does it
            mend(copy.path)
            mend(copy.path / "resume")
        assert left_behind(copy) == []
        assert_usable(copy)
        go_on(copy, tiny_model)  # the disk is in order again
        assert read_checkpoint_manifest(copy.best)["epoch"] == 2
        shutil.rmtree(copy.path)
    assert 15 < number < MOST_OPERATIONS - 1


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def check_checkpoint(run: Run) -> None:
    read_checkpoint_manifest(run.best)


def check_point(run: Run) -> None:
    read_manifest(points(run)[0], "The point", FORMATS)


@pytest.mark.parametrize(
    ("folder", "check"),
    [(lambda run: run.best, check_checkpoint), (lambda run: points(run)[0], check_point)],
    ids=["checkpoint", "resume point"],
)
def test_faults_every_flipped_byte_and_every_cut_is_found(
    run: Run, folder: Callable[[Run], Path], check: Callable[[Run], None]
) -> None:
    draw = random.Random(0)
    check(run)
    files = files_of(folder(run))
    assert len(files) == 4
    for file in files:
        data = file.read_bytes()
        places = [draw.randrange(len(data)) for _ in range(200)]
        for place in places:
            changed = bytearray(data)
            changed[place] ^= draw.randrange(1, 256)
            file.write_bytes(changed)
            with pytest.raises(CheckpointError, match=r"damaged|format"):
                check(run)
        for length in [0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(48))]:
            file.write_bytes(data[:length])
            with pytest.raises(CheckpointError, match="damaged"):
                check(run)
        file.write_bytes(data)
    check(run)


def test_faults_a_damaged_checkpoint_is_not_loaded(run: Run) -> None:
    weights = run.best / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(run.best)


def test_faults_the_newest_point_that_is_whole_is_used_and_the_bad_one_is_put_aside(run: Run) -> None:
    newest, older = points(run)
    (newest / "state.safetensors").write_bytes(b"")
    point = find_point(run, inputs_of(run), 2)
    assert point is not None and point.path == older
    names = sorted(path.name for path in (run.path / "resume").iterdir())
    assert len(names) == 2
    assert names[0].startswith("bad-step-000002-")


def test_faults_a_point_is_no_use_without_the_journal_before_it(run: Run) -> None:
    point = find_point(run, inputs_of(run), 1)
    assert point is not None and point.journal.records == 1
    assert find_point(run, inputs_of(run), 0) is None
    assert len(points(run)) == 2  # they are whole; it is the journal that is not


def test_faults_points_share_the_best_weights_and_are_two(run: Run) -> None:
    first, second = (point / "best.safetensors" for point in points(run))
    assert first.samefile(second)
    save_point(run, state(3, 2), Journal(2, 0, 2.0, None), inputs_of(run))
    assert [point.name for point in points(run)] == ["step-000003", "step-000002"]
    new, before = (point / "best.safetensors" for point in points(run))
    assert not new.samefile(before)
    assert torch.equal(safetensors.torch.load_file(new)["weight"], torch.full((8, 8), 2.0))


def test_faults_a_full_disk_still_takes_the_last_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status goes where the room was that had been set aside."""
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "w" in mode and (run.path / "reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", opened)
    run.set_status("interrupted", "finished", "A file could not be written: the disk is full.")
    monkeypatch.undo()
    assert Run(run.path).status.state == "interrupted"
    assert not (run.path / "reserve").exists()
