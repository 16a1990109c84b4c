"""What was understood of the data, as plain values for the command line and the API; the problem rows as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mtl.data.preparing import Prepared, Understood
from mtl.data.profile import Problem, Profile, about
from mtl.data.reading import Table
from mtl.data.splitting import SIDES, split_counts
from mtl.runs.files import distinct_names

if TYPE_CHECKING:
    from mtl.inference.checks import Checks

MOST_ROWS = 1_000


def describe(
    understood: Understood,
    profile: Profile,
    prepared: Prepared | None,
    checks: Checks | None = None,
    *,
    refusal: str = "",
) -> dict[str, Any]:
    """Return what was understood of a table.

    Args:
        understood: The table and its columns.
        profile: What was counted.
        prepared: With the split; None if there is nothing to train on.
        checks: What the deeper look found, if there was one.
        refusal: Why there is nothing to train on.
    """
    problems = [*profile.problems, *(check_problems(understood, checks) if checks else ())]
    table, columns = understood.table, understood.columns
    described: dict[str, Any] = {
        "refusal": refusal,
        "rows": len(table),
        "usable_rows": profile.usable,
        "encoding": table.encoding,
        "delimiter": table.delimiter,
        "quote": table.quote,
        "header": table.header,
        "files": [name for name, _ in table.files],
        "text_column": " + ".join(columns.text),
        "columns": [
            {"name": c.name, "role": c.role, "reason": c.reason, "missing": c.missing, "labels": c.counts}
            for c in columns.all
        ],
        "entities": {name: column.types for name, column in understood.entities.items()},
        "coverage": [{"tasks": list(tasks), "rows": count} for tasks, count in profile.coverage],
        "merges": [{"task": m.task, "labels": list(m.labels), "into": m.into} for m in profile.merges],
        "problems": [
            {
                "kind": problem.kind,
                "rows": [_place(table, row) for row in problem.rows[:MOST_ROWS]],
                "problem": problem.sentence,
            }
            for problem in problems
        ],
    }
    if checks is not None:
        described["suspects"] = {
            task: [asdict(suspect) | {"row": _place(table, suspect.row)} for suspect in found.suspects[:MOST_ROWS]]
            for task, found in checks.suspects.items()
        }
    if prepared is not None:
        described |= {
            "tasks": {name: list(task.labels or ()) for name, task in prepared.config.tasks.items()},
            "split": split_counts(understood.labels, prepared.split, understood.entity_types),
            "split_rows": {side: len(getattr(prepared.split, side)) for side in SIDES},
            "split_notes": list(prepared.division.notes),
            "leaks": prepared.division.leaks,
        }
    return described


def _place(table: Table, row: int) -> int | str:
    """Return the row's number in its file; with the file's name if there are several."""
    return table.place(row) if table.files else table.number(row)


def check_problems(understood: Understood, checks: Checks) -> list[Problem]:
    """Say what the deeper look found, in the form of the profile's problems."""
    table = understood.table
    near = [row for group in checks.near.groups for row in group]
    found = about(table, "near duplicate", near, "nearly repeating another text")
    for task, clashes in checks.clashes.items():
        rows = sorted({row for clash in clashes for row in clash.rows})
        found += about(table, "near contradiction", rows, f'nearly the same, with different labels of "{task}"')
    for task, suspects in checks.suspects.items():
        rows = [suspect.row for suspect in suspects.suspects]
        found += about(table, "suspect label", rows, f'whose label of "{task}" is likely wrong')
        found += [Problem("not checked", (), f'"{task}": {sentence}') for sentence in suspects.sentences]
    return found


def problem_rows(
    understood: Understood, profile: Profile, checks: Checks | None = None
) -> tuple[list[str], list[list[Any]]]:
    """Build the table of problem rows: where, what, a suggestion, and the row as it is, once for each problem.

    The suggestion is the label a model would give to a suspect one, or the row that a near duplicate nearly repeats.
    """
    table = understood.table
    first = ["row", "problem", "suggestion"]
    header = distinct_names([*first, *table.headers])
    cells = list(table.columns.values())
    problems = [*profile.problems, *(check_problems(understood, checks) if checks else ())]
    suggestions = _suggestions(understood, checks)
    rows = [
        [table.place(row), problem.kind, suggestions.get((problem.kind, row), ""), *(column[row] for column in cells)]
        for problem in problems
        for row in problem.rows
    ]
    return header, rows


def _suggestions(understood: Understood, checks: Checks | None) -> dict[tuple[str, int], str]:
    if checks is None:
        return {}
    found = {
        ("near duplicate", row): f"row {understood.table.place(partner)} ({cosine:.2f})"
        for row, (partner, cosine) in checks.near.partners.items()
    }
    for task, suspects in checks.suspects.items():
        for suspect in suspects.suspects:
            key = ("suspect label", suspect.row)
            text = f"{task}: {suspect.suggested} ({suspect.suggested_confidence:.2f})"
            found[key] = f"{found[key]}; {text}" if key in found else text
    return found
