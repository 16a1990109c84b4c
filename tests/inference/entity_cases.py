"""Checkpoints with heads of entities, of random weights, for the tests of whatever answers with one."""

from __future__ import annotations

import torch

from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.inference.predictor import Predictor
from mtl.modeling.multitask import build_model

TYPES = ("LOC", "ORG", "PER")
NAMES = TaskConfig(kind="token_classification", labels=TYPES)
PLACES = TaskConfig(kind="token_classification", labels=("place",), head="mlp")
TEXTS = [
    "the team met (Anna Lee) in Rome, they said",
    "  blanks before, and after  ",
    "été à 東京, 🎈 and the rain!",
    "",
    'the "soup was great", and the people were happy with it',
]


def tagging(config: RunConfig, *, classes: bool = True, seed: int = 0) -> Predictor:
    """Make a checkpoint whose heads `names` and `places` find entities all over the place.

    Args:
        config: Of the tiny run, resolved.
        classes: Whether the heads of the tiny run, which give classes, are there too; they are the first.
        seed: Of the heads' weights.
    """
    tasks = {**(config.tasks if classes else {}), "names": NAMES, "places": PLACES}
    config = config.model_copy(update={"tasks": tasks})
    model = build_model(config, task_specs(config))
    torch.manual_seed(seed)
    with torch.no_grad():
        for head in model.heads.values():
            for parameter in head.parameters():
                parameter.normal_(std=0.5)
            head.temperature.fill_(1.7)
    return Predictor(model, config, {"scores": {}})
