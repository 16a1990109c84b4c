"""The benchmark of starts works: a page is timed, and so is an answer; no time is checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import start
from benchmarks.rounds import Row

PAGE = start.SCRIPT.replace("from sentence_transformers import SentenceTransformer\n", "").replace(
    "encoder = SentenceTransformer(sys.argv[1])\n",
    "import numpy\nclass encoder:\n    encode = staticmethod(lambda texts: numpy.ones((len(texts), 2)))\n",
)


def test_start_times_a_page_and_its_first_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    assert "sentence_transformers" not in PAGE and "numpy" in PAGE
    assert start.until_a_prediction([sys.executable, "-c", PAGE], tmp_path) > 0
    with pytest.raises(SystemExit, match="it cannot start"):
        start.until_the_page([sys.executable, "-c", "raise SystemExit('it cannot start')"], tmp_path)


def test_start_takes_every_way_in_turn_and_does_not_count_the_first_round() -> None:
    calls: list[str] = []

    def way(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = start.in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, 2)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


def test_start_says_how_much_memory_a_process_holds() -> None:
    assert start.memory(os.getpid()).startswith("RSS ")


def test_start_prints_its_rows_and_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, str]] = []

    def rows(rounds: int, folder: Path) -> list[Row]:
        seen.append(dict(os.environ))
        return [Row(f"{rounds} rounds", "none", "1.00", "at most 2", met=True)]

    monkeypatch.setattr(start, "rows", rows)
    before = dict(os.environ)
    assert start.main(["--quick"]) == 0
    assert os.environ == before
    assert (seen[0]["MTL_STANDBY"], seen[0]["HF_HUB_OFFLINE"]) == ("on", "1")
    assert not Path(seen[0]["MTL_RUNS_DIR"]).exists()
    assert "| 2 rounds | none | 1.00 | at most 2 | met |" in capsys.readouterr().out
