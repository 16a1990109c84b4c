"""Ways of computing what the encoder says, and the fastest one on this machine that is true to float32.

A way is a precision, and whether the weights of the linear layers are packed once into the layout that oneDNN
multiplies with; where they are not, PyTorch does so for every batch, or takes another library that may be slower.
Processors differ in which is fastest, so it is measured; and checkpoints differ in what bfloat16 does to them, so
each is checked on real sentences before such a way is taken.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation

from mtl.choices import Precision
from mtl.data.batching import pad, tokenise
from mtl.modeling.encoder import max_length_of, transformer_of
from mtl.modeling.measured import kept_choice, machine_and_encoder
from mtl.modeling.multitask import MultiTaskModel

TOLERANCE = 1e-4  # one minus the cosine with float32
PACKED_FOR = 1024  # rows of the products that weights are packed for; others work as well
# A linear layer -> the activation of its output, as BERT and its kin name them, and as DistilBERT does. Where another
# encoder means something else by these names, it is not true to float32 like this, and is computed without packing.
FOLLOWED_BY = {"dense": "intermediate_act_fn", "lin1": "activation"}
ROUNDS, PATIENCE_SECONDS = 7, 2.0
PLAIN = "float32"
WAYS: dict[Precision, tuple[str, ...]] = {
    "float32": (PLAIN, "float32 packed"),
    "bfloat16": ("bfloat16", "bfloat16 packed"),
    "auto": (PLAIN, "float32 packed", "bfloat16", "bfloat16 packed"),
}
PROBE = (
    "The striker scored twice in the second half, and the visitors never came back into the match.",
    "Oil prices fell by 3.2% on Tuesday after the ministers of eleven countries could not agree on a smaller output.",
    "what a terrible flight, 5 hours late and nobody at the desk knew anything :(",
    "Thank you SO much!!! Best soup I ever had 😍",
    "Book a table for four at an Italian restaurant near the station tomorrow at half past seven.",
    "The battery lasts two days, the screen is bright enough in the sun, but the cover came off after a week and the "
    "shop would not take it back, so I cannot recommend it to anybody who wants to carry it in a pocket.",
    "Scientists in Geneva said that the particle, first seen in 2012, decays more often than the theory allows.",
    "How do I reset my password?",
    "snow",
    "Das Orchester spielte den letzten Satz so langsam, dass einige Zuhörer gingen.",
    "L'équipe a annoncé que la nouvelle version sera publiée au printemps, sans donner de date.",
    "RT @someone: http://example.org/a?b=c this changes #everything",
    "TypeError: unsupported operand type(s) for +: 'int' and 'str' in line 42",
    "He was born in Lagos, studied in Porto Alegre and Kyoto, and died at the age of ninety-one in Reykjavik.",
    "Shares of the company rose sharply in early trading. Analysts had expected a loss of 12 cents a share; instead it "
    "reported a profit of 4 cents, its first in three years, as more people kept their subscriptions after the trial.",
    "it is not that bad",
)


class Product(nn.Module):
    """A linear layer for inference alone, whose product is computed in another way; sums and norms stay float32.

    Args:
        linear: The layer; its weights are copied.
        dtype: What is multiplied; the input is rounded to it, and the output has it.
        packed: Whether the weights are packed.
        gelu: Whether GELU (erf) follows; packed weights only, whose product applies it before it writes its result.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, *, packed: bool, gelu: bool = False) -> None:
        super().__init__()
        self._dtype = dtype
        self._then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
        weight = linear.weight.detach().to(dtype).contiguous()
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.weight = linear.weight.detach().to("meta")  # some encoders ask for its type; no memory
        # a layout of its own, which neither a state dict nor a copy could hold: no buffer
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR) if packed else None
        self._plain = None if packed else weight

    def forward(self, x: Tensor) -> Tensor:
        """Multiply. Shape: (..., in) -> (..., out)."""
        x = x.to(self._dtype)
        if self._plain is not None:
            return F.linear(x, self._plain, self._bias)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, *self._then)
        return found


def can_pack(device: torch.device) -> bool:
    """Say whether this build of PyTorch packs weights; the operators are its compiler's, not part of its interface."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )


def computing(model: MultiTaskModel, way: str) -> MultiTaskModel:
    """Return a model that computes in a way; it shares heads and tokenizer, and what else need not be another.

    Args:
        model: In evaluation mode and float32; it stays as it is.
        way: One of `WAYS`.
    """
    if way == PLAIN:
        return model
    transformer, *rest = model.encoder
    shared = [transformer.tokenizer, *transformer.parameters()]  # what is no product can be the same memory
    other = copy.deepcopy(transformer, {id(one): one for one in shared})
    encoder = SentenceTransformer(modules=[other, *rest], device=str(model.device))
    encoder.model_card_data.model = None  # as `load_encoder` does: no circle
    precision, *packed = way.split()
    dtype: torch.dtype = getattr(torch, precision)
    _replace(transformer_of(encoder), dtype, packed=bool(packed))
    if getattr(transformer_of(encoder), "_supports_sdpa", False):  # the faster one without a backward pass
        transformer_of(encoder).set_attn_implementation("sdpa")
    made = MultiTaskModel(encoder, dict(model.heads.items()), model.tasks).eval()  # type: ignore[arg-type]
    made.below, made.precision = model.below, dtype  # for what attention multiplies
    return made


def true_to(model: MultiTaskModel, way: str) -> MultiTaskModel:
    """Return a model that computes in a way if that is true to float32 with these weights, else one in float32."""
    other = computing(model, way)
    return other if way == PLAIN or error(model, other) <= TOLERANCE else model


def _replace(module: nn.Module, dtype: torch.dtype, *, packed: bool) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            activation = FOLLOWED_BY.get(name, "")
            gelu = packed and isinstance(getattr(module, activation, None), GELUActivation)
            setattr(module, name, Product(child, dtype, packed=packed, gelu=gelu))
            if gelu:
                setattr(module, activation, nn.Identity())
        else:
            _replace(child, dtype, packed=packed)


def fastest(
    model: MultiTaskModel, precision: Precision, cache_dir: Path | None = None, weights: str = ""
) -> tuple[str, MultiTaskModel]:
    """Choose the fastest way whose error is within tolerance, and return it with a model that computes so.

    Args:
        model: In evaluation mode and float32, on its device.
        precision: `auto`; or the precision that it is to be, whatever the error.
        cache_dir: Where the measurements are kept; None measures anew.
        weights: A hash of the model's weights; with it, the error is kept too, since it cannot be another one.
    """
    ways = [way for way in WAYS[precision] if can_pack(model.device) or not way.endswith("packed")]
    if len(ways) == 1:
        return ways[0], computing(model, ways[0])
    file = cache_dir / "encoding.json" if cache_dir else None
    key = machine_and_encoder(model.encoder, model.device, ways)
    order = kept_choice(
        file, key, lambda kept: isinstance(kept, list) and set(kept) == set(ways), lambda: _by_speed(model, ways)
    )
    if precision != "auto":
        return order[0], computing(model, order[0])
    made: dict[str, MultiTaskModel] = {}

    def within_tolerance() -> list[str]:
        for way in order:
            made[way] = computing(model, way)
            if way == PLAIN or error(model, made[way]) <= TOLERANCE:
                return [way]
        raise AssertionError("float32 is always true to itself")

    known = [[way] for way in order]
    [way] = kept_choice(
        file if weights else None, f"{key} {TOLERANCE:g} {weights}", known.__contains__, within_tolerance
    )
    return way, made.get(way) or computing(model, way)


def _by_speed(model: MultiTaskModel, ways: Sequence[str]) -> list[str]:
    """Order ways by the time of the probe, the fastest first."""
    features = _probe(model)
    models = {way: computing(model, way) for way in ways}
    seconds = dict.fromkeys(ways, float("inf"))
    end = time.perf_counter() + PATIENCE_SECONDS
    # in turn, and the least of each: what else the machine does must not decide
    for number in range(1 + ROUNDS):
        for way, chosen in models.items():
            start = time.perf_counter()
            _embed(chosen, features)
            seconds[way] = min(seconds[way], time.perf_counter() - start)
        if number and time.perf_counter() > end:  # a large encoder
            break
    return sorted(ways, key=seconds.__getitem__)


def error(model: MultiTaskModel, other: MultiTaskModel) -> float:
    """Return the largest of one minus the cosine between two models' embeddings of the probe; infinite for NaN."""
    features = _probe(model)
    cosines = F.cosine_similarity(_embed(model, features), _embed(other, features), dim=1)
    found = float((1 - cosines.double()).max())
    return found if found == found else float("inf")


def _probe(model: MultiTaskModel) -> dict[str, Tensor]:
    tokenizer = model.encoder.tokenizer
    return pad(tokenise(PROBE, tokenizer, max_length_of(model.encoder)), tokenizer)


@torch.inference_mode()
def _embed(model: MultiTaskModel, features: dict[str, Tensor]) -> Tensor:
    # back on the CPU, so that a GPU is waited for
    return model.encode(dict(features))["sentence_embedding"].cpu()
