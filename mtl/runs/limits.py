"""What a run may ask of this installation: looked at where it is begun, and again in the process that trains it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtl.config import RunConfig, auto_steps, resolve
from mtl.errors import ConfigError, LimitError
from mtl.settings import settings

# `epochs: auto` is many epochs of a few rows; so many times its steps are short, as not all rows are learnt from
SHORT = 4


def check_run(config: RunConfig, rows: int) -> None:
    """Refuse a run that asks for more than this installation allows.

    Args:
        config: As the person gave it, or resolved. Tasks that are still to be guessed are counted in the second look.
        rows: Data rows of the table.

    Raises:
        ConfigError: An encoder that is not on the list of this installation.
        LimitError: A number that is too large.
    """
    check_encoder(config)
    limits = settings()
    split = config.data.split
    training = resolve(config, round(rows * split.train)).training
    epochs = training.epochs if isinstance(training.epochs, int) else 1
    heads = max(len(config.tasks), len(config.data.task_columns or ()), 1)
    _at_most("The number of rows", rows, "max_rows")
    if rows * epochs > SHORT * auto_steps(heads) * (training.batch_size or 1):
        _at_most("training.epochs", epochs, "max_epochs")
    _at_most("training.batch_size", training.batch_size, "max_batch_size")
    _at_most("encoder.max_length", config.encoder.max_length, "max_length")
    for field, rate in _rates(config.model_dump()):
        _at_most(field, rate, "max_learning_rate")
    _at_most("The number of tasks", heads, "max_tasks")
    for name, task in config.tasks.items():
        labels = task.labels or ()
        _at_most(f"tasks.{name}.labels: the number of labels", len(labels), "max_labels")
        longest = max((len(label) for label in labels), default=0)
        _at_most(f"tasks.{name}.labels: the length of the longest label", longest, "max_label_characters")
    passes = rows * epochs * heads
    if limits.max_row_passes is not None and passes > limits.max_row_passes:
        raise LimitError(
            f"training.epochs: {rows:,} rows x {epochs:,} epochs x {heads:,} heads is {passes:,}; at most "
            f"{limits.max_row_passes:,} are allowed here (MTL_MAX_ROW_PASSES). Take fewer epochs, rows or tasks."
        )


def check_encoder(config: RunConfig) -> None:
    """Refuse an encoder that this installation does not offer: on a shared page nobody chooses downloads or folders.

    Raises:
        ConfigError: It is not on the list.
    """
    allowed = settings().encoders
    if allowed is not None and config.encoder.name not in allowed:
        offered = ", ".join(allowed) or "none"
        raise ConfigError(
            f'encoder.name is "{_short(config.encoder.name)}"; here the encoder is one of: {offered} (MTL_ENCODERS). '
            "Run the app yourself to use another."
        )


def _at_most(field: str, value: float | None, limit: str) -> None:
    most = getattr(settings(), limit)
    if value is not None and most is not None and value > most:
        raise LimitError(f"{_short(field)} is {value:,}; at most {most:,} is allowed here (MTL_{limit.upper()}).")


def _short(text: str) -> str:
    """Keep a sentence a sentence, whatever a person named a task or an encoder."""
    return text if len(text) <= 120 else f"{text[:60]}…{text[-50:]}"


def _rates(values: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every learning rate of a configuration, by its field."""
    if isinstance(values, dict):
        for name, value in values.items():
            field = f"{path}.{name}" if path else str(name)
            if str(name).endswith("learning_rate") and isinstance(value, float):
                yield field, value
            else:
                yield from _rates(value, field)
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _rates(value, f"{path}.{number}")
