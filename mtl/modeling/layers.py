"""The stack of layers of an encoder, and how a pass begins above the lowest of them.

B texts, T tokens, D width of the token vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import CheckpointError


@dataclass(frozen=True)
class Below:
    """The lowest layers, whose output is known before.

    Attributes:
        count: How many.
        in_tuple: Whether they return a tuple of one, as some encoders' layers do.
    """

    count: int
    in_tuple: bool


def find_embeddings_and_layers(transformer: Any) -> tuple[nn.Module, nn.ModuleList]:
    """Find the stack of layers (the module list with the most weights) and the part that holds the word embeddings.

    Raises:
        CheckpointError: The encoder has no stack of layers.
    """
    stacks = [module for module in transformer.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not stacks:
        raise CheckpointError("The encoder has no stack of layers, so its parts cannot be named.")
    layers = max(stacks, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()))
    words = transformer.get_input_embeddings()
    part: nn.Module = transformer
    while layers in list(part.modules()):
        part = next(child for child in part.children() if words in list(child.modules()))
    return part, layers


class _Reached(Exception):  # noqa: N818 - nothing went wrong: a pass is ended where it is to end
    """A pass has reached the end of the lowest layers."""

    def __init__(self, output: Any) -> None:
        self.output = output


def output_below(layers: Sequence[nn.Module], count: int, run: Callable[[], object]) -> tuple[Tensor, bool]:
    """Run an encoder up to the end of its lowest layers.

    Args:
        layers: The stack.
        count: How many of them.
        run: A pass of the encoder; what is above these layers is not computed.

    Returns:
        What they give, shape (B, T, D), and whether the layer returned it in a tuple of one.

    Raises:
        ValueError: The layer returns more than the token vectors, so that they are not all that goes on from there.
    """

    def stop(module: nn.Module, inputs: object, output: Any) -> None:
        raise _Reached(output)

    handle = layers[count - 1].register_forward_hook(stop)
    try:
        run()
    except _Reached as reached:
        output = reached.output
    finally:
        handle.remove()
    in_tuple = isinstance(output, tuple)
    vectors, *rest = output if in_tuple else (output,)
    if not isinstance(vectors, Tensor) or rest:
        raise ValueError("the layer gives more than token vectors")
    return vectors, in_tuple


@contextmanager
def beginning_above(layers: Sequence[nn.Module], below: Below, vectors: Tensor) -> Iterator[None]:
    """Let passes of an encoder take what its lowest layers give from before instead of computing it.

    Args:
        layers: The stack. Nothing of it is replaced, so names and weights stay; not for several threads.
        below: Which layers.
        vectors: What they would give. Shape: (B, T, D).
    """
    known = layers[: below.count]
    for layer in known:
        layer.forward = lambda *_, **__: (vectors,) if below.in_tuple else vectors
    try:
        yield
    finally:
        for layer in known:
            del layer.forward


@contextmanager
def rounding(embeddings: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Let passes of an encoder hand vectors of a lower precision from layer to layer: less memory to read and write.

    Args:
        embeddings: The part before the layers; what it gives is rounded, and they go on in what they are given.
        dtype: float32 changes nothing.
    """

    def rounded(module: nn.Module, inputs: object, output: Any) -> Any:
        return output.to(dtype) if isinstance(output, Tensor) else output

    handle = embeddings.register_forward_hook(rounded)
    try:
        yield
    finally:
        handle.remove()
