"""Fixtures: a tiny encoder made on the spot, a tiny model and a tiny table. Nothing here needs a network."""

from __future__ import annotations

import copy
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mtl.config import EncoderConfig, RunConfig, TrainingConfig
from mtl.settings import settings

if TYPE_CHECKING:
    from mtl.data.preparing import Prepared
    from mtl.data.splitting import Splits
    from mtl.modeling.multitask import MultiTaskModel
    from mtl.runs.store import Run

# Read by the libraries when they are first imported, which the fixtures below do. One thread: the tiny matrices
# gain nothing from two, and two wait for each other on a busy machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

VOCABULARY = Path(__file__).parent / "fixtures" / "vocab.txt"
THINGS = {
    "sports": ["team", "player", "coach", "game", "goal", "race", "runner", "league", "cup", "striker"],
    "food": ["soup", "bread", "cheese", "dinner", "sauce", "lunch", "oven", "sugar", "butter", "chef"],
    "weather": ["rain", "snow", "wind", "storm", "sky", "fog", "heat", "forecast", "thunder", "winter"],
}
MOODS = {"good": "great", "bad": "awful"}
ENDINGS = ["", " today", " in the morning", " , they said", " and the people were happy with it all week long"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every test out of the real runs and the real cache, and let it compute alike everywhere."""
    monkeypatch.setenv("MTL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MTL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MTL_PRECISION", "float32")  # what a measurement chooses is no matter of a test
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if anything tries to reach the network, even if it hides the error."""
    attempts: list[object] = []

    def refuse(*arguments: object, **options: object) -> None:
        attempts.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    # offline mode would keep the Hub client from even trying
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield
    assert not attempts


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 2 layers and 16 dimensions with a WordPiece tokenizer, as a local folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    tokenizer = BertTokenizer(vocab=str(VOCABULARY), model_max_length=64)
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.2,  # ten times the usual, so that random embeddings tell the words apart
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_csv_bytes() -> bytes:
    """60 rows of two tasks, topic and mood, that can be learnt; some cells are empty, but never both of a row."""
    lines = ["text,topic,mood"]
    for topic, things in THINGS.items():
        for thing in things:
            for mood, word in MOODS.items():
                number = len(lines)
                text = f'"the {thing} was {word}{ENDINGS[number % len(ENDINGS)]}"'
                lines.append(f"{text},{'' if number % 7 == 3 else topic},{'' if number % 7 == 5 else mood}")
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def tiny_csv(tmp_path: Path, tiny_csv_bytes: bytes) -> Path:
    """The tiny table as a file."""
    path = tmp_path / "tiny.csv"
    path.write_bytes(tiny_csv_bytes)
    return path


@pytest.fixture(scope="session")
def raw_config(tiny_encoder_folder: Path) -> RunConfig:
    """A short run on the tiny encoder, as a person would write it: columns and labels are still to be guessed.

    The numerics are fixed, so nothing is measured; the rates are high enough to learn something in a second.
    """
    return RunConfig(
        encoder=EncoderConfig(name=str(tiny_encoder_folder)),
        training=TrainingConfig(
            epochs=3,
            batch_size=8,
            encoder_learning_rate=5e-3,
            embeddings_learning_rate=5e-3,
            head_learning_rate=5e-2,
            precision="float32",
            attention="eager",
        ),
    )


@pytest.fixture(scope="session")
def prepared(raw_config: RunConfig, tiny_csv_bytes: bytes) -> Prepared:
    """The tiny run before its first step."""
    from mtl.data.preparing import prepare
    from mtl.data.reading import read_table

    return prepare(read_table(tiny_csv_bytes), raw_config)


@pytest.fixture(scope="session")
def tiny_config(prepared: Prepared) -> RunConfig:
    """The tiny run's configuration with everything resolved."""
    return prepared.config


@pytest.fixture(scope="session")
def tiny_splits(prepared: Prepared, tiny_csv_bytes: bytes) -> Splits:
    """The tiny table's training, validation and test examples."""
    from mtl.data.preparing import cut
    from mtl.data.reading import read_table

    return cut(read_table(tiny_csv_bytes), prepared.config, prepared.split)


@pytest.fixture(scope="session")
def _pristine_model(tiny_config: RunConfig) -> MultiTaskModel:
    from mtl.config import task_specs
    from mtl.modeling.multitask import build_model

    return build_model(tiny_config, task_specs(tiny_config))


@pytest.fixture
def tiny_model(_pristine_model: MultiTaskModel) -> MultiTaskModel:
    """A fresh model of the tiny encoder with a head for topic and one for mood; the test's own copy."""
    return copy.deepcopy(_pristine_model)


@pytest.fixture(scope="session")
def finished_run(raw_config: RunConfig, tiny_csv_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained to its end in this process. To be read only; copy it to change it."""
    from mtl.data.reading import read_table
    from mtl.runs.store import RunStore
    from mtl.runs.worker import StopRequest, work

    store = RunStore(tmp_path_factory.mktemp("finished"))
    run = store.create(raw_config, read_table(tiny_csv_bytes), files=["tiny.csv"])
    assert work(run, StopRequest()).state == "done"
    return run


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `python -m mtl …` in this process, which already has its libraries."""
    from mtl.__main__ import main

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mtl", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, whose runs go to its `checkpoints`, as they do by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTL_RUNS_DIR", "checkpoints")
    return tmp_path


@pytest.fixture(scope="session")
def tiny(raw_config: RunConfig) -> list[str]:
    """The tiny run's configuration as settings of the command line."""
    training = raw_config.training.model_dump(exclude_defaults=True)
    settings = {"encoder.name": raw_config.encoder.name} | {f"training.{key}": v for key, v in training.items()}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
