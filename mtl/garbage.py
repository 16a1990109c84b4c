"""When Python need not look for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for unreachable objects meanwhile: importing makes a million, none of which is unreachable.

    Looking through all of them, again and again as they grow more, is a sixth of the time in which gradio is imported.
    Several threads may be within at once; what counts references goes on.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()
