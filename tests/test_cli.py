from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mtl.config import RunConfig
from mtl.config_text import load_config, override, to_yaml
from mtl.data.reading import read_table
from mtl.inference.predictor import Predictor
from mtl.modeling.heads import ClassificationHead
from mtl.runs.store import Run, RunStore
from tests.conftest import Cli, Result

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 400.0


@pytest.fixture(scope="module")
def predictor(finished_run: Run) -> Predictor:
    return Predictor.load(finished_run.path)


# ------------------------------------------------------------------------------------------ train


def test_cli_train_from_a_file_alone_prints_the_run_and_its_scores(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path
) -> None:
    result = cli("train", "--data", tiny_csv.name, *tiny)
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 1
    assert list(result.json) == ["run", "status", "validation", "test"]
    assert result.json["status"] == "done"
    assert result.json["run"].startswith("checkpoints/")
    run = Run(workplace / result.json["run"])
    report = run.report()
    assert report is not None
    for side in ("validation", "test"):
        assert result.json[side] == report[side]
        assert {task: set(scores) for task, scores in result.json[side].items()} == {
            "topic": {"accuracy", "macro_f1"},
            "mood": {"accuracy", "macro_f1"},
        }
    assert run.config.data.files == (tiny_csv.name,)
    assert Predictor.load(result.json["run"]).predict(["snow"])


def test_cli_train_reports_a_line_per_epoch_on_stderr(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path
) -> None:
    lines = cli("train", "--data", tiny_csv, *tiny).err.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split(" | ")[0] for line in epochs] == ["epoch 1", "epoch 2", "epoch 3"]
    assert all("validation loss" in line and "topic accuracy" in line and "mood" in line for line in epochs)
    assert "42 training, 9 validation, 9 test rows" in "\n".join(lines)
    assert lines[-1] == "done: all epochs done"


def test_cli_train_takes_a_file_of_settings_and_settings_above_it(
    cli: Cli, workplace: Path, raw_config: RunConfig, tiny_csv: Path
) -> None:
    (workplace / "my.yaml").write_text(
        to_yaml(override(raw_config, [f"data.files=[{tiny_csv.name}]"])), encoding="utf-8"
    )
    result = cli(
        "train",
        *("--config", "my.yaml"),
        *("--set", "training.epochs=1", "--set", "training.seed=7"),
        *("--set", "data.task_columns=[mood]", "--set", "tasks.mood.head=mlp"),
    )
    assert result.code == 0, result.err
    assert list(result.json["test"]) == ["mood"]
    config = Run(workplace / result.json["run"]).config
    assert (config.training.epochs, config.training.seed, config.tasks["mood"].head) == (1, 7, "mlp")
    assert config.training.batch_size == raw_config.training.batch_size
    # the saved configuration is complete: given back, it is the same run
    again = cli("train", "--config", workplace / result.json["run"] / "config.yaml")
    assert again.json["test"] == result.json["test"]
    assert load_config(workplace / again.json["run"] / "config.yaml") == config


def test_cli_train_without_a_test_side_has_no_test_scores(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path
) -> None:
    split = ["--set", "data.split.train=0.8", "--set", "data.split.validation=0.2", "--set", "data.split.test=0"]
    result = cli("train", "--data", tiny_csv, *tiny, "--set", "training.epochs=1", *split)
    assert result.json["test"] is None
    assert result.json["validation"]


def test_cli_train_notes_what_a_person_should_know(cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path) -> None:
    result = cli(
        "train", "--data", tiny_csv, *tiny, "--set", "training.epochs=1", "--set", "training.freeze=everything"
    )
    assert result.code == 0
    assert "note: Everything is frozen" in result.err
    assert "0 of " in result.err


def test_cli_train_that_diverges_ends_with_1(
    cli: Cli, workplace: Path, tiny: list[str], tiny_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassificationHead, "loss", lambda self, logits, labels: logits.sum() * float("nan"))
    result = cli("train", "--data", tiny_csv, *tiny)
    assert result.code == 1
    assert result.json["status"] == "diverged"
    assert "smaller learning rates" in result.err


# ------------------------------------------------------------------------------- in processes of their own


@dataclass
class Training:
    """A training on the command line that has ended."""

    folder: Path
    result: Result

    @property
    def run(self) -> Run:
        """The run it printed."""
        return Run(self.folder / self.result.json["run"])


@pytest.fixture(scope="module")
def trainings(
    tiny: list[str], tiny_csv_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Training]]:
    """Two real commands, side by side: one goes to its end, one gets Ctrl-C after its first epoch.

    Their standard input is closed, which would end a worker of the page.
    """
    long = ["--set", "training.epochs=1000", "--set", "training.patience=1000"]
    processes: dict[str, tuple[Path, subprocess.Popen[str]]] = {}
    for name, settings in {"done": [], "interrupted": long}.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "my data.csv").write_bytes(tiny_csv_bytes)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MTL_CACHE_DIR": str(folder / "cache")}
        environment["MTL_RUNS_DIR"] = "checkpoints"
        processes[name] = (
            folder,
            subprocess.Popen(
                [sys.executable, "-m", "mtl", "train", "--data", "my data.csv", *tiny, *settings],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )
    try:
        folder, process = processes["interrupted"]
        end = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < end:
            if any(run.has_checkpoint for run in RunStore(folder / "checkpoints").list()):
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.05)
        ended = {}
        for name, (folder, process) in processes.items():
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
            ended[name] = Training(folder, Result(process.returncode, out, err))
        yield ended
    finally:
        for _, process in processes.values():
            process.kill()


def test_cli_train_runs_as_a_command(trainings: dict[str, Training], finished_run: Run) -> None:
    training = trainings["done"]
    assert training.result.code == 0, training.result.err
    assert training.result.json["run"] == f"checkpoints/{training.run.name}"
    assert "Traceback" not in training.result.err
    assert "Warning" not in training.result.err
    # the same seed on the same rows: the same bits as in any other process
    for name in ("events.jsonl", "best/model.safetensors", "predictions.csv"):
        assert (training.run.path / name).read_bytes() == (finished_run.path / name).read_bytes()


def test_cli_train_keeps_the_best_checkpoint_on_ctrl_c(trainings: dict[str, Training]) -> None:
    training = trainings["interrupted"]
    assert training.result.code == 130, training.result.err
    assert training.result.json["status"] == "stopped"
    assert training.result.json["test"] is None
    assert set(training.result.json["validation"]) == {"topic", "mood"}
    assert "Traceback" not in training.result.err
    assert "Ctrl-C" in training.run.status.reason
    predictor = Predictor.load(training.run.path)
    assert predictor.manifest["validated"] is True
    assert predictor.manifest["scores"] == training.result.json["validation"]


def test_cli_mistake_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mtl", "train", "--data", "nowhere.csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "Error: nowhere.csv cannot be read: no such file or directory.\n"


# ------------------------------------------------------------------------------------------ evaluate


def test_cli_evaluate_scores_every_labelled_row(
    cli: Cli, finished_run: Run, predictor: Predictor, tiny_csv: Path
) -> None:
    result = cli("evaluate", "--checkpoint", finished_run.path, "--data", tiny_csv)
    assert result.code == 0, result.err
    table = read_table(tiny_csv.read_bytes())
    answers = predictor.predict(table.columns["text"])
    assert set(result.json) == {"topic", "mood"}
    for task, scores in result.json.items():
        pairs = [(a[task].label, cell) for a, cell in zip(answers, table.columns[task], strict=True) if cell]
        assert scores["accuracy"] == pytest.approx(sum(guess == truth for guess, truth in pairs) / len(pairs))
        assert set(scores) == {"accuracy", "macro_f1"}


def test_cli_evaluate_takes_a_file_with_some_of_the_tasks(cli: Cli, finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("text,mood\nthe rain was great,good\n,bad\nthe soup was awful,\n")
    result = cli("evaluate", "--checkpoint", finished_run.path, "--data", tmp_path / "some.csv")
    assert list(result.json) == ["mood"]
    assert result.json["mood"]["accuracy"] in {0.0, 1.0}, "one row has both a text and a label"


# ------------------------------------------------------------------------------------------ predict


def test_cli_predict_texts(cli: Cli, finished_run: Run, predictor: Predictor) -> None:
    texts = ["snow and rain", "the team was great"]
    result = cli("predict", "--checkpoint", finished_run.path, "--text", texts[0], "--text", texts[1])
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    for found, answer in zip(result.json["predictions"], predictor.predict(texts), strict=True):
        assert found == {t: {"label": p.label, "confidence": round(p.confidence, 4)} for t, p in answer.items()}
    assert all(text in result.err for text in texts)


# ------------------------------------------------------------------------------------------ embed


def test_cli_embed_texts_prints_shape_and_first_values(cli: Cli, finished_run: Run, predictor: Predictor) -> None:
    result = cli("embed", "--checkpoint", finished_run.path, "--text", "snow", "--text", "rain")
    assert result.json["shape"] == [2, 16]
    np.testing.assert_allclose(result.json["first_values"], predictor.embed(["snow", "rain"])[:, :8], atol=1e-4)


def test_cli_embed_a_file_writes_a_row_per_row(
    cli: Cli, finished_run: Run, predictor: Predictor, tiny_csv: Path, tmp_path: Path
) -> None:
    output = tmp_path / "vectors.npy"
    result = cli("embed", "--checkpoint", finished_run.path, "--input", tiny_csv, "--output", output)
    assert result.json == {"output": output.as_posix(), "shape": [60, 16]}
    vectors = np.load(output, allow_pickle=False)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, predictor.embed(read_table(tiny_csv.read_bytes()).columns["text"]))


# ------------------------------------------------------------------------------------------ export


def test_cli_export_opens_with_sentence_transformers(
    cli: Cli, finished_run: Run, predictor: Predictor, tmp_path: Path
) -> None:
    output = tmp_path / "bundle.zip"
    result = cli("export", "--checkpoint", finished_run.path, "--output", output)
    assert result.code == 0
    assert (result.json["output"], result.json["bytes"]) == (output.as_posix(), output.stat().st_size)
    assert any("no notion of task heads" in note for note in result.json["notes"])
    with zipfile.ZipFile(output) as archive:
        archive.extractall(tmp_path / "unpacked")
    encoder = SentenceTransformer(str(tmp_path / "unpacked" / finished_run.name), device="cpu")
    texts = ["snow", "the team was great today"]
    np.testing.assert_allclose(encoder.encode(texts), predictor.embed(texts), atol=1e-6)


# ------------------------------------------------------------------------------------------ mistakes

Case = tuple[list[str], str]
TRAIN: dict[str, Case] = {
    "no data": (["train"], "data.files names no file"),
    "missing file": (["train", "--data", "nowhere.csv"], "nowhere.csv cannot be read: no such file"),
    "folder": (["train", "--data", "."], "cannot be read"),
    "picture": (["train", "--data", "picture.csv"], "This is a PNG image, not a CSV file"),
    "no labels": (["train", "--data", "texts.csv"], "No column looks like labels"),
    "unknown text column": (
        ["train", "--data", "tiny.csv", "--set", "data.text_column=nothing"],
        'There is no column "nothing"; the file has "text", "topic", "mood"',
    ),
    "unknown task column": (["train", "--data", "tiny.csv", "--set", "data.task_columns=[intent]"], '"intent"'),
    "no equals": (["train", "--data", "tiny.csv", "--set", "training.epochs"], "write it as KEY=VALUE"),
    "unknown key": (["train", "--data", "tiny.csv", "--set", "training.epoch=3"], "Did you mean epochs?"),
    "bad value": (["train", "--data", "tiny.csv", "--set", "training.epochs=many"], "training.epochs"),
    "out of range": (["train", "--data", "tiny.csv", "--set", "training.warmup=2"], "must be less than 1"),
    "missing configuration": (["train", "--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    "unlisted label": (["train", "--data", "tiny.csv", "--set", "tasks.mood.labels=[good, fine]"], "Row "),
    "missing encoder": (["train", "--data", "tiny.csv", "--set", "encoder.name=./nowhere"], "no folder ./nowhere"),
    "unknown part": (["train", "--data", "tiny.csv", "--set", "training.freeze=layer.99"], "no part layer.99"),
}
USE: dict[str, Case] = {
    "missing run": (["predict", "--checkpoint", "nowhere", "--text", "snow"], "There is no run folder nowhere"),
    "no run": (["predict", "--checkpoint", ".", "--text", "snow"], "is not a run folder"),
    "nothing to predict": (["predict", "--checkpoint", "RUN"], "either --text or --input"),
    "text and file": (["predict", "--checkpoint", "RUN", "--text", "a", "--input", "tiny.csv"], "either --text or"),
    "empty text": (["predict", "--checkpoint", "RUN", "--text", " "], "--text is empty"),
    "no output": (["predict", "--checkpoint", "RUN", "--input", "tiny.csv"], "--input needs --output"),
    "unwritable table": (
        ["predict", "--checkpoint", "RUN", "--input", "tiny.csv", "--output", "no/where.csv"],
        "cannot be written",
    ),
    "unwritable vectors": (
        ["embed", "--checkpoint", "RUN", "--input", "tiny.csv", "--output", "no/where.npy"],
        "cannot be written",
    ),
    "unwritable bundle": (["export", "--checkpoint", "RUN", "--output", "tiny.csv/out.zip"], "cannot be written"),
    "picture to predict": (
        ["predict", "--checkpoint", "RUN", "--input", "picture.csv", "--output", "o.csv"],
        "This is a PNG image",
    ),
    "no label column": (["evaluate", "--checkpoint", "RUN", "--data", "texts.csv"], "none of the checkpoint's label"),
    "label of another task": (["evaluate", "--checkpoint", "RUN", "--data", "strange.csv"], 'Row 3: mood "odd"'),
}


@pytest.mark.parametrize(("arguments", "sentence"), [*TRAIN.values(), *USE.values()], ids=[*TRAIN, *USE])
def test_cli_mistake_ends_with_2_and_one_sentence(
    cli: Cli,
    workplace: Path,
    tiny_csv: Path,
    tiny: list[str],
    finished_run: Run,
    arguments: list[str],
    sentence: str,
) -> None:
    (workplace / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (workplace / "texts.csv").write_text("text\nthe rain was great\nthe soup was awful\n")
    (workplace / "strange.csv").write_text("text,mood\nthe rain was great,good\nthe soup was awful,odd\n")
    if "--data" in arguments and arguments[0] == "train":
        arguments = [arguments[0], *tiny, *arguments[1:]]  # a later setting replaces an earlier one
    result = cli(*(finished_run.path if part == "RUN" else part for part in arguments))
    assert result.code == 2
    assert result.out == ""
    *before, last = result.err.splitlines()
    assert last.startswith("Error: ")
    assert last.endswith((".", "?"))
    assert sentence in last
    assert all(line.startswith("checkpoints/") for line in before), "nothing but the run's name comes before"


@pytest.mark.parametrize(
    "arguments", [["train", "--nonsense"], ["evaluate", "--data", "x.csv"], ["unknown"], ["predict", "--checkpoint"]]
)
def test_cli_wrong_usage_ends_with_2(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command", [[], ["inspect"], ["train"], ["preflight"], ["evaluate"], ["predict"], ["embed"], ["export"]]
)
def test_cli_helps(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert "Usage" in result.out
