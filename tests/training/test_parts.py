"""A batch that does not fit into the memory is learnt from in parts, with the same result."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.data.splitting import Splits
from mtl.modeling.multitask import MultiTaskModel
from mtl.training import loop
from mtl.training.events import RunEnd, StepEnd
from mtl.training.loop import train
from mtl.training.parts import encode
from mtl.training.setup import Setup

WITHOUT_DROPOUT = ["training.freeze=nothing", "training.epochs=1"]


def still(model: MultiTaskModel) -> MultiTaskModel:
    """Take the dropout out, which draws anew for each part."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("parts", [2, 3, 5, 8])
def test_parts_encode_as_the_whole_and_give_its_gradients(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, parts: int
) -> None:
    run = Setup(still(tiny_model), tiny_splits, override(tiny_config, WITHOUT_DROPOUT), None)
    batch = run.batch(run.draws(1, {})[0])
    found: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
    for number in (1, parts):
        run.model.zero_grad()
        encoded = encode(run.model, batch.features, number)
        encoded["sentence_embedding"].square().sum().backward(retain_graph=True)
        encoded["token_embeddings"].sum().backward()  # a second pass over the same graph, as gradient surgery makes
        gradients = [p.grad.clone() for p in run.model.encoder.parameters() if p.grad is not None]
        found.append((encoded["token_embeddings"].detach(), gradients))
    (whole, wanted), (pieced, got) = found
    torch.testing.assert_close(pieced, whole, rtol=1e-5, atol=1e-6)
    assert len(got) == len(wanted) > 10
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad", "gradnorm"])
def test_parts_are_taken_when_memory_runs_out_and_change_nothing_else(
    tiny_model: MultiTaskModel,
    tiny_splits: Splits,
    tiny_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    weighting: str,
) -> None:
    config = override(tiny_config, [*WITHOUT_DROPOUT, f"training.weighting={weighting}", "training.clip=null"])
    other = still(copy.deepcopy(tiny_model))
    whole = [event for event in train(still(tiny_model), tiny_splits, config) if isinstance(event, StepEnd)]
    real = loop.encode

    def hungry(model: MultiTaskModel, features: dict[str, Any], parts: int) -> Any:
        if len(next(iter(features.values()))) > 2 * parts:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return real(model, features, parts)

    monkeypatch.setattr(loop, "encode", hungry)
    parted = [event for event in train(other, tiny_splits, config) if isinstance(event, StepEnd)]
    assert [event.parts for event in whole] == [1] * len(whole)
    # the first batch has two texts; the others have eight, and two fit at a time
    assert [event.parts for event in parted] == [1] + [4] * (len(parted) - 1)
    for ours, theirs in zip(parted, whole, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)


def test_parts_end_at_single_texts(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(model: MultiTaskModel, features: dict[str, Any], parts: int) -> Any:
        tried.append(parts)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "encode", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        list(train(tiny_model, tiny_splits, tiny_config))
    assert tried == [1, 2]  # the first batch has two texts


def test_parts_leave_other_errors_alone(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(loop, "encode", fail)
    with pytest.raises(RuntimeError, match="something else"):
        list(train(tiny_model, tiny_splits, tiny_config))


def test_parts_are_not_for_what_is_encoded_already(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    config = override(tiny_config, ["training.freeze=encoder", "training.epochs=1"])
    *_, end = train(tiny_model, tiny_splits, config)
    assert isinstance(end, RunEnd)
    features = {"sentence_embedding": torch.ones(4, 16)}
    assert encode(tiny_model, features, 4)["sentence_embedding"].shape == (4, 16)
