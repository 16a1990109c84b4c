from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtl.config import RunConfig
from mtl.config_text import load_config, override, to_yaml
from mtl.inference.predictor import Predictor
from mtl.modeling.heads import ClassificationHead
from mtl.runs.store import Run, RunStore
from tests.conftest import Cli, Result

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 400.0


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
            "topic": {"accuracy", "macro_f1", "weighted_f1", "macro_recall"},
            "mood": {"accuracy", "macro_f1", "weighted_f1", "macro_recall"},
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
    assert f"python -m mtl resume {training.result.json['run']}" in training.result.err
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
