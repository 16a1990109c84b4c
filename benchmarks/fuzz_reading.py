"""Whether reading ever fails in a way that is no sentence: generated tables and broken files, ten thousand of each.

    nice python benchmarks/fuzz_reading.py --record

Tables are written and read again, and must be the same. Broken files are read, understood, profiled and divided, and
must give a table or an error for people. The strategies are those of the tests. It ends with exit code 1 if anything
else came of one file.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from mtl.data.dialect import DELIMITERS
from mtl.data.reading import read_table
from mtl.data.writing import EXACTLY, to_csv
from tests.data.strategies import (
    BROKEN,
    ENCODINGS,
    begins_like_another_file,
    labelled_tables,
    rows,
    rows_of,
    stage_of,
    written,
)

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = 3


class Tried:
    """What came of the cases of one kind: how many of each outcome, what was no outcome at all, and the slowest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self.slowest: list[tuple[float, str]] = []
        self.seconds = 0.0

    def case(self, shown: str, run: Callable[[], str]) -> None:
        """Run one case; anything it raises is a fault."""
        start = time.perf_counter()
        try:
            outcome = run()
        except Exception as error:  # that is what is looked for
            outcome = "fault"
            self.faults.setdefault(f"{type(error).__name__}: {error}"[:200], shown)
        seconds = time.perf_counter() - start
        self.outcomes[outcome] += 1
        self.seconds += seconds
        self.slowest = sorted([*self.slowest, (seconds, shown)], reverse=True)[:SLOWEST]


def main() -> int:
    """Run both kinds and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="append the result to RESULTS.md")
    options = parser.parse_args()
    tried = [_round_trips(options.cases, options.seed), _broken_files(options.cases, options.seed)]
    report = _report(tried, options.cases, options.seed)
    print(report)
    if options.record:
        with (ROOT / "benchmarks" / "RESULTS.md").open("a", encoding="utf-8") as file:
            file.write(report)
    return 1 if any(one.faults for one in tried) else 0


def _run(cases: int, number: int, strategy: st.SearchStrategy[Any], case: Callable[[Any], None]) -> None:
    """Draw the cases, others for each seed, and keep nothing between runs."""
    every = settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    seed(number)(every(given(strategy)(case)))()


def _round_trips(cases: int, number: int) -> Tried:
    """Write and read tables: as a CSV writer does, with any delimiter, and as a run keeps its own copy."""
    tried = Tried("tables written and read")
    foreign = st.tuples(
        rows().filter(lambda table: not begins_like_another_file(table)), st.sampled_from(list(DELIMITERS))
    )

    def case(drawn: Any) -> None:
        def run() -> str:
            if isinstance(drawn, tuple):
                table, delimiter = drawn
                read = read_table(written(table, delimiter), delimiter=delimiter, quote='"', header=True)
                assert rows_of(read) == table, "a cell changed"
            else:
                assert read_table(to_csv(drawn), **EXACTLY) == drawn, "the table changed"
            return "the same"

        tried.case(repr(drawn), run)

    _run(cases, number, foreign | labelled_tables(), case)
    return tried


def _broken_files(cases: int, number: int) -> Tried:
    """Take broken files as far as they go."""
    tried = Tried("broken files")

    def case(drawn: tuple[bytes, str | None]) -> None:
        tried.case(repr(drawn), lambda: stage_of(*drawn)[0])

    _run(cases, number, st.tuples(BROKEN, ENCODINGS), case)
    return tried


def _report(tried: list[Tried], cases: int, number: int) -> str:
    lines = [
        f"\n## {datetime.date.today()}: fuzzing the reading, {cases:,} cases of each kind\n",
        f"`python benchmarks/fuzz_reading.py --cases {cases} --seed {number}`\n",
        "| kind | cases | outcomes | no sentence | time | slowest case |",
        "|---|---|---|---|---|---|",
    ]
    for one in tried:
        outcomes = ", ".join(f"{outcome} {count:,}" for outcome, count in one.outcomes.most_common())
        lines.append(
            f"| {one.name} | {one.outcomes.total():,} | {outcomes} | {one.outcomes['fault']:,} | {one.seconds:.0f} s "
            f"| {1000 * one.slowest[0][0]:.0f} ms |"
        )
    lines.append("\nThe slowest:\n")
    lines += [f"- {1000 * seconds:.1f} ms: `{_short(shown)}`" for one in tried for seconds, shown in one.slowest]
    for one in tried:
        lines += [f"\nFault: {what}\n\n    {shown[:2000]}" for what, shown in one.faults.items()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines.append(
        f"\nPeak memory of the process {peak:.0f} MB. Python {platform.python_version()}, {platform.system()}.\n"
    )
    return "\n".join(lines)


def _short(shown: str) -> str:
    return (shown if len(shown) <= 160 else shown[:157] + "…").replace("`", "'").replace("|", "¦")


if __name__ == "__main__":
    sys.exit(main())
