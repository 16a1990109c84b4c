"""What a run may ask for: every limit at its edge, one above it, and lifted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtl.choices import PRESETS
from mtl.config import RunConfig, resolve
from mtl.config_text import from_dict
from mtl.errors import ConfigError, LimitError
from mtl.runs.limits import check_run
from mtl.settings import settings

ROOT = Path(__file__).parents[2]
LABELS = [f"label {n}" for n in range(201)]
TASKS = {f"task {n}": {} for n in range(9)}


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let strangers share the page."""
    monkeypatch.setenv("MTL_PROFILE", "public")
    settings.cache_clear()


def config(**sections: Any) -> RunConfig:
    return from_dict(sections)


# what is asked for, the rows, and the words of the refusal; the first is the largest that is allowed
CASES: list[tuple[dict[str, Any], int, dict[str, Any], int, str]] = [
    ({}, 20_000, {}, 20_001, r"number of rows is 20,001; at most 20,000 .*MTL_MAX_ROWS"),
    ({"training": {"epochs": 20}}, 2000, {"training": {"epochs": 21}}, 2000, r"training\.epochs is 21; at most 20"),
    (
        {"training": {"batch_size": 64}}, 10,
        {"training": {"batch_size": 65}}, 10, r"training\.batch_size is 65; at most 64",
    ),
    (
        {"encoder": {"max_length": 256}}, 10,
        {"encoder": {"max_length": 257}}, 10, r"encoder\.max_length is 257; at most 256",
    ),
    (
        {"training": {"encoder_learning_rate": 0.1}}, 10,
        {"training": {"encoder_learning_rate": 0.2}}, 10, r"training\.encoder_learning_rate is 0\.2; at most 0\.1",
    ),
    (
        {"tasks": {"topic": {"learning_rate": 0.1}}}, 10,
        {"tasks": {"topic": {"learning_rate": 0.5}}}, 10, r"tasks\.topic\.learning_rate is 0\.5",
    ),
    (
        {"training": {"phases": [{"head_learning_rate": 0.1}]}}, 10,
        {"training": {"phases": [{"head_learning_rate": 1.0}]}}, 10, r"training\.phases\.0\.head_learning_rate is 1",
    ),
    (
        {"tasks": dict(list(TASKS.items())[:8])}, 10,
        {"tasks": TASKS}, 10, r"number of tasks is 9; at most 8",
    ),
    (
        {"data": {"task_columns": [f"c{n}" for n in range(8)]}}, 10,
        {"data": {"task_columns": [f"c{n}" for n in range(9)]}}, 10, r"number of tasks is 9; at most 8",
    ),
    (
        {"tasks": {"topic": {"labels": LABELS[:200]}}}, 10,
        {"tasks": {"topic": {"labels": LABELS}}}, 10, r"tasks\.topic\.labels: the number of labels is 201; at most 200",
    ),
    (
        {"tasks": {"topic": {"labels": ["a" * 100, "b"]}}}, 10,
        {"tasks": {"topic": {"labels": ["a" * 101, "b"]}}}, 10, r"longest label is 101; at most 100",
    ),
    (
        {"training": {"epochs": 10}}, 20_000,
        {"training": {"epochs": 11}}, 20_000, r"20,000 rows x 11 epochs x 1 heads is 220,000; at most 200,000",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(("least", "few", "most", "many", "words"), CASES, ids=[case[4][:34] for case in CASES])
def test_limits_allow_the_largest_value_and_refuse_the_next_by_field_value_and_limit(
    least: dict[str, Any], few: int, most: dict[str, Any], many: int, words: str
) -> None:
    check_run(config(**least), few)
    with pytest.raises(LimitError, match=words) as caught:
        check_run(config(**most), many)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("least", "few", "most", "many", "words"), CASES, ids=[case[4][:34] for case in CASES])
def test_limits_at_a_persons_own_machine_allow_all_of_it(
    least: dict[str, Any], few: int, most: dict[str, Any], many: int, words: str
) -> None:
    check_run(config(**most), many)


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("preset", PRESETS)
def test_limits_of_a_shared_page_let_every_preset_train_the_sample(preset: str) -> None:
    tasks = {"topic": {}, "sentiment": {}, "entities": {}}
    check_run(config(training={"preset": preset}, tasks=tasks), 2250)


@pytest.mark.usefixtures("public")
def test_limits_count_the_epochs_that_a_preset_or_auto_means() -> None:
    with pytest.raises(LimitError, match=r"x 20 epochs x"):
        check_run(config(training={"preset": "frozen"}), 10_001)


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("rows", [3, 10, 60, 100, 200, 400, 1000, 5000])
# eight tasks on a fourth of the rows take more passes over rows than are allowed, which is another limit
@pytest.mark.parametrize(("learnt", "tasks"), [(0.25, 0), (0.25, 3), (0.7, 0), (0.7, 3), (0.7, 8)])
def test_limits_always_allow_as_many_epochs_as_auto_takes(rows: int, learnt: float, tasks: int) -> None:
    wanted = {"tasks": dict(list(TASKS.items())[:tasks])}
    taken = resolve(config(**wanted), round(rows * learnt))
    check_run(config(**wanted, training={"epochs": taken.training.epochs}), rows)
    check_run(config(**wanted), rows)


@pytest.mark.usefixtures("public")
def test_limits_do_not_let_few_rows_excuse_any_number_of_epochs() -> None:
    with pytest.raises(LimitError, match=r"training\.epochs is 1,000; at most 20"):
        check_run(config(training={"epochs": 1000}), 13)


@pytest.mark.parametrize(
    "name", ["some/model", "/etc", "../checkpoints", "sentence-transformers/all-MiniLM-L6-v2@main"]
)
@pytest.mark.usefixtures("public")
def test_limits_offer_strangers_the_bundled_encoder_alone(name: str) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.name is .*here the encoder is one of: sentence-transformers"):
        check_run(config(encoder={"name": name}), 10)


def test_limits_an_operator_chooses_the_encoders_with_their_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTL_ENCODERS", "some/model@abc123")
    settings.cache_clear()
    check_run(config(encoder={"name": "some/model@abc123"}), 10)
    with pytest.raises(ConfigError, match="some/model@abc123"):
        check_run(config(encoder={"name": "some/model"}), 10)


@pytest.mark.usefixtures("public")
def test_limits_say_a_long_name_in_a_short_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        check_run(config(encoder={"name": "x" * 100_000}), 10)
    assert len(str(caught.value)) < 400


def test_limits_need_no_heavy_library() -> None:
    code = "import sys, mtl.runs.limits; print(*({'torch', 'gradio', 'pandas', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
