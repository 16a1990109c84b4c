"""The named parts of a model; freezing and learning rates are maps over these names.

From bottom to top: `embeddings`, `layer.0` …, `other` (what belongs to no layer: a final norm, a relative position
bias), `pooling`, `projection`, `layer_norm`, `head.<task key>`. Only parts with weights are listed. BERT's `pooler`
is no part: sentence embeddings do not pass through it, so it is never trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.sentence_transformer.modules.layer_norm import LayerNorm
from torch import nn

from mtl.config import PhaseConfig, RunConfig, TaskConfig, task_specs
from mtl.errors import ConfigError
from mtl.modeling.encoder import after_transformer, transformer_of
from mtl.modeling.layers import find_embeddings_and_layers
from mtl.modeling.multitask import MultiTaskModel, build_head
from mtl.modeling.pooling import AttentionPooling
from mtl.tasks import TaskSpec

NEW_PARTS: dict[type[nn.Module], str] = {AttentionPooling: "pooling", Dense: "projection", LayerNorm: "layer_norm"}


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that share a component and a weight decay; their rate follows from the component and the step.

    Attributes:
        component: Name of the part.
        weight_decay: 0 for biases and norms.
        parameters: The weights.
    """

    component: str
    weight_decay: float
    parameters: tuple[nn.Parameter, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(parameter.numel() for parameter in self.parameters)


def encoder_components(encoder: SentenceTransformer) -> dict[str, nn.Module]:
    """Name the parts of the shared encoder, bottom first.

    Raises:
        CheckpointError: The encoder has no stack of layers.
    """
    transformer = transformer_of(encoder)
    embeddings, layers = find_embeddings_and_layers(transformer)
    parts: dict[str, nn.Module] = {"embeddings": embeddings}
    parts |= {f"layer.{number}": layer for number, layer in enumerate(layers)}
    named = {id(parameter) for part in parts.values() for parameter in part.parameters()}
    pooler = getattr(transformer, "pooler", None)
    if isinstance(pooler, nn.Module):
        named |= {id(parameter) for parameter in pooler.parameters()}
    rest = [parameter for parameter in transformer.parameters() if id(parameter) not in named]
    if rest:
        parts["other"] = nn.ParameterList(rest)
    for module in list(encoder)[1:]:
        if type(module) in NEW_PARTS:
            parts[NEW_PARTS[type(module)]] = module
    return parts


def components(model: MultiTaskModel) -> dict[str, nn.Module]:
    """Name the parts of a model, bottom first, heads last. Every trainable weight belongs to exactly one part."""
    heads = {f"head.{key}": head for key, head in model.heads.items()}
    return encoder_components(model.encoder) | heads


def resolve_freeze(names: Iterable[str], freeze: Sequence[str], tasks: Sequence[TaskSpec]) -> frozenset[str]:
    """Turn what a person wrote under `freeze` into component names.

    Args:
        names: The components of the model.
        freeze: `everything`, `encoder` (embeddings and all layers), `bottom.N` (embeddings and the lowest N layers), a
            component's name, or `head.<task name>`.
        tasks: The tasks, to find a head by its column's header.

    Raises:
        ConfigError: A name that is none of these.
    """
    return _resolve("training.freeze", names, freeze, tasks)


def resolve_learning(names: Iterable[str], learn: Sequence[str], tasks: Sequence[TaskSpec]) -> frozenset[str]:
    """Turn what a person wrote under `training.phases.learn` into component names.

    Args:
        names: The components of the model.
        learn: As for `resolve_freeze`, and `heads`, `top.N`. The heads and new parts learn anyway.
        tasks: The tasks.

    Raises:
        ConfigError: A name that is none of these.
    """
    return fresh_parts(names) | _resolve("training.phases.learn", names, learn, tasks)


def _resolve(where: str, names: Iterable[str], chosen: Sequence[str], tasks: Sequence[TaskSpec]) -> frozenset[str]:
    names = list(names)
    layers = [name for name in names if name.startswith("layer.")]
    groups: dict[str, list[str]] = {
        "everything": names,
        "encoder": [name for name in names if name in {"embeddings", "other"} or name in layers],
        "heads": [name for name in names if name.startswith("head.")],
        **{f"bottom.{count}": ["embeddings", *layers[:count]] for count in range(1, len(layers) + 1)},
        **{f"top.{count}": layers[-count:] for count in range(1, len(layers) + 1)},
        **{name: [name] for name in names},
        **{f"head.{task.name}": [f"head.{task.key}"] for task in tasks},
    }
    unknown = next((name for name in chosen if name not in groups), None)
    if unknown is not None:
        choices = ["everything", "encoder", "bottom.N", "top.N", "heads", *names]
        raise ConfigError(f"{where}: there is no part {unknown}; there is {', '.join(choices)}.")
    return frozenset(part for name in chosen for part in groups[name])


def fresh_parts(names: Iterable[str]) -> frozenset[str]:
    """Name the parts that start without pretrained weights: heads, attention pooling, projection, LayerNorm."""
    return frozenset(name for name in names if name.startswith("head.") or name in NEW_PARTS.values())


def frozen_parts(names: Iterable[str], config: RunConfig, tasks: Sequence[TaskSpec]) -> frozenset[str]:
    """Name the parts that stay as they are throughout: `training.freeze`, and the heads whose task says so.

    A task that the configuration does not list is one of an earlier run; its head is kept as it is.

    Raises:
        ConfigError: `training.freeze` names a part that does not exist.
    """
    own = {f"head.{task.key}" for task in tasks if task.name not in config.tasks or config.tasks[task.name].freeze}
    return resolve_freeze(names, config.training.freeze or (), tasks) | own


def peak_rates(
    names: Iterable[str], config: RunConfig, tasks: Sequence[TaskSpec], phase: PhaseConfig | None = None
) -> dict[str, float]:
    """Return each component's peak learning rate, whether it learns or not.

    With a layer-wise decay d the layer i of L has the encoder's rate times d^(L - 1 - i), and the word embeddings, if
    they have no rate of their own, times d^L (Howard & Ruder 2018, arXiv:1801.06146; ELECTRA, arXiv:2003.10555).

    Args:
        names: The components of the model.
        config: Resolved.
        tasks: The tasks.
        phase: What is set otherwise in one phase of the run.
    """
    names, training, phase = list(names), config.training, phase or PhaseConfig()
    layers = [name for name in names if name.startswith("layer.")]
    encoder = phase.encoder_learning_rate or training.encoder_learning_rate
    decay = phase.layer_decay or training.layer_decay
    if encoder is None or decay is None or training.head_learning_rate is None:
        raise ConfigError("The learning rates are not resolved yet.")
    own = {f"head.{task.key}": config.tasks[task.name].learning_rate for task in tasks if task.name in config.tasks}
    lowest = phase.embeddings_learning_rate or training.embeddings_learning_rate
    rates: dict[str, float | None] = {
        "embeddings": lowest or encoder * decay ** len(layers),
        **{layer: encoder * decay ** (len(layers) - 1 - depth) for depth, layer in enumerate(layers)},
        **{part: training.projection_learning_rate for part in NEW_PARTS.values()},
    }
    heads = {name: phase.head_learning_rate or own.get(name) or training.head_learning_rate for name in names}
    return {name: heads[name] if name.startswith("head.") else rates.get(name) or encoder for name in names}


def parameter_groups(model: MultiTaskModel, config: RunConfig) -> list[ParameterGroup]:
    """List what the optimizer gets: all parts from the start, whether they learn at once, later or never.

    Args:
        model: Encoder and heads.
        config: Resolved.
    """
    return [
        ParameterGroup(name, decay, tuple(parameters))
        for name, part in components(model).items()
        for decay, parameters in _by_decay(part, config.training.weight_decay).items()
    ]


def _by_decay(part: nn.Module, weight_decay: float) -> dict[float, list[nn.Parameter]]:
    """Separate matrices, which decay, from biases and norms (vectors), which do not."""
    found: dict[float, list[nn.Parameter]] = {}
    for parameter in part.parameters():
        found.setdefault(weight_decay if parameter.ndim > 1 else 0.0, []).append(parameter)
    return found


def let_learn(model: MultiTaskModel, groups: Sequence[ParameterGroup], learning: Iterable[str]) -> None:
    """Let exactly the weights of these components require a gradient."""
    names = set(learning)
    model.requires_grad_(False)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(group.component in names)


def planned_sizes(encoder: SentenceTransformer, config: RunConfig) -> dict[str, int]:
    """Count the weights of each part of the model that a run would build, without building it.

    Args:
        encoder: The run's base encoder, loaded with any pooling.
        config: Prepared, so that the labels are known.
    """
    parts = {name: part for name, part in encoder_components(encoder).items() if name not in NEW_PARTS.values()}
    settings = config.encoder
    transformer: Any = encoder[0]
    size: int = transformer.get_embedding_dimension()
    with torch.device("meta"):  # modules with shapes and no weights
        modules = after_transformer(
            size,
            pooling=settings.pooling,
            projection=settings.projection,
            layer_norm=settings.layer_norm,
            normalize=settings.normalize,
        )
        parts |= {NEW_PARTS[type(module)]: module for module in modules if type(module) in NEW_PARTS}
        for task in task_specs(config):
            own = config.tasks.get(task.name, TaskConfig())
            widths = {"sentence_size": settings.projection or size, "token_size": size}
            parts[f"head.{task.key}"] = build_head(task, own, **widths)
    return part_sizes(parts)


def freeze_warnings(frozen_heads: Sequence[str]) -> list[str]:
    """Say what a person should know of the fresh heads that never learn; of everything frozen the plan speaks."""
    if frozen_heads:
        return [f"{' and '.join(frozen_heads)} is frozen at its random start, so the rest must adapt to it."]
    return []


def part_sizes(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Count the weights of each part."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def pretrained_parts(model: MultiTaskModel) -> frozenset[str]:
    """Name the parts whose starting weights come from the base encoder; all others start fresh."""
    parts = components(model)
    return frozenset(parts) - fresh_parts(parts)


def parameter_names(model: MultiTaskModel, names: Iterable[str]) -> list[str]:
    """List the state-dict names of all weights in these parts."""
    return [name for name, _ in _named(model, names)]


def _named(model: MultiTaskModel, names: Iterable[str]) -> list[tuple[str, nn.Parameter]]:
    parts = components(model)
    wanted = {id(parameter) for name in names for parameter in parts[name].parameters()}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in wanted]


def snapshot(model: MultiTaskModel, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Copy the weights of these parts."""
    return {name: parameter.detach().clone() for name, parameter in _named(model, names)}
