from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings
from pydantic import BaseModel

from mtl import choices as module
from mtl import config as config_module
from mtl.choices import PRESETS
from mtl.config import (
    DataConfig,
    EncoderConfig,
    ReadingConfig,
    RunConfig,
    Section,
    SplitConfig,
    TaskConfig,
    TrainingConfig,
    resolve,
    task_specs,
)
from mtl.config_text import MAX_YAML_BYTES, from_dict, load_config, override, read_yaml, to_yaml
from mtl.errors import ConfigError

ROOT = Path(__file__).parents[1]
EVERY = settings(max_examples=200, derandomize=True, deadline=None)


def nested(key: str, value: Any) -> dict[str, Any]:
    """Turn `training.epochs` and 3 into `{"training": {"epochs": 3}}`."""
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


# -------------------------------------------------------------------------------------------------- what is refused

REFUSED: list[tuple[str, Any, str]] = [
    # not a number, or not a whole one
    ("training.epochs", "many", "training.epochs must be a whole number (it is 'many')"),
    ("training.epochs", 2.5, "training.epochs must be a whole number (it is 2.5)"),
    ("training.epochs", [1], "training.epochs must be a whole number (it is [1])"),
    ("training.epochs", True, "training.epochs: give a number, not true or false (it is True)"),
    ("training.batch_size", "2.5", "training.batch_size must be a whole number (it is '2.5')"),
    ("training.weight_decay", "a lot", "training.weight_decay must be a number (it is 'a lot')"),
    ("training.weight_decay", None, "training.weight_decay must be a number (it is None)"),
    ("training.weight_decay", False, "training.weight_decay: give a number, not true or false"),
    ("training.clip", "inf", "training.clip must be a finite number (it is 'inf')"),
    ("training.clip", float("nan"), "training.clip must be"),
    ("encoder.projection", "wide", "encoder.projection must be a whole number"),
    # out of range
    ("training.epochs", 0, "training.epochs must be at least 1 (it is 0)"),
    ("training.epochs", "1001", "training.epochs must be at most 1000 (it is '1001')"),
    ("training.batch_size", 1025, "training.batch_size must be at most 1024 (it is 1025)"),
    ("training.seed", -1, "training.seed must be at least 0 (it is -1)"),
    ("training.patience", 0, "training.patience must be at least 1"),
    ("training.warmup", 1, "training.warmup must be less than 1 (it is 1)"),
    ("training.clip", 0, "training.clip must be more than 0 (it is 0)"),
    ("training.encoder_learning_rate", 0, "training.encoder_learning_rate must be more than 0"),
    ("training.head_learning_rate", 2, "training.head_learning_rate must be at most 1 (it is 2)"),
    ("training.embeddings_learning_rate", "-1e-5", "training.embeddings_learning_rate must be more than 0"),
    ("encoder.max_length", 7, "encoder.max_length must be at least 8"),
    ("encoder.projection", 4097, "encoder.projection must be at most 4096"),
    ("encoder.name", "", "encoder.name must not be empty"),
    ("tasks.topic.loss_weight", -1, "tasks.topic.loss_weight must be at least 0 (it is -1)"),
    ("tasks.topic.dropout", 1, "tasks.topic.dropout must be less than 1"),
    ("data.split.train", 0, "data.split.train must be more than 0"),
    ("data.split.seed", 2**31, "data.split.seed must be at most"),
    ("data.split.train", 0.5, "data.split: train, validation and test must add up to 1; they add up to 0.8."),
    # none of the choices
    (
        "training.preset",
        "fast",
        "training.preset must be 'balanced', 'progressive', 'thorough', 'classic' or 'frozen' (it",
    ),
    ("training.optimizer", "sgd", "training.optimizer must be 'adamw' or 'adam' (it is 'sgd')"),
    ("training.schedule", 3, "training.schedule must be 'linear', 'cosine' or 'constant' (it is 3)"),
    ("training.select_by", "luck", "training.select_by must be 'mean_score', 'weighted_score' or 'validation_loss'"),
    ("encoder.pooling", "median", "encoder.pooling must be 'mean', 'cls', 'max' or 'attention' (it is 'median')"),
    ("tasks.topic.head", "deep", "tasks.topic.head must be 'linear' or 'mlp' (it is 'deep')"),
    ("tasks.topic.kind", "regression", "tasks.topic.kind must be 'classification' or 'token_classification'"),
    ("encoder.normalize", "maybe", "encoder.normalize must be true or false (it is 'maybe')"),
    ("encoder.layer_norm", None, "encoder.layer_norm must be true or false (it is None)"),
    # not text, not a list, not a section
    ("encoder.name", 5, "encoder.name must be text; put it in quotes (it is 5)"),
    ("data.text_column", 5, "data.text_column must be a list (it is 5)"),
    ("data.text_column", [5], "data.text_column.0 must be text; put it in quotes (it is 5)"),
    ("data.text_column", "", "data.text_column: one of the names is empty"),
    ("data.text_column", ["a", "a"], "data.text_column: one of the names is listed twice"),
    ("data.separate_tasks", "perhaps", "data.separate_tasks must be true or false (it is 'perhaps')"),
    ("data.reading", "utf-8", "data.reading must be a mapping of names to values (it is 'utf-8')"),
    ("data.reading.encoding", "", "data.reading.encoding must not be empty"),
    ("data.reading.encoding", 8, "data.reading.encoding must be text; put it in quotes (it is 8)"),
    ("data.reading.delimiter", "x", "data.reading.delimiter must be ',', ';', '\\t' or '|' (it is 'x')"),
    ("data.reading.quote", "`", "data.reading.quote must be '\"', \"'\" or '' (it is '`')"),
    ("data.reading.header", "perhaps", "data.reading.header must be true or false (it is 'perhaps')"),
    ("data.split.column", ["split"], "data.split.column must be text; put it in quotes (it is ['split'])"),
    ("data.split.group_column", "", "data.split.group_column must not be empty"),
    ("data.split.near_duplicates", 0.4, "data.split.near_duplicates must be at least 0.5 (it is 0.4)"),
    ("data.split.near_duplicates", 1.1, "data.split.near_duplicates must be at most 1 (it is 1.1)"),
    ("data.split.near_duplicates", True, "data.split.near_duplicates: give a number, not true or false"),
    ("tasks.topic.merge", "a", "tasks.topic.merge must be a mapping of names to values (it is 'a')"),
    ("tasks.topic.merge", {"a": 1}, "tasks.topic.merge.a must be text; put it in quotes (it is 1)"),
    ("tasks.topic.merge", {"a": "b", "b": "c"}, 'tasks.topic: merge: "b" is merged into another label and is one'),
    ("tasks.topic.merge", {"a": "a"}, 'tasks.topic: merge: "a" is merged into another label'),
    ("data.files", [1], "data.files.0 must be text; put it in quotes (it is 1)"),
    ("data.task_columns", ["topic", " "], "data.task_columns: one of the names is empty"),
    ("training.freeze", 5, "training.freeze must be a list (it is 5)"),
    ("training.freeze", ["encoder", "encoder"], "training.freeze: one of the names is listed twice"),
    ("tasks.topic.labels", ["a", 1], "tasks.topic.labels.1 must be text; put it in quotes (it is 1)"),
    ("tasks.topic.labels", ["a", None], "tasks.topic.labels.1 must be text; put it in quotes (it is None)"),
    ("tasks.topic.labels", ["a", "a"], "tasks.topic.labels: one of the names is listed twice (it is ['a', 'a'])"),
    ("tasks.topic.labels", ["a"], "tasks.topic: labels: a task needs at least two classes."),
    ("tasks.topic", {"kind": "classification", "main_score": "entity_f1"}, "tasks.topic: main_score: a classification"),
    (
        "tasks.topic.final_loss_weight",
        2,
        "the configuration: tasks.topic.final_loss_weight needs training.weighting=ramp",
    ),
    (
        "training.row_sampling",
        "weight_column",
        "the configuration: training.row_sampling=weight_column and data.weight",
    ),
    ("training.weighting", "magic", "training.weighting must be 'fixed', 'equal', 'log_classes'"),
    ("training.weighting_options.temperature", 0, "training.weighting_options.temperature must be more than 0"),
    ("training.unfreezing.layers", 0, "training.unfreezing.layers must be at least 1"),
    ("training.phases", [{"epochs": 0}], "training.phases.0.epochs must be at least 1"),
    ("training.curriculum.start", 2, "training.curriculum.start must be at most 1"),
    ("training.conflict_every", -1, "training.conflict_every must be at least 0"),
    ("tasks.topic", "mlp", "tasks.topic must be a mapping of names to values (it is 'mlp')"),
    ("tasks", ["topic"], "tasks must be a mapping of names to values (it is ['topic'])"),
    ("training", 5, "training must be a mapping of names to values (it is 5)"),
    ("data", None, "data must be a mapping of names to values (it is None)"),
    # not a setting
    ("trainin", {}, "trainin is not a setting. Did you mean training?"),
    ("training.epoch", 3, "training.epoch is not a setting. Did you mean epochs?"),
    ("data.split.validaton", 0.1, "data.split.validaton is not a setting. Did you mean validation?"),
    ("tasks.topic.hed", "mlp", "tasks.topic.hed is not a setting. Did you mean head?"),
    ("zzz", 1, "zzz is not a setting. There is: data, encoder, tasks, training."),
    ("data.split.qqq", 1, "data.split.qqq is not a setting. There is: train, validation, test, seed, column, group"),
    ("data.reading.qqq", 1, "data.reading.qqq is not a setting. There is: encoding, delimiter, quote, header."),
    ("data.reading.headers", True, "data.reading.headers is not a setting. Did you mean header?"),
    # names that look like what pydantic adds to the place of an error
    ("int", 1, "int is not a setting. There is: data, encoder, tasks, training."),
    ("training.x[0]", 1, "training.x[0] is not a setting. There is: preset"),
    ("tasks.float.head", "x", "tasks.float.head must be 'linear' or 'mlp'"),
    ("tasks.a[b].hed", "x", "tasks.a[b].hed is not a setting. Did you mean head?"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), REFUSED, ids=[f"{key}={value}" for key, value, _ in REFUSED])
def test_config_a_wrong_value_is_refused_in_a_sentence_that_names_it(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)) as caught:
        from_dict(nested(key, value))
    assert str(caught.value).endswith((".", "?"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[], 0, "text", False, [1], 3.5])
def test_config_what_is_no_mapping_is_refused_with_its_source(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml must be a mapping with the sections data, encoder, tasks, train"):
        from_dict(values, "my.yaml")


@pytest.mark.parametrize("values", [{5: 1}, {None: 1}, {"training": {3: 4}}, {"tasks": {5: {}}}])
def test_config_a_key_that_is_not_text_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match="must be text; put it in quotes"):
        from_dict(values)


def test_config_a_long_value_is_shortened_in_the_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({"training": {"optimizer": "x" * 10_000}})
    assert len(str(caught.value)) < 200


KEYS = st.sampled_from(
    ["data", "encoder", "tasks", "training", "split", "epochs", "labels", "freeze", "int", "a[b]", ""]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KEYS
ANYTHING = st.recursive(
    PLAIN, lambda some: st.lists(some, max_size=3) | st.dictionaries(KEYS, some, max_size=3), max_leaves=6
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, ANYTHING) | ANYTHING) | ANYTHING)
@EVERY
def test_config_any_values_give_a_config_or_an_error_for_people(values: Any) -> None:
    try:
        assert isinstance(from_dict(values), RunConfig)
    except ConfigError as error:
        assert len(str(error)) < 1_000


def test_config_is_immutable() -> None:
    config = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 3  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------- what is accepted


@pytest.mark.parametrize("values", [None, {}, {"training": {}}, {"data": {"split": {}}, "tasks": {}}])
def test_config_what_is_left_out_is_the_default(values: Any) -> None:
    assert from_dict(values) == RunConfig()


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "auto", "auto"),
        ("weight_decay", "1e-5", 1e-5),
        ("weight_decay", 0, 0.0),
        ("freeze", "nothing", ()),
        ("freeze", ["nothing"], ()),
        ("freeze", "", ()),
        ("freeze", [], ()),
        ("freeze", "encoder", ("encoder",)),
        ("freeze", "embeddings, layer.0", ("embeddings", "layer.0")),
        ("freeze", ["head.topic"], ("head.topic",)),
        ("freeze", None, None),
        ("clip", None, None),
    ],
)
def test_config_values_are_read_as_people_type_them(key: str, typed: Any, value: Any) -> None:
    assert getattr(from_dict({"training": {key: typed}}).training, key) == value


@pytest.mark.parametrize(("typed", "value"), [("true", True), ("no", False), ("off", False), (False, False)])
def test_config_yes_and_no_are_read_where_a_field_says_so(typed: Any, value: bool) -> None:
    assert from_dict({"encoder": {"normalize": typed}}).encoder.normalize is value


def test_config_fractions_may_be_off_by_rounding_only() -> None:
    third = {"train": 0.3333333, "validation": 0.3333333, "test": 0.3333333}
    assert from_dict({"data": {"split": third}}).data.split.train == 0.3333333
    with pytest.raises(ConfigError, match="add up to 0.99"):
        from_dict({"data": {"split": {"train": 0.69, "validation": 0.15, "test": 0.15}}})


def test_config_task_specs_carry_name_key_and_labels_in_order() -> None:
    config = RunConfig(tasks={"a.b": TaskConfig(labels=("z", "a")), "type": TaskConfig(labels=("no", "yes"))})
    first, second = task_specs(config)
    assert (first.name, first.key, first.labels) == ("a.b", "a_b", ("z", "a"))
    assert (second.name, second.key, second.labels) == ("type", "type_1", ("no", "yes"))


# ------------------------------------------------------------------------------------------------------------- YAML

LABELS = st.sampled_from(
    ["no", "yes", "01", "null", "~", "1e-5", "true", "1:30", "2024-01-01", "...", "---", "<<", "=", "- a", "a: b", "#"]
) | st.text(st.sampled_from("ab: #'\"\n\r\t\\-.[]{},&*!|>%@`?~é😀\x85\u2028\u00a0\x07"), min_size=1, max_size=8)
WORDS = (LABELS | st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)).filter(str.strip)
NAMES = st.lists(WORDS, unique=True, max_size=4).map(tuple)
RATES = st.none() | st.floats(min_value=1e-12, max_value=1, exclude_min=True)
SPLITS = st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0), (0.5, 0.25, 0.25)])
SPLIT_CONFIGS = st.builds(
    lambda fractions, **others: SplitConfig(train=fractions[0], validation=fractions[1], test=fractions[2], **others),
    SPLITS,
    seed=st.integers(0, 2**31 - 1),
    column=st.none() | st.just("") | WORDS,
    group_column=st.none() | WORDS,
    near_duplicates=st.none() | st.floats(0.5, 1),
)
READING_CONFIGS = st.builds(
    ReadingConfig,
    encoding=st.none() | WORDS,
    delimiter=st.none() | st.sampled_from([*module.DELIMITER_NAMES, *module.DELIMITER_NAMES.values()]),
    quote=st.none() | st.sampled_from([*module.QUOTE_NAMES, *module.QUOTE_NAMES.values()]),
    header=st.none() | st.booleans(),
)
MERGES = st.dictionaries(WORDS, WORDS, max_size=3).map(
    lambda merge: {label: into for label, into in merge.items() if into not in merge}
)


def choices(model: type[BaseModel], field: str) -> st.SearchStrategy[str]:
    """Draw one of the values of a `Literal` field."""
    return st.sampled_from(get_args(model.model_fields[field].annotation))


CONFIGS = st.builds(
    RunConfig,
    data=st.builds(
        DataConfig,
        files=NAMES,
        reading=READING_CONFIGS,
        text_column=st.none() | NAMES,
        task_columns=st.none() | NAMES,
        separate_tasks=st.none() | st.booleans(),
        split=SPLIT_CONFIGS,
    ),
    encoder=st.builds(
        EncoderConfig,
        name=WORDS,
        pooling=choices(EncoderConfig, "pooling"),
        projection=st.none() | st.integers(2, 4096),
        layer_norm=st.booleans(),
        normalize=st.booleans(),
        max_length=st.none() | st.integers(8, 8192),
    ),
    tasks=st.dictionaries(
        WORDS,
        st.builds(
            TaskConfig,
            labels=st.none() | st.lists(WORDS, unique=True, min_size=2, max_size=4).map(tuple),
            merge=MERGES,
            head=choices(TaskConfig, "head"),
            dropout=st.floats(0, 0.99),
            learning_rate=RATES,
            loss_weight=st.floats(0, 1000),
        ),
        max_size=3,
    ),
    training=st.builds(
        TrainingConfig,
        preset=choices(TrainingConfig, "preset"),
        epochs=st.none() | st.just("auto") | st.integers(1, 1000),
        batch_size=st.none() | st.integers(1, 1024),
        freeze=st.none() | st.lists(st.sampled_from(["encoder", "layer.0", "head.a b"]), unique=True).map(tuple),
        optimizer=choices(TrainingConfig, "optimizer"),
        schedule=choices(TrainingConfig, "schedule"),
        select_by=choices(TrainingConfig, "select_by"),
        encoder_learning_rate=RATES,
        head_learning_rate=RATES,
        warmup=st.none() | st.floats(0, 0.99),
        clip=st.none() | st.floats(min_value=1e-6, max_value=1e6),
        patience=st.none() | st.integers(1, 1000),
    ),
)


@given(CONFIGS)
@EVERY
def test_config_yaml_gives_back_the_config_that_was_written(config: RunConfig) -> None:
    assert from_dict(read_yaml(to_yaml(config))) == config


@given(CONFIGS)
@EVERY
def test_config_yaml_means_the_same_to_an_ordinary_reader(config: RunConfig) -> None:
    plain = yaml.safe_load(to_yaml(config))
    assert from_dict(plain) == config


@given(CONFIGS)
@EVERY
def test_config_what_dumps_as_plain_values_reads_back(config: RunConfig) -> None:
    assert from_dict(config.model_dump(mode="json")) == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("length", [119, 120, 1_000, 1_025, 5_000])
def test_config_yaml_takes_task_names_of_any_length(length: int) -> None:
    config = RunConfig(tasks={"n" * length: TaskConfig(), "other": TaskConfig()})
    assert from_dict(read_yaml(to_yaml(config))) == config


def test_config_yaml_says_what_every_value_is() -> None:
    lines = to_yaml(RunConfig(tasks={"topic": TaskConfig()})).splitlines()
    for section in (SplitConfig, ReadingConfig, DataConfig, EncoderConfig, TaskConfig, TrainingConfig):
        for name, field in section.model_fields.items():
            where = [number for number, line in enumerate(lines) if line.strip().startswith(f"{name}:")]
            assert any(str(field.description) in line for n in where for line in lines[n - 1 : n + 1]), name


def test_config_plain_labels_stay_as_typed() -> None:
    text = "tasks: {topic: {labels: [no, yes, 01, 1e-5, true, 2024-01-01, 0x1F, 1_000, .inf, on]}}"
    expected = ("no", "yes", "01", "1e-5", "true", "2024-01-01", "0x1F", "1_000", ".inf", "on")
    assert from_dict(read_yaml(text)).tasks["topic"].labels == expected


def test_config_a_plain_null_is_no_label_but_a_quoted_one_is() -> None:
    assert from_dict(read_yaml("tasks: {t: {labels: ['null', '~']}}")).tasks["t"].labels == ("null", "~")
    with pytest.raises(ConfigError, match=r"tasks\.t\.labels\.0 must be text; put it in quotes"):
        from_dict(read_yaml("tasks: {t: {labels: [null, other]}}"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &x 1\nb: *x", r"uses YAML aliases \(\*name\)"),
        ("a: *x", "uses YAML aliases"),
        ("a: !!int 5", r"uses YAML tags \(!name\)"),
        ("a: !!bool maybe", "uses YAML tags"),
        ("a: !!timestamp x", "uses YAML tags"),
        ("!!python/object/apply:os.getcwd []", "uses YAML tags"),
        ("a: !mine 5", "uses YAML tags"),
        ("a: 'open", "is not valid YAML in line 1"),
        ("a: 1\n\tb: 2", "is not valid YAML in line 2"),
        ("a: b: c", "is not valid YAML in line 1"),
        ("? [a]\n: b", "is not valid YAML in line 1"),
        ("a: 1\n---\nb: 2", "is not valid YAML in line 2"),
        ("a: \x00", "is not valid YAML"),
        ("[" * 100_000, "is nested too deeply"),
        ("- " * 100_000, "is nested too deeply"),
        ("? " * 100_000, "is nested too deeply"),
        ("a" * (MAX_YAML_BYTES + 1), "is larger than 256 kB"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_config_yaml_that_is_not_plain_values_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"^my\.yaml {sentence}"):
        read_yaml(text, "my.yaml")


@given(st.text(st.sampled_from("ab: -#'\"\n\t[]{},&*!|>%@?~0\\"), max_size=40) | st.text(max_size=20))
@EVERY
def test_config_any_text_is_yaml_or_an_error_for_people(text: str) -> None:
    try:
        read_yaml(text)
    except ConfigError as error:
        assert str(error).startswith("the configuration")


def test_config_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text("tasks:\n  Grüße: {labels: [é, 東京]}\n", encoding=encoding)
        assert load_config(path).tasks["Grüße"].labels == ("é", "東京")


def test_config_an_empty_file_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# nothing set\n")
    assert load_config(str(path)) == RunConfig()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: no such file"),
        (b"a: \xff", "cannot be read: it is not UTF-8 text"),
        (b"a: 'open", r"run\.yaml is not valid YAML"),
        (b"- a", r"run\.yaml must be a mapping"),
        (b"training: {epochs: -1}", r"training\.epochs must be at least 1"),
    ],
)
def test_config_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        load_config(path)


# --------------------------------------------------------------------------------------------------------- override

GIVEN = RunConfig(tasks={"topic": TaskConfig(loss_weight=2)}, training=TrainingConfig(epochs=5, clip=None))


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("training.epochs=3", "training.epochs", 3),
        ("training.epochs=auto", "training.epochs", "auto"),
        (" training.epochs = 3 ", "training.epochs", 3),
        ("training.clip=0.5", "training.clip", 0.5),
        ("training.epochs=null", "training.epochs", None),
        ("training.epochs=", "training.epochs", None),
        ("training.freeze=nothing", "training.freeze", ()),
        ("training.freeze=[encoder, head.topic]", "training.freeze", ("encoder", "head.topic")),
        ("encoder.name=a=b", "encoder.name", "a=b"),
        ("encoder.normalize=no", "encoder.normalize", False),
        ("data.text_column=no", "data.text_column", ("no",)),
        ("data.text_column=title, or so", "data.text_column", ("title, or so",)),
        ("data.text_column=[title, body]", "data.text_column", ("title", "body")),
        ("data.text_column=null", "data.text_column", None),
        ("data.separate_tasks=yes", "data.separate_tasks", True),
        ("data.separate_tasks=", "data.separate_tasks", None),
        ("data.reading.encoding=cp1252", "data.reading.encoding", "cp1252"),
        ("data.reading.delimiter=tab", "data.reading.delimiter", "\t"),
        ("data.reading.delimiter=;", "data.reading.delimiter", ";"),
        ("data.reading.delimiter='|'", "data.reading.delimiter", "|"),
        ("data.reading.quote=single", "data.reading.quote", "'"),
        ("data.reading.quote=none", "data.reading.quote", ""),
        ("data.reading.quote=", "data.reading.quote", None),
        ("data.reading.header=no", "data.reading.header", False),
        ("data.split.column=''", "data.split.column", ""),
        ("data.split.column=", "data.split.column", None),
        ("data.split.group_column=author", "data.split.group_column", "author"),
        ("data.split.near_duplicates=0.95", "data.split.near_duplicates", 0.95),
        ("data.split.seed=7", "data.split.seed", 7),
        ("data.split={train: 0.8, validation: 0.2, test: 0}", "data.split.train", 0.8),
    ],
)
def test_config_override_sets_one_value(setting: str, key: str, value: Any) -> None:
    found: Any = override(GIVEN, [setting])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_config_override_leaves_everything_else() -> None:
    found = override(GIVEN, ["training.batch_size=8"])
    assert found == GIVEN.model_copy(update={"training": GIVEN.training.model_copy(update={"batch_size": 8})})


@given(CONFIGS)
@EVERY
def test_config_override_with_nothing_changes_nothing(config: RunConfig) -> None:
    assert override(config, []) == config


@pytest.mark.parametrize(
    ("setting", "task"),
    [("tasks.topic.head=mlp", "topic"), ("tasks.new.head=mlp", "new"), ("tasks.a.b.c.head=mlp", "a.b.c")],
)
def test_config_override_reaches_a_task_by_its_name_even_with_dots(setting: str, task: str) -> None:
    found = override(GIVEN, [setting])
    assert found.tasks[task].head == "mlp"
    assert found.tasks["topic"].loss_weight == 2


def test_config_override_adds_a_task_by_its_name_alone() -> None:
    assert tuple(override(GIVEN, ["tasks.mood={}"]).tasks) == ("topic", "mood")


def test_config_override_sets_a_merge() -> None:
    found = override(GIVEN, ["tasks.topic.merge={Sport: sport, 01: '1', no: 1e-5}"])
    assert found.tasks["topic"].merge == {"Sport": "sport", "01": "1", "no": "1e-5"}


def test_config_override_the_last_setting_wins() -> None:
    assert override(GIVEN, ["training.epochs=3", "training.epochs=4"]).training.epochs == 4


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.epochs", "--set training.epochs: write it as KEY=VALUE"),
        ("training.epochs=many", "training.epochs must be a whole number"),
        ("training.epoch=3", "training.epoch is not a setting. Did you mean epochs?"),
        ("traning.epochs=3", "traning is not a setting. Did you mean training?"),
        ("training.epochs.more=3", "--set training.epochs.more=3: epochs is a value, not a section"),
        ("encoder.name=[a", "--set encoder.name=[a is not valid YAML"),
        ("tasks.topic.hed=mlp", "tasks.topic.hed is not a setting. Did you mean head?"),
        ("data.split.train=0.9", "data.split: train, validation and test must add up to 1"),
        ("=3", "the configuration is not a setting"),
    ],
)
def test_config_override_refuses_what_it_cannot_set(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        override(GIVEN, [setting])


# ---------------------------------------------------------------------------------------------------------- resolve


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        (
            "balanced",
            {
                "epochs": 3,
                "batch_size": 32,
                "patience": 3,
                "warmup": 0.1,
                "freeze": ("embeddings",),
                "embeddings_learning_rate": 5e-6,
                "encoder_learning_rate": 5e-5,
                "head_learning_rate": 1e-2,
            },
        ),
        (
            "classic",
            {
                "epochs": 10,
                "batch_size": 32,
                "patience": 2,
                "warmup": 0.1,
                "freeze": (),
                "embeddings_learning_rate": 1e-6,
                "encoder_learning_rate": 1e-5,
                "head_learning_rate": 1e-4,
                "optimizer": "adamw",
            },
        ),
        ("frozen", {"epochs": 20, "batch_size": 32, "patience": 5, "freeze": ("encoder",), "head_learning_rate": 1e-2}),
    ],
)
def test_config_resolve_fills_in_the_presets_values(preset: str, values: dict[str, Any]) -> None:
    found = resolve(from_dict({"training": {"preset": preset}}), 2_000).training
    assert {name: getattr(found, name) for name in values} == values
    assert found.preset == preset


@pytest.mark.parametrize("preset", PRESETS)
def test_config_resolve_leaves_nothing_open(preset: str) -> None:
    found = resolve(from_dict({"training": {"preset": preset}}), 500).training
    open_ = {name for name, value in found.model_dump().items() if value is None}
    # none of these is what a person leaves to the app
    assert open_ <= {"start_from", "unfreezing", "curriculum", "clip_per_task", "embeddings_learning_rate"}
    assert isinstance(found.epochs, int)


@pytest.mark.parametrize(
    ("tasks", "training_rows", "batch_size", "epochs"),
    [
        (1, 200, 32, 15),  # 7 steps an epoch, 105 in all
        (2, 200, 32, 22),  # 154
        (3, 200, 32, 29),  # 203
        (1, 2_000, 32, 3),  # 63 steps an epoch: two epochs would do, three are the least
        (3, 2_000, 32, 4),
        (5, 20_000, 32, 3),
        (0, 200, 8, 4),  # 25 steps an epoch, 100 in all
        (1, 1, 32, 100),
        (2, 0, 32, 150),
        (0, 32, 32, 100),
        (1, 33, 32, 50),
    ],
)
def test_config_resolve_auto_epochs_are_enough_steps_for_the_tasks(
    tasks: int, training_rows: int, batch_size: int, epochs: int
) -> None:
    config = from_dict({"tasks": {f"task {i}": {} for i in range(tasks)}, "training": {"batch_size": batch_size}})
    assert resolve(config, training_rows).training.epochs == epochs


def test_config_resolve_the_heads_rate_follows_what_the_heads_see() -> None:
    assert resolve(from_dict({"encoder": {"normalize": False}}), 200).training.head_learning_rate == 1e-3
    assert resolve(from_dict({"encoder": {"normalize": True}}), 200).training.head_learning_rate == 1e-2
    classic = {"encoder": {"normalize": False}, "training": {"preset": "classic"}}
    assert resolve(from_dict(classic), 200).training.head_learning_rate == 1e-4


@pytest.mark.parametrize("preset", PRESETS)
def test_config_resolve_what_the_person_gave_wins_over_the_preset(preset: str) -> None:
    chosen = {"epochs": 7, "batch_size": 5, "freeze": (), "warmup": 0.0, "head_learning_rate": 0.5, "clip": None}
    found = resolve(from_dict({"training": {"preset": preset, **chosen}}), 200).training
    assert {name: getattr(found, name) for name in chosen} == chosen


@given(CONFIGS, st.integers(0, 100_000), st.integers(0, 100_000))
@EVERY
def test_config_resolve_is_final_and_touches_training_only(config: RunConfig, rows: int, other_rows: int) -> None:
    resolved = resolve(config, rows)
    assert resolve(resolved, other_rows) == resolved
    assert (resolved.data, resolved.encoder, resolved.tasks) == (config.data, config.encoder, config.tasks)
    given = {name: value for name, value in config.training.model_dump().items() if value not in (None, "auto")}
    found = resolved.training.model_dump()
    assert {name: found[name] for name in given} == given


# ------------------------------------------------------------------------------- the file in the repository, and help


def test_config_the_repositorys_file_is_the_defaults_on_the_sample() -> None:
    config = load_config(ROOT / "config.yaml")
    assert config == RunConfig(data=DataConfig(files=config.data.files))
    assert all((ROOT / name).is_file() for name in config.data.files)
    assert len(config.data.files) == 1


def test_config_the_repositorys_file_is_complete() -> None:
    values = read_yaml((ROOT / "config.yaml").read_text(encoding="utf-8"))

    def compare(section: type[Section], given: Mapping[str, Any]) -> None:
        assert list(given) == list(section.model_fields)
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                compare(field.annotation, given[name])

    compare(RunConfig, values)


@pytest.mark.parametrize(
    ("help_", "choices"),
    [
        (module.POOLING_HELP, module.Pooling),
        (module.HEAD_HELP, module.HeadShape),
        (module.OPTIMIZER_HELP, module.Optimizer),
        (module.SCHEDULE_HELP, module.Schedule),
        (module.SELECTION_HELP, module.Selection),
        (module.PHASE_PATIENCE_HELP, module.PhasePatience),
        (module.LOSS_HELP, module.Loss),
        (module.CLASS_WEIGHTS_HELP, module.ClassWeights),
        (module.WEIGHTING_HELP, module.Weighting),
        (module.SAMPLING_HELP, module.Sampling),
        (module.ROW_SAMPLING_HELP, module.RowSampling),
        (module.SCORES, module.TaskKind),
        (module.SCORE_NAMES, module.Score),
        (module.PRESET_HELP, module.Preset),
        (module.PRESETS, module.Preset),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value)[:40],
)
def test_config_every_choice_has_its_help(help_: dict[str, Any], choices: Any) -> None:
    assert tuple(help_) == get_args(choices)
    assert all(help_.values())


def test_config_help_describes_what_there_is_to_build_with() -> None:
    from mtl.modeling.pooling import POOLINGS
    from mtl.training.schedules import SCHEDULES
    from mtl.training.setup import OPTIMIZERS

    assert set(module.POOLING_HELP) == set(POOLINGS)
    assert set(module.OPTIMIZER_HELP) == set(OPTIMIZERS)
    assert set(module.SCHEDULE_HELP) == set(SCHEDULES)


def test_config_delimiters_and_quotes_are_those_that_are_read() -> None:
    from mtl.data.dialect import DELIMITERS, QUOTES

    assert {mark: name for name, mark in module.DELIMITER_NAMES.items()} == DELIMITERS
    assert {mark: name for name, mark in module.QUOTE_NAMES.items()} == QUOTES
    assert get_args(module.Delimiter) == tuple(DELIMITERS)
    assert get_args(module.Quote) == tuple(QUOTES)


SECTIONS = [value for value in vars(config_module).values() if isinstance(value, type) and issubclass(value, Section)]


@pytest.mark.parametrize("section", SECTIONS)
def test_config_every_field_has_its_one_line_description(section: type[Section]) -> None:
    for field in section.model_fields.values():
        assert field.description
        assert "\n" not in field.description


def test_config_a_single_name_stands_for_a_list_of_one() -> None:
    config = override(RunConfig(), ["data.files=a.csv", "data.task_columns=topic, and more"])
    assert config.data.files == ("a.csv",)
    assert config.data.task_columns == ("topic, and more",)
