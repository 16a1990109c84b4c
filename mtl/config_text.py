"""From text to a `RunConfig` and back: YAML, JSON values and `KEY=VALUE` settings; a mistake is one sentence.

YAML's plain scalars stay as typed until a field says what they are, so a label `no`, `01` or `1e-5` is that text.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mtl.config import RunConfig, Section, TaskConfig
from mtl.errors import ConfigError

MAX_YAML_BYTES = 262_144
MAX_YAML_DEPTH = 10


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars stay as typed: a label `no`, `01` or `1e-5` is text until a field says otherwise."""


class _Dumper(yaml.SafeDumper):
    """The standard dumper, which quotes every text that another reader could take for something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        return super().increase_indent(flow, False)


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(data))
_Dumper.add_representer(
    str,  # double quotes write a line break as an escape, so that every text stays on its line
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.splitlines() == [text] else '"'
    ),
)


def read_yaml(text: str, source: str = "the configuration") -> Any:
    """Parse YAML with every plain scalar kept as text.

    Raises:
        ConfigError: Not YAML, or larger than a configuration can be.
    """
    if len(text) > MAX_YAML_BYTES:
        raise ConfigError(f"{source} is larger than {MAX_YAML_BYTES // 1024} kB; that is not a configuration.")
    try:
        _check_plain(text, source)
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506  # a SafeLoader subclass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{source} is not valid YAML{where}: {problem}.") from None


def _check_plain(text: str, source: str) -> None:
    """Refuse what plain values do not need: aliases and tags, and nesting, whose cost grows with its square."""
    depth = 0
    for event in yaml.parse(text, Loader=_TextLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{source} uses YAML aliases (*name), which are not read here; write the value out.")
        if getattr(event, "tag", None):
            raise ConfigError(f"{source} uses YAML tags (!name), which are not read here; write the plain value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise ConfigError(f"{source} is nested too deeply; that is not a configuration.")


def from_dict(values: Any, source: str = "the configuration") -> RunConfig:
    """Validate plain values (YAML, JSON, the page) into a `RunConfig`.

    Raises:
        ConfigError: One sentence that names the field, what it got and what it takes.
    """
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must be a mapping with the sections {', '.join(RunConfig.model_fields)}.")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def load_config(path: Path | str) -> RunConfig:
    """Read a YAML file.

    Raises:
        ConfigError: The file is missing, not YAML, or holds a wrong value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror).lower()
        raise ConfigError(f"The configuration {path} cannot be read: {reason}.") from None
    return _from_text(text, str(path))


@lru_cache(maxsize=256)
def _from_text(text: str, source: str) -> RunConfig:
    """Read a text once: the page looks at the same runs again and again."""
    return from_dict(read_yaml(text, source), source)


def override(config: RunConfig, settings: list[str]) -> RunConfig:
    """Apply `KEY=VALUE` settings such as `training.epochs=3` or `tasks.topic.head=mlp`.

    Raises:
        ConfigError: No `=` in it, an unknown key or a wrong value.
    """
    values = config.model_dump(mode="json", exclude_defaults=True)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write it as KEY=VALUE, for instance training.epochs=3.")
        *path, field = _key_path(key.strip())
        section = values
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {setting}: {part} is a value, not a section.")
        section[field] = read_yaml(value, f"--set {setting}")
    return from_dict(values)


def _key_path(key: str) -> list[str]:
    """Split a dotted key; a task's name may itself hold dots, so its field is the last part."""
    section, _, rest = key.partition(".")
    if section == "tasks" and "." in rest:
        name, _, field = rest.rpartition(".")
        return [section, name, field]
    return key.split(".")


def to_yaml(config: RunConfig) -> str:
    """Write the whole configuration as YAML, every value with its one-line description."""
    return "\n".join(_yaml_lines(config, 0)) + "\n"


def _yaml_lines(section: Section, indent: int) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value, pad = getattr(section, name), "  " * indent
        if isinstance(value, Section):
            lines += [*([""] if indent == 0 else []), f"{pad}# {field.description}", f"{pad}{name}:"]
            lines += _yaml_lines(value, indent + 1)
        elif name == "tasks" and value:
            lines += ["", f"{pad}# {field.description}", f"{pad}{name}:"]
            for task, task_config in value.items():
                lines += [f"{pad}  {key_text(task)}:", *_yaml_lines(task_config, indent + 2)]
        else:
            lines += [*([""] if indent == 0 else []), f"{pad}{name}: {scalar(value)}  # {field.description}"]
    return lines


def key_text(name: str) -> str:
    """Write a key; YAML wants a long one marked by `?` and its colon on a line of its own."""
    text = scalar(name)
    return text if len(text) < 120 else f"? {text}\n  "


def scalar(value: Any) -> str:
    """Write a value in one line."""
    if isinstance(value, tuple):
        value = [part.model_dump(exclude_defaults=True) if isinstance(part, Section) else part for part in value]
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False
    )  # fmt: skip
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _sentence(error: ValidationError) -> str:
    """Say the first problem of a validation as one sentence: the field, what it got, what it takes."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        # a union adds the name of its failing branch below the field; only the field's own path is of use here
        location = location[:2] + [part for part in location[2:] if "[" not in part and part not in {"int", "float"}]
    where = ".".join(location) or "the configuration"
    given = first.get("input")
    shown = "" if isinstance(given, dict | BaseModel) else f" (it is {_short(given)})"
    if first["type"] == "extra_forbidden":
        return f"{where} is not a setting.{_did_you_mean(location)}"
    context = first.get("ctx", {})
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if first["type"] in bounds:
        words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
        bound = bounds[first["type"]]
        return f"{where} must be {words[bound]} {context[bound]:g}{shown}."
    if first["type"] == "literal_error":
        return f"{where} must be {context['expected']}{shown}."
    messages = {
        "int_parsing": "must be a whole number",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_parsing": "must be a number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "string_type": "must be text; put it in quotes",
        "string_too_short": "must not be empty",
        "invalid_key": "must be text; put it in quotes",
        "tuple_type": "must be a list",
        "dict_type": "must be a mapping of names to values",
        "model_type": "must be a mapping of names to values",
    }
    if first["type"] in messages:
        return f"{where} {messages[first['type']]}{shown}."
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}{'' if 'add up' in reason else shown}."


def _did_you_mean(location: list[str]) -> str:
    section: Any = RunConfig
    if location[:1] == ["tasks"]:
        section, location = TaskConfig, location[-1:]
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation
        section = next((kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")), section)
    close = difflib.get_close_matches(location[-1], section.model_fields, n=1)
    choices = f"Did you mean {close[0]}?" if close else f"There is: {', '.join(section.model_fields)}."
    return f" {choices}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
