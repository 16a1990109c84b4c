"""Uploaded files, read, understood and divided once however often the form around them changes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from mtl.config import DataConfig, RunConfig, SplitConfig, TaskConfig, TrainingConfig
from mtl.data.combining import read_configured
from mtl.data.preparing import Division, Prepared, Understood, complete, divide, understand_table
from mtl.data.reading import Table
from mtl.errors import DataError, UserError

KEEP_TABLES = 2

# What the cached functions take: path, time of change and name of each file; parts of the configuration as JSON.
Identity = tuple[tuple[str, int, str], ...]
Near = tuple[tuple[int, ...], ...] | None


def read_upload(path: str | None) -> Table:
    """Read one uploaded file as it is guessed to be; the same file is parsed once.

    Raises:
        DataError: No file was given, or it is no table.
    """
    return read_data([(path, Path(path).name)] if path else [], DataConfig())


def read_data(files: Sequence[Sequence[str]], data: DataConfig) -> Table:
    """Read uploaded files, given by path and name, as a configuration says; the same files are parsed once.

    Raises:
        DataError: No file was given, or one is no table.
    """
    return _read(_identity(files), data)


def understood_data(files: Sequence[Sequence[str]], config: RunConfig) -> Understood:
    """Understand uploaded files; the same files under the same data settings once.

    Raises:
        UserError: As `mtl.data.preparing.understand_table`.
    """
    return _understood(_identity(files), config)


def prepared_data(files: Sequence[Sequence[str]], config: RunConfig, near: Near = None) -> Prepared:
    """Prepare a run on uploaded files; the split is made once for the same data settings.

    Raises:
        UserError: As `mtl.data.preparing.prepare`.
    """
    identity = _identity(files)
    understood = _understood(identity, config)
    # guessed columns and the same ones named are one split
    columns, split = understood.columns, config.data.split
    split = split.model_copy(update={"column": next(iter(columns.named("split")), "")})
    named = {"text_column": columns.text, "task_columns": columns.tasks or None, "split": split}
    data = config.data.model_copy(update=named)
    return complete(understood, _divided_cached(identity, data.model_dump_json(), _merges(config), near), config)


def _identity(files: Sequence[Sequence[str]]) -> Identity:
    if not files:
        raise DataError("Upload a CSV file first, or use the sample.")
    try:
        return tuple((path, Path(path).stat().st_mtime_ns, name) for path, name in files)
    except OSError:
        raise DataError("The uploaded file is gone; upload it again.") from None


def _merges(config: RunConfig) -> str:
    """Keep of the tasks what the table depends on; a head's rate changes nothing here."""
    named = config.data.task_columns is not None  # else the tasks are those that are listed
    return json.dumps({name: task.merge for name, task in config.tasks.items() if task.merge or not named})


def _config(data: str, merges: str) -> RunConfig:
    tasks = {name: TaskConfig(merge=merge) for name, merge in json.loads(merges).items()}
    found = DataConfig.model_validate_json(data)
    training = TrainingConfig(row_sampling="weight_column" if found.weight_column else "uniform")
    return RunConfig(data=found, tasks=tasks, training=training)


def _read(files: Identity, data: DataConfig) -> Table:
    """Read the files; which column is the text matters only where several are put together."""
    several = {"text_column": data.text_column, "separate_tasks": data.separate_tasks} if len(files) > 1 else {}
    return _read_cached(files, DataConfig(reading=data.reading, **several).model_dump_json())


def _understood(files: Identity, config: RunConfig) -> Understood:
    """Understand the files. Columns named as they would be guessed are the guess, which is made already."""
    data = config.data
    if data.text_column and data.task_columns and not any(task.merge for task in config.tasks.values()):
        guess = data.model_copy(update={"text_column": None, "task_columns": None, "split": SplitConfig()})
        try:
            guessed = _understood_cached(files, guess.model_dump_json(), "{}")
        except UserError:
            guessed = None
        if guessed and _is_what_was_named(guessed, data):
            return guessed
    split = SplitConfig(column=data.split.column, group_column=data.split.group_column)
    return _understood_cached(files, data.model_copy(update={"split": split}).model_dump_json(), _merges(config))


def _is_what_was_named(guessed: Understood, data: DataConfig) -> bool:
    columns = guessed.columns
    split = next(iter(columns.named("split")), "")
    return (columns.text, columns.tasks, split, None) == (
        data.text_column,
        data.task_columns,
        split if data.split.column is None else data.split.column,
        data.split.group_column,
    )


@functools.lru_cache(maxsize=KEEP_TABLES)
def _read_cached(files: Identity, data: str) -> Table:
    return read_configured([(Path(path), name) for path, _, name in files], DataConfig.model_validate_json(data))


@functools.lru_cache(maxsize=KEEP_TABLES)
def _understood_cached(files: Identity, data: str, merges: str) -> Understood:
    config = _config(data, merges)
    return understand_table(_read(files, config.data), config)


@functools.lru_cache(maxsize=KEEP_TABLES)
def _divided_cached(files: Identity, data: str, merges: str, near: Near) -> Division:
    config = _config(data, merges)
    return divide(_understood(files, config), config, near)
