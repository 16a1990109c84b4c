"""Does the work grow with the rows, or faster? Time and memory of every stage for 1,000, 10,000 and 100,000 rows.

    python -m benchmarks growth --data FILE.csv [--rows 1000 10000 100000] [--full] [--plot FILE.png] [--quick]
        [--record]

Rows beyond those of the file are made of it: the first half of one text and the second half of another, no two alike;
labels are those of the first. Each stage runs in a fresh process, once on 200 rows to warm up and then on all: reading;
the first stage of the profile; the split; an epoch of training (tokenising and ordering included, and shown apart);
prediction of the file with all heads, into a file; embedding; 1,000 searches among as many vectors as there are rows.

Without --full the encoder is a tiny random one (one layer, 32 wide, the default encoder's tokenizer) and every batch of
every stage is computed: what the data's own path costs is what shows, not the matrix products, which are linear in the
tokens anyway. With --full it is the default encoder. Searches are always among vectors of 384 numbers.

Memory is that of the process at its highest, less what was there before the stage (its input) and less what the stage
returns; what an idle process with its libraries takes is counted. It is measured on Linux only.

R sizes, N rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.peak import Peak, measure_peak
from benchmarks.rounds import given, machine, titled
from benchmarks.runs import finish, parser, tell
from benchmarks.stages import MEASURED, PARTS, Spent, tiny_encoder
from mtl.config import RunConfig
from mtl.data.preparing import understand_table
from mtl.data.reading import is_missing, read_file
from mtl.data.sameness import normalised
from mtl.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
WARM_ROWS = 200
MOST_TIME_RATIO, MOST_MEMORY_RATIO = 1.1, 1.5  # of the last two sizes; time for each time as many rows
MINUTES = {True: "half an hour on two cores", False: "5 minutes on two cores"}  # whether --full


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all stages at all sizes, print, and record if asked to."""
    words = given(arguments)
    options = _options().parse_args(words)
    sizes = [300, 3_000] if options.quick else sorted(options.rows)
    tell(f"growth: {'two minutes' if options.quick else MINUTES[options.full]}")
    found: dict[str, list[Spent]] = {stage: [] for stage in MEASURED}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        encoder = "" if options.full else str(tiny_encoder(work / "encoder"))
        grow(options.data, WARM_ROWS, work / "warm.csv")
        for rows in sizes:
            grow(options.data, rows, work / "rows.csv")
            for stage, spents in found.items():
                spents.append(run_stage(stage, work / "rows.csv", work / "warm.csv", encoder))
                tell(f"{rows:,} rows, {stage}: {spents[-1].seconds:.2f} s, {spents[-1].own / 1e6:,.0f} MB of its own")
    lines = [*as_table(sizes, found), "", *verdicts(sizes, found), "", _sentence(options.full, measure_peak())]
    if options.plot:
        save_plot(sizes, found, options.plot)
    finish(titled("growth", f"growth, {options.data.name}", words, lines), options.record)
    return 0


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=ROOT / "data" / "sample.csv")
    made.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="two sizes or more")
    made.add_argument("--full", action="store_true", help="with the default encoder instead of a tiny one")
    made.add_argument("--plot", type=Path, help="the PNG file to draw the growth into")
    made.add_argument("--quick", action="store_true", help="300 and 3,000 rows, to see that it works")
    return made


def grow(source: Path, rows: int, output: Path) -> None:
    """Write a table of so many rows with the texts and classes of another, no two texts the same.

    Raises:
        UserError: The source has too few different words for that.
    """
    understood = understand_table(read_file(source), RunConfig())
    labels = understood.labels
    usable = [row for row, text in enumerate(understood.texts) if not is_missing(text)]
    drawn = np.random.default_rng(0)
    seen: set[str] = set()
    with output.open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        write(["text", *labels])
        for number in count():
            if len(seen) == rows:
                return
            if number > 20 * (rows + len(usable)):
                raise UserError(f"{source.name} cannot be varied into {rows:,} different texts; take a larger file.")
            row = usable[number % len(usable)]
            text = understood.texts[row]
            if number >= len(usable):
                first, second = text.split(), understood.texts[usable[drawn.integers(len(usable))]].split()
                text = " ".join(first[: (len(first) + 1) // 2] + second[len(second) // 2 :])
            key = normalised(text)
            if key not in seen:
                seen.add(key)
                write([text, *(column[row] for column in labels.values())])


def run_stage(stage: str, file: Path, warm: Path, encoder: str) -> Spent:
    """Run one stage in a process of its own.

    Raises:
        UserError: It failed.
    """
    words = [sys.executable, "-m", "benchmarks.stages", stage, str(file), str(warm), encoder]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if ended.returncode:
        raise UserError(f"{stage} failed: {ended.stderr.strip()[-2000:]}")
    return Spent(**json.loads(ended.stdout.splitlines()[-1]))


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the slope of a straight line through the points on logarithmic axes: 1 is linear. Shape of both: (R,)."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def as_table(sizes: Sequence[int], found: dict[str, list[Spent]]) -> list[str]:
    """Show seconds and memory of each stage at each size."""
    heads = [f"{size:,}" for size in sizes]
    lines = [
        f"| stage | seconds for {' / '.join(heads)} rows | exponent | times as long | MB of its own | times as much "
        "| returned, MB | highest in all, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stage, spents in found.items():
        seconds, own = [spent.seconds for spent in spents], [spent.own for spent in spents]
        cells = [
            f"{MEASURED[stage]}{' (part of the next)' if stage in PARTS else ''}",
            " / ".join(f"{value:.3g}" for value in seconds),
            f"{exponent(sizes, seconds):.2f}",
            f"{seconds[-1] / seconds[-2]:.1f}",
            _megabytes(own),
            f"{own[-1] / own[-2]:.2f}",
            _megabytes([spents[-1].returned]),
            _megabytes([spents[-1].highest]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    total = totals(found)
    rest = f"{exponent(sizes, total):.2f} | {total[-1] / total[-2]:.1f} | – | – | – | – |"
    return [*lines, f"| all | {' / '.join(f'{value:.3g}' for value in total)} | {rest}"]


def _megabytes(values: Iterable[float]) -> str:
    return " / ".join(f"{value / 1e6:,.0f}" for value in values)


def totals(found: dict[str, list[Spent]]) -> list[float]:
    """Add up the seconds of all stages at each size; what is part of another stage is not counted twice."""
    return [sum(spent.seconds for spent in column) for column in zip(*_whole(found).values(), strict=True)]


def _whole(found: dict[str, list[Spent]]) -> dict[str, list[Spent]]:
    return {stage: spents for stage, spents in found.items() if stage not in PARTS}


def verdicts(sizes: Sequence[int], found: dict[str, list[Spent]]) -> list[str]:
    """Say whether the goals are met between the last two sizes."""
    larger = sizes[-1] / sizes[-2]
    total = totals(found)
    longer, most = total[-1] / total[-2], MOST_TIME_RATIO * larger
    grown = {stage: spents[-1].own / spents[-2].own for stage, spents in _whole(found).items()}
    worst = max(grown, key=lambda stage: grown[stage])
    lines = [
        f"| for {sizes[-1]:,} rows against {sizes[-2]:,} | measured | goal | met |",
        "|---|---|---|---|",
        f"| time of all stages | {longer:.2f} x | at most {most:g} | {'met' if longer <= most else 'NOT MET'} |",
        f"| memory, except what is returned (the worst stage: {MEASURED[worst]}) | {grown[worst]:.2f} x "
        f"| at most {MOST_MEMORY_RATIO:g} | {'met' if grown[worst] <= MOST_MEMORY_RATIO else 'NOT MET'} |",
    ]
    return lines


def _sentence(full: bool, peak: Peak) -> str:
    which = "The default encoder." if full else "A tiny random encoder; all batches were computed."
    return f"{which} Each stage in a fresh process. {machine(peak)}"


def save_plot(sizes: Sequence[int], found: dict[str, list[Spent]], file: Path) -> None:
    """Draw seconds and memory over the rows, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for stage, spents in found.items():
        seconds = [spent.seconds for spent in spents]
        name = f"{MEASURED[stage]} ({exponent(sizes, seconds):.2f})"
        left.plot(sizes, seconds, ":" if stage in PARTS else "-", marker="o", markersize=4, label=name)
        right.plot(
            sizes, [spent.own / 1e6 for spent in spents], ":" if stage in PARTS else "-", marker="o", markersize=4
        )
    total = totals(found)
    left.plot(sizes, [total[-1] * size / sizes[-1] for size in sizes], "--", color="grey", label="linear")
    left.set_title("Seconds (exponent)")
    right.set_title("MB beside input and result")
    right.set_ylim(bottom=0)
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("rows")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
