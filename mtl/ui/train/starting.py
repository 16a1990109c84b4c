"""Beginning, ending and deleting runs for a visitor: the page and the named endpoints both come here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtl.config import RunConfig
from mtl.data.reading import Table
from mtl.errors import CheckpointError, ConfigError, DataError
from mtl.runs.limits import check_encoder, check_run
from mtl.runs.owners import new_token
from mtl.runs.queue import check_resumable
from mtl.runs.store import Run
from mtl.settings import settings
from mtl.ui.context import AppContext
from mtl.ui.train import sharing
from mtl.ui.train.checks import near_groups
from mtl.ui.uploads import read_data


def start(
    context: AppContext, config: RunConfig, files: Sequence[Sequence[str]], token: str = "", address: str = ""
) -> tuple[Run, str]:
    """Create a run and queue it.

    Args:
        context: The server's.
        config: As the person gave it.
        files: Path of each CSV file, and what the person calls it.
        token: The visitor's secret; on a shared page one is made if it is empty.
        address: Where they are.

    Returns:
        The run and the secret that it now belongs to.

    Raises:
        UserError: The file or the configuration cannot be used.
    """
    table, rest = _ready(context, config, files, token)

    def begin() -> Run:
        context.queue.check_room(who=rest["token"], address=address)
        run = context.store.create(config, table, **rest)
        context.queue.submit(run, address)
        return run

    return context.once(_wish("start", config, files, rest["token"]), begin), rest["token"]


def compare(
    context: AppContext,
    config: RunConfig,
    files: Sequence[Sequence[str]],
    seeds: Any,
    token: str = "",
    address: str = "",
) -> tuple[Run, str]:
    """Create the runs that say whether sharing pays, and queue them; return the one that heads them.

    Raises:
        UserError: As `start`; or there is one task, or not enough room in the queue.
    """
    table, rest = _ready(context, config, files, token)

    def begin() -> Run:
        context.queue.check_room(who=rest["token"], address=address)
        return sharing.create(context, config, table, seeds, rest, address)

    return context.once(_wish(f"compare {seeds}", config, files, rest["token"]), begin), rest["token"]


def _wish(what: str, config: RunConfig, files: Sequence[Sequence[str]], token: str) -> str:
    """Name what is wished for; the same file keeps its path."""
    return "\n".join([what, token, config.model_dump_json(), *(path for path, _ in files)])


def resume(context: AppContext, name: str, token: str) -> Run:
    """Let a visitor's run that ended early go on where it was.

    Raises:
        CheckpointError: There is no such run, it is another visitor's, still going on, or came to its end.
        LimitError: The queue or the visitor's share of it is full.
    """
    run = context.open_own(name, token)
    check_resumable(run)
    context.queue.check_room(who=token, address=context.queue.address(run))
    context.queue.resume(run)
    return run


def _ready(
    context: AppContext, config: RunConfig, files: Sequence[Sequence[str]], token: str
) -> tuple[Table, dict[str, Any]]:
    """Read the data and check what may be trained here; return the table and what else the store wants to know."""
    if not files:
        raise DataError("Choose a CSV file first, or use the sample.")
    if settings().public and not token:
        token = new_token()
    _check_source(context, config, token)
    check_encoder(config)
    table = read_data(files, config.data)
    check_run(config, len(table))
    names = [name for _, name in files]
    return table, {"near": near_groups(files, config), "files": names, "token": token}


def _check_source(context: AppContext, config: RunConfig, token: str) -> None:
    """Let a run learn on only from one that this visitor sees, by its name: a page is no way to folders.

    Raises:
        ConfigError: There is no such run, or it is another visitor's: the same words.
    """
    try:
        if config.training.start_from:
            context.open(config.training.start_from, token)
    except CheckpointError:
        raise ConfigError("training.start_from: there is no such run.") from None


def stop(context: AppContext, name: str, token: str) -> None:
    """Stop a visitor's run.

    Raises:
        CheckpointError: There is no such run, or it is another visitor's.
    """
    context.queue.stop(context.open_own(name, token))
