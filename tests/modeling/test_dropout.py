from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mtl.modeling.dropout import ByteDropout, quicken_dropout
from mtl.modeling.encoder import load_encoder, transformer_of
from mtl.modeling.multitask import MultiTaskModel


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_dropout_drops_that_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    count = 200_000
    found = ByteDropout(p)(torch.ones(count))
    share = min(max(round(256 * p), 1), 255) / 256
    deviation = (share * (1 - share) / count) ** 0.5
    assert abs(share - p) <= 1 / 256
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=5 * deviation)
    assert found[found != 0].unique().tolist() == pytest.approx([1 / (1 - share)])
    assert float(found.mean()) == pytest.approx(1, abs=5 * deviation / (1 - share))


def test_dropout_is_as_likely_at_every_place_and_independent_of_its_neighbours() -> None:
    torch.manual_seed(0)
    module, rounds = ByteDropout(0.5), 4_000
    dropped = torch.stack([module(torch.ones(24)) == 0 for _ in range(rounds)]).float()
    bound = 5 * (0.25 / rounds) ** 0.5
    # one place in eight is the byte with the sign, which a draw of positive numbers would never set
    assert float((dropped.mean(dim=0) - 0.5).abs().max()) < bound
    centred = dropped - 0.5
    pairs = (centred.T @ centred / rounds - 0.25 * torch.eye(24)).abs()
    pairs.fill_diagonal_(0)
    assert float(pairs.max()) < 1.25 * bound / 2 * 2


def test_dropout_is_drawn_from_the_seed_and_another_each_time() -> None:
    module, x = ByteDropout(0.3), torch.ones(1000)
    torch.manual_seed(1)
    first, second = module(x), module(x)
    torch.manual_seed(1)
    assert torch.equal(module(x), first)
    assert torch.equal(module(x), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (5, 7, 3), (2, 0), ()])
def test_dropout_passes_the_gradient_of_what_it_kept(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).requires_grad_()
    found = ByteDropout(0.4)(x)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, found)


def test_dropout_does_nothing_in_evaluation() -> None:
    x = torch.randn(9)
    assert ByteDropout(0.5).eval()(x) is x


def test_dropout_takes_the_place_of_the_slow_one_and_of_nothing_else(tiny_model: MultiTaskModel) -> None:
    before = copy.deepcopy(tiny_model)
    quicken_dropout(tiny_model)
    old = {name: module for name, module in before.named_modules() if isinstance(module, nn.Dropout) and module.p > 0}
    new = {name: module for name, module in tiny_model.named_modules() if isinstance(module, ByteDropout)}
    assert old.keys() == new.keys() and old
    assert all(new[name].p == module.p for name, module in old.items())
    assert before.state_dict().keys() == tiny_model.state_dict().keys()
    features = {"input_ids": torch.tensor([[2, 5, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    for model in (before, tiny_model):
        model.eval()
    assert torch.equal(*(model.encode(dict(features))["sentence_embedding"] for model in (before, tiny_model)))


def test_dropout_of_attention_weights_is_off() -> None:
    transformer = transformer_of(load_encoder())
    found = {name: module.p for name, module in transformer.named_modules() if isinstance(module, nn.Dropout)}
    attention = {p for name, p in found.items() if name.endswith("attention.self.dropout")}
    assert attention == {0.0}
    assert {p for name, p in found.items() if name.endswith("output.dropout")} == {0.1}
