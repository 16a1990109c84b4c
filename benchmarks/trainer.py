"""The peer of the training benchmarks: transformers' `Trainer` on one task, by default or as an expert sets it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from mtl.config import RunConfig, task_specs
from mtl.data.batching import IGNORE_INDEX, tokenise
from mtl.data.splitting import Examples
from mtl.modeling.encoder import encoder_folder, load_encoder, max_length_of
from mtl.tasks import TaskSpec

EXPERT: dict[str, Any] = {"bf16": True, "train_sampling_strategy": "group_by_length"}


def trainer_of(
    config: RunConfig,
    rows: Examples,
    folder: Path,
    *,
    expert: bool,
    evaluation: Examples | None = None,
    body: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """Make a Trainer of the same encoder for the configuration's only task.

    Seed, epochs, batch size and longest text are ours; rates, schedule, dropout and head are the Trainer's and the
    model's defaults.

    Args:
        config: Resolved; its encoder is a local folder or the default one.
        rows: All labelled.
        folder: Which the Trainer wants to own; nothing is saved.
        expert: Whether it computes in bfloat16 and groups its batches by length; otherwise all is as by default.
        evaluation: Rows that are scored after each epoch; None: nothing is.
        body: Whether more than the head learns.
        callbacks: What watches it.
    """
    (task,) = task_specs(config)
    training = config.training
    set_seed(training.seed)  # the fresh head
    name = str(encoder_folder(config.encoder.name))
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=len(task.labels))
    model.base_model.requires_grad_(body)
    longest = max_length_of(load_encoder(config.encoder.name))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            seed=training.seed,
            num_train_epochs=int(training.epochs or 0),  # resolved, so neither is missing
            per_device_train_batch_size=training.batch_size or 0,
            per_device_eval_batch_size=training.batch_size or 0,
            eval_strategy="epoch" if evaluation else "no",
            use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
            dataloader_pin_memory=torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            report_to="none",
            **(EXPERT if expert else {}),
        ),
        train_dataset=_dataset(rows, task, tokenizer, longest),
        eval_dataset=_dataset(evaluation, task, tokenizer, longest) if evaluation else None,
        processing_class=tokenizer,  # so batches are padded to their own longest text
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _dataset(rows: Examples, task: TaskSpec, tokenizer: Any, longest: int) -> list[dict[str, Any]]:
    tokens = tokenise(rows.texts, tokenizer, longest)
    return [
        {name: values[row] for name, values in tokens.items()} | {"labels": int(label)}
        for row, label in enumerate(targets(rows, task))
    ]


def targets(examples: Examples, task: TaskSpec) -> np.ndarray:
    """Turn a task's label cells into class indices, `IGNORE_INDEX` where a cell is empty."""
    index = {label: number for number, label in enumerate(task.labels)}
    return np.array([index.get(cell, IGNORE_INDEX) for cell in examples.cells[task.name]])
