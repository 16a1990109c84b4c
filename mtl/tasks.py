"""What a task is, as data: it is saved beside the weights and rebuilt from there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel

TaskKind = Literal["classification", "token_classification"]

# A head lives under its key in torch's ModuleDict, which refuses the names of its own attributes
# (tests/test_tasks.py holds this list equal to what torch refuses; transformers adds smart_apply to every module).
RESERVED_KEYS = frozenset(
    """add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory smart_apply state_dict to
    to_empty train training type update values xpu zero_grad t_destination""".split()
)


class TaskSpec(BaseModel, frozen=True):
    """One task: a column of the data and the head that learns it.

    Attributes:
        name: The column's header, verbatim; shown wherever people read it.
        key: A unique slug of the name, safe for modules, components and file names.
        kind: What the head predicts: one class per text, or one tag per word.
        labels: The classes in the order of the logits.
    """

    name: str
    key: str
    kind: TaskKind
    labels: tuple[str, ...]


def task_keys(names: Iterable[str]) -> dict[str, str]:
    """Give every task name a key that is safe in a module, a component and a file name, all different.

    >>> task_keys(["topic", "type", "a/b", "a.b"])
    {'topic': 'topic', 'type': 'type_1', 'a/b': 'a_b', 'a.b': 'a_b_1'}
    """
    keys: dict[str, str] = {}
    taken = set(RESERVED_KEYS)
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "task"
        key, number = stem, 1
        while key in taken:
            key, number = f"{stem}_{number}", number + 1
        taken.add(key)
        keys[name] = key
    return keys
