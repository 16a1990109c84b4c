"""Predictions for a file of any size: its columns, then each task's prediction and confidence, row for row.

The file is read twice: once to find everything that is wrong with it before the work begins, and once to predict,
chunk by chunk, so that memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from mtl.data.columns import find_text_column, join_texts
from mtl.data.reading import Layout, Options, Table, is_missing, scan_file, stream_file
from mtl.errors import DataError
from mtl.inference.answers import Answer, as_cells
from mtl.inference.predictor import Predictor
from mtl.runs.files import atomic_file, distinct_names, write_twins

CHUNK = 1024
_GUESS_ROWS = 1_000


def predict_file(
    predictor: Predictor, source: Path, output: Path, **options: Unpack[Options]
) -> Generator[tuple[int, int], None, list[list[Any]]]:
    """Predict every task for every row of a file; a row without a text gets empty predictions.

    Args:
        predictor: The checkpoint.
        source: The CSV file.
        output: The CSV file to write, safe for spreadsheets; its exact twin in JSON lines lies beside it. A name that
            ends in `.jsonl` is the twin alone. Neither is there before the last row is.
        options: How to read the source; see `mtl.data.reading.Options`.

    Yields:
        Rows done and rows in all, after each chunk.

    Returns:
        The header and the first rows of what was written, to look at.

    Raises:
        DataError: The source is no table, no column holds texts, or the output cannot be written or is the source.
        LimitError: The source is larger than this installation accepts.
    """
    layout = scan_file(source, **options)
    positions = _text_positions(predictor, source, layout)
    header = predicted_header(layout.headers, [task.name for task in predictor.tasks])
    shown: list[list[Any]] = [header]
    done = 0
    with closing(stream_file(source, layout)) as rows, write_twins(output, sources=[source]) as write:
        while chunk := list(islice(rows, CHUNK)):
            predicted = predicted_rows(predictor, chunk, positions)
            write(header, predicted)
            shown += predicted[: max(0, 21 - len(shown))]
            done += len(chunk)
            yield done, layout.rows
    return shown


def embed_file(
    predictor: Predictor, source: Path, output: Path, **options: Unpack[Options]
) -> Generator[tuple[int, int], None, tuple[int, int]]:
    """Embed the text of every row of a file, an empty one too, into a NumPy file of float32, chunk by chunk.

    Args:
        predictor: The checkpoint.
        source: The CSV file.
        output: The NPY file to write, a row for a row. It is not there before the last row is.
        options: How to read the source; see `mtl.data.reading.Options`.

    Yields:
        Rows done and rows in all, after each chunk.

    Returns:
        The shape of what was written.

    Raises:
        DataError: The source is no table, no column holds texts, or the output cannot be written.
        LimitError: The source is larger than this installation accepts.
    """
    if output.resolve() == source.resolve():
        raise DataError(f"{output} is the file that is read; give another one to write.")
    layout = scan_file(source, **options)
    positions = _text_positions(predictor, source, layout)
    shape = layout.rows, predictor.embedding_size
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    done = 0
    try:
        with closing(stream_file(source, layout)) as rows, atomic_file(output) as file:
            np.lib.format.write_array_header_1_0(file, header)
            while chunk := list(islice(rows, CHUNK)):
                file.write(predictor.embed(_texts_at(chunk, positions)).tobytes())
                done += len(chunk)
                yield done, layout.rows
    except OSError as error:
        raise DataError(f"{output} cannot be written: {str(error.strerror).lower()}.") from None
    return shape


def predicted_header(headers: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Add `<task>_predicted` and `<task>_confidence`; a name that the file has already gets a number.

    >>> predicted_header(["text", "topic_predicted"], ["topic"])
    ['text', 'topic_predicted', 'topic_predicted (2)', 'topic_confidence']
    """
    added = [name for task in tasks for name in (f"{task}_predicted", f"{task}_confidence")]
    return distinct_names([*headers, *added])


def predicted_rows(predictor: Predictor, rows: Sequence[Sequence[str]], positions: Sequence[int]) -> list[list[Any]]:
    """Add the predictions to some rows, whose texts stand at these positions (joined if there are several)."""
    texts = _texts_at(rows, positions)
    filled = [index for index, text in enumerate(texts) if not is_missing(text)]
    answers = dict(zip(filled, predictor.predict([texts[index] for index in filled]), strict=True))
    nothing = [None] * (2 * len(predictor.tasks))
    return [
        [*row, *(_cells(predictor, answers[index], texts[index]) if index in answers else nothing)]
        for index, row in enumerate(rows)
    ]


def _texts_at(rows: Sequence[Sequence[str]], positions: Sequence[int]) -> list[str]:
    if len(positions) == 1:
        return [row[positions[0]] for row in rows]
    return [" ".join(filter(None, (row[position].strip() for position in positions))) for row in rows]


def texts_of(predictor: Predictor, table: Table) -> list[str]:
    """Return a table's texts: the columns the checkpoint was trained on if they are there, else the best guess."""
    return join_texts(table, text_columns(predictor, table))


def text_columns(predictor: Predictor, table: Table) -> tuple[str, ...]:
    """Find a table's text columns: those the checkpoint was trained on if they are there, else the best guess."""
    wanted = predictor.config.data.text_column or ()
    if wanted and set(wanted) <= set(table.headers):
        return wanted
    return (find_text_column(table),)


def _text_positions(predictor: Predictor, source: Path, layout: Layout) -> list[int]:
    with closing(stream_file(source, layout)) as rows:
        first = list(islice(rows, _GUESS_ROWS))
    table = Table(dict(zip(layout.headers, map(list, zip(*first, strict=True)), strict=True)))
    return [layout.headers.index(name) for name in text_columns(predictor, table)]


def _cells(predictor: Predictor, answer: dict[str, Answer], text: str) -> list[Any]:
    return [cell for task in predictor.tasks for cell in as_cells(answer[task.name], text)]
