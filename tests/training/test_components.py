from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mtl.config import RunConfig, TaskConfig, task_specs
from mtl.config_text import override
from mtl.errors import CheckpointError, ConfigError
from mtl.modeling.multitask import MultiTaskModel, build_model
from mtl.tasks import TaskSpec
from mtl.training.components import (
    components,
    encoder_components,
    frozen_parts,
    let_learn,
    parameter_groups,
    parameter_names,
    peak_rates,
    pretrained_parts,
    resolve_freeze,
    resolve_learning,
    snapshot,
)

PARTS = ["embeddings", "layer.0", "layer.1", "head.topic", "head.mood"]
NEW = ["encoder.pooling=attention", "encoder.projection=6", "encoder.layer_norm=true"]


@pytest.fixture
def full_model(tiny_config: RunConfig) -> MultiTaskModel:
    """A model with every part there can be."""
    config = override(tiny_config, NEW)
    return build_model(config, task_specs(config))


def test_components_are_named_from_bottom_to_top(tiny_model: MultiTaskModel, full_model: MultiTaskModel) -> None:
    assert list(components(tiny_model)) == PARTS
    assert list(components(full_model)) == [*PARTS[:3], "pooling", "projection", "layer_norm", *PARTS[3:]]


def test_components_hold_every_weight_that_embeddings_pass_through_once(full_model: MultiTaskModel) -> None:
    owners = [id(p) for part in components(full_model).values() for p in part.parameters()]
    assert len(owners) == len(set(owners))
    left = [name for name, p in full_model.named_parameters() if id(p) not in set(owners)]
    assert left == ["encoder.0.model.pooler.dense.weight", "encoder.0.model.pooler.dense.bias"]


def test_components_of_an_encoder_without_layers_is_one_clear_error() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)

    with pytest.raises(CheckpointError, match="no stack of layers"):
        encoder_components([Flat()])  # type: ignore[arg-type]


def test_components_tell_new_parts_from_pretrained_ones(full_model: MultiTaskModel) -> None:
    assert pretrained_parts(full_model) == {"embeddings", "layer.0", "layer.1"}


def test_components_parameter_names_are_those_of_the_state(full_model: MultiTaskModel) -> None:
    names = parameter_names(full_model, ["pooling", "head.mood"])
    assert names == [
        "encoder.1.score.weight",
        "encoder.1.score.bias",
        "heads.mood.layers.1.weight",
        "heads.mood.layers.1.bias",
    ]
    assert set(names) <= full_model.state_dict().keys()


# ------------------------------------------------------------------------------------------ groups


def groups_by_name(model: MultiTaskModel, config: RunConfig) -> dict[str, Any]:
    """Return each weight's group by the weight's name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in parameter_groups(model, config) for p in group.parameters}


def test_components_groups_hold_each_weight_once(full_model: MultiTaskModel, tiny_config: RunConfig) -> None:
    config = override(tiny_config, [*NEW, "training.freeze=encoder"])
    grouped = [id(p) for group in parameter_groups(full_model, config) for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for part in components(full_model).values() for p in part.parameters()}


def test_components_groups_decay_neither_biases_nor_norms(full_model: MultiTaskModel, tiny_config: RunConfig) -> None:
    config = override(tiny_config, [*NEW, "training.weight_decay=0.03"])
    for name, group in groups_by_name(full_model, config).items():
        plain = name.endswith("bias") or "LayerNorm" in name or name == "encoder.3.norm.weight"
        assert group.weight_decay == (0.0 if plain else 0.03), name


def test_components_groups_have_the_configured_rates(full_model: MultiTaskModel, tiny_config: RunConfig) -> None:
    config = override(
        tiny_config,
        [
            *NEW,
            "training.embeddings_learning_rate=1e-6",
            "training.encoder_learning_rate=2e-5",
            "training.projection_learning_rate=3e-4",
            "training.head_learning_rate=4e-3",
            "tasks.mood.learning_rate=5e-2",
        ],
    )
    assert peak_rates(components(full_model), config, full_model.tasks) == {
        "embeddings": 1e-6,
        "layer.0": 2e-5,
        "layer.1": 2e-5,
        "pooling": 3e-4,
        "projection": 3e-4,
        "layer_norm": 3e-4,
        "head.topic": 4e-3,
        "head.mood": 5e-2,
    }


@pytest.mark.parametrize("freeze", ["nothing", "everything", "embeddings,head.mood"])
def test_components_groups_are_there_whether_they_learn_or_not(
    tiny_model: MultiTaskModel, tiny_config: RunConfig, freeze: str
) -> None:
    groups = parameter_groups(tiny_model, override(tiny_config, [f"training.freeze={freeze}"]))
    assert list(dict.fromkeys(group.component for group in groups)) == PARTS


def test_components_a_task_may_freeze_its_head_and_an_earlier_task_is_frozen_anyway(
    tiny_model: MultiTaskModel, tiny_config: RunConfig
) -> None:
    config = override(tiny_config, ["training.freeze=layer.0", "tasks.mood.freeze=true"])
    assert frozen_parts(PARTS, config, tiny_model.tasks) == {"layer.0", "head.mood"}
    without = config.model_copy(update={"tasks": {"mood": config.tasks["mood"]}})
    assert frozen_parts(PARTS, without, tiny_model.tasks) == {"layer.0", "head.mood", "head.topic"}


def test_components_rates_need_to_be_resolved(tiny_model: MultiTaskModel, tiny_config: RunConfig) -> None:
    unresolved = tiny_config.model_copy(update={"training": RunConfig().training})
    with pytest.raises(ConfigError, match="not resolved"):
        peak_rates(PARTS, unresolved, tiny_model.tasks)


def test_components_let_learn_exactly_what_is_named(tiny_model: MultiTaskModel, tiny_config: RunConfig) -> None:
    names = ["embeddings", "layer.1", "head.mood"]
    let_learn(tiny_model, parameter_groups(tiny_model, tiny_config), names)
    learning = {name for name, p in tiny_model.named_parameters() if p.requires_grad}
    assert learning == set(parameter_names(tiny_model, names))
    assert snapshot(tiny_model, names).keys() == learning


def test_components_snapshot_does_not_follow_the_weights(tiny_model: MultiTaskModel) -> None:
    taken = snapshot(tiny_model, PARTS)
    before = {name: value.clone() for name, value in taken.items()}
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in taken.items())


# ------------------------------------------------------------------------------------------ names

TASKS = (
    TaskSpec(name="a/b", key="a_b", kind="classification", labels=("x", "y")),
    TaskSpec(name="type", key="type_1", kind="classification", labels=("x", "y")),
)
NAMES = ["embeddings", "layer.0", "layer.1", "other", "pooling", "head.a_b", "head.type_1"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((), set()),
        (("everything",), set(NAMES)),
        (("encoder",), {"embeddings", "layer.0", "layer.1", "other"}),
        (("bottom.1",), {"embeddings", "layer.0"}),
        (("bottom.2", "pooling"), {"embeddings", "layer.0", "layer.1", "pooling"}),
        (("heads",), {"head.a_b", "head.type_1"}),
        (("embeddings", "layer.1"), {"embeddings", "layer.1"}),
        (("head.a/b",), {"head.a_b"}),
        (("head.type",), {"head.type_1"}),
        (("head.type_1", "encoder"), {"embeddings", "layer.0", "layer.1", "other", "head.type_1"}),
    ],
)
def test_components_resolve_what_a_person_freezes(wanted: tuple[str, ...], expected: set[str]) -> None:
    assert resolve_freeze(NAMES, wanted, TASKS) == expected


@pytest.mark.parametrize("unknown", ["layer.2", "head.nothing", "encoders", "head", "bottom.3", "bottom.0"])
def test_components_refuse_to_freeze_what_is_not_there(unknown: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"no part {unknown}; there is everything, encoder, bottom.N, top.N, heads, embeddings"
    ):
        resolve_freeze(NAMES, ("encoder", unknown), TASKS)


def test_components_resolve_what_a_person_lets_learn() -> None:
    fresh = {"pooling", "head.a_b", "head.type_1"}
    assert resolve_learning(NAMES, ("heads",), TASKS) == fresh
    assert resolve_learning(NAMES, ("top.1",), TASKS) == fresh | {"layer.1"}
    assert resolve_learning(NAMES, ("top.2", "embeddings"), TASKS) == fresh | {"layer.0", "layer.1", "embeddings"}
    with pytest.raises(ConfigError, match="training.phases.learn: there is no part top.3"):
        resolve_learning(NAMES, ("top.3",), TASKS)


def test_components_of_tasks_with_odd_names_are_apart(tiny_config: RunConfig) -> None:
    names = ["type", "a.b", "a/b", "情感"]
    tasks = {name: TaskConfig(labels=("x", "y"), learning_rate=(n + 1) / 100) for n, name in enumerate(names)}
    config = tiny_config.model_copy(update={"tasks": tasks})
    model = build_model(config, task_specs(config))
    rates = peak_rates(components(model), config, model.tasks)
    for number, task in enumerate(model.tasks):
        assert rates[f"head.{task.key}"] == (number + 1) / 100
