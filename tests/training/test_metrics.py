from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torch import Tensor
from torch.nn import functional as F

from mtl.choices import SCORES
from mtl.config import RunConfig, TaskConfig
from mtl.data.batching import IGNORE_INDEX, Batch, Encoding
from mtl.data.entities import Span
from mtl.modeling.heads import Entity, EntityPrediction
from mtl.tasks import TaskSpec
from mtl.training.metrics import COLLECTORS, Evaluation, Meter, class_scores, main_scores

TOPIC = TaskSpec(name="The topic", key="topic", kind="classification", labels=("a", "b", "c"))
MOOD = TaskSpec(name="mood", key="mood", kind="classification", labels=("x", "y"))


def one_hot(guesses: list[int], classes: int) -> Tensor:
    """Make logits whose largest entry is the guess."""
    return F.one_hot(torch.tensor(guesses), classes).float()


class Said:
    """A model as far as a meter asks: its tasks, and a head of entities that says what the logits spell out."""

    def __init__(self, *tasks: TaskSpec) -> None:
        self.tasks = tasks

    def head(self, key: str) -> Said:
        """Return a head."""
        return self

    def decode(self, logits: Tensor, encoding: Encoding) -> list[EntityPrediction]:
        """Find an entity PER at the first token where the second number is the larger one."""
        found = [int(row[0, 1] > row[0, 0]) for row in logits]
        return [EntityPrediction((Entity(0, 4, "PER", 0.9),) if one else ()) for one in found]


def meter_of(*tasks: TaskSpec, weights: dict[str, float] | None = None, keep: bool = False) -> Meter:
    main = main_scores(tasks)
    return Meter(Said(*tasks), weights or {task.key: 1.0 for task in tasks}, main, keep=keep)  # type: ignore[arg-type]


def batch_of(labels: dict[str, Tensor], indices: list[int] | None = None) -> Batch:
    count = len(next(iter(labels.values())))
    return Batch({}, labels, indices or list(range(count)), Encoding((), ()), {})


def measure(truth: list[int], guesses: list[int]) -> dict[str, float]:
    meter = meter_of(TOPIC)
    meter.add(batch_of({"topic": torch.tensor(truth)}), {"topic": one_hot(guesses, 3)}, {"topic": 0.0})
    return meter.evaluation().scores["The topic"]


def test_metrics_by_hand() -> None:
    # a: 1 of 2 found, 1 guessed: F1 2/3; b: 1 of 1 found, 2 guessed: F1 2/3; c: 1 of 1 found, 1 guessed: F1 1
    assert measure([0, 0, 1, 2], [0, 1, 1, 2]) == pytest.approx(
        {
            "accuracy": 3 / 4,
            "macro_f1": (2 / 3 + 2 / 3 + 1) / 3,
            "weighted_f1": (2 * 2 / 3 + 2 / 3 + 1) / 4,
            "macro_recall": (1 / 2 + 1 + 1) / 3,
        }
    )


def test_metrics_of_one_class_everywhere_punish_the_missed_classes() -> None:
    # a: F1 2 * 2 / (2 * 2 + 1 + 0) = 4/5; b: never guessed, 0; c neither occurs nor is guessed, so it does not count
    found = measure([0, 0, 1], [0, 0, 0])
    assert (found["accuracy"], found["macro_f1"]) == pytest.approx((2 / 3, (4 / 5 + 0) / 2))


def test_metrics_equal_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (200,), generator=generator).tolist()
    guesses = torch.randint(3, (200,), generator=generator).tolist()
    assert measure(truth, guesses) == pytest.approx(
        {
            "accuracy": accuracy_score(truth, guesses),
            "macro_f1": f1_score(truth, guesses, average="macro"),
            "weighted_f1": f1_score(truth, guesses, average="weighted"),
            "macro_recall": recall_score(truth, guesses, average="macro"),
        }
    )


def test_metrics_are_the_same_however_the_rows_are_batched() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(23, 3, generator=generator), torch.randint(3, (23,), generator=generator)
    labels[::4] = IGNORE_INDEX

    def batched(size: int) -> Evaluation:
        meter = meter_of(TOPIC)
        for start in range(0, 23, size):
            rows, truth = logits[start : start + size], labels[start : start + size]
            if (truth != IGNORE_INDEX).any():
                loss = F.cross_entropy(rows, truth, ignore_index=IGNORE_INDEX).item()
                meter.add(batch_of({"topic": truth}), {"topic": rows}, {"topic": loss})
        return meter.evaluation()

    whole = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX).item()
    for size in (1, 5, 23):
        found = batched(size)
        assert found.losses["The topic"] == pytest.approx(whole, rel=1e-5)
        assert found.scores == batched(23).scores
        assert found.counts == {"The topic": 17}


def test_metrics_leave_rows_without_a_label_out() -> None:
    meter = meter_of(TOPIC, MOOD)
    logits = {"topic": one_hot([0, 1, 2], 3), "mood": one_hot([0, 0, 1], 2)}
    labels = {"topic": torch.tensor([0, IGNORE_INDEX, 2]), "mood": torch.tensor([IGNORE_INDEX, 1, 1])}
    meter.add(batch_of(labels), logits, {"topic": 0.5, "mood": 0.25})
    found = meter.evaluation()
    assert found.counts == {"The topic": 2, "mood": 2}
    assert found.scores["The topic"]["accuracy"] == 1.0
    assert found.scores["mood"]["accuracy"] == 0.5


def test_metrics_loss_is_the_weighted_sum_and_mean_score_the_mean_of_macro_f1() -> None:
    meter = meter_of(TOPIC, MOOD, weights={"topic": 2.0, "mood": 0.5})
    logits = {"topic": one_hot([0, 1], 3), "mood": one_hot([0, 0], 2)}
    labels = {"topic": torch.tensor([0, 1]), "mood": torch.tensor([1, 1])}
    meter.add(batch_of(labels), logits, {"topic": 3.0, "mood": 4.0})
    found = meter.evaluation()
    assert found.loss == 2.0 * 3.0 + 0.5 * 4.0
    assert found.losses == {"The topic": 3.0, "mood": 4.0}
    assert found.mean_score == (1.0 + 0.0) / 2


def test_metrics_of_a_task_without_labels_are_absent() -> None:
    meter = meter_of(TOPIC, MOOD)
    labels = {"topic": torch.tensor([0]), "mood": torch.tensor([IGNORE_INDEX])}
    meter.add(batch_of(labels), {"topic": one_hot([0], 3), "mood": one_hot([0], 2)}, {"topic": 1.0})
    found = meter.evaluation()
    assert list(found.scores) == list(found.losses) == list(found.counts) == ["The topic"]
    assert found.mean_score == 1.0


def test_metrics_of_nothing_claim_no_score() -> None:
    found = meter_of(TOPIC).evaluation()
    assert found.mean_score is None
    assert found.scores == {}


def test_metrics_name_what_they_compute() -> None:
    assert set(measure([0, 1], [0, 1])) == set(SCORES["classification"])
    assert set(COLLECTORS) == set(SCORES)
    assert set(class_scores(torch.tensor([0]), torch.tensor([1]))) == set(SCORES["classification"])


def test_metrics_the_score_that_counts_is_the_configured_one_else_the_usual_one() -> None:
    entities = TaskSpec(name="names", key="names", kind="token_classification", labels=("PER",))
    config = RunConfig(tasks={"mood": TaskConfig(main_score="macro_recall")})
    found = main_scores([TOPIC, MOOD, entities], config)
    assert found == {"The topic": "macro_f1", "mood": "macro_recall", "names": "entity_f1"}


def test_metrics_of_entities_compare_spans_and_keep_the_labelled_tokens() -> None:
    names = TaskSpec(name="names", key="names", kind="token_classification", labels=("PER",))
    meter = meter_of(names, keep=True)
    labels = torch.tensor([[1, IGNORE_INDEX], [0, 0], [IGNORE_INDEX, IGNORE_INDEX]])
    logits = torch.tensor([[[0.0, 2, 0]] * 2, [[0.0, 1, 0]] * 2, [[3.0, 0, 0]] * 2])
    spans: dict[str, list[tuple[Span, ...] | None]] = {"names": [(Span(0, 4, "PER"),), (), None]}
    meter.add(Batch({}, {"names": labels}, [2, 0, 1], Encoding((), ()), spans), {"names": logits}, {"names": 0.5})
    found = meter.evaluation()
    # one found and right, one found where there is none, one text not annotated
    assert found.scores["names"] == pytest.approx({"entity_f1": 2 / 3, "entity_precision": 1 / 2, "entity_recall": 1.0})
    assert (found.counts, found.losses, found.mean_score) == ({"names": 2}, {"names": 0.5}, pytest.approx(2 / 3))
    assert found.spans["names"] == [(), None, (Span(0, 4, "PER"),)], "in the order of the examples"
    assert [len(one.entities) for one in found.entities["names"]] == [1, 0, 1]
    assert found.labels["names"].tolist() == [0, 0, 1]
    assert found.logits["names"].tolist() == [[0, 1, 0], [0, 1, 0], [0, 2, 0]]


def test_metrics_keep_all_rows_of_classes_in_the_order_of_the_examples() -> None:
    meter = meter_of(TOPIC, keep=True)
    meter.add(
        batch_of({"topic": torch.tensor([2, IGNORE_INDEX])}, [3, 1]), {"topic": one_hot([2, 0], 3)}, {"topic": 1.0}
    )
    meter.add(batch_of({"topic": torch.tensor([1, 0])}, [0, 2]), {"topic": one_hot([1, 1], 3)}, {"topic": 2.0})
    found = meter.evaluation()
    assert found.labels["The topic"].tolist() == [1, IGNORE_INDEX, 0, 2]
    assert found.logits["The topic"].argmax(dim=-1).tolist() == [1, 0, 1, 2]
    assert found.losses["The topic"] == pytest.approx((1.0 + 2 * 2.0) / 3)


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_metrics_of_few_rows_with_a_class_each_give_no_warning(rows: int) -> None:
    spec = TaskSpec(name="n", key="n", kind="classification", labels=tuple(map(str, range(rows + 1))))
    meter = meter_of(spec)
    truth = torch.arange(rows)
    meter.add(batch_of({"n": truth}), {"n": one_hot(truth.tolist(), rows + 1)}, {"n": 0.0})
    assert set(meter.evaluation().scores["n"].values()) == {1.0}
