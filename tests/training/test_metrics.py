from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional as F

from mtl.data.batching import IGNORE_INDEX
from mtl.tasks import TaskSpec
from mtl.training.metrics import MAIN_METRIC, METRICS, Evaluation, Meter

TOPIC = TaskSpec(name="The topic", key="topic", kind="classification", labels=("a", "b", "c"))
MOOD = TaskSpec(name="mood", key="mood", kind="classification", labels=("x", "y"))


def one_hot(guesses: list[int], classes: int) -> Tensor:
    """Make logits whose largest entry is the guess."""
    return F.one_hot(torch.tensor(guesses), classes).float()


def measure(truth: list[int], guesses: list[int]) -> dict[str, float]:
    meter = Meter([TOPIC], {"topic": 1.0})
    meter.add({"topic": one_hot(guesses, 3)}, {"topic": torch.tensor(truth)}, {"topic": 0.0})
    return meter.evaluation().scores["The topic"]


def test_metrics_by_hand() -> None:
    # a: 1 of 2 found, 1 guessed: F1 2/3; b: 1 of 1 found, 2 guessed: F1 2/3; c: 1 of 1 found, 1 guessed: F1 1
    assert measure([0, 0, 1, 2], [0, 1, 1, 2]) == pytest.approx(
        {"accuracy": 3 / 4, "macro_f1": (2 / 3 + 2 / 3 + 1) / 3}
    )


def test_metrics_of_one_class_everywhere_punish_the_missed_classes() -> None:
    # a: F1 2 * 2 / (2 * 2 + 1 + 0) = 4/5; b: never guessed, 0; c neither occurs nor is guessed, so it does not count
    assert measure([0, 0, 1], [0, 0, 0]) == pytest.approx({"accuracy": 2 / 3, "macro_f1": (4 / 5 + 0) / 2})


def test_metrics_equal_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (200,), generator=generator).tolist()
    guesses = torch.randint(3, (200,), generator=generator).tolist()
    assert measure(truth, guesses) == pytest.approx(
        {"accuracy": accuracy_score(truth, guesses), "macro_f1": f1_score(truth, guesses, average="macro")}
    )


def test_metrics_are_the_same_however_the_rows_are_batched() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(23, 3, generator=generator), torch.randint(3, (23,), generator=generator)
    labels[::4] = IGNORE_INDEX

    def batched(size: int) -> Evaluation:
        meter = Meter([TOPIC], {"topic": 1.0})
        for start in range(0, 23, size):
            rows, truth = logits[start : start + size], labels[start : start + size]
            if (truth != IGNORE_INDEX).any():
                loss = F.cross_entropy(rows, truth, ignore_index=IGNORE_INDEX).item()
                meter.add({"topic": rows}, {"topic": truth}, {"topic": loss})
        return meter.evaluation()

    whole = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX).item()
    for size in (1, 5, 23):
        found = batched(size)
        assert found.losses["The topic"] == pytest.approx(whole, rel=1e-5)
        assert found.scores == batched(23).scores
        assert found.counts == {"The topic": 17}


def test_metrics_leave_rows_without_a_label_out() -> None:
    meter = Meter([TOPIC, MOOD], {"topic": 1.0, "mood": 1.0})
    logits = {"topic": one_hot([0, 1, 2], 3), "mood": one_hot([0, 0, 1], 2)}
    labels = {"topic": torch.tensor([0, IGNORE_INDEX, 2]), "mood": torch.tensor([IGNORE_INDEX, 1, 1])}
    meter.add(logits, labels, {"topic": 0.5, "mood": 0.25})
    found = meter.evaluation()
    assert found.counts == {"The topic": 2, "mood": 2}
    assert found.scores["The topic"]["accuracy"] == 1.0
    assert found.scores["mood"]["accuracy"] == 0.5


def test_metrics_loss_is_the_weighted_sum_and_mean_score_the_mean_of_macro_f1() -> None:
    meter = Meter([TOPIC, MOOD], {"topic": 2.0, "mood": 0.5})
    logits = {"topic": one_hot([0, 1], 3), "mood": one_hot([0, 0], 2)}
    meter.add(logits, {"topic": torch.tensor([0, 1]), "mood": torch.tensor([1, 1])}, {"topic": 3.0, "mood": 4.0})
    found = meter.evaluation()
    assert found.loss == 2.0 * 3.0 + 0.5 * 4.0
    assert found.losses == {"The topic": 3.0, "mood": 4.0}
    assert found.mean_score == (1.0 + 0.0) / 2


def test_metrics_of_a_task_without_labels_are_absent() -> None:
    meter = Meter([TOPIC, MOOD], {"topic": 1.0, "mood": 1.0})
    meter.add({"topic": one_hot([0], 3), "mood": one_hot([0], 2)}, {"topic": torch.tensor([0])}, {"topic": 1.0})
    found = meter.evaluation()
    assert list(found.scores) == list(found.losses) == list(found.counts) == ["The topic"]
    assert found.mean_score == 1.0


def test_metrics_of_nothing_claim_no_score() -> None:
    found = Meter([TOPIC], {"topic": 1.0}).evaluation()
    assert found.mean_score is None
    assert found.scores == {}


def test_metrics_name_what_they_compute() -> None:
    assert set(measure([0, 1], [0, 1])) == set(METRICS)
    assert MAIN_METRIC in METRICS


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_metrics_of_few_rows_with_a_class_each_give_no_warning(rows: int) -> None:
    spec = TaskSpec(name="n", key="n", kind="classification", labels=tuple(map(str, range(rows + 1))))
    meter = Meter([spec], {"n": 1.0})
    truth = torch.arange(rows)
    meter.add({"n": one_hot(truth.tolist(), rows + 1)}, {"n": truth}, {"n": 0.0})
    assert meter.evaluation().scores["n"] == {"accuracy": 1.0, "macro_f1": 1.0}
