"""What a run would train, said before Start: how much learns, the map of the rates, what is seen, and the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtl.config import RunConfig, task_specs
from mtl.reports.plan_plots import plan_map, short_rate
from mtl.reports.plots import Figure
from mtl.ui import html
from mtl.ui.context import AppContext
from mtl.ui.train.checks import near_groups_are_quick
from mtl.ui.train.heads import heads_html
from mtl.ui.train.planning import Planned, plan_run, tokens
from mtl.ui.train.understood import split_html

if TYPE_CHECKING:
    from mtl.reports.exposure import Exposure, Frequency
    from mtl.training.plan import RatePlan

MOST_EPOCHS = 100
NEAR_LATER = (
    "The near duplicates are not known yet, so this split is without them. Press Look deeper to see it with them; "
    "Start and Preflight look for them first."
)


@dataclass(frozen=True)
class Preview:
    """What is shown of a plan.

    Attributes:
        first: HTML: how much learns, and what one should know.
        figure: The map of the rates; None: there is nothing to be seen.
        rest: HTML: everything else.
    """

    first: str = ""
    figure: Figure | None = None
    rest: str = ""

    @classmethod
    def problem(cls, sentence: str) -> Preview:
        """Say why there is no plan."""
        return cls(first=html.notes([sentence], "problem"))


def preview(context: AppContext, config: RunConfig, files: Sequence[Sequence[str]], token: str = "") -> Preview:
    """Say what a run would train; without a file there is nothing to say.

    Raises:
        UserError: The file or the configuration cannot be used.
    """
    if not files:
        return Preview()
    quick = near_groups_are_quick(files, config)
    found = plan_run(context, config, files, near=quick, token=token)
    plan, prepared = found.plan.as_dict(), found.prepared
    known = tokens(prepared.config.encoder, prepared.understood.texts).sentences
    rest = [
        seen_html(found.exposure, prepared.config, len(prepared.split.train)),
        split_html(prepared),
        f'<p class="hint">{html.escape(known[0])}</p>',
        html.notes(known[1:], "problem"),
        heads_html(config.tasks, prepared.config.tasks),
        html.details("Epoch by epoch", epochs_html(plan)),
        html.details("Part by part", parts_html(found.plan)),
    ]
    return Preview(_first(found, quick=quick), plan_map(plan), f'<div class="understood">{"".join(rest)}</div>')


def _first(found: Planned, *, quick: bool) -> str:
    """Say how much learns, and what one should know before waiting for it."""
    from mtl.training.components import freeze_warnings

    plan = found.plan
    ever = plan.ever_learning
    learning, total = sum(plan.sizes[name] for name in ever), sum(plan.sizes.values())
    warnings = [*plan.warnings, *(freeze_warnings(found.frozen) if ever else ())]
    header = (
        f'<div class="trainable" id="trainable"><b>{learning / 1e6:.2f} M</b> of {total / 1e6:.2f} M parameters learn '
        f"({learning / total:.0%}) · {html.escape(_length(found.exposure, plan))}</div>"
    )
    bar = html.bar(learning / total, "share of the parameters that learn")
    later = [] if quick else [NEAR_LATER]
    return header + bar + html.notes(found.notes) + html.notes([*warnings, *later], "problem")


def _length(exposure: Exposure, plan: RatePlan) -> str:
    epochs = f"{plan.epochs} epoch" + ("" if plan.epochs == 1 else "s")
    if len(set(exposure.steps)) == 1:
        return f"{epochs} × {exposure.steps[0]} steps"
    return f"{epochs}, {plan.steps:,} steps"


def epochs_html(plan: Mapping[str, Any]) -> str:
    """Draw a line for each epoch: what the bars of the map show."""
    shown = plan["epochs"][:MOST_EPOCHS]
    total = sum(part["parameters"] for part in plan["components"])
    rows = [
        (
            epoch["epoch"],
            epoch["phase"],
            f"{epoch['last_step'] - epoch['first_step'] + 1:,}",
            f"{epoch['trainable']:,} ({epoch['trainable'] / total:.0%})",
            f"{epoch['cost']:.0%}",
        )
        for epoch in shown
    ]
    return html.table(
        ["epoch", "phase", "steps", "parameters that learn", "work"],
        rows,
        numbers_from=0,
        caption="Work: as a share of an epoch in which all layers learn",
    )


def parts_html(plan: RatePlan) -> str:
    """Draw each part of the model: its size, its highest rate and when it learns."""
    rows = []
    for name, size in plan.sizes.items():
        learning = [phase for phase in plan.phases if name in phase.peaks]
        peaks = [short_rate(phase.peaks[name]) for phase in learning]
        first = f"{learning[0].first_epoch} to {learning[-1].last_epoch}" if learning else "–"
        rows.append((name, f"{size:,}", " → ".join(dict.fromkeys(peaks)) or "frozen", first))
    return html.table(
        ["part", "parameters", "peak rate", "epochs"], rows, caption="What learns, how fast, and in which epochs"
    )


def seen_html(exposure: Exposure, config: RunConfig, count: int) -> str:
    """Draw how often each task and each row comes in an epoch.

    Args:
        exposure: What the run would see.
        config: Prepared.
        count: Training rows.
    """
    each = exposure.per_row
    drawn = "–" if each is None else f"{each.mean * count:,.0f}"
    rows = [("all rows", f"{count:,}", _range(exposure.steps), drawn, _times(each))]
    for task in task_specs(config):
        found = exposure.tasks[task.key]
        rows.append(
            (task.name, f"{found.labelled:,}", _range(found.batches), _range(found.rows), _times(found.per_row))
        )
    header = ["rows", "there are", "batches", "drawn", "each"]
    table = html.table(header, rows, caption="Training rows in an epoch")
    return table + html.notes(exposure.sentences)


def _range(values: Sequence[int]) -> str:
    """Write a number that may change over the epochs: from the first to the last."""
    if not values:
        return "–"
    return f"{values[0]:,}" if len(set(values)) == 1 else f"{values[0]:,} → {values[-1]:,}"


def _times(found: Frequency | None) -> str:
    if found is None:
        return "never"
    if found.lowest == found.highest:
        return f"{found.mean:g} ×"
    return f"{found.mean:.2g} × ({found.lowest:.2g} to {found.highest:.2g})"
