"""Fixtures: the tiny checkpoint, and what it predicts for a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mtl.config import RunConfig
from mtl.data.writing import spreadsheet_cell
from mtl.inference.predictor import Predictor
from mtl.inference.table import predict_file
from mtl.runs.store import Run
from tests.inference.entity_cases import tagging


@dataclass
class Written:
    """What a prediction left: the exact rows, the safe ones, the progress it told, and what it gave to look at."""

    header: list[str]
    exact: list[list[Any]]
    safe: list[list[str]]
    progress: list[tuple[int, int]]
    shown: list[list[Any]]


@pytest.fixture(scope="module")
def predictor(finished_run: Run) -> Predictor:
    """The tiny run's checkpoint."""
    return Predictor.load(finished_run.path)


@pytest.fixture(scope="module")
def tagger(tiny_config: RunConfig) -> Predictor:
    """A checkpoint of the tiny run's heads and two more, which find entities."""
    return tagging(tiny_config)


@pytest.fixture(scope="module")
def predict_in(predictor: Predictor) -> Callable[..., Written]:
    """Predict some bytes in a folder and read back what was written; the safe rows are checked against the exact."""

    def predict_in(folder: Path, data: bytes | str, *, predictor: Predictor = predictor, **options: Any) -> Written:
        source, output = folder / "in.csv", folder / "out.csv"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        steps, progress = predict_file(predictor, source, output, **options), []
        while True:
            try:
                progress.append(next(steps))
            except StopIteration as end:
                shown = end.value
                break
        safe = list(csv.reader(io.StringIO(output.read_bytes().decode(), newline="")))
        lines = output.with_suffix(".jsonl").read_bytes().decode().split("\n")[:-1]
        exact = [json.loads(line, object_pairs_hook=list) for line in lines]
        (header,) = {tuple(name for name, _ in row) for row in exact}
        rows = [[value for _, value in row] for row in exact]
        assert safe == [[spreadsheet_cell(value) for value in row] for row in [header, *rows]]
        return Written(list(header), rows, safe[1:], progress, shown)

    return predict_in


@pytest.fixture
def predict(predict_in: Callable[..., Written], tmp_path: Path) -> Callable[..., Written]:
    """Predict some bytes in the test's own folder."""
    return lambda data, **options: predict_in(tmp_path, data, **options)
