"""Runs on disk: create, list, open, delete. No torch here, so the page can list runs before it is imported."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mtl.config import RunConfig, TaskConfig
from mtl.config_text import load_config, to_yaml
from mtl.data.preparing import prepare
from mtl.data.reading import Table, read_table
from mtl.data.splitting import SIDES, Split
from mtl.data.writing import EXACTLY, to_csv
from mtl.errors import CheckpointError, ConfigError
from mtl.runs import owners
from mtl.runs.files import append_record, read_records, write_atomic, write_json
from mtl.runs.inheriting import adopt, inherit
from mtl.training.demands import check_installed

State = Literal["queued", "running", "done", "stopped", "failed", "diverged", "interrupted"]
Phase = Literal["waiting", "starting", "embedding", "training", "validating", "testing", "finished"]
FINAL: frozenset[str] = frozenset({"done", "stopped", "failed", "diverged", "interrupted"})
UNFINISHED: frozenset[str] = frozenset({"stopped", "failed", "interrupted"})
STARTER = "starter"
# A few bytes that are given up when the disk is full, so that the run can still say so.
RESERVE, RESERVE_BYTES = "reserve", 16_384
TITLE_CHARACTERS = 80
ROOT = Path(__file__).resolve().parents[2]
SHIPPED, SAMPLE = ROOT / "checkpoints" / STARTER, ROOT / "data" / "sample.csv"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}")


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: queued -> running -> done | stopped | failed | diverged | interrupted.
        phase: What a running run is doing.
        reason: Why it ended, in plain words.
        attempt: How many processes have begun to train it; with each of them its journal may have been cut.
        page: Whether the page started it, which then goes on with it by itself after a restart.
        goes_on: Whether it was cut off from outside, so that it is to go on by itself.
        restarts: How often it has done so since a person last asked for it.
    """

    state: State
    phase: Phase = "waiting"
    reason: str = ""
    attempt: int = 0
    page: bool = False
    goes_on: bool = False
    restarts: int = 0

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINAL


# How runs ended whose folder could not even take that; a disk that can only be read leaves no other place for it.
UNWRITTEN: dict[Path, Status] = {}


class Run:
    """One training: a folder whose files everyone reads.

    Args:
        path: The run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The folder's name, which is the run's id."""
        return self.path.name

    @property
    def title(self) -> str:
        """What the person calls the run; empty if they gave it no name."""
        try:
            return _as_title((self.path / "title.txt").read_text(encoding="utf-8"))[:TITLE_CHARACTERS]
        except (OSError, ValueError):
            return ""

    def set_title(self, title: str) -> None:
        """Name the run; an empty name takes the old one away.

        Raises:
            CheckpointError: The name is too long, or the run is the shipped one, which everyone sees.
        """
        title = _as_title(title)
        if self.name == STARTER:
            raise CheckpointError("The checkpoint that came with the app keeps its name.")
        if len(title) > TITLE_CHARACTERS:
            raise CheckpointError(f"A name has at most {TITLE_CHARACTERS} characters; this one has {len(title)}.")
        write_atomic(self.path / "title.txt", title)

    @property
    def best(self) -> Path:
        """The checkpoint folder."""
        return self.path / "best"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there are weights to use."""
        return (self.best / "manifest.json").is_file()

    @cached_property
    def config(self) -> RunConfig:
        """The complete configuration, fixed when the run was created."""
        return load_config(self.path / "config.yaml")

    @property
    def source(self) -> Run | None:
        """The run that this one learns on from.

        Raises:
            UserError: It is not there any more.
        """
        name = self.config.training.start_from
        return find_source(self.path.parent, name, SHIPPED) if name else None

    @property
    def tasks(self) -> dict[str, TaskConfig]:
        """Every task that a head answers: those of the configuration, and those kept from an earlier run."""
        if self.has_checkpoint:
            return load_config(self.best / "config.yaml").tasks
        return self.config.tasks

    @property
    def status(self) -> Status:
        """Read where the run stands."""
        try:
            found = Status(**json.loads((self.path / "status.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            found = Status("interrupted", "finished", "its status cannot be read")
        return found if found.is_final else UNWRITTEN.get(self.path, found)

    def set_status(self, state: State, phase: Phase, reason: str = "", **changes: Any) -> None:
        """Write where the run stands.

        Args:
            state: As in `Status`.
            phase: Likewise.
            reason: Likewise.
            changes: Of its other fields, which otherwise stay as they are.

        Raises:
            OSError: The disk does not take it, not even after the room that was set aside was given up.
        """
        rest = {"goes_on": False, **changes}
        status = replace(self.status, state=state, phase=phase, reason=reason, **rest)
        value = asdict(status)
        try:
            write_json(self.path / "status.json", value)
        except OSError:
            if not status.is_final:
                raise
            UNWRITTEN[self.path] = Status(**value)
            (self.path / RESERVE).unlink(missing_ok=True)
            write_json(self.path / "status.json", value)
        UNWRITTEN.pop(self.path, None)

    def append_event(self, event: dict[str, Any]) -> None:
        """Add an event to the journal."""
        append_record(self.path / "events.jsonl", event)

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Read the journal from a byte offset; return the events and the offset after them."""
        return read_records(self.path / "events.jsonl", offset)

    def append_timing(self, value: dict[str, Any]) -> None:
        """Add a clock time to the file that alone holds clock times."""
        append_record(self.path / "timing.jsonl", value)

    def timings(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Read the clock times from a byte offset; return them and the offset after them."""
        return read_records(self.path / "timing.jsonl", offset)

    def table(self) -> Table:
        """Read the run's own copy of its data; rows keep the numbers they had in the person's files."""
        rows = self._rows()
        files = tuple((name, first) for name, first in rows["files"])
        path = self.path / "data.csv"
        if self.name == STARTER and not path.exists():
            path = SAMPLE  # of which the shipped run was made
        table = read_table(path.read_bytes(), **EXACTLY)
        return replace(table, numbers=tuple(rows["numbers"]), files=files)

    def split(self) -> Split:
        """Read the fixed row indices."""
        rows = self._rows()
        return Split(*(tuple(rows[side]) for side in SIDES))

    def _rows(self) -> dict[str, Any]:
        return {"numbers": [], "files": []} | json.loads((self.path / "split.json").read_text(encoding="utf-8"))

    def report(self) -> dict[str, Any] | None:
        """Read the test report, if the run got that far."""
        try:
            return json.loads((self.path / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @property
    def can_go_on(self) -> bool:
        """Whether `resume` would take it up again: it ended early, and not for a reason that would come again."""
        return self.name != STARTER and self.status.state in UNFINISHED

    def request_stop(self) -> None:
        """Ask the worker to stop; it looks for this file between two batches."""
        (self.path / "stop").touch()

    def forget_stop(self) -> None:
        """Take back the wish to stop, for a run that is to go on."""
        (self.path / "stop").unlink(missing_ok=True)

    @property
    def stop_requested(self) -> bool:
        """Whether someone asked for a stop."""
        return (self.path / "stop").exists()

    def owned_by(self, token: str) -> bool:
        """Say whether this token belongs to the run; a run without an owner belongs to everyone at this machine."""
        return not owners.has_owner(self.path) or owners.owns(self.path, token)


class RunStore:
    """All runs under one folder.

    Args:
        root: Usually `checkpoints`.
        shipped: The run that came with the app; it is there wherever `root` is.
    """

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        self.root, self._shipped = root, shipped
        self.on_discard: list[Callable[[str], None]] = []  # told the name of every run that is removed

    def create(
        self,
        config: RunConfig,
        table: Table,
        *,
        near: Sequence[Sequence[int]] | None = None,
        files: Sequence[str] = (),
        token: str = "",
    ) -> Run:
        """Make a run folder, ready for a worker.

        Args:
            config: As the person gave it; the run keeps it resolved.
            table: The data; the run keeps its own copy.
            near: Groups of rows with nearly the same text, wanted where `data.split.near_duplicates` is set.
            files: What the person calls the files.
            token: The owner's secret; only its hash is kept. Empty: everyone at this machine may stop the run.

        Raises:
            UserError: The file or the configuration cannot be used; nothing was created.
        """
        check_installed(config.training.weighting)
        source = self.source(config)
        prepared = prepare(table, inherit(config, source.config) if source else config, near)
        config = adopt(prepared.config, source.tasks) if source else prepared.config
        if files:
            config = config.model_copy(update={"data": config.data.model_copy(update={"files": tuple(files)})})
        return self._written(config, table, prepared.split, token)

    def vary(self, run: Run, config: RunConfig, split: Split, token: str = "") -> Run:
        """Make a run on the data of another one, under another configuration and with a part of its rows."""
        return self._written(config, run.table(), split, token)

    def source(self, config: RunConfig) -> Run | None:
        """Find the run that a configuration learns on from; None if it does not.

        Raises:
            UserError: There is no such run, or it has no checkpoint.
        """
        name = config.training.start_from
        return find_source(self.root, name, self._shipped) if name else None

    def _written(self, config: RunConfig, table: Table, split: Split, token: str) -> Run:
        path = self._new_folder()
        write_atomic(path / "data.csv", to_csv(table))
        write_atomic(path / "config.yaml", to_yaml(config))
        write_json(path / "split.json", asdict(split) | _numbering(table))
        owners.give(path, token)
        write_atomic(path / RESERVE, b"\0" * RESERVE_BYTES)
        write_json(path / "status.json", asdict(Status("queued")))
        return Run(path)

    def _new_folder(self) -> Path:
        """Make a private folder whose name sorts by time and cannot be guessed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            now = time.time()
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
            path = self.root / f"{stamp}-{int(now % 1 * 1000):03x}{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
        except OSError as error:
            raise CheckpointError(
                f"The folder for runs cannot be written ({str(error.strerror).lower()}). "
                "Set MTL_RUNS_DIR to a folder that can."
            ) from None
        return path

    def list(self) -> list[Run]:
        """Return all runs, the newest first, the shipped one last."""
        found = self.root.iterdir() if self.root.is_dir() else ()
        folders = [path for path in found if _NAME.fullmatch(path.name) and (path / "config.yaml").is_file()]
        runs = sorted((path for path in folders if path.name != STARTER), key=lambda path: path.name, reverse=True)
        starter = self._folder(STARTER)
        return [Run(path) for path in runs] + ([Run(starter)] if (starter / "best").is_dir() else [])

    def _folder(self, name: str) -> Path:
        """Return where a run of this name would be."""
        path = self.root / name
        return self._shipped if name == STARTER and self._shipped and not path.is_dir() else path

    def open(self, name: str) -> Run:
        """Open a run by its name.

        Raises:
            CheckpointError: There is no such run; the same words whether it never was or the name is odd.
        """
        path = self._folder(name) if isinstance(name, str) and _NAME.fullmatch(name) else None
        if path is None or not (path / "config.yaml").is_file():
            raise CheckpointError("There is no such run.")
        return Run(path)

    def discard(self, run: Run) -> None:
        """Remove a run's folder, whatever its status: first from sight, so that nobody opens half of it.

        Raises:
            CheckpointError: It is not there any more, or cannot be removed.
        """
        gone = run.path.with_name(f".{run.name}.{secrets.token_hex(4)}.deleted")
        try:
            run.path.rename(gone)
        except FileNotFoundError:  # another window was quicker
            raise CheckpointError("There is no such run.") from None
        except OSError as error:
            raise CheckpointError(f"The run cannot be deleted: {str(error.strerror).lower()}.") from None
        shutil.rmtree(gone, ignore_errors=True)
        for forget in self.on_discard:
            forget(run.name)

    def clear_deleted(self) -> None:
        """Remove what is left of deleted runs whose deletion was cut off."""
        for left in self.root.glob(".*.deleted"):
            shutil.rmtree(left, ignore_errors=True)

    def delete(self, run: Run) -> None:
        """Delete a finished run with everything in it.

        Raises:
            CheckpointError: It is still running, or is the shipped one.
        """
        if run.name == STARTER:
            raise CheckpointError("The checkpoint that came with the app is not deleted.")
        if not run.status.is_final:
            raise CheckpointError("The run is still going on; stop it first.")
        self.discard(run)


def find_source(root: Path, name: str, shipped: Path | None) -> Run:
    """Find the run that `training.start_from` names: one beside the new run, or a folder.

    Raises:
        ConfigError: There is none, or it has no checkpoint to learn on from.
    """
    try:
        run = RunStore(root, shipped).open(name)
    except CheckpointError:
        try:
            run = open_run(name)
        except CheckpointError as error:
            raise ConfigError(f"training.start_from: {str(error)[0].lower()}{str(error)[1:]}") from None
    check_source(run)
    return run


def check_source(run: Run) -> None:
    """Refuse a run that cannot be learnt on from.

    Raises:
        ConfigError: It has no checkpoint.
    """
    if not run.has_checkpoint:
        raise ConfigError(f"training.start_from: the run {run.name} has no checkpoint to learn on from.")


def open_run(path: str | Path) -> Run:
    """Open a run by the path of its folder.

    Raises:
        CheckpointError: The folder is missing or is no run.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"There is no run folder {path}.")
    if not (folder / "config.yaml").is_file():
        raise CheckpointError(f"{path} is not a run folder: it has no config.yaml.")
    return Run(folder)


def _numbering(table: Table) -> dict[str, Any]:
    """Return what the run's own copy does not show: the rows' numbers in the person's files, where they differ."""
    numbers = [table.number(index) for index in range(len(table))]
    plain = not table.files and numbers == list(range(2, len(table) + 2))
    return {} if plain else {"numbers": numbers, "files": table.files}


def _as_title(text: str) -> str:
    """Bring a name to one line of characters that can be seen."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
