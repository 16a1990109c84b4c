"""A small shared layer with three heads, and weightings built for it as a run builds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl.config import RunConfig
from mtl.tasks import TaskSpec
from mtl.training.weighting import Weighting, build_weighting

NAMES = {"topic": "Topic", "mood": "Mood!", "slots": "slots"}
KEYS = tuple(NAMES)
OUTPUTS = {"topic": 4, "mood": 2, "slots": 7}
TASKS = [TaskSpec(name=name, key=key, kind="classification", labels=()) for key, name in NAMES.items()]
# built from the Gramian of the gradients by TorchJD
SURGERIES = ("pcgrad", "mgda", "imtl_g", "upgrad", "cagrad", "nash_mtl")
# the last two epochs of a run, to make what is decided by epoch decide something
EPOCHS = [
    ({"topic": 2.0, "mood": 1.0, "slots": 3.0}, {"topic": 0.4, "mood": 0.9, "slots": 0.2}),
    ({"topic": 1.0, "mood": 0.9, "slots": 2.9}, {"topic": 0.6, "mood": 0.9, "slots": 0.1}),
]

Gradients = dict[str, list[Tensor]]


def build(name: str, weights: Mapping[str, float] | None = None, **training: Any) -> Weighting:
    """Build a weighting from a configuration of three tasks."""
    tasks = {NAMES[key]: {"loss_weight": (weights or {}).get(key, 1.0)} for key in KEYS}
    settings = {"weighting": name, "epochs": 4, "seed": 7, **training}
    config = RunConfig.model_validate({"tasks": tasks, "training": settings})
    return build_weighting(TASKS, OUTPUTS, config)


def warmed_up(name: str, weights: Mapping[str, float] | None = None, **training: Any) -> Weighting:
    """Build a weighting that has two epochs behind it."""
    weighting = build(name, weights, **training)
    for epoch, (losses, scores) in enumerate(EPOCHS, start=1):
        weighting.end_epoch(epoch, losses, scores)
    return weighting


class Net(nn.Module):
    """Two shared layers and a head for each task; the losses are of different sizes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.heads = nn.ModuleDict({key: nn.Linear(3, 1) for key in KEYS})
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    @property
    def shared(self) -> list[nn.Parameter]:
        """The weights below the heads."""
        return [*self.first.parameters(), *self.second.parameters()]

    def head(self, key: str) -> nn.Linear:
        """Return the head of a task."""
        head = self.heads[key]
        assert isinstance(head, nn.Linear)
        return head

    def losses(self, step: int = 0, keys: Iterable[str] = KEYS) -> dict[str, Tensor]:
        """Compute the losses of the batch of a step."""
        generator = torch.Generator().manual_seed(100 + step)
        inputs = torch.randn(6, 4, generator=generator)
        targets = torch.randn(len(KEYS), 6, generator=generator)
        hidden = self.second(torch.tanh(self.first(inputs))).tanh()
        sizes = dict(zip(KEYS, (1.0, 5.0, 0.3), strict=True))
        return {
            key: sizes[key] * (self.heads[key](hidden).squeeze(1) - targets[KEYS.index(key)]).square().mean()
            for key in keys
        }

    def gradients(self, losses: Mapping[str, Tensor]) -> Gradients:
        """Return each task's gradient of the shared weights; the graph stays."""
        return {
            key: list(torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True))
            for key, loss in losses.items()
        }


def jacobian(gradients: Gradients) -> Tensor:
    """Put the tasks' gradients into one matrix. Shape: (K, weights)."""
    return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients.values()])


def flat(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Put the gradients of weights into one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
