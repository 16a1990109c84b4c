"""RunConfig: every value a run depends on, validated once and written beside its results.

The page, a YAML file, the command line and the API all build a `RunConfig`, and nothing else reaches a run.
A field left at `None` (or `auto`) is resolved before the run starts, by `resolve` and by what the data and the
encoder say, and the resolved value is what the run folder keeps. Modules never see a config: builders unpack it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from mtl.tasks import TaskKind, TaskSpec, task_keys

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

Pooling = Literal["mean", "cls", "max", "attention"]
HeadShape = Literal["linear", "mlp"]
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["linear", "cosine", "constant"]
Selection = Literal["mean_score", "validation_loss"]
Precision = Literal["auto", "float32", "bfloat16"]
Attention = Literal["auto", "eager", "sdpa"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Preset = Literal["balanced", "classic", "frozen"]

Delimiter = Literal[",", ";", "\t", "|"]
Quote = Literal['"', "'", ""]

DELIMITER_NAMES: dict[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
QUOTE_NAMES: dict[str, str] = {"double": '"', "single": "'", "none": ""}
POOLING_HELP: dict[Pooling, str] = {
    "mean": "the average of all token vectors; what the default encoder was trained with",
    "cls": "the vector of the first token",
    "max": "the largest value of each dimension over the tokens",
    "attention": "a learned weighted average; starts as the mean",
}
HEAD_HELP: dict[HeadShape, str] = {
    "linear": "one linear layer",
    "mlp": "a hidden layer as wide as its input, GELU, dropout, then a linear layer",
}
OPTIMIZER_HELP: dict[Optimizer, str] = {
    "adamw": "Adam with decoupled weight decay",
    "adam": "Adam; weight decay is added to the gradient",
}
SCHEDULE_HELP: dict[Schedule, str] = {
    "linear": "down to zero in a straight line after the warm-up",
    "cosine": "down to zero along half a cosine after the warm-up",
    "constant": "unchanged after the warm-up",
}
SELECTION_HELP: dict[Selection, str] = {
    "mean_score": "highest mean over the tasks of the validation macro F1",
    "validation_loss": "lowest weighted validation loss",
}
PRESET_HELP: dict[Preset, str] = {
    "balanced": "word embeddings frozen, the layers at 5e-5, heads fast: good on 200 rows and on 20,000",
    "classic": "everything trained at small rates for ten epochs (1e-6 / 1e-5 / 1e-4): careful and slow",
    "frozen": "only the heads learn; the encoder stays exactly as it is: fast, and a strong baseline",
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "balanced": {
        "epochs": "auto", "batch_size": 32, "patience": 3, "warmup": 0.1, "freeze": ("embeddings",),
        "embeddings_learning_rate": 5e-6, "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3,
    },
    "classic": {
        "epochs": 10, "batch_size": 32, "patience": 2, "warmup": 0.1, "freeze": (),
        "embeddings_learning_rate": 1e-6, "encoder_learning_rate": 1e-5, "projection_learning_rate": 1e-4,
        "head_learning_rate": 1e-4,
    },
    "frozen": {
        "epochs": 20, "batch_size": 32, "patience": 5, "warmup": 0.1, "freeze": ("encoder",),
        "embeddings_learning_rate": 5e-6, "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3,
    },
}  # fmt: skip
MIN_AUTO_EPOCHS, MIN_AUTO_STEPS = 3, 100


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def _nothing(value: Any) -> Any:
    """Let a single name stand for a list of one, and `nothing` for the empty list."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return () if value in (["nothing"], ("nothing",), [""]) else value


def _one(value: Any) -> Any:
    """Let a single name stand for a list of one, as `--set data.task_columns=topic` means it."""
    return (value,) if isinstance(value, str) else value


def _distinct(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for value in values or ():
        if not value.strip():
            raise ValueError("one of the names is empty")
    if values and len(set(values)) < len(values):
        raise ValueError("one of the names is listed twice")
    return values


def _mark(names: dict[str, str]) -> BeforeValidator:
    """Let a mark be given by its name, `tab` or `single`, as well as by itself."""
    return BeforeValidator(lambda value: names.get(value, value) if isinstance(value, str) else value)


Whole = Annotated[int, BeforeValidator(_no_bool)]
Real = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Rate = Annotated[Real, Field(gt=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one), AfterValidator(_distinct)]


class Section(BaseModel, frozen=True, extra="forbid", validate_default=True):
    """A part of the configuration: immutable, and a misspelt name is an error."""


class ReadingConfig(Section):
    """How the file's bytes become a table; what is null is guessed, and the page shows the guess."""

    encoding: str | None = Field(None, min_length=1, description="utf-8, utf-16, cp1252 …; null: guessed")
    delimiter: Annotated[Delimiter, _mark(DELIMITER_NAMES)] | None = Field(
        None, description="comma, semicolon, tab or bar; null: guessed"
    )
    quote: Annotated[Quote, _mark(QUOTE_NAMES)] | None = Field(
        None, description="What encloses cells: double, single or none; null: guessed"
    )
    header: bool | None = Field(None, description="Whether the first row names the columns; null: guessed")


class SplitConfig(Section):
    """How the rows are divided; the same text never lies on two sides."""

    train: Real = Field(0.70, gt=0, le=1, description="Fraction of the rows to learn from")
    validation: Real = Field(0.15, ge=0, lt=1, description="Fraction that chooses the best checkpoint; 0: the last one")
    test: Real = Field(0.15, ge=0, lt=1, description="Fraction scored once at the end; 0: no test score is claimed")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Seed of the split, apart from the run's own seed")
    column: str | None = Field(
        None, description="Column that says train, validation or test; null: guessed; empty: none, all rows are divided"
    )
    group_column: str | None = Field(
        None,
        min_length=1,
        description="Rows with one value here, such as an author, stay on one side; null: none",
    )
    near_duplicates: Real | None = Field(
        None,
        ge=0.5,
        le=1,
        description="Texts of this cosine, 0.95 say, stay on one side; null: only equal ones",
    )

    @model_validator(mode="after")
    def _sum_is_one(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must add up to 1; they add up to {total:g}")
        return self


class DataConfig(Section):
    """Which file, which columns."""

    files: Names = Field((), description="The CSV files; on the page, the uploaded ones")
    reading: ReadingConfig = Field(default_factory=ReadingConfig, description="How the bytes become a table")
    text_column: Names | None = Field(
        None, description="Header of the text column, or several whose texts are joined; null: guessed"
    )
    task_columns: Names | None = Field(None, description="Headers of the label columns; null: guessed")
    separate_tasks: bool | None = Field(
        None, description="Whether columns of one name are different tasks in each file; null: if they share no label"
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="How the rows are divided")


class EncoderConfig(Section):
    """The shared sentence encoder."""

    name: str = Field(DEFAULT_ENCODER, min_length=1, description="A Hub id or a local folder; the default is bundled")
    pooling: Pooling = Field("mean", description="How token vectors become one: mean, cls, max or attention")
    projection: Whole | None = Field(
        None, ge=2, le=4096, description="Width of a linear layer after pooling; null: none"
    )
    layer_norm: bool = Field(False, description="Normalise each embedding's mean and variance (LayerNorm)")
    normalize: bool = Field(True, description="Scale each embedding to length 1 (L2)")
    max_length: Whole | None = Field(
        None, ge=8, le=8192, description="Longest text in tokens, the rest is cut; null: the encoder's own"
    )


class TaskConfig(Section):
    """One head. Everything may be left out: it is guessed from the column."""

    kind: TaskKind = Field("classification", description="What the head predicts")
    labels: Names | None = Field(None, description="The classes, in this order; null: those in the file")
    merge: dict[str, str] = Field(
        default_factory=dict, description="Labels to read as another one, for instance {Positive: positive}"
    )
    head: HeadShape = Field("linear", description="Shape of the head: linear or mlp")
    dropout: Real = Field(0.1, ge=0, lt=1, description="Dropout of the head's input")
    learning_rate: Rate | None = Field(None, description="This head's own rate; null: training.head_learning_rate")
    loss_weight: Real = Field(1.0, ge=0, le=1000, description="Factor of this task's loss in the sum")

    @model_validator(mode="after")
    def _trainable(self) -> TaskConfig:
        if self.kind != "classification":
            raise ValueError("entities cannot be trained yet; leave the column out of the tasks")
        if self.labels is not None and len(self.labels) < 2:
            raise ValueError("labels: a task needs at least two classes")
        if chain := set(self.merge) & set(self.merge.values()):
            raise ValueError(f'merge: "{min(chain)}" is merged into another label and is one that others merge into')
        return self


class TrainingConfig(Section):
    """How the model learns. `null` means: as the preset says."""

    preset: Preset = Field("balanced", description="Where the values left at null come from")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, order and dropout")
    epochs: Annotated[Whole, Field(ge=1, le=1000)] | Literal["auto"] | None = Field(
        None, description="Passes over the training rows; auto: enough for 100 steps, at least 3"
    )
    batch_size: Whole | None = Field(None, ge=1, le=1024, description="Rows of one step")
    freeze: Annotated[Names | None, BeforeValidator(_nothing)] = Field(
        None,
        description="Parts that stay as they are: everything, encoder, embeddings, layer.0 …, head.<task>, or nothing",
    )
    optimizer: Optimizer = Field("adamw", description="adamw or adam")
    weight_decay: Real = Field(0.01, ge=0, le=1, description="Weight decay; none on biases and norms")
    embeddings_learning_rate: Rate | None = Field(None, description="Peak rate of the word embeddings")
    encoder_learning_rate: Rate | None = Field(None, description="Peak rate of the encoder's layers")
    projection_learning_rate: Rate | None = Field(
        None, description="Peak rate of attention pooling, projection and LayerNorm"
    )
    head_learning_rate: Rate | None = Field(
        None, description="Peak rate of the heads; null: 1e-2 on a normalised embedding, 1e-3 otherwise"
    )
    schedule: Schedule = Field("linear", description="Shape of the rate after the warm-up: linear, cosine, constant")
    warmup: Real | None = Field(None, ge=0, lt=1, description="Fraction of the steps in which the rate rises from 0")
    clip: Real | None = Field(1.0, gt=0, description="Largest gradient norm; null: no clipping")
    patience: Whole | None = Field(
        None, ge=1, le=1000, description="Epochs without improvement before the run stops early"
    )
    select_by: Selection = Field("mean_score", description="What makes a checkpoint the best")
    precision: Precision = Field("auto", description="auto: the fastest this processor does accurately enough")
    attention: Attention = Field("auto", description="auto: the fastest this processor does; eager or sdpa")
    device: Device = Field("auto", description="auto: CUDA, else MPS, else CPU")


class RunConfig(Section):
    """All of it. `RunConfig()` is a legal run of the defaults."""

    data: DataConfig = Field(default_factory=DataConfig, description="The file and its columns")
    encoder: EncoderConfig = Field(default_factory=EncoderConfig, description="The shared sentence encoder")
    tasks: dict[str, TaskConfig] = Field(
        default_factory=dict, description="One entry a head, by the column's header; absent: guessed from the file"
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How the model learns")


def resolve(config: RunConfig, training_rows: int) -> RunConfig:
    """Replace what the preset and the data decide by its value, so that the saved run says what ran.

    Args:
        config: As the person gave it.
        training_rows: Rows of the training split, for `epochs: auto`.
    """
    given = {key: value for key, value in config.training.model_dump().items() if value is not None}
    values = {**PRESETS[config.training.preset], **given}
    if config.training.clip is None:
        values["clip"] = None
    if values.get("head_learning_rate") is None:
        values["head_learning_rate"] = 1e-2 if config.encoder.normalize else 1e-3
    if values["epochs"] == "auto":
        steps_per_epoch = max(1, -(-training_rows // values["batch_size"]))
        values["epochs"] = max(MIN_AUTO_EPOCHS, -(-MIN_AUTO_STEPS // steps_per_epoch))
    return config.model_copy(update={"training": TrainingConfig(**values)})


def task_specs(config: RunConfig) -> tuple[TaskSpec, ...]:
    """Return the tasks of a prepared run, whose labels are all known."""
    keys = task_keys(config.tasks)
    return tuple(
        TaskSpec(name=name, key=keys[name], kind=task.kind, labels=task.labels or ())
        for name, task in config.tasks.items()
    )
