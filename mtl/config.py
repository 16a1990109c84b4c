"""RunConfig: every value a run depends on, validated once and written beside its results.

The page, a YAML file, the command line and the API all build a `RunConfig`, and nothing else reaches a run.
A field left at `None` (or `auto`) is resolved before the run starts, by `resolve` and by what the data and the
encoder say, and the resolved value is what the run folder keeps. Modules never see a config: builders unpack it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from mtl.choices import (
    DEFAULT_ENCODER,
    DELIMITER_NAMES,
    PRESETS,
    QUOTE_NAMES,
    SCORES,
    Attention,
    ClassWeights,
    Delimiter,
    Device,
    HeadShape,
    Loss,
    Optimizer,
    PhasePatience,
    Pooling,
    Precision,
    Preset,
    Quote,
    RowSampling,
    Sampling,
    Schedule,
    Score,
    Selection,
    Weighting,
)
from mtl.tasks import TaskKind, TaskSpec, task_keys

MIN_AUTO_EPOCHS, MIN_AUTO_STEPS = 3, 100
# The shared layers make one step for all tasks at once, so two tasks need more steps than one.
MORE_STEPS_PER_TASK = 50


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
    weight_column: str | None = Field(
        None, min_length=1, description="Column of numbers for training.row_sampling weight_column; null: none"
    )
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

    kind: TaskKind | None = Field(None, description="classification or token_classification (entities); null: guessed")
    labels: Names | None = Field(
        None, description="The classes or entity types, in this order; null: those in the file"
    )
    merge: dict[str, str] = Field(
        default_factory=dict, description="Labels to read as another one, for instance {Positive: positive}"
    )
    head: HeadShape = Field("linear", description="Shape of the head: linear or mlp")
    dropout: Real = Field(0.1, ge=0, lt=1, description="Dropout of the head's input")
    loss: Loss = Field("cross_entropy", description="cross_entropy or focal")
    focal_gamma: Real = Field(2.0, ge=0, le=10, description="How much focal loss looks away from what is easy")
    label_smoothing: Real = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes")
    class_weights: ClassWeights = Field("none", description="none, balanced or effective, counted on the training rows")
    freeze: bool = Field(False, description="Whether this head stays as it is; the same as head.<task> under freeze")
    learning_rate: Rate | None = Field(None, description="This head's own rate; null: training.head_learning_rate")
    schedule: Schedule | None = Field(None, description="This head's own schedule; null: training.schedule")
    loss_weight: Real = Field(1.0, ge=0, le=1000, description="Factor of this task's loss in the sum")
    final_loss_weight: Real | None = Field(
        None, ge=0, le=1000, description="Factor in the last epoch, for training.weighting ramp; null: the same"
    )
    score_weight: Real = Field(1.0, ge=0, le=1000, description="Factor of its score, for select_by weighted_score")
    main_score: Score | None = Field(None, description="The score that counts; null: macro_f1, for entities entity_f1")

    @model_validator(mode="after")
    def _sensible(self) -> TaskConfig:
        if self.labels is not None and self.kind != "token_classification" and len(self.labels) < 2:
            raise ValueError("labels: a task needs at least two classes")
        if chain := set(self.merge) & set(self.merge.values()):
            raise ValueError(f'merge: "{min(chain)}" is merged into another label and is one that others merge into')
        if self.kind and self.main_score and self.main_score not in SCORES[self.kind]:
            raise ValueError(f"main_score: a {self.kind} head is measured by {', '.join(SCORES[self.kind])}")
        return self


class UnfreezingConfig(Section):
    """Progressive unfreezing: the heads alone first, then more layers from the top, the word embeddings last.

    Howard & Ruder 2018, arXiv:1801.06146.
    """

    heads_epochs: Whole = Field(2, ge=0, le=1000, description="Epochs in which only the heads and new parts learn")
    layers: Whole = Field(3, ge=1, le=1000, description="Layers that join in each phase, from the top")
    epochs: Whole = Field(2, ge=1, le=1000, description="Epochs of each phase; the last one lasts to the end")
    last_learning_rate: Rate | None = Field(
        1e-5, description="The layers' rate in the last phase, when all learn; null: as before"
    )
    last_decay: Annotated[Real, Field(gt=0, le=1)] | None = Field(
        0.9, description="Layer-wise decay in the last phase; null: as before"
    )


class PhaseConfig(Section):
    """One phase of an explicit plan: what learns in it, beside the heads and new parts, and how fast."""

    epochs: Whole = Field(1, ge=1, le=1000, description="How long; the last phase lasts to the end of the run")
    learn: Annotated[Names, BeforeValidator(_nothing)] = Field(
        (), description="heads, top.N, layer.N, encoder, embeddings, everything; the heads learn anyway"
    )
    encoder_learning_rate: Rate | None = Field(None, description="null: training.encoder_learning_rate")
    embeddings_learning_rate: Rate | None = Field(None, description="null: training.embeddings_learning_rate")
    head_learning_rate: Rate | None = Field(None, description="null: each head's own")
    layer_decay: Annotated[Real, Field(gt=0, le=1)] | None = Field(None, description="null: training.layer_decay")


class WeightingOptions(Section):
    """What the weighting methods leave to be chosen; the defaults are their papers' but for the rate.

    At 0.025 the uncertainty weights settle within the first epoch of a short run, when a task of many classes has just
    a high loss, and turn it down (product reviews, 189 steps: 6 points of accuracy).
    """

    temperature: Real = Field(2.0, gt=0, le=100, description="dwa: higher is nearer to equal weights")
    gamma: Real = Field(1.0, ge=0, le=10, description="dtp: how much a low score counts")
    smoothing: Real = Field(0.7, ge=0, lt=1, description="dtp: how much of the earlier epochs' score is kept")
    alpha: Real = Field(1.5, ge=0, le=10, description="gradnorm: how strongly slow tasks are pulled along")
    learning_rate: Rate = Field(0.005, description="gradnorm (its paper: 0.025), uncertainty: rate of the weights")
    caution: Real = Field(0.4, ge=0, lt=1, description="cagrad: how far the step may be from the mean (c)")


class SamplingOptions(Section):
    """What the samplers leave to be chosen."""

    temperature: Real = Field(2.0, ge=1, le=100, description="temperature: 1 is proportional, large is uniform")
    final_exponent: Real = Field(
        0.2, ge=0, le=1, description="annealed: the exponent in the last epoch; 1 in the first"
    )
    balance_task: str | None = Field(
        None, min_length=1, description="class_balance: whose classes; null: all tasks, averaged"
    )


class CurriculumConfig(Section):
    """Easiest rows first, by the loss of a simple model on the frozen encoder (Bengio 2009)."""

    start: Real = Field(0.3, gt=0, le=1, description="Share of the rows in the first epoch, the easiest ones")
    epochs: Whole = Field(2, ge=1, le=1000, description="Epochs until all rows take part")


class TrainingConfig(Section):
    """How the model learns. `null` means: as the preset says."""

    preset: Preset = Field("balanced", description="Where the values left at null come from")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, order and dropout")
    start_from: str | None = Field(
        None, min_length=1, description="A run whose checkpoint is learnt on from: its name or folder; null: none"
    )
    epochs: Annotated[Whole, Field(ge=1, le=1000)] | Literal["auto"] | None = Field(
        None,
        description="Passes over the training rows; auto: at least 3 and 100 steps, 50 more for each further task",
    )
    batch_size: Whole | None = Field(None, ge=1, le=1024, description="Rows of one step")
    freeze: Annotated[Names | None, BeforeValidator(_nothing)] = Field(
        None,
        description="Parts that stay as they are: everything, encoder, bottom.N, embeddings, layer.0 …, head.<task>, "
        "or nothing",
    )
    unfreezing: UnfreezingConfig | None = Field(None, description="Progressive unfreezing; null: as the preset says")
    phases: tuple[PhaseConfig, ...] = Field(
        (), max_length=100, description="Instead: an explicit plan of what learns in which epochs, and how fast"
    )
    optimizer: Optimizer = Field("adamw", description="adamw or adam")
    weight_decay: Real = Field(0.01, ge=0, le=1, description="Weight decay; none on biases and norms")
    embeddings_learning_rate: Rate | None = Field(
        None, description="Peak rate of the word embeddings; null: one more step of layer_decay below layer.0"
    )
    encoder_learning_rate: Rate | None = Field(None, description="Peak rate of the encoder's layers; of the top one")
    layer_decay: Annotated[Real, Field(gt=0, le=1)] | None = Field(
        None, description="Factor of the rate from each layer to the one below it; 1: one rate"
    )
    projection_learning_rate: Rate | None = Field(
        None, description="Peak rate of attention pooling, projection and LayerNorm"
    )
    head_learning_rate: Rate | None = Field(
        None,
        description="Peak rate of the heads; null: 1e-2 on a normalised embedding, 1e-3 otherwise, as for entities",
    )
    schedule: Schedule = Field("linear", description="Shape of the rate after the warm-up: linear, cosine, constant")
    warmup: Real | None = Field(None, ge=0, lt=1, description="Fraction of the steps in which the rate rises from 0")
    clip: Real | None = Field(1.0, gt=0, description="Largest gradient norm; null: no clipping")
    clip_per_task: Real | None = Field(
        None, gt=0, description="Largest norm of each task's own gradient of the encoder; null: no such clipping"
    )
    patience: Whole | None = Field(
        None, ge=1, le=1000, description="Epochs without improvement before the run stops early"
    )
    patience_in_phases: PhasePatience = Field(
        "wait", description="While parts are still to be unfrozen patience waits, begins the next phase, or stops"
    )
    select_by: Selection = Field("mean_score", description="mean_score, weighted_score or validation_loss")
    weighting: Weighting = Field("fixed", description="How the tasks' losses become one step; see GUIDE.md")
    weighting_options: WeightingOptions = Field(
        default_factory=WeightingOptions, description="Of the chosen weighting; the others do not look at them"
    )
    sampling: Sampling = Field("joint", description="Which rows make a batch; see GUIDE.md")
    row_sampling: RowSampling = Field("uniform", description="How often each row comes in an epoch")
    sampling_options: SamplingOptions = Field(
        default_factory=SamplingOptions, description="Of the chosen sampling; the others do not look at them"
    )
    curriculum: CurriculumConfig | None = Field(None, description="Easiest rows first; null: all rows from the start")
    conflict_every: Annotated[Whole, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Steps between two looks at gradient conflict; auto: within 5 % of the time; 0: never"
    )
    stay_close: Real = Field(
        0.0, ge=0, le=1000, description="Weight of a loss that keeps embeddings near those of the start; 0: none"
    )
    precision: Precision = Field("auto", description="auto: the fastest this processor does accurately enough")
    attention: Attention = Field("auto", description="auto: the fastest this processor does; eager or sdpa")
    device: Device = Field("auto", description="auto: CUDA, else MPS, else CPU")

    @model_validator(mode="after")
    def _one_plan(self) -> TrainingConfig:
        if self.unfreezing is not None and self.phases:
            raise ValueError("give either unfreezing or phases, not both")
        return self


class RunConfig(Section):
    """All of it. `RunConfig()` is a legal run of the defaults."""

    data: DataConfig = Field(default_factory=DataConfig, description="The file and its columns")
    encoder: EncoderConfig = Field(default_factory=EncoderConfig, description="The shared sentence encoder")
    tasks: dict[str, TaskConfig] = Field(
        default_factory=dict, description="One entry a head, by the column's header; absent: guessed from the file"
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How the model learns")

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        ramped = [name for name, task in self.tasks.items() if task.final_loss_weight is not None]
        if ramped and self.training.weighting != "ramp":
            raise ValueError(f"tasks.{ramped[0]}.final_loss_weight needs training.weighting=ramp")
        if (self.training.row_sampling == "weight_column") != (self.data.weight_column is not None):
            raise ValueError("training.row_sampling=weight_column and data.weight_column go together; set both or none")
        return self


def auto_steps(tasks: int) -> int:
    """Return the least steps that `epochs: auto` takes for so many tasks."""
    return MIN_AUTO_STEPS + MORE_STEPS_PER_TASK * max(0, tasks - 1)


def resolve(config: RunConfig, training_rows: int) -> RunConfig:
    """Replace what the preset and the data decide by its value, so that the saved run says what ran.

    Args:
        config: As the person gave it.
        training_rows: Rows of the training split, for `epochs: auto`.
    """
    given = {key: value for key, value in config.training.model_dump().items() if value is not None}
    values = {**PRESETS[config.training.preset], **given}
    if config.training.phases:
        values["unfreezing"] = None
    if config.training.clip is None:
        values["clip"] = None
    tasks = config.tasks
    if values.get("head_learning_rate") is None:
        values["head_learning_rate"] = 1e-2 if config.encoder.normalize else 1e-3
        tasks = {name: _with_token_rate(task) for name, task in config.tasks.items()}
    if values["epochs"] == "auto":
        steps_per_epoch = max(1, -(-training_rows // values["batch_size"]))
        phased = sum(phase.epochs for phase in config.training.phases)
        values["epochs"] = phased or max(MIN_AUTO_EPOCHS, -(-auto_steps(len(config.tasks)) // steps_per_epoch))
    return config.model_copy(update={"training": TrainingConfig(**values), "tasks": tasks})


def _with_token_rate(task: TaskConfig) -> TaskConfig:
    """Give a head of entities, whose input is never normalised, its rate."""
    if task.kind != "token_classification" or task.learning_rate is not None:
        return task
    return task.model_copy(update={"learning_rate": 1e-3})


def task_specs(config: RunConfig) -> tuple[TaskSpec, ...]:
    """Return the tasks of a prepared run, whose labels are all known."""
    keys = task_keys(config.tasks)
    return tuple(
        TaskSpec(name=name, key=keys[name], kind=task.kind or "classification", labels=task.labels or ())
        for name, task in config.tasks.items()
    )
