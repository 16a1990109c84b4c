"""What the tasks do to each other: whether their gradients pull the shared encoder the same way, and how hard.

A look costs one more backward pass for each task, so it is taken every so many steps (`interval`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

# A backward pass multiplies twice for every multiplication of the forward pass, so it is two thirds of a step.
BACKWARD_SHARE = Fraction(2, 3)
TIME_SHARE = Fraction(1, 20)
# Gradients of single batches are noisy: of fewer looks nothing could be read, and they would still have to be paid for.
FEWEST_LOOKS = 3


@dataclass(frozen=True)
class Conflict:
    """One look at the gradients of the unweighted losses, over the shared weights that learn.

    Attributes:
        cosines: Component -> pair of task names, "a | b" in the order of the tasks -> cosine of their gradients there:
            1 the same way, -1 against each other. A pair is absent where one of the two has no gradient.
        shares: Task name -> its part of the sum of the gradients' norms, from 0 to 1.
        norms: Task name -> norm of its gradient.
    """

    cosines: dict[str, dict[str, float]]
    shares: dict[str, float]
    norms: dict[str, float]


def measure(
    losses: Mapping[str, Tensor], parts: Mapping[str, Sequence[nn.Parameter]], names: Mapping[str, str]
) -> Conflict | None:
    """Compare the tasks' gradients; the graph and every `.grad` stay as they are, so the step itself can follow.

    Args:
        losses: Task key -> loss of this batch, with its graph; a task without labels is absent.
        parts: Component -> its weights, shared parts only; those that do not learn are passed over.
        names: Task key -> task name, in the order of the tasks.

    Returns:
        None with fewer than two tasks, with no weight that any of them moves, and where a gradient is not finite: the
        step itself says so then.
    """
    learning = {part: [weight for weight in weights if weight.requires_grad] for part, weights in parts.items()}
    learning = {part: weights for part, weights in learning.items() if weights}
    keys = [key for key in names if key in losses]
    if len(keys) < 2 or not learning:
        return None
    products = _inner_products([losses[key] for key in keys], list(learning.values()))
    norms = [math.sqrt(sum(part[i][i] for part in products)) for i in range(len(keys))]
    total = sum(norms)
    if not math.isfinite(total) or not total:
        return None
    tasks = [names[key] for key in keys]
    cosines = {part: _cosines(values, tasks) for part, values in zip(learning, products, strict=True)}
    return Conflict(
        cosines={part: pairs for part, pairs in cosines.items() if pairs},
        shares={task: norm / total for task, norm in zip(tasks, norms, strict=True)},
        norms=dict(zip(tasks, norms, strict=True)),
    )


def _inner_products(losses: Sequence[Tensor], parts: Sequence[Sequence[nn.Parameter]]) -> list[list[list[float]]]:
    """Multiply each task's gradient with each other's, part by part.

    Returns:
        For each part a symmetric matrix. Shape: (tasks, tasks).
    """
    flat = [weight for weights in parts for weight in weights]
    gradients = [_gradients(loss, flat) for loss in losses]
    found = torch.zeros(len(parts), len(losses), len(losses), device=flat[0].device)
    start = 0
    for number, weights in enumerate(parts):
        span = slice(start, start + len(weights))
        start += len(weights)
        for i in range(len(losses)):
            for j in range(i, len(losses)):
                found[number, i, j] = found[number, j, i] = _dot(gradients[i][span], gradients[j][span])
    return found.tolist()  # the one time that a GPU has to be waited for


def _gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:
        return tuple(torch.zeros_like(weight) for weight in weights)
    return torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True)


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two gradients, each given weight by weight."""
    terms = [torch.dot(a.flatten().float(), b.flatten().float()) for a, b in zip(first, second, strict=True)]
    return torch.stack(terms).sum()


def _cosines(products: Sequence[Sequence[float]], tasks: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for (i, first), (j, second) in combinations(enumerate(tasks), 2):
        size = math.sqrt(products[i][i]) * math.sqrt(products[j][j])
        if size:
            found[f"{first} | {second}"] = max(-1.0, min(1.0, products[i][j] / size))
    return found


def interval(setting: int | Literal["auto"], tasks: int, steps: int, *, shared: bool) -> int:
    """Say after how many steps to look again; 0: never.

    `auto` keeps the looks within 5 % of the time: K tasks cost K backward passes of two thirds of a step, so a look
    is due every K * 2/3 / 0.05 steps: 27 with two tasks, 40 with three. Where the run is so short that fewer than
    three looks would fit, it takes none: they would cost time and say nothing.

    Args:
        setting: Steps between two looks, taken as it is; or `auto`.
        tasks: How many learn.
        steps: Of the whole run.
        shared: Whether any shared weight learns; otherwise there is nothing to pull at.
    """
    if tasks < 2 or not shared:
        return 0
    if setting != "auto":
        return setting
    every = math.ceil(tasks * BACKWARD_SHARE / TIME_SHARE)
    return every if steps >= FEWEST_LOOKS * every else 0


def is_look(step: int, every: int) -> bool:
    """Say whether a step, 1 for the first, is one to look in; `every` as `interval` gives it."""
    return every > 0 and step % every == 0
