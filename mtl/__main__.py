"""The command line: inspect, train, resume, compare-sharing, preflight, evaluate, predict, embed, export.

Progress goes to stderr; the last line of stdout is one JSON object. Bad input ends with exit code 2 and one sentence.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtl.errors import ConfigError, DataError, UserError
from mtl.garbage import uncollected

if TYPE_CHECKING:
    from mtl.config import RunConfig
    from mtl.data.reading import Table
    from mtl.runs.store import Run, RunStore

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Checkpoint = Annotated[Path, typer.Option("--checkpoint", help="A run folder, such as checkpoints/starter.")]
Texts = Annotated[list[str] | None, typer.Option("--text", help="A text; may be repeated.")]
Input = Annotated[Path | None, typer.Option("--input", help="A CSV file with a text column.")]


ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file such as config.yaml.")]
DataFiles = Annotated[
    list[Path] | None, typer.Option("--data", help="A CSV file; may be repeated; they replace data.files.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, for instance training.epochs=3; may be repeated.")
]


@app.command()
def inspect(
    config: ConfigFile = None,
    data: DataFiles = None,
    set_: Settings = None,
    checks: Annotated[bool, typer.Option(help="Look for near duplicates and wrong labels too; takes a while.")] = False,
    problems: Annotated[Path | None, typer.Option(help="The CSV file to write the problem rows to.")] = None,
) -> None:
    """Say what is understood of the data: columns, labels, problems and the split; nothing is trained."""
    from mtl.data.preparing import complete, divide, understand_table
    from mtl.data.profile import profile
    from mtl.reports.data import describe, problem_rows
    from mtl.runs.files import write_twins
    from mtl.terminal import look_deeper, near_groups

    chosen = _configured(config, set_)
    files = _files(chosen, data)
    understood = understand_table(_read(files, chosen), chosen)
    found = profile(understood)
    checked = look_deeper(understood, chosen) if checks else None
    if problems is not None:
        with write_twins(problems, sources=files) as write:
            write(*problem_rows(understood, found, checked))
    try:
        prepared = complete(understood, divide(understood, chosen, near_groups(understood, chosen)), chosen)
    except UserError as error:  # still worth a look
        described = describe(understood, found, None, checked, refusal=str(error))
        print(error, file=sys.stderr)
    else:
        described = describe(understood, found, prepared, checked)
    for problem in described["problems"]:
        print(problem["problem"], file=sys.stderr)
    _finish(described)


@app.command()
def train(config: ConfigFile = None, data: DataFiles = None, set_: Settings = None) -> None:
    """Fine-tune the encoder and a head per task; print the run, its status and its scores."""
    from mtl.runs.store import SHIPPED, RunStore
    from mtl.settings import settings

    chosen = _configured(config, set_)
    _train(_create(RunStore(settings().runs_dir, SHIPPED), chosen, data))


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="A run folder, such as checkpoints/20260131-120000-….")]) -> None:
    """Go on with a run that was stopped or cut off, exactly where it was; of a finished one print the result."""
    from mtl.runs.store import open_run

    found = open_run(run)
    if found.status.state in {"done", "diverged"}:
        _finish_run(found)
    else:
        found.forget_stop()
        _train(found)


def _train(run: Run) -> None:
    """Train a run in this process, from its start or from where it was, and print how it ended."""
    from mtl.runs.worker import StopRequest, work
    from mtl.terminal import signals, training_progress

    print(f"{_relative(run.path)}: {', '.join(run.config.tasks)}", file=sys.stderr)
    stop = StopRequest()
    begun, _ = run.events()
    with signals(stop), training_progress(begun[0].get("steps") if begun else None) as on_event:
        status = work(run, stop, on_event)
    print(f"{status.state}: {status.reason}", file=sys.stderr)
    if run.can_go_on:
        print(f"To go on: python -m mtl resume {_relative(run.path)}", file=sys.stderr)
    _finish_run(run)


def _finish_run(run: Run) -> None:
    """Print a run's result as the last line, and leave with the exit code that says how it ended."""
    status, report = run.status, run.report() or {}
    validation = report.get("validation") or (_manifest_scores(run.best) if run.has_checkpoint else None)
    _finish({"run": _relative(run.path), "status": status.state, "validation": validation, "test": report.get("test")})
    if status.state != "done":
        raise typer.Exit(130 if status.state == "stopped" else 1)


@app.command()
def compare_sharing(
    config: ConfigFile = None,
    data: DataFiles = None,
    set_: Settings = None,
    seeds: Annotated[int, typer.Option(help="How often everything is trained.")] = 1,
) -> None:
    """Train all tasks jointly and each alone, on the same split and budget, and say whether sharing pays."""
    from mtl.runs.comparing import create, outcome
    from mtl.runs.store import SHIPPED, RunStore
    from mtl.runs.worker import StopRequest, work
    from mtl.settings import settings
    from mtl.terminal import compared, signals, training_progress

    chosen = _configured(config, set_)
    store = RunStore(settings().runs_dir, SHIPPED)
    runs = create(store, chosen, seeds=seeds, **_source(chosen, data))
    stop = StopRequest()
    with signals(stop):
        for number, run in enumerate(runs, start=1):
            print(f"{number} of {len(runs)}: {_relative(run.path)}, {', '.join(run.config.tasks)}", file=sys.stderr)
            with training_progress() as on_event:
                if work(run, stop, on_event).state != "done":
                    raise typer.Exit(130 if stop.state else 1)
    found = outcome(store, runs[0]) or {}
    print(compared(found), file=sys.stderr)
    _finish({"run": _relative(runs[0].path), **found})


@app.command()
def preflight(config: ConfigFile = None, data: DataFiles = None, set_: Settings = None) -> None:
    """Try one batch per task on a run's own settings: memory, time, loss at step 0; nothing is kept."""
    import tempfile

    from mtl.runs.preflight import run_preflight
    from mtl.runs.store import SHIPPED, RunStore

    chosen = _configured(config, set_)
    with tempfile.TemporaryDirectory(prefix="mtl-preflight-") as folder:
        _finish(run_preflight(_create(RunStore(Path(folder), SHIPPED), chosen, data), timeout_seconds=600))


@app.command()
def evaluate(
    checkpoint: Checkpoint, data: Annotated[Path, typer.Option(help="A CSV file with label columns.")]
) -> None:
    """Score a checkpoint on every labelled row of a file."""
    from mtl.data.entities import read_entity_column
    from mtl.data.preparing import check_labels, merge_labels
    from mtl.data.reading import is_missing, quoted, read_file
    from mtl.data.splitting import Examples

    table = read_file(data)
    with uncollected():
        from mtl.inference.predictor import Predictor
        from mtl.inference.table import texts_of
        from mtl.training.evaluation import evaluate as score

        predictor = Predictor.load(checkpoint)
    table = merge_labels(table, predictor.config.tasks)
    texts = texts_of(predictor, table)
    tasks = [task for task in predictor.tasks if task.name in table.columns]
    if not tasks:
        names = quoted([task.name for task in predictor.tasks])
        raise DataError(f"{data} has none of the checkpoint's label columns {names}; it has {quoted(table.headers)}.")
    for task in tasks:
        if task.kind == "classification":
            check_labels(table, task.name, task.labels)
            continue
        for row, problem in read_entity_column(texts, table.columns[task.name]).problems:
            print(f"Row {table.place(row)} is not scored on {task.name}: {problem}.", file=sys.stderr)
    rows = [i for i, text in enumerate(texts) if not is_missing(text)]
    cells = {t.name: table.columns.get(t.name, [""] * len(table)) for t in predictor.tasks}
    everything = Examples(
        tuple(texts), {name: tuple(column) for name, column in cells.items()}, tuple(range(len(table)))
    )
    found = score(predictor.model, everything.take(rows))
    _finish(found.scores if found else {})


@app.command()
def predict(
    checkpoint: Checkpoint,
    text: Texts = None,
    input: Input = None,  # noqa: A002  # the option's name
    output: Annotated[Path | None, typer.Option(help="The CSV file to write.")] = None,
) -> None:
    """Predict every task: for texts on the command line, or for a file, whose columns are kept."""
    source = _texts_or_file(text, input, output)
    with uncollected():
        from mtl.inference.answers import brief, in_words
        from mtl.inference.predictor import Predictor
        from mtl.inference.table import predict_file

        predictor = Predictor.load(checkpoint)
    if source is not None and output is not None:
        from mtl.terminal import with_row_progress

        with_row_progress(predict_file(predictor, source, output))
        _finish({"output": output.as_posix(), "exact": output.with_suffix(".jsonl").as_posix()})
        return
    answers = predictor.predict(text or [])
    predictions = [
        {task: brief(value, one) for task, value in answer.items()}
        for one, answer in zip(text or [], answers, strict=True)
    ]
    for one, prediction in zip(text or [], predictions, strict=True):
        shown = ", ".join(f"{task} {in_words(value)}" for task, value in prediction.items())
        print(f"{one}\n  {shown}", file=sys.stderr)
    _finish({"predictions": predictions})


@app.command()
def embed(
    checkpoint: Checkpoint,
    text: Texts = None,
    input: Input = None,  # noqa: A002  # the option's name
    output: Annotated[Path | None, typer.Option(help="The NPY file to write.")] = None,
) -> None:
    """Embed texts: print shape and first values, or write a file's embeddings as float32 NPY, a row per row."""
    source = _texts_or_file(text, input, output)
    with uncollected():
        from mtl.inference.predictor import Predictor
        from mtl.inference.table import embed_file

        predictor = Predictor.load(checkpoint)
    if source is not None and output is not None:
        from mtl.terminal import with_row_progress

        shape = with_row_progress(embed_file(predictor, source, output))
        _finish({"output": output.as_posix(), "shape": list(shape)})
        return
    vectors = predictor.embed(text or [])
    _finish({"shape": list(vectors.shape), "first_values": [[round(float(v), 4) for v in row[:8]] for row in vectors]})


@app.command()
def export(checkpoint: Checkpoint, output: Annotated[Path, typer.Option(help="The zip file to write.")]) -> None:
    """Write a zip whose folder SentenceTransformer(path) opens, with heads and labels beside it."""
    with uncollected():
        from mtl.inference.predictor import Predictor
        from mtl.sharing.bundle import export_bundle

        predictor = Predictor.load(checkpoint)
    try:
        notes = export_bundle(predictor, output, checkpoint.resolve().name)
    except OSError as error:
        raise DataError(f"{output} cannot be written: {str(error.strerror).lower()}.") from None
    _finish({"output": output.as_posix(), "bytes": output.stat().st_size, "notes": notes})


def _finish(result: dict[str, Any]) -> None:
    print(json.dumps(result, ensure_ascii=False, allow_nan=False))


def _configured(path: Path | None, settings: list[str] | None) -> RunConfig:
    from mtl.config import RunConfig
    from mtl.config_text import load_config, override

    return override(load_config(path) if path else RunConfig(), settings or [])


def _files(config: RunConfig, data: list[Path] | None) -> list[Path]:
    """Return the data files: those of the command line, else those of the configuration."""
    files = data or [Path(name) for name in config.data.files]
    if not files:
        raise ConfigError("data.files names no file; give --data FILE.csv or set data.files.")
    return files


def _read(files: list[Path], config: RunConfig) -> Table:
    from mtl.data.combining import read_configured

    return read_configured([(path, path.name) for path in files], config.data)


def _create(store: RunStore, config: RunConfig, data: list[Path] | None) -> Run:
    """Make a run; on bad input nothing is made."""
    return store.create(config, **_source(config, data))


def _source(config: RunConfig, data: list[Path] | None) -> dict[str, Any]:
    """Read what a run is made of, as `RunStore.create` takes it."""
    from mtl.data.preparing import understand_table
    from mtl.terminal import near_groups

    files = _files(config, data)
    table = _read(files, config)
    near = near_groups(understand_table(table, config), config)
    return {"table": table, "near": near, "files": [path.as_posix() for path in files]}


def _relative(path: Path) -> str:
    """Return a run's path relative to the working folder where that is possible."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.as_posix()


def _manifest_scores(folder: Path) -> dict[str, Any] | None:
    from mtl.runs.checkpoint import read_checkpoint_manifest

    return read_checkpoint_manifest(folder)["scores"] or None


def _texts_or_file(text: list[str] | None, source: Path | None, output: Path | None) -> Path | None:
    """Check that there are either texts or an input with an output; return the input."""
    if bool(text) == (source is not None):
        raise ConfigError("Give either --text or --input FILE.csv.")
    if text and not all(one.strip() for one in text):
        raise DataError("--text is empty; give a sentence.")
    if source is None:
        return None
    if output is None:
        raise ConfigError("--input needs --output, the file to write.")
    return source


def main() -> None:
    """Run the command line; a mistake of the person is one sentence and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # before torch is imported: threads that wait leave their core to whatever else runs here
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
