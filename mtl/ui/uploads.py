"""Uploaded files, read, understood and divided once however often the form around them changes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from mtl.config import DataConfig, RunConfig, SplitConfig, TaskConfig
from mtl.data.combining import read_configured
from mtl.data.preparing import Division, Prepared, Understood, complete, divide, understand_table
from mtl.data.reading import Table
from mtl.errors import DataError

KEEP_TABLES = 2


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
    return _read_cached(_identity(files), _key(data))


def understood_data(files: Sequence[Sequence[str]], config: RunConfig) -> Understood:
    """Understand uploaded files; the same files under the same data settings once.

    Raises:
        UserError: As `mtl.data.preparing.understand_table`.
    """
    return _understood_cached(_identity(files), _key(_without_fractions(config.data)), _key_of_tasks(config))


def prepared_data(
    files: Sequence[Sequence[str]], config: RunConfig, near: tuple[tuple[int, ...], ...] | None = None
) -> Prepared:
    """Prepare a run on uploaded files; the split is made once for the same data settings.

    Raises:
        UserError: As `mtl.data.preparing.prepare`.
    """
    division = _divided_cached(_identity(files), _key(config.data), _key_of_tasks(config), near)
    return complete(understood_data(files, config), division, config)


# the arguments of the cached functions below: path, time of change and name of each file; configuration as JSON
Identity = tuple[tuple[str, int, str], ...]


def _identity(files: Sequence[Sequence[str]]) -> Identity:
    if not files:
        raise DataError("Upload a CSV file first, or use the sample.")
    try:
        return tuple((path, Path(path).stat().st_mtime_ns, name) for path, name in files)
    except OSError:
        raise DataError("The uploaded file is gone; upload it again.") from None


def _key(data: DataConfig) -> str:
    return data.model_dump_json()


def _without_fractions(data: DataConfig) -> DataConfig:
    """Drop what only the split depends on."""
    split = SplitConfig(column=data.split.column, group_column=data.split.group_column)
    return data.model_copy(update={"split": split})


def _key_of_tasks(config: RunConfig) -> str:
    """Keep of the tasks what the table and the split depend on; a head's rate changes neither."""
    return json.dumps({name: task.merge for name, task in config.tasks.items()})


def _config_of(data: str, tasks: str) -> RunConfig:
    merges = {name: TaskConfig(merge=merge) for name, merge in json.loads(tasks).items()}
    return RunConfig(data=DataConfig.model_validate_json(data), tasks=merges)


@functools.lru_cache(maxsize=KEEP_TABLES)
def _read_cached(files: Identity, data: str) -> Table:
    return read_configured([(Path(path), name) for path, _, name in files], DataConfig.model_validate_json(data))


@functools.lru_cache(maxsize=KEEP_TABLES)
def _understood_cached(files: Identity, data: str, tasks: str) -> Understood:
    config = _config_of(data, tasks)
    # the table depends on less than its columns do: only then is it found again in its cache
    reading = DataConfig(
        reading=config.data.reading, text_column=config.data.text_column, separate_tasks=config.data.separate_tasks
    )
    return understand_table(_read_cached(files, _key(reading)), config)


@functools.lru_cache(maxsize=KEEP_TABLES)
def _divided_cached(files: Identity, data: str, tasks: str, near: tuple[tuple[int, ...], ...] | None) -> Division:
    config = _config_of(data, tasks)
    return divide(_understood_cached(files, _key(_without_fractions(config.data)), tasks), config, near)
