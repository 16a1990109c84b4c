"""The benchmarks of speed work on tiny inputs, and both sides compute the same. Nothing here looks at a time."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import __main__ as names
from mtl.config import RunConfig

if TYPE_CHECKING:
    from benchmarks.speed import Work
    from mtl.data.splitting import Splits

FOLDER = Path(names.__file__).parent


@pytest.fixture(autouse=True)
def _short_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the peak be that of a single small product."""
    monkeypatch.setattr("benchmarks.peak.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("benchmarks.peak.SIZES", ((8, 8, 8),))


@pytest.fixture
def work(tiny_config: RunConfig, tiny_splits: Splits) -> Work:
    """The tiny run, with one epoch that counts."""
    from benchmarks.speed import Work

    return Work(Path("tiny.csv"), tiny_config, tiny_splits, 1)


# --- by name -------------------------------------------------------------------------------------------------------


def test_every_script_is_listed() -> None:
    scripts = {file.stem for file in FOLDER.glob("*.py") if '__name__ == "__main__"' in file.read_text("utf-8")}
    assert scripts - {"__main__", "stages"} == set(names.FULL)


def test_without_a_name_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert names.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"python -m benchmarks {name}" in out for name in names.FULL)


def test_a_script_runs_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert names.main(["peak"]) == 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_what_people_did_wrong_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names.main(["speed", "--data", str(tmp_path / "missing.csv"), "--quick"]) == 1
    assert "Error: " in capsys.readouterr().err


def test_quick_runs_those_of_speed_and_ends_with_the_worst_code(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, list[str]] = {}

    class Script:
        def __init__(self, name: str) -> None:
            self.name = name.removeprefix("benchmarks.")

        def main(self, words: list[str]) -> int:
            called[self.name] = words
            return int(self.name == "encoding")

    monkeypatch.setattr(names, "import_module", Script)
    assert names.main(["--quick", "--data", "a.csv", "b.csv", "--record"]) == 1
    assert called == {
        "encoding": ["--quick", "--data", "a.csv", "b.csv", "--record"],
        "speed": ["--quick", "--data", "a.csv", "b.csv", "--record"],
        "growth": ["--quick", "--data", "a.csv", "--record"],
        "start": ["--quick", "--record"],
    }


# --- rounds and peak -----------------------------------------------------------------------------------------------


def test_every_round_begins_with_another_way() -> None:
    from benchmarks.rounds import interleaved

    order: list[str] = []
    ways = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds = interleaved(ways, 3, warm=False)
    assert "".join(order) == "abcbcacab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_of_the_rounds_and_not_moved_by_a_busy_one() -> None:
    from benchmarks.rounds import at_least, at_most, ratio

    found = ratio([4.0, 4.0, 40.0], [2.0, 1.0, 10.0])
    assert (found.median, found.low, found.high) == (4.0, 2.0, 4.0)
    assert [at_least("", "", found, goal).met for goal in (4.0, 4.1, None)] == [True, False, None]
    assert [at_most("", "", found, goal).met for goal in (4.0, 3.9)] == [True, False]


def test_operations_are_counted_as_on_paper() -> None:
    from transformers import BertConfig

    from benchmarks.peak import forward_flops, training_flops

    config = BertConfig(hidden_size=4, num_hidden_layers=3, num_attention_heads=1, intermediate_size=8)
    # a layer, 2 tokens: (4 * 4*4 + 2 * 4*8) products a token, 2 * 2*2*4 in the attention, two operations each
    layer = 2 * (2 * 128 + 32)
    assert forward_flops(config, [2]) == 3 * layer
    assert forward_flops(config, [2, 2], layers=1) == 2 * layer
    assert training_flops(config, [2]) == 9 * layer
    assert training_flops(config, [2], 2) == 5 * layer
    assert training_flops(config, [2], 2, kept=True) == 3 * layer


def test_a_share_of_the_peak_says_what_is_possible() -> None:
    from benchmarks.peak import Effort, Peak

    peak = Peak(100.0, 200.0) | Peak(90.0, 400.0)
    assert peak.share(Effort(2e11, 2.0)) == "1.00 / 0.25"
    assert peak.share(Effort(2e11, 2.0, 0.25, 3.0)).endswith(
        "(goal 0.25 of bfloat16: met); at that peak it would be 12.0 x"
    )
    assert "NOT MET" in peak.share(Effort(2e11, 2.0, 0.3))


# --- encoding ------------------------------------------------------------------------------------------------------


def test_encoding_is_true_to_sentence_transformers(
    tiny_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import encoding

    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "sentence1,sentence2,score\nA man plays.,A man is playing.,5\nA dog barks.,Rain falls.,0\n"
        "The soup is hot.,The soup was warm.,3\nShe sings a song.,A song is sung.,4\n",
        encoding="utf-8",
    )
    words = ["--data", str(tiny_csv), "--texts", "12", "--rounds", "1", "--sts", str(pairs)]
    assert encoding.main(words) == 0, "an embedding is further from encode's than it may be"
    out = capsys.readouterr().out
    assert "TOO MUCH" not in out
    assert "in exact float32 | encode, float32" in out and "one sentence, warm" in out
    assert str(tmp_path) not in out


def test_openvino_computes_what_pytorch_computes(tiny_encoder_folder: Path) -> None:
    pytest.importorskip("openvino", reason="a peer of the benchmarks that nothing requires")
    from sentence_transformers import SentenceTransformer

    from benchmarks.encoding import error
    from benchmarks.openvino_peer import with_openvino

    texts = ["rain", "the team was great today", "the soup was awful and the people were happy with it all week long"]
    expected = SentenceTransformer(str(tiny_encoder_folder), device="cpu").encode(texts)
    found = with_openvino(SentenceTransformer(str(tiny_encoder_folder), device="cpu")).encode(texts)
    assert error(found, expected) < 1e-3  # it may compute in bfloat16


def test_an_error_that_is_too_large_is_seen() -> None:
    from benchmarks.encoding import difference, error

    one = np.array([[1.0, 0.0]])
    assert error(one, 3 * one) == 0
    assert error(one, np.array([[1.0, 1.0]])) == pytest.approx(1 - 0.5**0.5)
    assert difference(2e-4, 1e-4, 0.0).count("TOO MUCH") == 1
    assert difference(5e-5, 1e-4, -0.06).count("TOO MUCH") == 1
    assert difference(2e-4, None, None) == "cosine error 2e-04"


# --- training ------------------------------------------------------------------------------------------------------


def test_a_run_in_turn_with_another_computes_what_it_computes_alone(work: Work) -> None:
    import torch

    from benchmarks.speed import OurRun

    alone = OurRun(work, work.configured(2))
    alone.end_epoch()
    alone.end_epoch()
    in_turn = OurRun(work, work.configured(2))
    for count in (1, 3):
        torch.rand(7)
        in_turn.steps(count)
    in_turn.end_epoch()
    assert in_turn.losses == alone.losses and len(alone.losses) > 4
    assert (len(in_turn.epochs), len(alone.epochs)) == (1, 2)


def test_both_sides_take_the_same_steps(work: Work) -> None:
    from benchmarks.speed import OurRun, Turns, run_trainer

    task = work.of(next(iter(work.config.tasks)))
    ours, seen = OurRun(task, task.configured(2)), []

    def steps() -> None:
        seen.append(ours.left)
        ours.steps(4)

    turns = Turns(steps, ours.end_epoch)
    run_trainer(task, 2, turns, expert=True)
    per_epoch = -(-len(task.splits.train) // (task.config.training.batch_size or 1))
    assert len(turns.epochs) == len(ours.epochs) == 2
    assert len(ours.losses) == per_epoch
    assert seen[0] == per_epoch, "after 4 steps of the Trainer ours has taken none yet"


def test_the_cache_at_the_boundary_changes_no_loss(work: Work) -> None:
    from benchmarks.speed import OurRun, without_cache

    config = work.configured(2, freeze=("bottom.1",))  # for a single epoch nothing is kept
    kept = OurRun(work, config)
    again = OurRun(work, config, kept.numerics, without_cache)
    kept.end_epoch()
    again.end_epoch()
    assert kept.losses == pytest.approx(again.losses, rel=1e-4)


def test_training_is_compared_row_by_row(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import speed

    monkeypatch.setattr(speed, "load", lambda *_: work)
    monkeypatch.setattr(speed, "FROZEN_GOALS", {1: 1.0, 2: 2.0})
    assert speed.main(["--data", "tiny.csv"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 2 + 2 + 1 + 2  # header; one task; both jointly; half frozen; encoder frozen
    assert sum("jointly" in row for row in rows) == 2


def test_rows_are_drawn_as_the_app_divides_the_file(tiny_csv: Path) -> None:
    from benchmarks.speed import load

    found = load(tiny_csv, 14, 2)
    assert (len(found.splits.train), len(found.splits.validation), len(found.splits.test)) == (14, 3, 0)
    assert not set(found.splits.train.rows) & set(found.splits.validation.rows)
    one = found.of("topic")
    assert list(one.config.tasks) == ["topic"] and all(one.splits.train.cells["topic"])


def test_the_peer_learns_as_asked(work: Work, tmp_path: Path) -> None:
    from benchmarks.trainer import trainer_of

    one = work.of("topic")
    frozen = trainer_of(one.config, one.splits.train, tmp_path, expert=False, body=False)
    expert = trainer_of(one.config, one.splits.train, tmp_path, expert=True)
    assert (frozen.args.bf16, expert.args.bf16) == (False, True)
    model: Any = frozen.model
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }


# --- growth --------------------------------------------------------------------------------------------------------


def test_a_grown_table_has_the_rows_and_no_text_twice(tiny_csv: Path, tmp_path: Path) -> None:
    from benchmarks.growth import grow
    from mtl.data.sameness import normalised

    grow(tiny_csv, 200, tmp_path / "grown.csv")
    with (tmp_path / "grown.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({normalised(row["text"]) for row in rows}) == 200
    assert {row["topic"] for row in rows} == {"sports", "food", "weather", ""}


def test_the_exponent_is_the_slope() -> None:
    from benchmarks.growth import exponent

    assert exponent([10, 100, 1000], [3.0, 30.0, 300.0]) == pytest.approx(1)
    assert exponent([10, 100, 1000], [3.0, 300.0, 30_000.0]) == pytest.approx(2)


def test_sizes_count_each_object_once() -> None:
    import sys

    from benchmarks.stages import size_of

    array, text = np.zeros(1000), "a" * 500
    held = [array, array, text]
    assert size_of(held, set()) == sum(map(sys.getsizeof, (held, array, text)))
    assert size_of(held, {id(array), id(text)}) == sys.getsizeof(held)


def test_growth_measures_every_stage(
    tiny_csv: Path,
    tiny_encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from benchmarks import growth, stages

    # in this process, which has its imports, and without repeats
    monkeypatch.setattr(growth, "run_stage", stages.measure)
    monkeypatch.setattr(growth, "tiny_encoder", lambda _: tiny_encoder_folder)
    monkeypatch.setattr(growth, "WARM_ROWS", 40)
    monkeypatch.setattr(stages, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(stages.gc, "collect", lambda: 0)  # slow in a process of this size
    plot = tmp_path / "growth.png"
    assert growth.main(["--data", str(tiny_csv), "--rows", "40", "80", "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert all(f"| {name} " in out for name in stages.MEASURED.values())
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_growth_of_a_stage_is_judged() -> None:
    from benchmarks.growth import verdicts
    from benchmarks.stages import MEASURED, Spent

    small, fine = Spent(1.0, 100.0, 1.0, 200.0), Spent(10.5, 140.0, 10.0, 900.0)
    found = {stage: [small, fine] for stage in MEASURED}
    assert [line.endswith("| met |") for line in verdicts([10, 100], found)[2:]] == [True, True]
    found["split"] = [small, Spent(60.0, 160.0, 10.0, 900.0)]
    assert [line.endswith("NOT MET |") for line in verdicts([10, 100], found)[2:]] == [True, True]
