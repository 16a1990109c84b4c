from __future__ import annotations

import copy
from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.config_text import override
from mtl.data.batching import IGNORE_INDEX, Batch
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.training.evaluation import tokenised


@pytest.fixture
def batch(tiny_model: MultiTaskModel, tiny_splits: Splits) -> Batch:
    """Twelve training rows, some without one of their labels."""
    batch = tokenised(tiny_model, tiny_splits.train).batch(range(12))
    assert all(0 < (labels == IGNORE_INDEX).sum() < 12 for labels in batch.labels.values())
    return batch


def gradients(model: MultiTaskModel, batch: Batch, key: str) -> dict[str, Tensor]:
    """Return the gradient of one task's loss with respect to every weight it reaches."""
    model.zero_grad(set_to_none=True)
    losses = model.losses(model(batch.features, [key]), batch.labels)
    losses[key].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("key", ["topic", "mood"])
def test_multitask_row_without_a_label_changes_no_gradient(
    tiny_model: MultiTaskModel, tiny_splits: Splits, batch: Batch, key: str
) -> None:
    model = tiny_model.eval()  # without dropout, which is drawn by position
    labelled = [i for i, label in zip(batch.indices, batch.labels[key].tolist(), strict=True) if label != IGNORE_INDEX]
    with_them, without = (
        gradients(model, batch, key),
        gradients(model, tokenised(model, tiny_splits.train).batch(labelled), key),
    )
    assert with_them.keys() == without.keys()
    assert any(name.startswith("encoder.") for name in without)
    for name, gradient in without.items():
        torch.testing.assert_close(with_them[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_multitask_loss_is_the_mean_over_labelled_rows(tiny_model: MultiTaskModel, batch: Batch) -> None:
    model = tiny_model.eval()
    logits = model(batch.features)
    for key, loss in model.losses(logits, batch.labels).items():
        pairs = zip(logits[key].log_softmax(-1), batch.labels[key].tolist(), strict=True)
        each = [-row[label] for row, label in pairs if label != IGNORE_INDEX]
        torch.testing.assert_close(loss, torch.stack(each).mean())


def test_multitask_task_without_any_label_has_no_loss_and_no_gradient(tiny_model: MultiTaskModel, batch: Batch) -> None:
    labels = {**batch.labels, "mood": torch.full((12,), IGNORE_INDEX)}
    losses = tiny_model.losses(tiny_model(batch.features), labels)
    assert list(losses) == ["topic"]
    losses["topic"].backward()
    assert all(p.grad is None for p in tiny_model.heads["mood"].parameters())
    assert all(p.grad is not None for p in tiny_model.heads["topic"].parameters())


def test_multitask_batch_without_any_label_has_no_losses(tiny_model: MultiTaskModel, batch: Batch) -> None:
    labels = {key: torch.full_like(values, IGNORE_INDEX) for key, values in batch.labels.items()}
    assert tiny_model.losses(tiny_model(batch.features), labels) == {}


SUBSETS = list(chain.from_iterable(combinations(["topic", "mood"], size) for size in range(3)))


@pytest.mark.parametrize("tasks", [*SUBSETS, None], ids=str)
def test_multitask_forward_of_any_subset_of_tasks(
    tiny_model: MultiTaskModel, batch: Batch, tasks: tuple[str, ...] | None
) -> None:
    model = tiny_model.eval()
    everything = model(batch.features)
    logits = model(batch.features, tasks)
    assert list(logits) == list(everything if tasks is None else tasks)
    assert all(torch.equal(values, everything[key]) for key, values in logits.items())


def test_multitask_forward_of_no_task_does_not_run_the_encoder(
    tiny_model: MultiTaskModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "encode", lambda features: pytest.fail("the encoder ran"))
    assert tiny_model(batch.features, []) == {}


def test_multitask_forward_runs_the_encoder_once_for_all_tasks(
    tiny_model: MultiTaskModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = tiny_model.encode
    monkeypatch.setattr(tiny_model, "encode", lambda features: (calls.append(1), encode(features))[1])
    assert len(tiny_model(batch.features)) == 2
    assert len(calls) == 1


def test_multitask_forward_leaves_the_batch_as_it_is(tiny_model: MultiTaskModel, batch: Batch) -> None:
    names = set(batch.features)
    tiny_model(batch.features)
    assert set(batch.features) == names


def test_multitask_order_of_the_batch_does_not_matter(tiny_model: MultiTaskModel, tiny_splits: Splits) -> None:
    model, rows = tiny_model.eval(), tokenised(tiny_model, tiny_splits.train)
    order = [5, 0, 3, 1, 4, 2]
    there, back = model(rows.batch(order).features), model(rows.batch(range(6)).features)
    for key, values in there.items():
        torch.testing.assert_close(values, back[key][order], atol=1e-6, rtol=1e-5)


def test_multitask_train_keeps_frozen_parts_in_evaluation_mode(tiny_model: MultiTaskModel) -> None:
    transformer = tiny_model.encoder[0].model
    transformer.embeddings.requires_grad_(False)
    transformer.encoder.layer[0].requires_grad_(False)
    tiny_model.heads["mood"].requires_grad_(False)
    tiny_model.train()
    for frozen in (transformer.embeddings, transformer.encoder.layer[0], tiny_model.heads["mood"]):
        assert not any(module.training for module in frozen.modules())
    for learning in (transformer.encoder.layer[1], tiny_model.heads["topic"]):
        assert all(module.training for module in learning.modules())
    assert not any(module.training for module in tiny_model.eval().modules())


def test_multitask_frozen_encoder_computes_the_same_while_training(tiny_model: MultiTaskModel, batch: Batch) -> None:
    tiny_model.encoder.requires_grad_(False)
    training = tiny_model.train().encode(batch.features)["sentence_embedding"]
    assert torch.equal(training, tiny_model.eval().encode(batch.features)["sentence_embedding"])


def test_multitask_dropout_is_on_while_training(tiny_model: MultiTaskModel, batch: Batch) -> None:
    training = tiny_model.train().encode(batch.features)["sentence_embedding"]
    assert not torch.equal(training, tiny_model.eval().encode(batch.features)["sentence_embedding"])


def test_multitask_build_gives_the_same_weights_for_the_same_seed(tiny_config: RunConfig) -> None:
    first, same, other = (
        build_model(override(tiny_config, [f"training.seed={seed}"]), task_specs(tiny_config)).state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["heads.topic.layers.1.weight"], other["heads.topic.layers.1.weight"])


def test_multitask_build_fits_the_heads_to_the_projection(tiny_config: RunConfig, batch: Batch) -> None:
    config = override(tiny_config, ["encoder.projection=6", "encoder.layer_norm=true", "tasks.mood.head=mlp"])
    model = build_model(config, task_specs(config)).eval()
    encoded = model.encode(batch.features)["sentence_embedding"]
    assert encoded.shape == (12, 6)
    torch.testing.assert_close(encoded.norm(dim=1), torch.ones(12))
    assert {key: tuple(values.shape) for key, values in model(batch.features).items()} == {
        "topic": (12, 3),
        "mood": (12, 2),
    }


def test_multitask_takes_task_names_that_torch_would_refuse(tiny_config: RunConfig, batch: Batch) -> None:
    names = ["type", "a.b", "a/b", "Größe", "情感", "train", "keys"]
    config = tiny_config.model_copy(update={"tasks": {name: TaskConfig(labels=("x", "y")) for name in names}})
    model = build_model(config, task_specs(config))
    assert [task.name for task in model.tasks] == names
    assert len(model(batch.features)) == len(names)
    assert copy.deepcopy(model).load_state_dict(model.state_dict()).missing_keys == []


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build has no bfloat16 kernels")
def test_multitask_bfloat16_gives_float32_embeddings_close_to_the_exact_ones(
    tiny_model: MultiTaskModel, batch: Batch
) -> None:
    model = tiny_model.eval()
    exact = model.encode(batch.features)["sentence_embedding"]
    model.precision = torch.bfloat16
    rounded = model.encode(batch.features)["sentence_embedding"]
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert bool((torch.cosine_similarity(rounded, exact) > 0.99).all())
