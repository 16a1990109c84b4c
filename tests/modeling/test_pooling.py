from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from mtl.choices import POOLING_HELP, Pooling
from mtl.data.batching import pad, tokenise
from mtl.modeling.encoder import load_encoder
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.pooling import POOLINGS, AttentionPooling

TEXTS = ["snow", "the team won the game today", "a very long evening with the people near the old oven and the cold"]


def embed_one_by_one(model: MultiTaskModel, texts: list[str]) -> torch.Tensor:
    """Embed texts each in a batch of its own, so that nothing is padding."""
    return torch.cat([embed_together(model, [text]) for text in texts])


@torch.no_grad()
def embed_together(model: MultiTaskModel, texts: list[str]) -> torch.Tensor:
    """Embed texts in one batch, so that all but the longest are padded."""
    tokenizer = model.encoder.tokenizer
    return model.eval().encode(pad(tokenise(texts, tokenizer, 64), tokenizer))["sentence_embedding"]


def with_pooling(folder: Path, pooling: Pooling, *, trained: bool = True) -> MultiTaskModel:
    """Make a model without heads; a trained attention has scores that differ between tokens."""
    encoder = load_encoder(str(folder), pooling=pooling, normalize=False)
    if trained and isinstance(encoder[1], AttentionPooling):
        torch.manual_seed(1)
        torch.nn.init.normal_(encoder[1].score.weight)
    return MultiTaskModel(encoder, {}, [])


def test_pooling_has_an_entry_for_each_choice_of_the_configuration() -> None:
    assert set(POOLINGS) == set(POOLING_HELP)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_ignores_padding(tiny_encoder_folder: Path, pooling: Pooling) -> None:
    model = with_pooling(tiny_encoder_folder, pooling)
    torch.testing.assert_close(embed_together(model, TEXTS), embed_one_by_one(model, TEXTS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_ignores_what_the_padding_holds(pooling: Pooling) -> None:
    torch.manual_seed(0)
    module = POOLINGS[pooling](8)
    if isinstance(module, AttentionPooling):
        torch.nn.init.normal_(module.score.weight)
    tokens, mask = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    noisy = tokens.masked_fill(mask.unsqueeze(-1) == 0, 1e6)
    clean = module({"token_embeddings": tokens, "attention_mask": mask})["sentence_embedding"]
    assert torch.equal(module({"token_embeddings": noisy, "attention_mask": mask})["sentence_embedding"], clean)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_equals_that_of_sentence_transformers(
    tiny_encoder_folder: Path, pooling: Pooling, normalize: bool
) -> None:
    encoder = load_encoder(str(tiny_encoder_folder), pooling=pooling, normalize=normalize)
    modules = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    modules[1].pooling_mode = pooling
    theirs = modules.encode(TEXTS, normalize_embeddings=normalize, convert_to_tensor=True)
    ours = embed_together(MultiTaskModel(encoder, {}, []), TEXTS)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_pooling_by_attention_starts_as_the_mean(tiny_encoder_folder: Path) -> None:
    attention = with_pooling(tiny_encoder_folder, "attention", trained=False)
    mean = with_pooling(tiny_encoder_folder, "mean")
    torch.testing.assert_close(embed_together(attention, TEXTS), embed_together(mean, TEXTS), atol=1e-6, rtol=1e-5)


def test_pooling_by_attention_weighs_tokens_by_their_score() -> None:
    module = AttentionPooling(2)
    torch.nn.init.constant_(module.score.weight, 1.0)
    # scores 0 and log 3, so weights 1/4 and 3/4; the third token is padding
    tokens = torch.tensor([[[0.0, 0.0], [torch.log(torch.tensor(3.0)), 0.0], [9.0, 9.0]]])
    pooled = module({"token_embeddings": tokens, "attention_mask": torch.tensor([[1, 1, 0]])})["sentence_embedding"]
    torch.testing.assert_close(pooled, torch.tensor([[0.75 * 1.0986123, 0.0]]))


def test_pooling_by_attention_learns() -> None:
    torch.manual_seed(0)
    module = AttentionPooling(4)
    pooled = module({"token_embeddings": torch.randn(2, 3, 4), "attention_mask": torch.ones(2, 3)})
    pooled["sentence_embedding"].square().sum().backward()
    assert module.score.weight.grad is not None
    assert bool(module.score.weight.grad.abs().sum() > 0)


def test_pooling_by_attention_survives_save_and_load(tmp_path: Path) -> None:
    module = AttentionPooling(4)
    torch.nn.init.normal_(module.score.weight)
    module.save(str(tmp_path))
    loaded = AttentionPooling.load(str(tmp_path))
    assert torch.equal(loaded.score.weight, module.score.weight)
    assert torch.equal(loaded.score.bias, module.score.bias)
