"""Each task's own gradient of the shared weights: taken, clipped, compared and added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

Gradient = list[Tensor | None]  # one for each shared weight; None where the task does not reach it
SMALLEST = 1e-30


def each_gradient(
    terms: Mapping[str, Tensor], shared: Sequence[nn.Parameter], limits: Mapping[str, float]
) -> Iterator[tuple[str, Gradient]]:
    """Run one backward pass for each task.

    What is not shared, the heads, simply collects its gradients. Those of the shared weights are handed out, and
    between two passes every shared `.grad` is as the caller left it.

    Args:
        terms: Task key -> its part of the sum, with its graph.
        shared: The shared weights that learn.
        limits: Task key -> largest norm of its gradient; a task that is not named is not clipped.
    """
    last = list(terms)[-1]
    for key, term in terms.items():
        held = _swap(shared, [None] * len(shared))
        term.backward(retain_graph=key != last)
        gradient = _swap(shared, held)
        if key in limits:
            _clip(gradient, limits[key])
        yield key, gradient


def _swap(shared: Sequence[nn.Parameter], gradients: Gradient) -> Gradient:
    """Hang other gradients on the weights and return those that were there."""
    before: Gradient = [parameter.grad for parameter in shared]
    for parameter, gradient in zip(shared, gradients, strict=True):
        parameter.grad = gradient
    return before


def _clip(gradient: Gradient, limit: float) -> None:
    factor = (limit / norm(gradient).clamp(min=SMALLEST)).clamp(max=1.0)
    for part in gradient:
        if part is not None:
            part.mul_(factor)


def reaches(gradient: Gradient) -> bool:
    """Say whether a task uses any of the shared weights."""
    return any(part is not None for part in gradient)


def norm(gradient: Gradient) -> Tensor:
    """Return the norm over all weights. Shape: ()."""
    return nn.utils.get_total_norm([part for part in gradient if part is not None])


def inner_products(gradients: Sequence[Gradient]) -> Tensor:
    """Multiply each gradient with each other one: the Gramian of the tasks. Shape: (K, K), on the CPU."""
    rows = [[torch.zeros(())] * len(gradients) for _ in gradients]
    for i, first in enumerate(gradients):
        for j, second in enumerate(gradients[: i + 1]):
            rows[i][j] = rows[j][i] = _dot(first, second)
    return torch.stack([product for row in rows for product in row]).view(len(rows), len(rows)).cpu()


def _dot(first: Gradient, second: Gradient) -> Tensor:
    parts = [
        torch.dot(a.flatten().float(), b.flatten().float())
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    ]
    if parts:
        return torch.stack(parts).sum()
    device = next(part.device for part in first if part is not None)
    return torch.zeros((), device=device)


def add_gradient(shared: Sequence[nn.Parameter], gradient: Gradient, factor: float = 1.0) -> None:
    """Add a task's gradient to those that the weights have; it is used up, so that nothing is copied."""
    for parameter, part in zip(shared, gradient, strict=True):
        if part is None:
            continue
        if parameter.grad is None:
            parameter.grad = part.mul_(factor)
        else:
            parameter.grad.add_(part, alpha=factor)
