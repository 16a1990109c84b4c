"""How a run computes: device, precision and attention, settled once and then written into the run.

On a CPU the choice is made by a short measurement, because processors differ: bfloat16 is four times faster on some
and slower on others, and on some the fused attention's backward pass is the slow one. The result is kept per
machine and encoder in the cache folder, so that two runs on one machine compute alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from mtl.config import TrainingConfig
from mtl.errors import ConfigError
from mtl.modeling.dropout import quicken_dropout
from mtl.modeling.encoder import max_length_of, transformer_of
from mtl.modeling.measured import kept_choice, machine_and_encoder
from mtl.modeling.multitask import MultiTaskModel
from mtl.modeling.ways import PLAIN, can_pack, fastest

MAX_BFLOAT16_ERROR = 1e-3
PROBE_TEXTS, PROBE_TOKENS, PROBE_REPEATS = 16, 48, 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Numerics:
    """The settled choice.

    Attributes:
        device: Where the weights are.
        precision: What a training step multiplies in; weights, sums and losses are float32.
        attention: The implementation of it in a training step.
        threads: How many the sums were divided over.
        encoding: How passes compute that teach nothing, one of `mtl.modeling.ways.WAYS`.
        handed: What the layers hand to each other in a training step.
    """

    device: str
    precision: str
    attention: str
    threads: int
    encoding: str = PLAIN
    handed: str = "float32"

    def as_text(self) -> dict[str, str]:
        """Return it as plain text, for the record."""
        return {name: str(value) for name, value in asdict(self).items()} | {"torch": torch.__version__}


def from_text(text: Mapping[str, str]) -> Numerics:
    """Read what `Numerics.as_text` wrote."""
    encoding, handed = text.get("encoding", PLAIN), text.get("handed", "float32")  # runs of before computed so
    return Numerics(text["device"], text["precision"], text["attention"], int(text["threads"]), encoding, handed)


def settle(model: MultiTaskModel, training: TrainingConfig, cache_dir: Path | None = None) -> Numerics:
    """Choose device, precision and attention, and switch the model to them.

    Args:
        model: Moved and switched in place.
        training: What the person fixed; `auto` is decided here.
        cache_dir: Where a measurement is kept; None measures anew.
    """
    device = best_device() if training.device == "auto" else training.device
    model.to(device)
    precisions = ["float32", "bfloat16"] if training.precision == "auto" else [training.precision]
    attentions = _attentions(model) if training.attention == "auto" else [training.attention]
    if device != "cpu":
        bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported()
        precision = training.precision if training.precision != "auto" else "bfloat16" if bfloat16 else "float32"
        found = Numerics(device, precision, attentions[-1], torch.get_num_threads(), precision)
        return apply(model, found)
    candidates = [(precision, attention) for precision in precisions for attention in attentions]
    best = candidates[0] if len(candidates) == 1 else _measured(model, candidates, cache_dir)
    encoding = _encoding(model, training, cache_dir)
    handed = _handed(model, *best, cache_dir)
    return apply(model, Numerics(device, *best, torch.get_num_threads(), encoding, handed))


def _encoding(model: MultiTaskModel, training: TrainingConfig, cache_dir: Path | None) -> str:
    """Choose how passes compute that teach nothing: as `training.precision` says, or else by measurement."""
    if training.precision != "auto":
        return training.precision
    was_training = model.training
    way, _ = fastest(model.eval(), "auto", cache_dir)
    model.train(was_training)
    return way


def apply(model: MultiTaskModel, numerics: Numerics) -> Numerics:
    """Switch a model to settled numerics."""
    if numerics.device == "cpu":
        quicken_dropout(model)
    _set_attention(model, numerics.attention)
    model.precision, model.handed = DTYPES[numerics.precision], DTYPES[numerics.handed]
    return numerics


def again(model: MultiTaskModel, numerics: Numerics) -> Numerics:
    """Compute as an earlier part of a run did, with as many threads; sums divided otherwise have other last bits.

    Raises:
        ConfigError: Its device is not here, or its way of computing is not.
    """
    if numerics.device != "cpu" and numerics.device != best_device():
        raise ConfigError(f"The run began on {numerics.device}, which is not here; go on with it where it began.")
    model.to(numerics.device)
    if numerics.encoding.endswith("packed") and not can_pack(model.device):
        raise ConfigError("The run began with a PyTorch that packs weights, which this one does not; go on with that.")
    torch.set_num_threads(numerics.threads)
    return apply(model, numerics)


def best_device() -> str:
    """Return CUDA, else MPS, else CPU; on a ZeroGPU Space the CPU, since its GPU is lent only inside single calls."""
    if "SPACES_ZERO_GPU" in os.environ:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _attentions(model: MultiTaskModel) -> list[str]:
    return ["eager", "sdpa"] if getattr(transformer_of(model.encoder), "_supports_sdpa", False) else ["eager"]


def _set_attention(model: MultiTaskModel, attention: str) -> None:
    transformer = transformer_of(model.encoder)
    if getattr(transformer.config, "_attn_implementation", None) != attention:
        transformer.set_attn_implementation(attention)


def _kept_in(cache_dir: Path | None) -> Path | None:
    return cache_dir / "numerics.json" if cache_dir else None


def _measured(model: MultiTaskModel, candidates: list[tuple[str, str]], cache_dir: Path | None) -> tuple[str, str]:
    key = machine_and_encoder(model.encoder, candidates)
    file = _kept_in(cache_dir)
    known = [list(candidate) for candidate in candidates]
    precision, attention = kept_choice(file, key, known.__contains__, lambda: _fastest(model, candidates))
    return precision, attention


def _fastest(model: MultiTaskModel, candidates: list[tuple[str, str]]) -> tuple[str, str]:
    """Time a forward and a backward pass of each candidate; bfloat16 must also agree with float32."""
    features = _probe(model)
    with _trying(model):
        first = _embed(model, features, *candidates[0])
        seconds = {
            candidate: _step_seconds(model, features)
            for candidate in candidates
            if _error(_embed(model, features, *candidate), first) <= MAX_BFLOAT16_ERROR
        }
    return min(seconds, key=seconds.__getitem__)


def _handed(model: MultiTaskModel, precision: str, attention: str, cache_dir: Path | None) -> str:
    """Choose what the layers hand to each other: the precision, if they can, since that is half to read and write."""
    if precision == "float32":
        return precision
    key = machine_and_encoder(model.encoder, precision, attention, "handed")
    known = [["float32"], [precision]]
    [handed] = kept_choice(
        _kept_in(cache_dir),
        key,
        known.__contains__,
        lambda: [precision if _can_hand_on(model, precision, attention) else "float32"],
    )
    return handed


def _can_hand_on(model: MultiTaskModel, precision: str, attention: str) -> bool:
    """Say whether the layers compute, and still agree with float32, when they hand lower precision to each other."""
    features = _probe(model)
    with _trying(model):
        exact = _embed(model, features, "float32", attention)
        try:
            rounded = _embed(model, features, precision, attention, handed=precision)
            _step(model, features)
        except RuntimeError:  # an operator of this encoder does not take two types
            return False
    return _error(rounded, exact) <= MAX_BFLOAT16_ERROR


def _probe(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    vocabulary = transformer_of(model.encoder).get_input_embeddings().weight.shape[0]
    shape = (PROBE_TEXTS, min(PROBE_TOKENS, max_length_of(model.encoder)))
    ids = torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@contextmanager
def _trying(model: MultiTaskModel) -> Iterator[None]:
    """Let all of the Transformer learn for a while, and leave no trace of it; `apply` says then how it computes."""
    transformer = transformer_of(model.encoder)
    wanted, training = [parameter.requires_grad for parameter in transformer.parameters()], model.training
    transformer.requires_grad_(True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for parameter, flag in zip(transformer.parameters(), wanted, strict=True):
            parameter.requires_grad_(flag)
        model.zero_grad(set_to_none=True)
        model.train(training)
        model.precision = model.handed = torch.float32


@torch.no_grad()
def _embed(
    model: MultiTaskModel, features: dict[str, torch.Tensor], precision: str, attention: str, handed: str = "float32"
) -> torch.Tensor:
    _set_attention(model, attention)
    model.precision, model.handed = DTYPES[precision], DTYPES[handed]
    return model.eval().encode(features)["sentence_embedding"]


def _error(embedding: torch.Tensor, exact: torch.Tensor) -> float:
    return (1 - F.cosine_similarity(exact, embedding)).max().item()


def _step_seconds(model: MultiTaskModel, features: dict[str, torch.Tensor]) -> float:
    best = float("inf")
    for _ in range(1 + PROBE_REPEATS):
        start = time.perf_counter()
        _step(model, features)
        best = min(best, time.perf_counter() - start)
    return best


def _step(model: MultiTaskModel, features: dict[str, torch.Tensor]) -> None:
    model.encoder.train()
    model.encode(features)["sentence_embedding"].square().sum().backward()
