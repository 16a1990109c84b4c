"""What a person at a terminal sees and presses."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Generator
from functools import partial

import pytest
import tqdm

from mtl.runs.worker import StopRequest
from mtl.terminal import signals, with_progress, with_row_progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def rows(total: int) -> Generator[tuple[int, int], None, str]:
    for done in range(1, total + 1):
        yield done, total
    return "the result"


def work() -> Generator[tuple[float, str], None, str]:
    for done in range(7):
        yield done / 6, f"Doing part {done}"
    return "the result"


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_progress_gives_the_result_and_draws_a_bar_only_for_a_person(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, mininterval=0))
    assert with_row_progress(rows(3)) == "the result"
    assert with_row_progress(rows(0)) == "the result"
    assert ("3/3" in shown.getvalue()) == terminal
    assert with_progress(work()) == "the result"
    assert ("Doing part 6: 100%" in shown.getvalue()) == terminal
    assert bool(shown.getvalue()) == terminal


def test_terminal_progress_passes_an_error_on() -> None:
    def broken() -> Generator[tuple[int, int], None, None]:
        yield 1, 2
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        with_row_progress(broken())


def test_terminal_first_ctrl_c_asks_for_a_stop_and_the_second_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    with signals(stop):
        signal.raise_signal(signal.SIGINT)
        assert (stop.state, stop.reason) == ("stopped", "Interrupted with Ctrl-C.")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_terminal_a_system_that_asks_for_the_end_gets_an_interrupted_run() -> None:
    stop = StopRequest()
    with signals(stop):
        signal.raise_signal(signal.SIGTERM)
    assert stop.state == "interrupted"
