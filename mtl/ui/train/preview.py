"""What a run would train, said before Start: computed by the code that trains, from the sizes of the parts alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mtl.config import EncoderConfig, RunConfig, task_specs
from mtl.data.preparing import prepare
from mtl.ui import html
from mtl.ui.context import read_upload


def preview_html(config: RunConfig, path: str) -> str:
    """Say what the run would train; without a file, what it would train of the encoder."""
    if not path:
        return ""
    table = read_upload(path)
    prepared = prepare(table, config)
    from mtl.training.components import freeze_warnings, plan, planned_sizes  # torch: only once there is a plan

    sizes = planned_sizes(_loaded(config.encoder.name), prepared.config)
    tasks = task_specs(prepared.config)
    rows = plan(sizes, prepared.config, tasks)
    total, learning = sum(row.parameters for row in rows), sum(row.parameters for row in rows if row.trainable)
    training = prepared.config.training
    per_epoch = -(-len(prepared.split.train) // (training.batch_size or 1))
    epochs = training.epochs if isinstance(training.epochs, int) else 0
    longest = _cut_texts(config.encoder, table.columns[prepared.columns.text])
    header = (
        f'<div class="trainable" id="trainable"><b>{learning / 1e6:.2f} M</b> of {total / 1e6:.2f} M parameters learn '
        f"({learning / total:.0%}) · {epochs} epochs × {per_epoch} steps</div>"
    )
    table_html = html.table(
        ["part", "parameters", "peak rate"],
        [
            (row.component, f"{row.parameters:,}", f"{row.learning_rate:.0e}" if row.trainable else "frozen")
            for row in rows
        ],
        caption="What learns, and how fast",
    )
    frozen = {row.component for row in rows if not row.trainable}
    frozen_heads = [f"head.{task.name}" for task in tasks if f"head.{task.key}" in frozen]
    warning = html.notes(freeze_warnings(bool(learning), frozen_heads), "problem")
    return (
        f"{header}{html.bar(learning / total, 'share of the parameters that learn')}{warning}"
        f'<p class="hint">{html.escape(longest)}</p>'
        f'<details class="classes"><summary>Part by part</summary>{table_html}</details>'
    )


@lru_cache(maxsize=8)
def _loaded(name: str) -> Any:
    """Load an encoder once to count and to tokenise; its pooling does not matter for that."""
    from mtl.modeling.encoder import load_encoder

    return load_encoder(name)


def _cut_texts(encoder: EncoderConfig, texts: list[str]) -> str:
    """Say how many texts are longer than the encoder reads."""
    from mtl.data.batching import tokenise

    loaded = _loaded(encoder.name)
    limit = encoder.max_length or loaded.max_seq_length
    sample = texts[:5000]
    tokens = tokenise(sample, loaded.tokenizer, limit + 1)["input_ids"]
    cut = sum(len(ids) > limit for ids in tokens)
    of = f"the first {len(sample):,}" if len(sample) < len(texts) else f"{len(sample):,}"
    return f"Texts longer than {limit} tokens are cut: {cut:,} of {of}."
