"""What a run would train, said before Start: computed by the code that trains, from the sizes of the parts alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mtl.config import EncoderConfig, RunConfig, task_specs
from mtl.ui import html
from mtl.ui.train.checks import near_groups, near_groups_are_quick
from mtl.ui.train.understood import split_html
from mtl.ui.uploads import prepared_data

if TYPE_CHECKING:
    from mtl.data.tokens import TokenCounts


NEAR_LATER = (
    "The near duplicates are not known yet, so this split is without them. Press Look deeper to see it with them; "
    "Start and Preflight look for them first."
)


def preview_html(config: RunConfig, files: Sequence[Sequence[str]]) -> str:
    """Say what the run would train; without a file, what it would train of the encoder."""
    if not files:
        return ""
    quick = near_groups_are_quick(files, config)
    prepared = prepared_data(files, config, near_groups(files, config) if quick else ())
    from mtl.training.components import freeze_warnings, plan, planned_sizes  # torch: only once there is a plan

    sizes = planned_sizes(_loaded(config.encoder.name), prepared.config)
    tasks = task_specs(prepared.config)
    rows = plan(sizes, prepared.config, tasks)
    total, learning = sum(row.parameters for row in rows), sum(row.parameters for row in rows if row.trainable)
    training = prepared.config.training
    per_epoch = -(-len(prepared.split.train) // (training.batch_size or 1))
    epochs = training.epochs if isinstance(training.epochs, int) else 0
    tokens = _tokens(config.encoder, prepared.understood.texts).sentences
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
    parts = [
        "" if quick else html.notes([NEAR_LATER], "problem"),
        split_html(prepared),
        header,
        html.bar(learning / total, "share of the parameters that learn"),
        warning,
        f'<p class="hint">{html.escape(tokens[0])}</p>',
        html.notes(tokens[1:], "problem"),
        html.details("Part by part", table_html),
    ]
    return "".join(parts)


@lru_cache(maxsize=8)
def _loaded(name: str) -> Any:
    """Load an encoder once to count and to tokenise; its pooling does not matter for that."""
    from mtl.modeling.encoder import load_encoder

    return load_encoder(name)


def _tokens(encoder: EncoderConfig, texts: list[str]) -> TokenCounts:
    """Say how long the texts are for this encoder, and how much of them it knows."""
    from mtl.data.tokens import count_tokens

    loaded = _loaded(encoder.name)
    return count_tokens(texts, loaded.tokenizer, encoder.max_length or loaded.max_seq_length)
