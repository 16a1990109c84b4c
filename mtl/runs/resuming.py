"""Resume points: everything that an exact continuation of a run needs, beside its configuration and its data.

A run folder holds the two newest ones:

    resume/step-000123/
        state.safetensors   weights that learn, the optimizer's moments, the weighting, the random states
        best.safetensors    the best weights so far, once an epoch has ended
        state.json          where the run is, what was scored so far, how long its journals were
        manifest.json       format, the hashes of configuration and data, sizes and SHA-256

One that is damaged is put aside as `bad-step-…`, and the one before it is used. No torch before one is loaded.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.errors import CheckpointError
from mtl.runs.files import atomic_folder, sync, write_json
from mtl.runs.manifest import read_manifest, seal, sha256
from mtl.runs.store import RESERVE, Run

if TYPE_CHECKING:
    from mtl.training.state import State

log = logging.getLogger(__name__)
FORMATS = (1,)
KEPT = 2
STATE, BEST, VALUES = "state.safetensors", "best.safetensors", "state.json"
INPUTS = ("config.yaml", "data.csv", "split.json")
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Journal:
    """What a run folder says of the run up to a resume point.

    Attributes:
        records: Events in the journal.
        timings: Clock times.
        seconds: How long the run has taken so far, all its processes together.
        made: Where the best checkpoint was made, as its manifest says it; None if there is none.
    """

    records: int
    timings: int
    seconds: float
    made: dict[str, Any] | None = None


@dataclass(frozen=True)
class Point:
    """A resume point that was found to be whole."""

    path: Path
    journal: Journal
    values: dict[str, Any]


def inputs_of(run: Run) -> dict[str, str]:
    """Hash what a run is made of; a continuation is one only if nothing of it has changed."""
    return {name: sha256(run.path / name) for name in INPUTS if (run.path / name).exists()}


def save_point(run: Run, state: State, journal: Journal, inputs: dict[str, str]) -> None:
    """Write a resume point and drop all but the two newest.

    Args:
        run: Its journal is brought to the disk first.
        state: Taken between two events.
        journal: How far the run's files are.
        inputs: Of `inputs_of`, before the first step.

    Raises:
        OSError: The disk does not take it; the points before it are still there.
        SafetensorError: Likewise.
    """
    from safetensors.torch import save_file

    folder = run.path / "resume"
    folder.mkdir(exist_ok=True)
    for name in ("events.jsonl", "timing.jsonl"):
        if (run.path / name).exists():
            sync(run.path / name)
    with atomic_folder(folder / f"step-{state.values['step']:06d}") as new:
        save_file({name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}, new / STATE)
        known = _same_best(folder, state, new)
        if state.best and not known:
            save_file({name: value.detach().cpu().contiguous() for name, value in state.best.items()}, new / BEST)
        write_json(new / VALUES, {"journal": asdict(journal), "values": state.values})
        about = {"format": FORMATS[-1], "best_epoch": state.values["best_epoch"], "inputs": inputs}
        seal(new, about, known)
    for old in points(run)[KEPT:]:
        _drop(old)


def _same_best(folder: Path, state: State, new: Path) -> dict[str, Any]:
    """Share the best weights with the point before, if they are the same ones; return their line of the manifest."""
    before = next(iter(_sorted(folder)), None)
    if not state.best or before is None:
        return {}
    try:
        manifest = json.loads((before / "manifest.json").read_text(encoding="utf-8"))
        if manifest["best_epoch"] != state.values["best_epoch"]:
            return {}
        os.link(before / BEST, new / BEST)
    except (OSError, ValueError, KeyError):  # the disk knows no links, or the point before is damaged
        return {}
    return {BEST: manifest["files"][BEST]}


def points(run: Run) -> list[Path]:
    """List a run's resume points, the newest first."""
    return _sorted(run.path / "resume")


def _sorted(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def find_point(run: Run, inputs: dict[str, str], records: int) -> Point | None:
    """Find the newest resume point that is whole, and put damaged ones aside.

    Args:
        run: Nobody else may be working on it.
        inputs: Of `inputs_of`, now.
        records: How many events of the journal can be read.

    Returns:
        None if there is none: the run starts again at its first step.

    Raises:
        CheckpointError: The run's configuration or data is not what it began with.
    """
    for path in points(run):
        title = f"The resume point {path.name} of {run.name}"
        try:
            manifest = read_manifest(path, title, FORMATS)
            values = json.loads((path / VALUES).read_text(encoding="utf-8"))
            journal = Journal(**values["journal"])
        except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s; it is put aside", error)
            path.rename(path.with_name(f"bad-{path.name}-{secrets.token_hex(4)}"))
            continue
        changed = [name for name in INPUTS if manifest["inputs"].get(name) != inputs.get(name)]
        if changed:
            raise CheckpointError(f"{changed[0]} of the run {run.name} is not what it began with; start a new run.")
        if journal.records > records:
            log.warning("%s is passed over: the journal is damaged before it", title)
            continue
        return Point(path, journal, values["values"])
    return None


def load_state(point: Point) -> State:
    """Load what a point holds, on the CPU.

    Raises:
        CheckpointError: Its files cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mtl.training.state import State

    try:
        best = load_file(point.path / BEST) if (point.path / BEST).exists() else {}
        return State(load_file(point.path / STATE), best, point.values)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The resume point {point.path.name} cannot be read ({error}).") from None


def drop_points(run: Run) -> None:
    """Remove what only a run that may go on needs: its resume points, and the room set aside for its last word."""
    shutil.rmtree(run.path / "resume", ignore_errors=True)
    (run.path / RESERVE).unlink(missing_ok=True)


def _drop(path: Path) -> None:
    """Remove a point: first from sight, so that half of one is never found."""
    gone = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
