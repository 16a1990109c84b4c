from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from mtl.choices import SCHEDULE_HELP, Schedule
from mtl.training.schedules import SCHEDULES, rate_factor


def factors(schedule: Schedule, steps: int, warmup: float) -> list[float]:
    return [rate_factor(schedule, step, steps=steps, warmup=warmup) for step in range(steps)]


def test_schedules_has_an_entry_for_each_choice_of_the_configuration() -> None:
    assert set(SCHEDULES) == set(SCHEDULE_HELP)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0.2, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("linear", 0.0, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("constant", 0.4, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", 0.6, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627]),
    ],
)
def test_schedules_exact_values(schedule: Schedule, warmup: float, expected: list[float]) -> None:
    assert factors(schedule, 10, warmup) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_schedules_equal_those_of_transformers_after_the_warmup(schedule: Schedule, reference: object) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = reference(optimizer, num_warmup_steps=4, num_training_steps=40)  # type: ignore[operator]
    for step in range(40):
        if step >= 4:
            factor = rate_factor(schedule, step, steps=40, warmup=0.1)
            assert factor == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
def test_schedules_never_waste_a_step_nor_exceed_the_peak(schedule: Schedule, steps: int, warmup: float) -> None:
    assert all(0 < factor <= 1 for factor in factors(schedule, steps, warmup))
