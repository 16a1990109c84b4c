from __future__ import annotations

from typing import Any

import pytest

from mtl.config import RunConfig, TaskConfig, resolve, task_specs
from mtl.config_text import from_dict
from mtl.data.splitting import Splits
from mtl.errors import ConfigError
from mtl.modeling.multitask import MultiTaskModel
from mtl.training.components import components, part_sizes
from mtl.training.events import EpochEnd, RunBegin, StepEnd
from mtl.training.loop import train
from mtl.training.plan import RatePlan
from mtl.training.schedules import rate_factor
from tests.training.test_loop import only, run

LAYERS = [f"layer.{number}" for number in range(6)]
SIZES = {"embeddings": 1000, **dict.fromkeys(LAYERS, 100), "pooling": 5, "head.topic": 3, "head.mood": 2}
TASKS = {
    "topic": {"kind": "classification", "labels": ["a", "b"]},
    "mood": {"kind": "classification", "labels": ["c", "d"]},
}


def planned(steps: int = 10, sizes: dict[str, int] | None = None, **training: Any) -> RatePlan:
    """Make the plan of a run with `steps` steps an epoch."""
    config = resolve(from_dict({"tasks": TASKS, "training": training}), 320)
    assert isinstance(config.training.epochs, int)
    return RatePlan(sizes or SIZES, config, task_specs(config), [steps] * config.training.epochs)


def test_plan_without_phases_is_one_phase_with_the_configured_peaks() -> None:
    plan = planned(freeze=["embeddings", "layer.0"], epochs=3, encoder_learning_rate=4e-5, head_learning_rate=0.02)
    (phase,) = plan.phases
    assert (phase.first_epoch, phase.last_epoch) == (1, 3)
    heads = {"pooling": 1e-3, "head.topic": 0.02, "head.mood": 0.02}
    assert phase.peaks == dict.fromkeys(LAYERS[1:], 4e-5) | heads
    assert plan.warnings == []


def test_plan_layerwise_decay_has_exact_rates() -> None:
    peaks = planned(preset="thorough", epochs=1, layer_decay=0.5, encoder_learning_rate=0.064).phases[0].peaks
    assert [peaks[layer] for layer in LAYERS] == pytest.approx([0.002, 0.004, 0.008, 0.016, 0.032, 0.064])
    assert peaks["embeddings"] == pytest.approx(0.001), "one more step below layer.0"
    own = planned(preset="thorough", epochs=1, embeddings_learning_rate=3e-7).phases[0].peaks
    assert own["embeddings"] == 3e-7


def test_plan_progressive_preset_is_heads_then_three_layers_more_then_all_slowly() -> None:
    plan = planned(preset="progressive", epochs=8)
    assert [(phase.first_epoch, phase.last_epoch) for phase in plan.phases] == [(1, 2), (3, 4), (5, 6), (7, 8)]
    fresh = {"pooling", "head.topic", "head.mood"}
    expected = [fresh, fresh | set(LAYERS[3:]), fresh | set(LAYERS), set(SIZES)]
    assert [set(phase.peaks) for phase in plan.phases] == expected
    last = plan.phases[-1].peaks
    assert last["layer.5"] == 1e-5
    assert last["layer.4"] == pytest.approx(9e-6)
    assert last["embeddings"] == pytest.approx(1e-5 * 0.9**6)
    assert plan.phases[1].peaks["layer.3"] == 5e-5


@pytest.mark.parametrize(
    ("unfreezing", "epochs", "phases"),
    [
        ({"heads_epochs": 0, "layers": 6, "epochs": 1}, 2, [(1, 1, 6), (2, 2, 7)]),
        ({"heads_epochs": 1, "layers": 4, "epochs": 2}, 9, [(1, 1, 0), (2, 3, 4), (4, 5, 6), (6, 9, 7)]),
        ({"heads_epochs": 1, "layers": 1, "epochs": 1}, 8, [(n, n, n - 1) for n in range(1, 9)]),
    ],
)
def test_plan_unfreezes_some_layers_at_a_time(
    unfreezing: dict[str, int], epochs: int, phases: list[tuple[int, int, int]]
) -> None:
    plan = planned(unfreezing=unfreezing, epochs=epochs, freeze="nothing")
    found = [
        (p.first_epoch, p.last_epoch, sum(name in p.peaks for name in ["embeddings", *LAYERS])) for p in plan.phases
    ]
    assert found == phases
    for phase in plan.phases:
        learning = [name in phase.peaks for name in LAYERS]
        assert learning == sorted(learning), "from the top"


def test_plan_what_is_frozen_stays_so_through_the_unfreezing() -> None:
    plan = planned(preset="progressive", freeze=["bottom.2", "head.mood"])
    assert plan.ever_learning == {*LAYERS[2:], "pooling", "head.topic"}


def test_plan_says_when_the_epochs_are_too_few() -> None:
    plan = planned(preset="progressive", epochs=3)
    assert [(phase.first_epoch, phase.last_epoch) for phase in plan.phases] == [(1, 2), (3, 3)]
    assert plan.warnings == ["3 epochs are too few: the last 2 phases of the unfreezing will not come."]


def test_plan_explicit_phases_set_what_learns_and_how_fast() -> None:
    plan = planned(
        freeze="nothing",
        phases=[
            {"epochs": 1, "learn": "heads", "head_learning_rate": 0.5},
            {"epochs": 2, "learn": ["top.2", "layer.0"], "encoder_learning_rate": 3e-5, "layer_decay": 0.5},
            {"learn": "everything", "embeddings_learning_rate": 1e-7},
        ],
    )
    assert plan.epochs == 4, "auto: as long as the phases"
    first, second, third = (phase.peaks for phase in plan.phases)
    assert first == {"pooling": 1e-3, "head.topic": 0.5, "head.mood": 0.5}
    assert {name: second[name] for name in LAYERS if name in second} == pytest.approx(
        {"layer.5": 3e-5, "layer.4": 1.5e-5, "layer.0": 3e-5 / 32}
    )
    assert set(third) == set(SIZES)
    assert (third["embeddings"], third["layer.0"]) == (1e-7, 5e-5)


def test_plan_refuses_a_part_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="training.phases.learn: there is no part layer.9"):
        planned(phases=[{"learn": "layer.9"}])
    with pytest.raises(ConfigError, match="give either unfreezing or phases"):
        planned(phases=[{"learn": "heads"}], unfreezing={})


def test_plan_rates_are_peak_times_schedule_of_the_whole_run() -> None:
    plan = planned(steps=5, preset="progressive", epochs=8, warmup=0.1, schedule="cosine")
    for step in range(1, plan.steps + 1):
        epoch = (step - 1) // 5 + 1
        factor = rate_factor("cosine", step - 1, steps=40, warmup=0.1)
        peaks = plan.phases[plan.phase(epoch) - 1].peaks
        assert plan.rates(step) == plan.rates(step, epoch) == {name: peak * factor for name, peak in peaks.items()}


def test_plan_a_head_may_have_a_schedule_of_its_own() -> None:
    config = resolve(from_dict({"tasks": TASKS, "training": {"epochs": 2, "warmup": 0}}), 320)
    tasks = config.tasks | {"mood": TaskConfig(**config.tasks["mood"].model_dump() | {"schedule": "constant"})}
    plan = RatePlan(SIZES, config.model_copy(update={"tasks": tasks}), task_specs(config), [4, 4])
    rates = [plan.rates(step) for step in range(1, 9)]
    assert [rate["head.mood"] for rate in rates] == [1e-2] * 8
    assert [rate["head.topic"] for rate in rates] == pytest.approx([1e-2 * (1 - step / 8) for step in range(8)])


def test_plan_epochs_may_differ_in_length() -> None:
    config = resolve(from_dict({"tasks": TASKS, "training": {"epochs": 3}}), 320)
    plan = RatePlan(SIZES, config, task_specs(config), [2, 5, 1])
    assert (plan.steps, [plan.first_step(epoch) for epoch in (1, 2, 3)]) == (8, [1, 3, 8])
    assert [plan.epoch_of(step) for step in range(1, 9)] == [1, 1, 2, 2, 2, 2, 2, 3]
    whole = plan.cost(2)
    assert [plan.cost(epoch) for epoch in (1, 3)] == pytest.approx([whole * 2 / 5, whole / 5])


def test_plan_cost_counts_forward_and_backward_of_each_layer() -> None:
    assert planned(freeze="nothing").cost(1) == pytest.approx(1.0)
    # 6 forward; the top 3 backward with weights
    assert planned(freeze="bottom.3", epochs=1).cost(1) == pytest.approx((6 + 3 * 2) / 18)
    # the gradient passes through layers 1 to 5, which do not learn, down to layer 0
    assert planned(freeze=["embeddings", *LAYERS[1:]], epochs=1).cost(1) == pytest.approx((6 + 2 + 5) / 18)
    once = planned(freeze="everything", epochs=2)
    assert [once.cost(1), once.cost(2)] == [pytest.approx(1 / 3), 0.0], "embedded once"
    without_new = {name: size for name, size in SIZES.items() if name != "pooling"}
    frozen = planned(sizes=without_new, preset="frozen", epochs=3)
    assert [round(frozen.cost(epoch), 3) for epoch in (1, 2, 3)] == [0.333, 0, 0]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["training.preset=progressive", "training.unfreezing.layers=1", "training.unfreezing.heads_epochs=1",
         "training.unfreezing.epochs=1", "training.epochs=4", "training.freeze=nothing"],
        ["training.layer_decay=0.7", "training.schedule=cosine", "tasks.mood.schedule=constant"],
        ["training.phases=[{epochs: 1, learn: heads}, {epochs: 1, learn: top.1, encoder_learning_rate: 1e-3}]",
         "training.epochs=3"],
    ],
    ids=["plain", "unfreezing", "decay", "phases"],
)  # fmt: skip
def test_plan_rates_that_ran_equal_the_preview_to_the_last_digit(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig, settings: list[str]
) -> None:
    sizes = part_sizes(components(tiny_model))
    events = run(tiny_model, tiny_splits, tiny_config, *settings, "training.patience=9")
    (begin,) = only(RunBegin, events)
    steps, ends = only(StepEnd, events), only(EpochEnd, events)
    assert len(ends) == begin.epochs
    for entry in begin.plan["epochs"]:
        own = [step for step in steps if step.epoch == entry["epoch"]]
        assert (own[0].step, own[-1].step) == (entry["first_step"], entry["last_step"])
        assert own[0].learning_rates == entry["first_rates"]
        assert own[-1].learning_rates == entry["last_rates"]
        assert ends[entry["epoch"] - 1].phase == entry["phase"]
    assert begin.plan["components"] == [{"name": name, "parameters": size} for name, size in sizes.items()]


def test_plan_unfreezing_leaves_a_part_bit_identical_until_its_phase(
    tiny_model: MultiTaskModel, tiny_splits: Splits, tiny_config: RunConfig
) -> None:
    from mtl.config_text import override

    settings = ["training.epochs=4", "training.freeze=nothing", "training.patience=9", "training.unfreezing.layers=1",
                "training.unfreezing.heads_epochs=1", "training.unfreezing.epochs=1"]  # fmt: skip
    parts = components(tiny_model)
    before = {name: [p.detach().clone() for p in part.parameters()] for name, part in parts.items()}
    changed: list[set[str]] = []
    modes: list[set[str]] = []
    for event in train(tiny_model, tiny_splits, override(tiny_config, settings)):
        if isinstance(event, StepEnd):
            modes.append({name for name, part in parts.items() if all(m.training for m in part.modules())})
        if isinstance(event, EpochEnd):
            changed.append(
                {
                    name
                    for name, part in parts.items()
                    if any((a != b).any() for a, b in zip(before[name], part.parameters(), strict=True))
                }
            )
    heads = {"head.topic", "head.mood"}
    expected = [heads, heads | {"layer.1"}, heads | {"layer.1", "layer.0"}, set(parts)]
    assert changed == expected
    assert modes[0] == heads
    assert modes[-1] == set(parts)
