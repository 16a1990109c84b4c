from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mtl.config import RunConfig, TrainingConfig
from mtl.data.splitting import Splits
from mtl.errors import ConfigError
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.ways import WAYS
from mtl.training import numerics
from mtl.training.evaluation import tokenised
from mtl.training.numerics import from_text, settle

AUTO = TrainingConfig(device="cpu")
Candidates = list[tuple[str, str]]


def fixed(precision: str = "float32", attention: str = "eager") -> TrainingConfig:
    return TrainingConfig.model_validate({"device": "cpu", "precision": precision, "attention": attention})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Candidates]:
    """Let the measurement choose the last candidate, and record what it was asked."""
    asked: list[Candidates] = []

    def choose(model: MultiTaskModel, candidates: Candidates) -> tuple[str, str]:
        asked.append(candidates)
        return candidates[-1]

    monkeypatch.setattr(numerics, "_fastest", choose)
    return asked


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_numerics_respect_what_is_fixed_and_measure_nothing(
    tiny_model: MultiTaskModel, measured: list[Candidates], precision: str, attention: str
) -> None:
    found = settle(tiny_model, fixed(precision, attention))
    assert (found.device, found.precision, found.attention) == ("cpu", precision, attention)
    assert tiny_model.precision == getattr(torch, precision)
    assert tiny_model.encoder[0].model.config._attn_implementation == attention
    assert measured == []


def test_numerics_measure_only_what_is_left_open(tiny_model: MultiTaskModel, measured: list[Candidates]) -> None:
    settle(tiny_model, AUTO)
    settle(tiny_model, TrainingConfig(device="cpu", precision="float32"))
    settle(tiny_model, TrainingConfig(device="cpu", attention="eager"))
    assert measured == [
        [("float32", "eager"), ("float32", "sdpa"), ("bfloat16", "eager"), ("bfloat16", "sdpa")],
        [("float32", "eager"), ("float32", "sdpa")],
        [("float32", "eager"), ("bfloat16", "eager")],
    ]


def test_numerics_are_kept_in_the_cache_folder_and_read_again(
    tiny_model: MultiTaskModel, measured: list[Candidates], tmp_path: Path
) -> None:
    cache = tmp_path / "new" / "cache"
    first = settle(tiny_model, AUTO, cache)
    assert (first.precision, first.attention) == ("bfloat16", "sdpa")
    kept = json.loads((cache / "numerics.json").read_text())
    assert list(kept.values()) == [["bfloat16", "sdpa"], ["bfloat16"]], "precision and attention; what layers hand on"
    settle(tiny_model, fixed())
    assert settle(tiny_model, AUTO, cache) == first
    assert tiny_model.precision == torch.bfloat16
    assert len(measured) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["encoding.json", "numerics.json"]


def test_numerics_of_another_encoder_are_measured_apart(
    tiny_model: MultiTaskModel, measured: list[Candidates], tmp_path: Path
) -> None:
    settle(tiny_model, AUTO, tmp_path)
    tiny_model.encoder[0].model.config.hidden_dropout_prob = 0.3
    settle(tiny_model, AUTO, tmp_path)
    assert len(measured) == 2
    assert len(json.loads((tmp_path / "numerics.json").read_text())) == 4, "two choices of each"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\xff"])
def test_numerics_survive_a_spoilt_cache(
    tiny_model: MultiTaskModel, measured: list[Candidates], tmp_path: Path, content: str
) -> None:
    (tmp_path / "numerics.json").write_text(content, encoding="latin-1")
    assert settle(tiny_model, AUTO, tmp_path).precision == "bfloat16"
    assert len(measured) == 1


@pytest.mark.parametrize("kept", [["float64", "eager"], ["float32"], "x", None, ["float32", "flash"]])
def test_numerics_survive_a_cached_choice_that_is_none(
    tiny_model: MultiTaskModel, measured: list[Candidates], tmp_path: Path, kept: object
) -> None:
    settle(tiny_model, AUTO, tmp_path)
    file = tmp_path / "numerics.json"
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), kept)))
    assert settle(tiny_model, AUTO, tmp_path).precision == "bfloat16"
    assert len(measured) == 2


def test_numerics_measurement_changes_nothing_but_the_choice(tiny_model: MultiTaskModel, tmp_path: Path) -> None:
    tiny_model.encoder[0].model.embeddings.requires_grad_(False)
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in tiny_model.parameters()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = settle(tiny_model, AUTO)
    assert found.precision in {"float32", "bfloat16"}
    assert torch.equal(torch.rand(3), expected)
    assert [parameter.requires_grad for parameter in tiny_model.parameters()] == flags
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.state_dict().items())


def test_numerics_refuse_bfloat16_where_it_is_not_accurate(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "_step_seconds", lambda model, _: 1.0 if model.precision == torch.float32 else 0.1)
    monkeypatch.setattr(numerics, "MAX_BFLOAT16_ERROR", 1.0)
    assert settle(tiny_model, AUTO).precision == "bfloat16"
    monkeypatch.setattr(numerics, "MAX_BFLOAT16_ERROR", 1e-6)
    assert settle(tiny_model, AUTO).precision == "float32"


def test_numerics_take_the_faster_attention(tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for slow, fast in (("eager", "sdpa"), ("sdpa", "eager")):

        def seconds(model: MultiTaskModel, _: object, slow: str = slow) -> float:
            return 1.0 if model.encoder[0].model.config._attn_implementation == slow else 0.5

        monkeypatch.setattr(numerics, "_step_seconds", seconds)
        assert settle(tiny_model, TrainingConfig(device="cpu", precision="float32")).attention == fast


def test_numerics_attention_is_a_matter_of_speed_only(tiny_model: MultiTaskModel, tiny_splits: Splits) -> None:
    model, batch = tiny_model, tokenised(tiny_model, tiny_splits.train).batch(range(8))
    found = {}
    for attention in ("eager", "sdpa"):
        settle(model, fixed(attention=attention))
        model.eval()  # after it: what was put in place of dropout is a part of training
        found[attention] = model(batch.features)["topic"]
    torch.testing.assert_close(found["eager"], found["sdpa"], atol=1e-5, rtol=1e-4)


def test_numerics_are_written_as_text(tiny_model: MultiTaskModel) -> None:
    assert settle(tiny_model, fixed()).as_text() == {
        "device": "cpu",
        "precision": "float32",
        "attention": "eager",
        "threads": str(torch.get_num_threads()),
        "encoding": "float32",
        "handed": "float32",
        "torch": torch.__version__,
    }


def test_numerics_choose_the_device_by_what_is_there(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert settle(tiny_model, TrainingConfig(precision="float32", attention="eager")).device == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert numerics.best_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert numerics.best_device() == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_numerics_on_cuda_need_no_measurement(tiny_model: MultiTaskModel, measured: list[Candidates]) -> None:
    found = settle(tiny_model, RunConfig().training)
    assert found.device == "cuda"
    assert tiny_model.device.type == "cuda"
    assert measured == []


def test_numerics_of_passes_that_teach_nothing_are_settled_too(tiny_model: MultiTaskModel, tmp_path: Path) -> None:
    assert settle(tiny_model, fixed("bfloat16")).encoding == "bfloat16"
    found = settle(tiny_model, AUTO, tmp_path)
    assert found.encoding in WAYS["auto"]
    assert settle(tiny_model, AUTO, tmp_path) == found
    assert from_text(found.as_text()) == found
    before = {name: value for name, value in found.as_text().items() if name not in {"encoding", "handed"}}
    assert (from_text(before).encoding, from_text(before).handed) == ("float32", "float32"), "as when runs did not say"


def test_numerics_of_a_run_that_packed_weights_need_a_torch_that_packs(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = numerics.Numerics("cpu", "bfloat16", "eager", torch.get_num_threads(), "bfloat16 packed")
    monkeypatch.setattr(numerics, "can_pack", lambda _: False)
    with pytest.raises(ConfigError, match="packs weights"):
        numerics.again(tiny_model, began)


def test_numerics_let_layers_hand_on_what_they_multiply_in(tiny_model: MultiTaskModel, tiny_splits: Splits) -> None:
    assert settle(tiny_model, fixed("bfloat16")).handed == "bfloat16"
    batch = tokenised(tiny_model, tiny_splits.train).batch(range(8))
    seen: list[torch.dtype] = []
    for layer in tiny_model.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    tiny_model.eval()
    rounded = tiny_model.encode(batch.features)["sentence_embedding"]
    assert set(seen) == {torch.bfloat16}
    assert rounded.dtype == torch.float32
    tiny_model.handed = torch.float32
    seen.clear()
    apart = 1 - torch.cosine_similarity(rounded, tiny_model.encode(batch.features)["sentence_embedding"])
    assert set(seen) == {torch.float32}
    assert 0 < apart.max() < 1e-3


def test_numerics_hand_on_float32_where_the_other_is_not_accurate_or_fails(
    tiny_model: MultiTaskModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(numerics, "MAX_BFLOAT16_ERROR", -1.0)
        assert settle(tiny_model, fixed("bfloat16")).handed == "float32"
    layer, forward = tiny_model.layers[0], tiny_model.layers[0].forward

    def only_float32(vectors: torch.Tensor, *further: object, **named: object) -> object:
        if vectors.dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found BFloat16")
        return forward(vectors, *further, **named)

    monkeypatch.setattr(layer, "forward", only_float32)
    found = settle(tiny_model, fixed("bfloat16"))
    assert (found.precision, found.handed) == ("bfloat16", "float32")
    assert tiny_model.handed == torch.float32
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_numerics_of_an_earlier_part_are_taken_up(tiny_model: MultiTaskModel) -> None:
    for handed in ("bfloat16", "float32"):
        numerics.again(
            tiny_model, numerics.Numerics("cpu", "bfloat16", "eager", torch.get_num_threads(), handed=handed)
        )
        assert tiny_model.handed == getattr(torch, handed)
