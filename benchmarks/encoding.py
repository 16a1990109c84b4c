"""How fast are embeddings and predictions, and are they still the same? Against sentence-transformers' own ways.

    python -m benchmarks encoding --data FILE.csv [OTHER.csv ...] [--sts STSB.csv] [--texts 1000] [--quick] [--record]

For each file, texts drawn from it are embedded in turn by `SentenceTransformer.encode` (float32, batches of 32), by
its other ways (bfloat16 weights; ONNX and OpenVINO if they are installed, which is not required), and by our
`Predictor`, at its own choice and in exact float32. Then, with the shipped checkpoint: all heads on those texts
against embedding them; and one sentence at a time. The error is the largest 1 - cosine to what `encode` gives in
float32; with --sts (columns sentence1, sentence2, score) also the change of the rank correlation, in points of 100.

The goals are of two cores that compute in bfloat16: 4.2 times `encode` and 1.1 times its fastest way; 3.8 and 1.0
where texts have more than 60 tokens on average. It ends with exit code 1 if an error is too large, never for a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package is used from its folder, not installed

from benchmarks.openvino_peer import with_openvino
from benchmarks.peak import Effort, forward_flops, measure_peak
from benchmarks.rounds import Ratio, Row, as_table, at_least, at_most, given, interleaved, machine, ratio, titled
from benchmarks.runs import finish, parser, tell
from mtl.choices import DEFAULT_ENCODER, Precision
from mtl.config import RunConfig
from mtl.data.batching import tokenise
from mtl.data.columns import find_text_column
from mtl.data.reading import is_missing, read_file
from mtl.inference.neighbours import unit
from mtl.inference.predictor import Predictor
from mtl.modeling.encoder import encoder_folder, load_encoder, max_length_of, transformer_of
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.numerics import best_device

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "checkpoints" / "starter"
MOST_ERROR, MOST_EXACT_ERROR, MOST_STS_POINTS = 1e-4, 1e-6, 0.05
PEAK_GOAL = 0.5
LONG_TOKENS = 60  # on average; product reviews are longer, news and tweets shorter
PEER, PEER_LOW, OURS, EXACT = "encode, float32", "encode, bfloat16", "ours, auto", "ours, float32"
OTHER_BACKENDS = {"onnx": "onnxruntime", "openvino": "intel"}  # backend -> the part of optimum that runs it
MINUTES = "4 minutes a file on two cores"

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """How all ways did on one file.

    Attributes:
        seconds: Way -> seconds of each round.
        errors: Way -> largest 1 - cosine to the peer's embedding of the same text.
        flops: Operations of the matrix products that one pass over the texts needs.
        tokens: Of a text, on average.
    """

    seconds: dict[str, list[float]]
    errors: dict[str, float]
    flops: float
    tokens: float

    def fastest_of_theirs(self) -> str:
        """Return the name of sentence-transformers' fastest way."""
        theirs = [way for way in self.seconds if way not in (OURS, EXACT)]
        return min(theirs, key=lambda way: float(np.median(self.seconds[way])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and record if asked to."""
    words = given(arguments)
    options = _options().parse_args(words)
    texts, rounds, sentences = (160, 3, 12) if options.quick else (options.texts, options.rounds, 50)
    tell(f"encoding: {'half a minute' if options.quick else MINUTES}; {len(options.data)} file(s)")
    ways, notes = their_ways()
    chosen, exact = untrained("auto"), untrained("float32")
    ways |= {OURS: chosen.embed, EXACT: exact.embed}
    peak = measure_peak()
    changes = sts_changes(ways, options.sts) if options.sts else {}
    rows: list[Row] = []
    for file in options.data:
        drawn = draw_texts(file, texts)
        found = measure(ways, drawn, rounds)
        peak |= measure_peak()
        rows += encoding_rows(file.name, found, changes)
        rows += heads_rows(file.name, drawn, rounds, options.checkpoint)
        rows.append(sentence_row(file.name, ways, drawn[:sentences], rounds))
    notes.append(f"{texts:,} texts of each file, {rounds} rounds. Ours chose {chosen.precision}. {machine(peak)}")
    lines = [*as_table(rows, peak), "", " ".join(notes)]
    names = ", ".join(file.name for file in options.data)
    finish(titled("encoding", f"encoding {names}", words, lines), options.record)
    return int(any("TOO MUCH" in row.difference for row in rows))


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, nargs="+", default=[ROOT / "data" / "sample.csv"])
    made.add_argument("--sts", type=Path, help="sentence pairs with a human score, to see whether rank stays")
    made.add_argument("--texts", type=int, default=1_000, help="of each file, drawn at random")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--checkpoint", type=Path, default=STARTER, help="whose heads are asked")
    made.add_argument("--quick", action="store_true", help="few texts, to see that it works")
    return made


def draw_texts(file: Path, count: int) -> list[str]:
    """Draw texts of a file at random, always the same; all of them if there are not more."""
    table = read_file(file)
    texts = [text for text in table.columns[find_text_column(table)] if not is_missing(text)]
    chosen = np.random.default_rng(0).permutation(len(texts))[:count]
    return [texts[row] for row in chosen]


def untrained(precision: Precision) -> Predictor:
    """Make a predictor of the default encoder as it is before any training, without heads."""
    return Predictor(MultiTaskModel(load_encoder(), {}, ()), RunConfig(), {}, precision=precision)


def their_ways() -> tuple[dict[str, Embed], list[str]]:
    """Load the encoder as sentence-transformers offers it.

    Returns:
        Name -> how to embed; and a sentence for each way that is not installed.
    """
    folder, device = str(encoder_folder(DEFAULT_ENCODER)), best_device()
    loaded = {
        PEER: SentenceTransformer(folder, device=device),
        PEER_LOW: SentenceTransformer(folder, device=device, model_kwargs={"dtype": torch.bfloat16}),
    }
    notes = []
    for backend, part in OTHER_BACKENDS.items():
        if importlib.util.find_spec("optimum") and importlib.util.find_spec(f"optimum.{part}"):
            loaded[f"encode, {backend}"] = SentenceTransformer(folder, device=device, backend=backend)  # type: ignore[arg-type]
        elif backend == "openvino" and importlib.util.find_spec("openvino"):
            loaded["encode, openvino"] = with_openvino(SentenceTransformer(folder, device="cpu"))
            notes.append("OpenVINO without optimum (openvino_peer.py).")
        else:
            notes.append(f"sentence-transformers' {backend} backend is not installed, so it was not compared.")
    return {name: partial(_encode, encoder) for name, encoder in loaded.items()}, notes


def _encode(encoder: SentenceTransformer, texts: Sequence[str]) -> np.ndarray:
    return np.asarray(encoder.encode(list(texts), batch_size=32, show_progress_bar=False), dtype=np.float32)


def measure(ways: dict[str, Embed], texts: Sequence[str], rounds: int) -> Measured:
    """Embed the texts in all ways, in turn."""
    vectors = {name: embed(texts) for name, embed in ways.items()}
    errors = {name: error(found, vectors[PEER]) for name, found in vectors.items()}
    seconds = interleaved({name: partial(embed, texts) for name, embed in ways.items()}, rounds, warm=False)
    encoder = load_encoder()
    tokens: Any = tokenise(texts, encoder.tokenizer, max_length_of(encoder))
    lengths = [len(ids) for ids in tokens["input_ids"]]
    for name, times in seconds.items():
        tell(f"{name}: {len(texts) / float(np.median(times)):,.0f} texts/s, error {errors[name]:.1e}")
    flops = forward_flops(transformer_of(encoder).config, lengths)
    return Measured(seconds, errors, flops, float(np.mean(lengths)))


def error(vectors: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest 1 - cosine between rows, in double precision. Shape of both: (N, D)."""
    left, right = unit(vectors.astype(np.float64)), unit(reference.astype(np.float64))
    return max(0.0, float((1 - (left * right).sum(axis=1)).max()))


def encoding_rows(name: str, found: Measured, changes: dict[str, float]) -> list[Row]:
    """Say how fast embedding is, and how far off."""
    long = found.tokens > LONG_TOKENS
    speeds = {way: ratio(found.seconds[PEER], times) for way, times in found.seconds.items()}
    work = f"{name} ({found.tokens:.0f} tokens a text)"

    fastest = found.fastest_of_theirs()
    beside = ratio(found.seconds[fastest], found.seconds[OURS])
    theirs = [way for way in speeds if way not in (PEER, OURS, EXACT)]

    def row(what: str, way: str, against: str, measured: Ratio, goal: float | None) -> Row:
        most = {OURS: MOST_ERROR, EXACT: MOST_EXACT_ERROR}.get(way)
        seconds = float(np.median(found.seconds[way]))
        wanted = (PEAK_GOAL, measured.median) if way == OURS else (None, None)
        effort = Effort(found.flops, seconds, *wanted)
        far = difference(found.errors[way], most, changes.get(way))
        return at_least(what, against, measured, goal, difference=far, effort=effort)

    return [
        row(f"encode {work}", OURS, PEER, speeds[OURS], 3.8 if long else 4.2),
        row(f"encode {name}", OURS, f"their fastest: {fastest}", beside, 1.0 if long else 1.1),
        row(f"encode {name} in exact float32", EXACT, PEER, speeds[EXACT], None),
        *(row(f"encode {name}: {way}", way, PEER, speeds[way], None) for way in theirs),
    ]


def difference(found: float, most: float | None, points: float | None) -> str:
    """Put an error into words, with what is allowed."""
    parts = [f"cosine error {found:.0e}" + (_verdict(found, most, f"{most:.0e}") if most else "")]
    if points is not None:
        parts.append(f"STS-B {points:+.3f}" + (_verdict(abs(points), MOST_STS_POINTS, "0.05") if most else ""))
    return ", ".join(parts)


def _verdict(found: float, most: float, shown: str) -> str:
    return f" (at most {shown}{'' if found <= most else ': TOO MUCH'})"


def sts_changes(ways: dict[str, Embed], file: Path) -> dict[str, float]:
    """Return by how many points of 100 each way's rank correlation with human scores differs from the peer's."""
    from scipy.stats import spearmanr

    table = read_file(file)
    scores = [float(cell) for cell in table.column("score")]
    found = {}
    for name, embed in ways.items():
        left, right = (unit(embed(table.column(side))) for side in ("sentence1", "sentence2"))
        found[name] = 100 * float(spearmanr((left * right).sum(axis=1), scores).statistic)
        tell(f"{name}: STS-B {found[name]:.3f}")
    return {name: points - found[PEER] for name, points in found.items()}


def heads_rows(name: str, texts: Sequence[str], rounds: int, checkpoint: Path) -> list[Row]:
    """Say what asking the heads costs beyond the embeddings, and whether it changes them."""
    predictor = Predictor.load(checkpoint)
    classes = [task.name for task in predictor.tasks if task.kind == "classification"]
    every = [task.name for task in predictor.tasks]
    asked = {"embedding": [], "classes": classes, "all": every}
    seconds = interleaved({key: partial(predictor.run, texts, tasks) for key, tasks in asked.items()}, rounds)
    vectors = predictor.run(texts, [])[0]
    same = {key: np.array_equal(vectors, predictor.run(texts, tasks)[0]) for key, tasks in asked.items()}
    words = {True: "the same embeddings, to the bit", False: "other embeddings: TOO MUCH"}

    def row(key: str, what: str, goal: float) -> Row:
        found = ratio(seconds[key], seconds["embedding"])
        return at_most(f"{what}, {name}", "embedding it", found, goal, difference=words[same[key]])

    rows = [row("classes", f"{len(classes)} heads of classes", 1.05)]
    if len(every) > len(classes):
        rows.append(row("all", "all heads, with entities", 1.2))
    return rows


def sentence_row(name: str, ways: dict[str, Embed], sentences: Sequence[str], rounds: int) -> Row:
    """Say how long one sentence takes on a warm model, at the median."""
    medians: dict[str, list[float]] = {PEER: [], OURS: []}
    vectors = {way: np.concatenate([ways[way]([sentence]) for sentence in sentences]) for way in medians}
    for _ in range(rounds):
        seconds: dict[str, list[float]] = {way: [] for way in medians}
        for sentence in sentences:
            for way, times in seconds.items():
                start = time.perf_counter()
                ways[way]([sentence])
                times.append(time.perf_counter() - start)
        for way, times in seconds.items():
            medians[way].append(float(np.median(times)))
    found = ratio(medians[OURS], medians[PEER])
    milliseconds = {way: 1000 * float(np.median(times)) for way, times in medians.items()}
    work = f"one sentence, warm, p50, {name}: {milliseconds[OURS]:.1f} ms instead of {milliseconds[PEER]:.1f}"
    far = error(vectors[OURS], vectors[PEER])
    return at_most(work, PEER, found, 0.5, difference=difference(far, MOST_ERROR, None))


if __name__ == "__main__":
    sys.exit(main())
