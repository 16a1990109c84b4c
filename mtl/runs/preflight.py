"""A preflight of a run in a process of its own, as its training will be: `python -m mtl.runs.preflight RUN`.

The answer is one line of JSON on standard output: the figures, or `{"error": SENTENCE}` and exit code 2. The run folder
is only read. A process of its own, because what it takes of memory is then known and is given back whole.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from mtl.errors import LimitError, UserError
from mtl.runs.process import start_process, was_killed
from mtl.runs.starting import start_model
from mtl.runs.store import Run, open_run
from mtl.settings import settings

log = logging.getLogger(__name__)
TOO_LARGE = "try a smaller batch size or encoder.max_length"


def run_preflight(run: Run, *, timeout_seconds: float) -> dict[str, Any]:
    """Measure a few steps of a run before it starts.

    Args:
        run: Made by `RunStore.create`.
        timeout_seconds: How long it may take, loading the libraries included.

    Returns:
        `mtl.training.preflight.Preflight.as_dict`.

    Raises:
        LimitError: It took too long and was ended.
        UserError: The run cannot be trained as it is; the same words as the run would fail with.
    """
    reading, writing = os.pipe()
    with (
        os.fdopen(writing, "wb"),  # held open meanwhile: its end tells the process that nobody waits any more
        os.fdopen(reading, "rb") as stdin,
        start_process(
            "mtl.runs.preflight", run, "--attached", stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        try:
            output, errors = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise LimitError(
                f"The preflight was ended after {timeout_seconds:.0f} seconds; this run is slow on this machine: "
                f"{TOO_LARGE}."
            ) from None
        finally:
            process.kill()
    return _answer(process, output, errors)


def _answer(process: subprocess.Popen[bytes], output: bytes, errors: bytes) -> dict[str, Any]:
    """Read what an ended process said."""
    if was_killed(process):
        raise UserError(f"The preflight was killed, perhaps because the memory was not enough; {TOO_LARGE}.")
    try:
        found = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        log.error("the preflight crashed:\n%s", errors.decode(errors="replace"))
        raise UserError("An unexpected error ended the preflight; the log has the details.") from None
    if "error" in found:
        raise UserError(found["error"])
    return found


def measure(run: Run) -> dict[str, Any]:
    """Measure a run in this process.

    Raises:
        UserError: The run cannot be trained as it is, or the memory is not enough.
    """
    from mtl.data.preparing import cut
    from mtl.training.memory import is_out_of_memory
    from mtl.training.preflight import preflight

    try:
        splits = cut(run.table(), run.config, run.split())
        model = start_model(run.config, run.source).model
        return preflight(model, splits, run.config, cache_dir=settings().cache_dir).as_dict
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise LimitError(f"The memory was not enough; {TOO_LARGE}.") from error


def main(arguments: list[str]) -> int:
    """Measure one run and print the answer."""
    parser = argparse.ArgumentParser(prog="python -m mtl.runs.preflight", description=__doc__)
    parser.add_argument("run", help="path of the run folder")
    parser.add_argument("--attached", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    if options.attached:
        threading.Thread(target=_watch_caller, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # as the worker
    try:
        found = measure(open_run(Path(options.run)))
    except UserError as error:
        found = {"error": str(error)}
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return 2 if "error" in found else 0


def _watch_caller() -> None:
    """End at once when whoever asked is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
