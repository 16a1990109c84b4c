"""What a person at a terminal sees and presses: progress on stderr, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mtl.choices import SCORE_NAMES

if TYPE_CHECKING:
    from mtl.config import RunConfig
    from mtl.data.preparing import Understood
    from mtl.inference.checks import Checks
    from mtl.runs.worker import StopRequest
    from mtl.training.events import EpochEnd, Event
    from mtl.training.metrics import Evaluation

Result = TypeVar("Result")


def with_progress(steps: Generator[tuple[float, str], None, Result]) -> Result:
    """Run a generator of (share done, what is being done) to its end under a progress bar, and return its result."""
    from tqdm import tqdm

    shown = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
    with tqdm(total=1.0, file=sys.stderr, disable=None, leave=False, bar_format=shown) as bar:
        while True:
            try:
                share, doing = next(steps)
            except StopIteration as end:
                return end.value
            bar.set_description_str(doing, refresh=False)
            bar.update(share - bar.n)


def with_row_progress(steps: Generator[tuple[int, int], None, Result]) -> Result:
    """Run a generator of (rows done, all rows) to its end under a progress bar, and return its result."""
    from tqdm import tqdm

    with tqdm(unit="row", file=sys.stderr, disable=None, leave=False) as bar:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                return end.value
            bar.total = total
            bar.update(done - bar.n)


@contextmanager
def signals(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C end the run after its current batch; a second Ctrl-C ends at once."""

    def on_interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stop.ask("stopped", "Interrupted with Ctrl-C.")

    before = signal.signal(signal.SIGINT, on_interrupt), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: stop.ask("interrupted", "The system ended the run.", goes_on=True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@contextmanager
def training_progress(steps: int | None = None) -> Iterator[Callable[[Event], None]]:
    """Draw a progress bar over the steps on stderr, and a line per epoch above it.

    Args:
        steps: Of the whole run, where its first event is already past.
    """
    from tqdm import tqdm

    # disable=None: no bar where stderr is a file; the lines remain
    with tqdm(total=steps, unit="step", file=sys.stderr, disable=None, leave=False) as bar:

        def on_event(event: Event) -> None:
            from mtl.training.events import EpochEnd, RunBegin, StepEnd

            match event:
                case RunBegin():
                    bar.total = event.steps
                    share = event.trainable / event.parameters
                    rows, numerics = event.rows, event.numerics
                    bar.write(
                        f"{rows['train']} training, {rows['validation']} validation, {rows['test']} test rows; "
                        f"{event.trainable:,} of {event.parameters:,} parameters learn ({share:.0%}); "
                        f"{numerics['device']}, {numerics['precision']}",
                        file=sys.stderr,
                    )
                    for warning in event.warnings:
                        bar.write(f"note: {warning}", file=sys.stderr)
                case StepEnd():
                    bar.update(event.step - bar.n)
                    bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
                case EpochEnd():
                    bar.write(_epoch_line(event), file=sys.stderr)

        yield on_event


def _epoch_line(event: EpochEnd) -> str:
    parts = [f"epoch {event.epoch}", f"train loss {event.train.loss:.3f}"]
    if event.validation:
        parts.append(f"validation loss {event.validation.loss:.3f}")
        parts += [f"{task} {_main(event.validation, task)}" for task in event.validation.scores]
    return " | ".join(parts) + (" | best" if event.improved else "")


def compared(found: dict[str, Any]) -> str:
    """Say what a comparison of joint and single training found, a task a line."""
    lines = [
        f"{one['task']} {SCORE_NAMES[one['metric']]}: jointly {one['joint']:.3f}, alone {one['alone']:.3f}, "
        f"difference {one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        for one in found["tasks"]
    ]
    return "\n".join([*lines, found["sentence"]])


def _main(scored: Evaluation, task: str) -> str:
    """Say the score that counts, and the accuracy where there is one."""
    scores, main = scored.scores[task], scored.main[task]
    named = {name: value for name, value in scores.items() if name in (main, "accuracy")}
    return " ".join(f"{SCORE_NAMES[name]} {value:.3f}" for name, value in sorted(named.items()))


def near_groups(understood: Understood, config: RunConfig) -> tuple[tuple[int, ...], ...] | None:
    """Look for near duplicates if the split is to keep them together."""
    threshold = config.data.split.near_duplicates
    if threshold is None:
        return None
    from mtl.inference.checks import near_duplicates
    from mtl.settings import settings

    steps = near_duplicates(understood.texts, config.encoder.name, settings().cache_dir, threshold=threshold)
    return with_progress(steps).groups


def look_deeper(understood: Understood, config: RunConfig) -> Checks:
    """Look for near duplicates and labels that are likely wrong."""
    from mtl.inference.checks import check
    from mtl.settings import settings

    return with_progress(check(understood.texts, understood.labels, config.encoder.name, settings().cache_dir))
