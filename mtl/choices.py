"""What can be chosen for a run, with a line of help each, and the presets. The page is built from it, without torch."""

from __future__ import annotations

from typing import Any, Literal

from mtl.tasks import TaskKind

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

Pooling = Literal["mean", "cls", "max", "attention"]
HeadShape = Literal["linear", "mlp"]
Loss = Literal["cross_entropy", "focal"]
ClassWeights = Literal["none", "balanced", "effective"]
Score = Literal["accuracy", "macro_f1", "weighted_f1", "macro_recall", "entity_f1", "entity_precision", "entity_recall"]
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["linear", "cosine", "constant"]
Selection = Literal["mean_score", "weighted_score", "validation_loss"]
PhasePatience = Literal["wait", "next", "stop"]
Weighting = Literal[
    "fixed", "equal", "log_classes", "uncertainty", "dwa", "dtp", "ramp", "random", "gradnorm", "pcgrad", "mgda",
    "imtl_g", "upgrad", "cagrad", "nash_mtl",
]  # fmt: skip
Sampling = Literal["joint", "proportional", "uniform", "temperature", "annealed", "difficulty"]
RowSampling = Literal["uniform", "class_balance", "weight_column"]
Precision = Literal["auto", "float32", "bfloat16"]
Attention = Literal["auto", "eager", "sdpa"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Preset = Literal["balanced", "progressive", "thorough", "classic", "frozen"]

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
LOSS_HELP: dict[Loss, str] = {
    "cross_entropy": "the negative logarithm of the right class's probability",
    "focal": "cross-entropy that looks away from what is easy already (Lin 2017); for rare classes",
}
CLASS_WEIGHTS_HELP: dict[ClassWeights, str] = {
    "none": "every labelled text counts the same",
    "balanced": "a class counts inversely to its frequency",
    "effective": "by the effective number of samples (Cui 2019): milder than balanced",
}
# the scores that a head of a kind is measured by, the default main score first
SCORES: dict[TaskKind, tuple[Score, ...]] = {
    "classification": ("macro_f1", "accuracy", "weighted_f1", "macro_recall"),
    "token_classification": ("entity_f1", "entity_precision", "entity_recall"),
}
SCORE_NAMES: dict[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_recall": "macro recall",
    "entity_f1": "entity F1",
    "entity_precision": "entity precision",
    "entity_recall": "entity recall",
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
    "mean_score": "highest mean over the tasks of their main scores on the validation rows",
    "weighted_score": "the same mean, each task counting by its score weight",
    "validation_loss": "lowest validation loss, summed with the tasks' loss weights",
}
PHASE_PATIENCE_HELP: dict[PhasePatience, str] = {
    "wait": "patience counts only in the last phase",
    "next": "when patience ends, the next phase begins at once",
    "stop": "when patience ends, the run stops in any phase",
}
WEIGHTING_HELP: dict[Weighting, str] = {
    "fixed": "each loss times its task's loss weight, 1 unless you say otherwise",
    "equal": "every loss counts 1, whatever the loss weights say",
    "log_classes": "divided by ln(classes), so that every task starts at about 1",
    "uncertainty": "learned from each task's noise (Kendall 2018)",
    "dwa": "dynamic weight average: more for a task whose loss falls slowly (Liu 2019)",
    "dtp": "dynamic task prioritisation: more for a task with a low validation score (Guo 2018)",
    "ramp": "from the loss weight in the first epoch to the final loss weight in the last",
    "random": "drawn anew in every step (Lin 2022): a strong and simple baseline",
    "gradnorm": "learned so that the tasks' gradients are of one size (Chen 2018)",
    "pcgrad": "gradient surgery: what points against another task is taken out (Yu 2020)",
    "mgda": "gradient surgery: the shortest combination, which harms no task (Désidéri 2012)",
    "imtl_g": "gradient surgery: the step goes equally far along every task (Liu 2021)",
    "upgrad": "gradient surgery: each gradient projected onto what harms no task (Quinton 2024)",
    "cagrad": "gradient surgery: near the mean, best for the worst task (Liu 2021)",
    "nash_mtl": "gradient surgery: a bargain between the tasks (Navon 2022)",
}
# what a choice needs that requirements.txt does not bring: the modules, and the extra of torchjd that brings them
WEIGHTING_EXTRAS: dict[Weighting, tuple[tuple[str, ...], str]] = {
    "cagrad": (("cvxpy", "clarabel"), "cagrad"),
    "nash_mtl": (("cvxpy", "ecos"), "nash_mtl"),
}
SAMPLING_HELP: dict[Sampling, str] = {
    "joint": "shuffled rows; a row teaches every task it is labelled for",
    "proportional": "batches of one task, as many as the task has labelled rows",
    "uniform": "batches of one task, all tasks equally often, in turn",
    "temperature": "batches of one task, between proportional (1) and equally often (large)",
    "annealed": "from proportional in the first epoch to almost equally often in the last (Stickland & Murray 2019)",
    "difficulty": "batches of one task, more for a task with a low validation score",
}
ROW_SAMPLING_HELP: dict[RowSampling, str] = {
    "uniform": "every row once an epoch",
    "class_balance": "rows drawn so that the classes of a task come equally often",
    "weight_column": "rows drawn in proportion to a column of numbers",
}
PRESET_HELP: dict[Preset, str] = {
    "balanced": "word embeddings frozen, the layers at 5e-5, heads fast: good on 200 rows and on 20,000",
    "progressive": "heads alone for two epochs, then three layers more at a time, at last all, slowly: gentle",
    "thorough": "everything trained for longer, lower layers slower: for thousands of rows and an hour",
    "classic": "everything trained at small rates for ten epochs (1e-6 / 1e-5 / 1e-4): careful and slow",
    "frozen": "only the heads learn; the encoder stays exactly as it is: fast, and a strong baseline",
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "balanced": {
        "epochs": "auto", "batch_size": 32, "patience": 3, "warmup": 0.1, "freeze": ("embeddings",),
        "embeddings_learning_rate": 5e-6, "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3,
        "layer_decay": 1.0,
    },
    "progressive": {
        "epochs": 10, "batch_size": 32, "patience": 3, "warmup": 0.1, "freeze": (),
        "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3, "layer_decay": 1.0,
        "unfreezing": {"heads_epochs": 2, "layers": 3, "epochs": 2, "last_learning_rate": 1e-5, "last_decay": 0.9},
    },
    "thorough": {
        "epochs": 10, "batch_size": 32, "patience": 4, "warmup": 0.1, "freeze": (),
        "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3, "layer_decay": 0.9,
    },
    "classic": {
        "epochs": 10, "batch_size": 32, "patience": 2, "warmup": 0.1, "freeze": (),
        "embeddings_learning_rate": 1e-6, "encoder_learning_rate": 1e-5, "projection_learning_rate": 1e-4,
        "head_learning_rate": 1e-4, "layer_decay": 1.0,
    },
    "frozen": {
        "epochs": 20, "batch_size": 32, "patience": 5, "warmup": 0.1, "freeze": ("encoder",),
        "embeddings_learning_rate": 5e-6, "encoder_learning_rate": 5e-5, "projection_learning_rate": 1e-3,
        "layer_decay": 1.0,
    },
}  # fmt: skip
