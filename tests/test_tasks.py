from __future__ import annotations

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from mtl.tasks import RESERVED_KEYS, TaskSpec, task_keys

SLUG = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*_?(_\d+)?")


def test_tasks_keys_are_slugs_of_the_names() -> None:
    assert task_keys(["topic", "type", "a/b", "a.b"]) == {
        "topic": "topic",
        "type": "type_1",
        "a/b": "a_b",
        "a.b": "a_b_1",
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Sentiment Label", "sentiment_label"),
        ("  spaced  ", "spaced"),
        ("тема", "task"),
        ("!!!", "task"),
        ("forward", "forward_1"),
        ("Training", "training_1"),
        ("../../etc", "etc"),
        ("x" * 100, "x" * 40),
    ],
)
def test_tasks_key_of_an_odd_name_is_safe(name: str, key: str) -> None:
    assert task_keys([name]) == {name: key}


def test_tasks_names_that_differ_only_in_case_or_script_get_different_keys() -> None:
    assert list(task_keys(["Topic", "topic", "TOPIC", "тема", "主题"]).values()) == [
        "topic",
        "topic_1",
        "topic_2",
        "task",
        "task_1",
    ]


def test_tasks_a_name_that_equals_another_names_numbered_key_stays_apart() -> None:
    keys = task_keys(["a", "a!", "a_1"])
    assert len(set(keys.values())) == 3


@given(st.lists(st.text(min_size=1), unique=True, max_size=12))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_tasks_keys_are_unique_safe_and_in_the_order_of_the_names(names: list[str]) -> None:
    keys = task_keys(names)
    assert list(keys) == names
    assert len(set(keys.values())) == len(names)
    assert all(SLUG.fullmatch(key) for key in keys.values())
    assert RESERVED_KEYS.isdisjoint(keys.values())


def test_tasks_reserved_keys_are_the_names_torch_refuses() -> None:
    from torch import nn

    own = {name for name in dir(nn.ModuleDict()) if not name.startswith("_")}
    # transformers gives every module a smart_apply once it has loaded a model
    assert {name.lower() for name in own} | {"smart_apply"} == RESERVED_KEYS
    for name in own:
        with pytest.raises((KeyError, TypeError, AttributeError)):
            nn.ModuleDict().add_module(name, nn.Identity())


def test_tasks_keys_of_reserved_names_are_accepted_by_torch() -> None:
    from torch import nn

    keys = task_keys(sorted(RESERVED_KEYS))
    heads = nn.ModuleDict({key: nn.Identity() for key in keys.values()})
    assert set(heads.keys()) == set(keys.values())


def test_tasks_spec_is_immutable_and_survives_json() -> None:
    spec = TaskSpec(name="a.b", key="a_b", kind="classification", labels=("no", "01", " x "))
    assert TaskSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError):
        spec.name = "other"  # type: ignore[misc]
