"""The benchmarks by name.

python -m benchmarks                                          # which there are, what they need, how long they take
python -m benchmarks --quick [--data FILE.csv ...] [--record] # those of speed, on small inputs, in under ten minutes
python -m benchmarks encoding --data FILE.csv                 # one, with its own options
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mtl.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("encoding", "speed", "growth", "start")
ONE_FILE = {"growth"}  # these take a single file
NO_FILE = {"start"}
# name -> what it needs, what it measures, how long it takes on two cores
FULL: dict[str, tuple[str, str, str]] = {
    "peak": ("", "the processor's own peak of matrix products", "seconds"),
    "encoding": ("--data FILE.csv ... --sts STSB.csv", "embeddings and predictions a second", "4 minutes a file"),
    "speed": ("--data FILE.csv ...", "training: timed steps against transformers' Trainer", "15 to 60 minutes a file"),
    "growth": ("--data FILE.csv", "time and memory for 1,000, 10,000 and 100,000 rows", "5 minutes; --full: 30"),
    "start": ("", "until the page answers, predicts, trains", "minutes"),
    "accuracy": ("--data FILE.csv", "joint training against one fine-tuned model for each task", "20 to 40 minutes"),
    "data_checks": (
        "--data FILE.csv ...",
        "how much of what is planted the look at the data finds",
        "2 minutes a file",
    ),
    "fuzz_reading": ("", "whether reading fails in a way that is no sentence", "a minute"),
    "intent_entities": ("--data TRAIN.csv --validation OTHER.csv", "intents and entities in one model", "15 minutes"),
    "kills": ("", "whether a killed run ends with the same bits", "10 to 30 minutes"),
    "load": ("", "64 visitors at once; with --soak MINUTES whether the server grows", "11 minutes"),
    "sample_baseline": ("", "whether the sample is worth learning", "half a minute"),
    "strategies": ("--data FILE.csv", "what to choose on few and on many rows", "hours"),
    "two_files": ("--topics A.csv --sentiments B.csv --sts STSB.csv", "two files in one model", "20 minutes a seed"),
    "weightings": ("--data FILE.csv", "whether sharing pays, and whether a weighting helps", "half an hour"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """List the scripts, run one, or run those of speed on small inputs."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in FULL:
        return one(words[0], words[1:])
    options = _options().parse_args(words)
    if options.quick:
        return quick(options.data, options.record)
    print(listed())
    return 0


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="run those of speed on small inputs")
    made.add_argument("--data", nargs="+", default=[str(ROOT / "data" / "sample.csv")], help="CSV files")
    made.add_argument("--record", action="store_true", help="append the results to RESULTS.md")
    return made


def one(name: str, words: Sequence[str]) -> int:
    """Run a script as if it had been called by itself."""
    before, sys.argv = sys.argv, [str(ROOT / "benchmarks" / f"{name}.py"), *words]
    try:
        return import_module(f"benchmarks.{name}").main() or 0
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        sys.argv = before


def quick(files: Sequence[str], record: bool) -> int:
    """Run the benchmarks of speed one after the other; the result is that of the worst.

    What they print says that it works and roughly how it stands. The claims are made by the full ones.
    """
    codes = []
    for name in QUICK:
        chosen = [] if name in NO_FILE else ["--data", *(files[:1] if name in ONE_FILE else files)]
        start = time.perf_counter()
        codes.append(import_module(f"benchmarks.{name}").main(["--quick", *chosen, *(["--record"] if record else [])]))
        print(f"{name}: {(time.perf_counter() - start) / 60:.1f} minutes", file=sys.stderr, flush=True)
    return max(codes)


def listed() -> str:
    """Say of every script what it needs and how long it takes."""
    lines = ["python -m benchmarks --quick: those of speed on small inputs, in under ten minutes on two cores.", ""]
    for name, (needs, what, time_taken) in FULL.items():
        lines += [f"python -m benchmarks {name} {needs}".rstrip(), f"    {what}; {time_taken}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
