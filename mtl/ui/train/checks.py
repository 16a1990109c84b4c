"""The deeper look at the data, on request: near duplicates and labels that are likely wrong; and the problem rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from mtl.config import RunConfig
from mtl.config_text import from_dict
from mtl.data.preparing import Understood
from mtl.data.profile import profile
from mtl.data.reading import is_missing
from mtl.errors import DataError
from mtl.reports.data import problem_rows
from mtl.runs.files import write_twins
from mtl.settings import settings
from mtl.ui import html
from mtl.ui.context import download_folder, guarded, guarded_stream
from mtl.ui.train.data import DataSection, data_values
from mtl.ui.uploads import understood_data

if TYPE_CHECKING:
    from mtl.inference.checks import Checks

SHOWN_ROWS, SHOWN_CHARACTERS = 8, 160


def build(data: DataSection) -> gr.State:
    """Lay out the buttons and wire them; they appear with a file.

    Returns:
        State: how often the deeper look ended, since then more is known of the split.
    """
    with gr.Row(elem_classes="compact", visible=False, elem_id="look") as row:
        look = gr.Button("Look deeper: near duplicates, wrong labels", size="sm", elem_id="look-deeper", scale=3)
        stop = gr.Button("Stop", size="sm", elem_id="look-stop", scale=0, min_width=70)
        download = gr.Button("Problem rows as CSV", size="sm", elem_id="problem-rows", scale=2)
    found, checked = gr.HTML(elem_id="look-found"), gr.State(None)
    files = gr.File(label="Problem rows", file_count="multiple", visible=False, interactive=False, elem_id="problems")
    private: dict[str, Any] = {"api_visibility": "private"}
    inputs: set[Any] = {*data.inputs, checked}

    def looked(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
        understood, config = _understood(data, values)
        steps = _checks(understood, config)
        while True:
            try:
                share, doing = next(steps)
            except StopIteration as end:
                yield checks_html(understood, end.value), end.value
                return
            bar = html.bar(share, "checking the data")
            yield f'<p class="hint" role="status">{html.escape(doing)} …</p>{bar}', None

    def written(values: Mapping[Any, Any]) -> Any:
        understood, _ = _understood(data, values)
        return gr.update(value=_write_problems(understood, values[checked]), visible=True)

    # the summary changes with everything that the findings depend on
    assert data.summary is not None
    data.summary.change(
        lambda chosen: (gr.update(visible=bool(chosen)), "", None, gr.update(value=None, visible=False)),
        data.files, [row, found, checked, files], show_progress="hidden", **private,
    )  # fmt: skip
    looking = look.click(
        guarded_stream(looked), inputs, [found, checked], concurrency_limit=1, show_progress="hidden", **private
    )
    looks = gr.State(0)
    looking.success(lambda count: count + 1, looks, looks, show_progress="hidden", **private)
    stop.click(lambda: ("", None), None, [found, checked], cancels=looking, show_progress="hidden", **private)
    download.click(guarded(written), inputs, files, show_progress="minimal", **private)
    return looks


def near_groups(files: Sequence[Sequence[str]], config: RunConfig) -> tuple[tuple[int, ...], ...] | None:
    """Look for near duplicates if the split is to keep them together; embeddings come from the cache if they can."""
    threshold = config.data.split.near_duplicates
    if threshold is None:
        return None
    from mtl.inference.checks import near_duplicates

    texts = understood_data(files, config).texts
    steps = near_duplicates(texts, config.encoder.name, settings().cache_dir, threshold=threshold)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value.groups


def near_groups_are_quick(files: Sequence[Sequence[str]], config: RunConfig) -> bool:
    """Say whether the near duplicates can be looked for at once: none are wanted, or the embeddings are kept."""
    if config.data.split.near_duplicates is None:
        return True
    from mtl.inference.frozen import are_kept

    texts = [text for text in understood_data(files, config).texts if not is_missing(text)]
    return are_kept(texts, config.encoder.name, settings().cache_dir)


def _understood(data: DataSection, values: Mapping[Any, Any]) -> tuple[Understood, RunConfig]:
    if not values[data.files]:
        raise DataError("Choose a CSV file first, or use the sample.")
    config = from_dict(data_values(data, values))
    return understood_data(values[data.files], config), config


def _checks(understood: Understood, config: RunConfig) -> Any:
    from mtl.inference.checks import check

    return check(understood.texts, understood.labels, config.encoder.name, settings().cache_dir)


def _write_problems(understood: Understood, checks: Checks | None) -> list[str]:
    """Write the problem rows, for a spreadsheet and exactly."""
    path = download_folder() / "problem-rows.csv"
    with write_twins(path) as write:
        write(*problem_rows(understood, profile(understood), checks))
    return [str(path), str(path.with_suffix(".jsonl"))]


def checks_html(understood: Understood, checks: Checks) -> str:
    """Draw what the deeper look found, the most suspicious first."""
    table, texts = understood.table, understood.texts
    parts = []
    for task, found in checks.suspects.items():
        cards = [
            _card(
                f"row {table.place(suspect.row)}",
                texts[suspect.row],
                f"{suspect.given} → {suspect.suggested} ({suspect.suggested_confidence:.0%})",
            )
            for suspect in found.suspects[:SHOWN_ROWS]
        ]
        title = f"{len(found.suspects):,} of {found.checked:,} labels are likely wrong; the likeliest first"
        parts += [html.details(title, "".join(cards), name=task, opened=bool(cards)), html.notes(found.sentences)]
    near = checks.near
    closest = {frozenset((row, other)): cosine for row, (other, cosine) in near.partners.items()}
    cards = [
        _card(
            f"rows {table.place(min(pair))} and {table.place(max(pair))}",
            f"{texts[min(pair)][:SHOWN_CHARACTERS]} ≈ {texts[max(pair)]}",
            f"cosine {cosine:.3f}",
        )
        for pair, cosine in sorted(closest.items(), key=lambda item: -item[1])[:SHOWN_ROWS]
    ]
    title = f"{sum(map(len, near.groups)):,} rows nearly repeat another, in {len(near.groups):,} groups"
    parts += [html.details(title, "".join(cards), name="Near duplicates")]
    parts += [
        html.notes([f'{len(clashes):,} near pairs have different labels of "{task}".'], "problem")
        for task, clashes in checks.clashes.items()
        if clashes
    ]
    return f'<div class="understood">{"".join(parts)}</div>'


def _card(where: str, text: str, what: str) -> str:
    shown = text if len(text) <= 2 * SHOWN_CHARACTERS else text[: 2 * SHOWN_CHARACTERS - 1] + "…"
    return (
        f'<div class="finding"><div><span>{html.escape(where)}</span><b>{html.escape(what)}</b></div>'
        f"<p>{html.escape(shown)}</p></div>"
    )
