"""The ways of computing: what each is worth is measured, what each says is checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from mtl.config import RunConfig
from mtl.config_text import override
from mtl.inference.predictor import Predictor
from mtl.modeling import ways
from mtl.modeling.encoder import load_encoder
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.ways import PLAIN, WAYS, Product, can_pack, computing, error, fastest

EVERY = WAYS["auto"]
PACKS = can_pack(torch.device("cpu"))
needs_packing = pytest.mark.skipif(not PACKS, reason="this build of PyTorch packs no weights")
THOUSANDS = [
    "The striker scored twice.",
    "it is not that bad",
    "snow",
    "Oil fell by 3.2% on Tuesday, to $61.40 a barrel.",
]


@pytest.fixture
def model(tiny_model: MultiTaskModel) -> MultiTaskModel:
    return tiny_model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("packed", [pytest.param(True, marks=needs_packing), False])
@pytest.mark.parametrize("shape", [(1, 6), (3, 5, 6), (2000, 6)])
def test_way_product_is_that_of_the_plain_layer(
    dtype: torch.dtype, bias: bool, packed: bool, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 7, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected, found = linear(x), Product(linear, dtype, packed=packed)(x)
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


@needs_packing
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_way_product_applies_the_activation_that_follows(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 7), 3 * torch.randn(50, 6)
    with torch.inference_mode():
        expected = nn.functional.gelu(linear(x))
        found = Product(linear, dtype, packed=True, gelu=True)(x)
    tolerance = 1e-6 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


@needs_packing
@pytest.mark.parametrize(("activation", "left"), [("gelu", 0), ("relu", 1), ("gelu_new", 1)])
def test_way_leaves_another_activation_where_it_is(activation: str, left: int) -> None:
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_act=activation,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(config).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        expected = model(input_ids=ids).last_hidden_state
        ways._replace(model, torch.float32, packed=True)
        found = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    acts = [type(layer.intermediate.intermediate_act_fn) for layer in model.encoder.layer]
    assert sum(kind is not nn.Identity for kind in acts) == left


@pytest.mark.parametrize("way", [way for way in EVERY if PACKS or not way.endswith("packed")])
def test_way_of_the_real_encoder_is_true_to_float32(way: str) -> None:
    model = MultiTaskModel(load_encoder(), {}, ()).eval()
    other = computing(model, way)
    exact = model.encoder.encode(THOUSANDS)
    found = Predictor(model, RunConfig(), {}, "float32")
    assert error(model, other) <= (1e-6 if way.startswith("float32") else ways.TOLERANCE)
    np.testing.assert_allclose(found.embed(THOUSANDS), exact, atol=1e-6)
    fast = Predictor(model, RunConfig(), {}, "bfloat16").embed(THOUSANDS)
    assert (1 - (fast * exact).sum(axis=1)).max() <= ways.TOLERANCE


@pytest.mark.parametrize("way", [way for way in EVERY if PACKS or not way.endswith("packed")])
def test_way_leaves_the_model_as_it_is_and_shares_what_it_can(model: MultiTaskModel, way: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = computing(model, way)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (other is model) == (way == PLAIN)
    words, same = (one.encoder[0].model.get_input_embeddings().weight for one in (model, other))
    assert words is same
    assert other.encoder.tokenizer is model.encoder.tokenizer
    assert [other.head(key) for key in other.heads] == [model.head(key) for key in model.heads]
    left = [type(part) for part in other.encoder[0].model.modules() if isinstance(part, nn.Linear)]
    assert bool(left) == (way == PLAIN)


def test_way_is_the_fastest_and_is_kept(model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def by_speed(_: MultiTaskModel, some: Sequence[str]) -> list[str]:
        asked.append(some)
        return list(reversed(some))

    monkeypatch.setattr(ways, "_by_speed", by_speed)
    chosen = [fastest(model, "auto", tmp_path)[0] for _ in range(2)]
    assert len(asked) == 1
    assert chosen == [asked[0][-1]] * 2
    assert list(json.loads((tmp_path / "encoding.json").read_text()).values()) == [list(reversed(asked[0]))]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_way_has_the_precision_that_was_asked_for(model: MultiTaskModel, precision: str) -> None:
    assert Predictor(model, RunConfig(), {}, precision).precision == precision  # type: ignore[arg-type]


def test_way_is_float32_where_bfloat16_would_say_something_else(
    model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = sorted(EVERY, key=lambda way: way.startswith("float32"))
    monkeypatch.setattr(ways, "_by_speed", lambda *_: [way for way in order if PACKS or not way.endswith("packed")])
    monkeypatch.setattr(ways, "TOLERANCE", 1.0)
    assert fastest(model, "auto")[0].startswith("bfloat16")
    monkeypatch.setattr(ways, "TOLERANCE", 1e-12)
    assert fastest(model, "auto")[0].startswith("float32")
    with torch.no_grad():
        model.encoder[0].model.get_input_embeddings().weight.fill_(float("nan"))
    assert fastest(model, "auto")[0] == PLAIN, "what is no number is not true to anything"


def test_way_of_the_same_weights_is_checked_once(
    model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked: list[MultiTaskModel] = []
    order = sorted(EVERY, key=lambda way: way.startswith("float32"))
    monkeypatch.setattr(ways, "_by_speed", lambda _, some: [way for way in order if way in some])
    monkeypatch.setattr(ways, "error", lambda _, other: checked.append(other) or 1.0)
    found = [fastest(model, "auto", tmp_path, weights)[0] for weights in ("a", "a", "b")]
    assert found == [PLAIN] * 3
    per_check = len(checked) // 2
    assert per_check > 0
    assert len(checked) == 2 * per_check, "once for each of two weights"
    fastest(model, "auto", tmp_path)
    assert len(checked) == 3 * per_check, "without a name of the weights every time"
    monkeypatch.setattr(ways, "TOLERANCE", 2.0)
    assert fastest(model, "auto", tmp_path, "a")[0] == order[0], "another tolerance is another question"


def test_way_without_packing_is_one_without(model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "can_pack", lambda _: False)
    assert fastest(model, "float32")[0] == PLAIN
    assert fastest(model, "bfloat16")[0] == "bfloat16"


def test_way_of_every_answer_is_the_predictors(tiny_config: RunConfig, model: MultiTaskModel) -> None:
    config = override(tiny_config, [])
    exact, fast = (Predictor(model, config, {}, precision) for precision in ("float32", "bfloat16"))  # type: ignore[arg-type]
    texts = ["the team won", "snow and rain , they said"]
    (vectors, answers), (others, said) = exact.run(texts), fast.run(texts)
    assert not np.array_equal(vectors, others), "the premise needs a difference"
    np.testing.assert_allclose(vectors, others, atol=2e-2)
    for one, other in zip(answers, said, strict=True):
        for task in one:
            assert list(one[task].probabilities.values()) == pytest.approx(  # type: ignore[union-attr]
                list(other[task].probabilities.values()),
                abs=2e-2,  # type: ignore[union-attr]
            )
