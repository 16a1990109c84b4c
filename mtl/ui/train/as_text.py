"""A configuration as text to take away: YAML of what differs from the defaults, and a command that trains the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.config import RunConfig, Section, TaskConfig
from mtl.config_text import key_text, scalar

NOTHING = "# Every setting is the default.\n"


@dataclass(frozen=True)
class Setting:
    """A value that is not the default.

    Attributes:
        path: The sections it is in, and its name.
        value: What it is.
        about: What it means.
    """

    path: tuple[str, ...]
    value: Any
    about: str


def differing(config: RunConfig) -> list[Setting]:
    """List the settings that are not the default."""
    return list(_differing(config, RunConfig(), ()))


def _differing(section: Section, usual: Section, path: tuple[str, ...]) -> Iterator[Setting]:
    for name, field in type(section).model_fields.items():
        value, other, here = getattr(section, name), getattr(usual, name), (*path, name)
        if name == "tasks" and not path:
            for task, own in value.items():
                found = list(_differing(own, TaskConfig(), (*here, task)))
                yield from found or [Setting((*here, task), {}, field.description or "")]
        elif isinstance(value, Section) and isinstance(other, Section):
            yield from _differing(value, other, here)
        elif value != other:
            yield Setting(here, value, field.description or "")


def differing_yaml(config: RunConfig) -> str:
    """Write the settings that are not the default as YAML, each with what it means."""
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for setting in differing(config):
        *sections, name = setting.path
        shared = next((i for i, (a, b) in enumerate(zip(before, sections, strict=False)) if a != b), None)
        start = min(len(before), len(sections)) if shared is None else shared
        for depth in range(start, len(sections)):
            lines += [*([""] if lines and not depth else []), f"{'  ' * depth}{key_text(sections[depth])}:"]
        lines.append(f"{'  ' * len(sections)}{key_text(name)}: {as_scalar(setting.value)}  # {setting.about}")
        before = tuple(sections)
    return "\n".join(lines) + "\n" if lines else NOTHING


def command(config: RunConfig, files: Sequence[str]) -> str:
    """Write the command that trains with this configuration, quoted for a shell.

    Args:
        config: The run's.
        files: What the person calls the files.
    """
    named = [f"./{name}" if name.startswith("-") else name for name in files or ["FILE.csv"]]
    data = [part for name in named for part in ("--data", name)]
    settings = [part for setting in _settings(config) for part in ("--set", setting)]
    words = ["python", "-m", "mtl", "train", *data, *settings]
    return " ".join(shlex.quote(word) for word in words)


def command_settings(config: RunConfig) -> list[str]:
    """Return the `KEY=VALUE` settings of the command."""
    return list(_settings(config))


def _settings(config: RunConfig) -> Iterator[str]:
    found = [setting for setting in differing(config) if setting.path != ("data", "files")]
    # a key ends at its first "=", so a task with one in its name cannot be a part of a key
    whole = any("=" in name for name in config.tasks)
    for setting in found:
        if not (whole and setting.path[0] == "tasks"):
            yield f"{'.'.join(setting.path)}={as_scalar(setting.value)}"
    if whole:
        tasks = {name: task.model_dump(mode="json", exclude_defaults=True) for name, task in config.tasks.items()}
        yield f"tasks={as_scalar(tasks)}"


def as_scalar(value: Any) -> str:
    """Write a value on one line, as YAML reads it; numbers as short as they are exact."""
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if exponent else mantissa
    return scalar(value.model_dump(exclude_defaults=True) if isinstance(value, Section) else value)
