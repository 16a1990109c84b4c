"""The command line and mistakes: one sentence, exit code 2, nothing half made."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl.runs.store import Run
from tests.conftest import Cli

Case = tuple[list[str], str]
TRAIN: dict[str, Case] = {
    "no data": (["train"], "data.files names no file"),
    "missing file": (["train", "--data", "nowhere.csv"], "nowhere.csv cannot be read: no such file"),
    "folder": (["train", "--data", "."], "cannot be read"),
    "picture": (["train", "--data", "picture.csv"], "This is a PNG image, not a CSV file"),
    "no labels": (["train", "--data", "texts.csv"], "No column looks like labels"),
    "unknown text column": (
        ["train", "--data", "tiny.csv", "--set", "data.text_column=nothing"],
        'There is no column "nothing"; the file has "text", "topic", "mood"',
    ),
    "unknown task column": (["train", "--data", "tiny.csv", "--set", "data.task_columns=[intent]"], '"intent"'),
    "picture as second file": (["train", "--data", "tiny.csv", "--data", "picture.csv"], "picture.csv: This is a PNG"),
    "unknown group column": (
        ["train", "--data", "tiny.csv", "--set", "data.split.group_column=who"],
        'no column "who"',
    ),
    "text as group": (["train", "--data", "tiny.csv", "--set", "data.split.group_column=text"], "is the text column"),
    "merged into one": (["train", "--data", "tiny.csv", "--set", "tasks.mood.merge={bad: good}"], "has 1 class"),
    "merged in a chain": (
        ["train", "--data", "tiny.csv", "--set", "tasks.topic.merge={food: sports, sports: weather}"],
        '"sports" is merged into another label and is one that others merge into',
    ),
    "two letters as delimiter": (
        ["train", "--data", "tiny.csv", "--set", "data.reading.delimiter=ab"],
        "data.reading.delimiter",
    ),
    "unknown encoding": (
        ["train", "--data", "tiny.csv", "--set", "data.reading.encoding=latin-99"],
        "not a known encoding",
    ),
    "no equals": (["train", "--data", "tiny.csv", "--set", "training.epochs"], "write it as KEY=VALUE"),
    "unknown key": (["train", "--data", "tiny.csv", "--set", "training.epoch=3"], "Did you mean epochs?"),
    "bad value": (["train", "--data", "tiny.csv", "--set", "training.epochs=many"], "training.epochs"),
    "out of range": (["train", "--data", "tiny.csv", "--set", "training.warmup=2"], "must be less than 1"),
    "missing configuration": (["train", "--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
    "unlisted label": (["train", "--data", "tiny.csv", "--set", "tasks.mood.labels=[good, fine]"], "Row "),
    "missing encoder": (["train", "--data", "tiny.csv", "--set", "encoder.name=./nowhere"], "no folder ./nowhere"),
    "unknown part": (["train", "--data", "tiny.csv", "--set", "training.freeze=layer.99"], "no part layer.99"),
}
USE: dict[str, Case] = {
    "missing run": (["predict", "--checkpoint", "nowhere", "--text", "snow"], "There is no run folder nowhere"),
    "no run": (["predict", "--checkpoint", ".", "--text", "snow"], "is not a run folder"),
    "nothing to predict": (["predict", "--checkpoint", "RUN"], "either --text or --input"),
    "text and file": (["predict", "--checkpoint", "RUN", "--text", "a", "--input", "tiny.csv"], "either --text or"),
    "empty text": (["predict", "--checkpoint", "RUN", "--text", " "], "--text is empty"),
    "no output": (["predict", "--checkpoint", "RUN", "--input", "tiny.csv"], "--input needs --output"),
    "unwritable table": (
        ["predict", "--checkpoint", "RUN", "--input", "tiny.csv", "--output", "no/where.csv"],
        "cannot be written",
    ),
    "unwritable vectors": (
        ["embed", "--checkpoint", "RUN", "--input", "tiny.csv", "--output", "no/where.npy"],
        "cannot be written",
    ),
    "unwritable bundle": (["export", "--checkpoint", "RUN", "--output", "tiny.csv/out.zip"], "cannot be written"),
    "picture to predict": (
        ["predict", "--checkpoint", "RUN", "--input", "picture.csv", "--output", "o.csv"],
        "This is a PNG image",
    ),
    "predictions over the source": (
        ["predict", "--checkpoint", "RUN", "--input", "tiny.csv", "--output", "tiny.csv"],
        "would take the place of tiny.csv",
    ),
    "no column of texts": (
        ["predict", "--checkpoint", "RUN", "--input", "numbers.csv", "--output", "o.csv"],
        "No column looks like sentences",
    ),
    "broken row": (
        ["predict", "--checkpoint", "RUN", "--input", "broken.csv", "--output", "o.csv"],
        "Row 3 has 3 cells",
    ),
    "no label column": (["evaluate", "--checkpoint", "RUN", "--data", "texts.csv"], "none of the checkpoint's label"),
    "label of another task": (["evaluate", "--checkpoint", "RUN", "--data", "strange.csv"], 'Row 3: mood "odd"'),
}


LOOK: dict[str, Case] = {
    "no data to inspect": (["inspect"], "data.files names no file"),
    "missing file to inspect": (["inspect", "--data", "nowhere.csv"], "nowhere.csv cannot be read: no such file"),
    "picture to inspect": (["inspect", "--data", "picture.csv"], "This is a PNG image"),
    "broken row to inspect": (["inspect", "--data", "broken.csv"], "Row 3 has 3 cells"),
    "no texts to inspect": (["inspect", "--data", "numbers.csv"], "No column looks like sentences"),
    "unwritable problems": (["inspect", "--data", "tiny.csv", "--problems", "no/where.csv"], "no/where.csv cannot be"),
    "problems into a folder": (
        ["inspect", "--data", "tiny.csv", "--problems", "."],
        "cannot be written: it is a folder",
    ),
    "problems over the data": (
        ["inspect", "--data", "texts.csv", "--data", "tiny.csv", "--problems", "tiny.csv"],
        "This would take the place of tiny.csv",
    ),
    "no data to try": (["preflight"], "data.files names no file"),
    "no labels to try": (["preflight", "--data", "texts.csv"], "No column looks like labels"),
}
MISTAKES = TRAIN | USE | LOOK


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_cli_mistake_ends_with_2_and_one_sentence(
    cli: Cli,
    workplace: Path,
    tiny_csv: Path,
    tiny: list[str],
    finished_run: Run,
    arguments: list[str],
    sentence: str,
) -> None:
    (workplace / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (workplace / "texts.csv").write_text("text\nthe rain was great\nthe soup was awful\n")
    (workplace / "strange.csv").write_text("text,mood\nthe rain was great,good\nthe soup was awful,odd\n")
    (workplace / "numbers.csv").write_text("id,price\n1,2.5\n2,3.5\n")
    (workplace / "broken.csv").write_text("text,mood\nthe rain was great,good\nthe soup, it was awful,bad\n")
    files = {path.name for path in workplace.iterdir()}
    if "--data" in arguments and arguments[0] == "train":
        arguments = [arguments[0], *tiny, *arguments[1:]]  # a later setting replaces an earlier one
    result = cli(*(finished_run.path if part == "RUN" else part for part in arguments))
    assert result.code == 2
    assert result.out == ""
    *before, last = result.err.splitlines()
    assert last.startswith("Error: ")
    assert last.endswith((".", "?"))
    assert sentence in last
    assert all(line.startswith("checkpoints/") for line in before), "nothing but the run's name comes before"
    assert {path.name for path in workplace.iterdir()} - files <= {"checkpoints", "cache"}, "nothing half made"


@pytest.mark.parametrize(
    "arguments", [["train", "--nonsense"], ["evaluate", "--data", "x.csv"], ["unknown"], ["predict", "--checkpoint"]]
)
def test_cli_wrong_usage_ends_with_2(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command", [[], ["inspect"], ["train"], ["preflight"], ["evaluate"], ["predict"], ["embed"], ["export"]]
)
def test_cli_helps(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert "Usage" in result.out
