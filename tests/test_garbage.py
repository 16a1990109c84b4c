from __future__ import annotations

import gc
import threading

import pytest

from mtl.garbage import uncollected


def test_garbage_is_not_looked_for_meanwhile_and_is_afterwards() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer one still goes on"
    assert gc.isenabled()


def test_garbage_is_looked_for_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


@pytest.mark.parametrize("first_out", [0, 1])
def test_garbage_is_looked_for_when_the_last_of_several_threads_is_out(first_out: int) -> None:
    entered, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def within(number: int) -> None:
        with uncollected():
            entered[number].set()
            leave[number].wait(10)

    threads = [threading.Thread(target=within, args=(number,)) for number in (0, 1)]
    for number, thread in enumerate(threads):
        thread.start()
        assert entered[number].wait(10)
    for number in (first_out, 1 - first_out):
        leave[number].set()
        threads[number].join(10)
    assert gc.isenabled()


def test_garbage_stays_unlooked_for_where_somebody_else_wanted_so() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
