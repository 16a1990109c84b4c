"""How a process of a run is started: from the project's folder, and without the server's secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from mtl.runs.store import Run

ROOT = Path(__file__).resolve().parents[2]
# What such a process may see of the server's environment, beside `MTL_*`: nothing that could be a secret.
ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "VIRTUAL_ENV", "PYTHONPATH",
    "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "SPACES_ZERO_GPU", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
)  # fmt: skip
# A training asks for the same blocks in every step. By default glibc gives large ones back to the system at once, and
# the page faults of getting them again take up to a tenth of the time. Other C libraries do not look at these.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
KILLED = (-9, 137)  # by a signal; the same as a shell reports it


def start_process(
    module: str,
    run: Run | None,
    *options: str,
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> subprocess.Popen[bytes]:
    """Start `python -m MODULE [RUN]`.

    Args:
        module: What to run.
        run: Its folder is the first argument; None: there is no run yet.
        options: Further arguments.
        stdin: A pipe whose end tells the process that its server is gone.
        stdout: Where its answer goes.
        stderr: Where its log goes.
    """
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("MTL_")} | KEEP_MEMORY
    first = [str(run.path.resolve())] if run else []
    return subprocess.Popen(
        [sys.executable, "-m", module, *first, *options],
        cwd=ROOT,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )


def was_killed(process: subprocess.Popen[bytes]) -> bool:
    """Say whether an ended process was ended from outside, which the system does when memory runs out."""
    return process.returncode in KILLED
