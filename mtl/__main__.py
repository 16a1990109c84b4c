"""The command line: train, evaluate, predict, embed, export.

Progress goes to stderr; the last line of stdout is one JSON object. Bad input ends with exit code 2 and one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtl.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from mtl.runs.worker import StopRequest
    from mtl.training.events import EpochEnd, Event

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Checkpoint = Annotated[Path, typer.Option("--checkpoint", help="A run folder, such as checkpoints/starter.")]
Texts = Annotated[list[str] | None, typer.Option("--text", help="A text; may be repeated.")]
Input = Annotated[Path | None, typer.Option("--input", help="A CSV file with a text column.")]


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="A YAML file such as config.yaml.")] = None,
    data: Annotated[Path | None, typer.Option(help="The CSV file; it replaces data.files.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, for instance training.epochs=3; may be repeated.")
    ] = None,
) -> None:
    """Fine-tune the encoder and a head per task; print the run, its status and its scores."""
    from mtl.config import RunConfig
    from mtl.config_text import load_config, override
    from mtl.data.reading import read_file
    from mtl.runs.store import RunStore
    from mtl.runs.worker import StopRequest, work
    from mtl.settings import settings

    chosen = override(load_config(config) if config else RunConfig(), set_ or [])
    path = data or _only_file(chosen.data.files)
    read_file(path)  # a wrong file ends here, with its name in the sentence
    run = RunStore(settings().runs_dir).create(chosen, path.read_bytes(), file_name=path.as_posix())
    print(f"{_relative(run.path)}: {', '.join(run.config.tasks)}", file=sys.stderr)
    stop = StopRequest()
    with _signals(stop), _progress() as on_event:
        status = work(run, stop, on_event)
    print(f"{status.state}: {status.reason}", file=sys.stderr)
    report = run.report() or {}
    validation = report.get("validation") or (_manifest_scores(run.best) if run.has_checkpoint else None)
    _finish({"run": _relative(run.path), "status": status.state, "validation": validation, "test": report.get("test")})
    if status.state == "stopped":
        raise typer.Exit(130)
    if status.state != "done":
        raise typer.Exit(1)


@app.command()
def evaluate(
    checkpoint: Checkpoint, data: Annotated[Path, typer.Option(help="A CSV file with label columns.")]
) -> None:
    """Score a checkpoint on every labelled row of a file."""
    from mtl.data.preparing import check_labels
    from mtl.data.reading import is_missing, quoted, read_file
    from mtl.data.splitting import Examples
    from mtl.inference.predictor import Predictor
    from mtl.inference.table import text_column
    from mtl.training.loop import evaluate as score

    table = read_file(data)
    predictor = Predictor.load(checkpoint)
    texts = table.columns[text_column(predictor, table)]
    tasks = [task for task in predictor.tasks if task.name in table.columns]
    if not tasks:
        names = quoted([task.name for task in predictor.tasks])
        raise DataError(f"{data} has none of the checkpoint's label columns {names}; it has {quoted(table.headers)}.")
    for task in tasks:
        check_labels(table, task.name, task.labels)
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
    from mtl.inference.predictor import Predictor
    from mtl.inference.table import predict_table

    table = _texts_or_file(text, input, output)
    predictor = Predictor.load(checkpoint)
    if table is None or output is None:
        answers = predictor.predict(text or [])
        predictions = [
            {task: {"label": p.label, "confidence": round(p.confidence, 4)} for task, p in answer.items()}
            for answer in answers
        ]
        for one, prediction in zip(text or [], predictions, strict=True):
            shown = ", ".join(f"{task} {p['label']} ({p['confidence']:.2f})" for task, p in prediction.items())
            print(f"{one}\n  {shown}", file=sys.stderr)
        _finish({"predictions": predictions})
        return
    from mtl.runs.files import write_csv

    write_csv(output, *predict_table(predictor, table))
    _finish({"output": output.as_posix(), "rows": len(table)})


@app.command()
def embed(
    checkpoint: Checkpoint,
    text: Texts = None,
    input: Input = None,  # noqa: A002  # the option's name
    output: Annotated[Path | None, typer.Option(help="The NPY file to write.")] = None,
) -> None:
    """Embed texts: print shape and first values, or write a file's embeddings as float32 NPY, a row per row."""
    import numpy as np

    from mtl.inference.predictor import Predictor
    from mtl.inference.table import text_column

    table = _texts_or_file(text, input, output)
    predictor = Predictor.load(checkpoint)
    texts = table.columns[text_column(predictor, table)] if table else text or []
    vectors = predictor.embed(texts)
    if output is not None:
        try:
            with output.open("wb") as file:
                np.save(file, vectors)
        except OSError as error:
            raise DataError(f"{output} cannot be written: {str(error.strerror).lower()}.") from None
        _finish({"output": output.as_posix(), "shape": list(vectors.shape)})
        return
    _finish({"shape": list(vectors.shape), "first_values": [[round(float(v), 4) for v in row[:8]] for row in vectors]})


@app.command()
def export(checkpoint: Checkpoint, output: Annotated[Path, typer.Option(help="The zip file to write.")]) -> None:
    """Write a zip whose folder SentenceTransformer(path) opens, with heads and labels beside it."""
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


def _only_file(files: tuple[str, ...]) -> Path:
    if len(files) != 1:
        what = "names no file" if not files else f"names {len(files)} files, and one is read"
        raise ConfigError(f"data.files {what}; give --data FILE.csv or set data.files to one CSV file.")
    return Path(files[0])


def _relative(path: Path) -> str:
    """Return a run's path relative to the working folder where that is possible."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.as_posix()


def _manifest_scores(folder: Path) -> dict[str, Any] | None:
    from mtl.runs.checkpoint import read_manifest

    return read_manifest(folder)["scores"] or None


def _texts_or_file(text: list[str] | None, source: Path | None, output: Path | None) -> Any:
    """Check that there are either texts or an input with an output; read the input."""
    from mtl.data.reading import read_file

    if bool(text) == (source is not None):
        raise ConfigError("Give either --text or --input FILE.csv.")
    if text and not all(one.strip() for one in text):
        raise DataError("--text is empty; give a sentence.")
    if source is None:
        return None
    if output is None:
        raise ConfigError("--input needs --output, the file to write.")
    return read_file(source)


@contextmanager
def _signals(stop: StopRequest) -> Iterator[None]:
    """Let Ctrl-C end the run after its current batch; a second Ctrl-C ends at once."""

    def on_interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stop.ask("stopped", "Interrupted with Ctrl-C.")

    before = signal.signal(signal.SIGINT, on_interrupt), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: stop.ask("interrupted", "The run was asked to end by the system."))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@contextmanager
def _progress() -> Iterator[Callable[[Event], None]]:
    """Draw a progress bar over the steps on stderr, and a line per epoch above it."""
    from tqdm import tqdm

    # disable=None: no bar where stderr is a file; the lines remain
    with tqdm(unit="step", file=sys.stderr, disable=None, leave=False) as bar:

        def on_event(event: Event) -> None:
            from mtl.training.events import EpochEnd, RunBegin, StepEnd

            match event:
                case RunBegin():
                    bar.total = event.steps
                    share = event.trainable / event.parameters
                    rows, numerics = event.rows, event.numerics
                    bar.write(
                        f"{rows['train']} training, {rows['validation']} validation, {rows['test']} test rows; "
                        f"{event.trainable:,} of {event.parameters:,} parameters learn ({share:.0%}); "
                        f"{numerics['device']}, {numerics['precision']}",
                        file=sys.stderr,
                    )
                    for warning in event.warnings:
                        bar.write(f"note: {warning}", file=sys.stderr)
                case StepEnd():
                    bar.update()
                    bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
                case EpochEnd():
                    bar.write(_epoch_line(event), file=sys.stderr)

        yield on_event


def _epoch_line(event: EpochEnd) -> str:
    parts = [f"epoch {event.epoch}", f"train loss {event.train.loss:.3f}"]
    if event.validation:
        parts.append(f"validation loss {event.validation.loss:.3f}")
        parts += [
            f"{task} accuracy {scores['accuracy']:.3f} F1 {scores['macro_f1']:.3f}"
            for task, scores in event.validation.scores.items()
        ]
    return " | ".join(parts) + (" | best" if event.improved else "")


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
