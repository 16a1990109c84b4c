"""The named endpoints, for `gradio_client` and plain HTTP; the page's own events are private."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.config_text import from_dict, read_yaml
from mtl.errors import CheckpointError
from mtl.runs.progress import progress
from mtl.runs.store import STARTER
from mtl.runs.summary import Summary, summarise
from mtl.ui.context import AppContext, guarded, lines
from mtl.ui.tabs import classify, entities, predict, similarity
from mtl.ui.train import data, starting
from mtl.ui.train.status import standing

Texts = str | list[str]


def build(context: AppContext) -> None:
    """Declare the endpoints."""
    _inference(context)
    _runs(context)
    _past_runs(context)


def _inference(context: AppContext) -> None:
    def embed(texts: Texts, checkpoint: str = STARTER, token: str = "") -> dict[str, Any]:
        """Embed texts: a list, or one text a line. Returns the shape and one vector per text."""
        vectors = context.predictor(checkpoint, token).embed(lines(texts))
        return {"shape": list(vectors.shape), "embeddings": vectors.tolist()}

    def compare(left: Texts, right: Texts, checkpoint: str = STARTER, token: str = "") -> dict[str, Any]:
        """Compare two lists of texts. Returns the cosine similarity of each pair and the best match of each text."""
        first, second, scores = similarity.similarity(context, left, right, checkpoint, token)
        best = [
            {"text": text, "match": second[int(row.argmax())], "score": float(row.max())}
            for text, row in zip(first, scores, strict=True)
        ]
        return {"matrix": scores.tolist(), "best": best}

    def search(
        query: str, texts: Texts, k: int = 5, checkpoint: str = STARTER, token: str = ""
    ) -> list[dict[str, Any]]:
        """Find the k texts nearest in meaning to a query. Returns text, score and index, the nearest first."""
        return similarity.search(context, query, lines(texts), k, checkpoint, token)

    def topic(texts: Texts, head: str = "", checkpoint: str = STARTER, token: str = "") -> list[dict[str, Any]]:
        """Classify texts by topic. Returns label, confidence and probabilities per text; `head` names another task."""
        return classify.classify(context, texts, head, checkpoint, token, classify.TOPIC)

    def sentiment(texts: Texts, head: str = "", checkpoint: str = STARTER, token: str = "") -> list[dict[str, Any]]:
        """Classify texts by sentiment. Returns label, confidence and probabilities; `head` names another task."""
        return classify.classify(context, texts, head, checkpoint, token, classify.SENTIMENT)

    def find_entities(texts: Texts, head: str = "", checkpoint: str = STARTER, token: str = "") -> list[dict[str, Any]]:
        """Find named entities. Returns per text `text` and `entities`: start, end, label, text and confidence of each.

        Offsets count the characters of the text as it was sent, from 0; the end is excluded. `head` names the task;
        empty: the first that finds entities.
        """
        return entities.find(context, texts, head, checkpoint, token).texts

    def ask(text: str, checkpoint: str = STARTER, token: str = "") -> dict[str, Any]:
        """Ask every head about one text, from one encoder pass: label, confidence, probabilities or entities per task.

        A head that finds entities returns {"entities": [...]} as /entities does.
        """
        return predict.predict(context, text, checkpoint, token)

    handlers: dict[str, Callable[..., Any]] = {
        "embed": embed,
        "similarity": compare,
        "search": search,
        "topic": topic,
        "sentiment": sentiment,
        "entities": find_entities,
        "predict": ask,
    }
    for name, handler in handlers.items():
        gr.api(guarded(handler), api_name=name, concurrency_limit=4, concurrency_id="inference")


def _runs(context: AppContext) -> None:
    def inspect_csv(path: str | None) -> dict[str, Any]:
        """Say what is understood of a CSV file: columns with roles and reasons, tasks, the split, problem rows."""
        return data.inspect(path or "")

    def start_run(path: str | None, config: Any, request: gr.Request) -> dict[str, str]:
        """Start a run on a CSV file; `config` has the sections of config.yaml. Returns the run and its token."""
        values = read_yaml(config) if isinstance(config, str) else config
        files = [[path, Path(path).name]] if path else []
        run, token = starting.start(context, from_dict(_plain(values)), files, "", context.address(request))
        return {"run": run.name, "token": token}

    def run_status(run: str, token: str = "") -> dict[str, Any]:
        """Say where a run stands: state, phase, reason, epoch, step, seconds left, validation and test scores.

        Also the best epoch, how many epochs ago that was (`epochs_without_improvement`, up to `patience`), and the
        phase of a plan of unfreezing.
        """
        return _status(context, run, token)

    def stop_run(run: str, token: str = "") -> dict[str, Any]:
        """Stop a run after its current batch and keep its best checkpoint."""
        starting.stop(context, run, token)
        return _status(context, run, token)

    def resume_run(run: str, token: str = "") -> dict[str, Any]:
        """Let a run that was stopped or cut off go on exactly where it was."""
        starting.resume(context, run, token)
        return _status(context, run, token)

    # A file must go through a file component, which checks that it was really uploaded.
    with gr.Row(visible=False):
        file, config, answer = gr.File(label="file"), gr.JSON(label="config"), gr.JSON(label="answer")
        gr.Button().click(guarded(inspect_csv), file, answer, api_name="inspect_csv", concurrency_limit=2)
        gr.Button().click(guarded(start_run), [file, config], answer, api_name="start_run", concurrency_limit=1)
    gr.api(guarded(run_status), api_name="run_status", concurrency_limit=None)
    gr.api(guarded(stop_run), api_name="stop_run", concurrency_limit=None)
    gr.api(guarded(resume_run), api_name="resume_run", concurrency_limit=None)


def _past_runs(context: AppContext) -> None:
    def runs(token: str = "") -> list[dict[str, Any]]:
        """List the runs of a token, the newest first: name, title, state, tasks, files, rows and main test scores.

        Without a token these are, on a shared page, only the checkpoint that came with the app; elsewhere all runs.
        """
        return [_listed(summarise(run)) for run in context.runs(token)]

    def run_report(run: str, token: str = "") -> dict[str, Any]:
        """Return what a run's test rows say, as in its report.json: scores, intervals, baselines, mistakes per task."""
        found = context.open(run, token).report()
        if found is None:
            raise CheckpointError("This run has no report: its test rows were not scored.")
        return found

    def delete_run(run: str, token: str = "") -> dict[str, str]:
        """Delete a finished run with everything in it; there is no way back. Returns its name."""
        context.delete(run, token)
        return {"deleted": run}

    for handler in (runs, run_report, delete_run):
        gr.api(guarded(handler), api_name=handler.__name__, concurrency_limit=4, concurrency_id="past-runs")


def _listed(found: Summary) -> dict[str, Any]:
    return {
        "run": found.name,
        "title": found.title,
        "state": found.status.state,
        "reason": found.status.reason,
        "tasks": list(found.tasks),
        "files": list(found.files),
        "rows": dict(found.rows),
        "preset": found.preset,
        "seconds": found.seconds,
        "has_checkpoint": found.has_checkpoint,
        "scores": {task: {"score": name, "value": value} for task, (name, value) in found.scores.items()},
    }


def _plain(values: Any) -> Any:
    """Bring JSON values to plain ones; a JSON text inside a string is read too."""
    if isinstance(values, str):
        try:
            return json.loads(values)
        except ValueError:
            return values
    return values


def _status(context: AppContext, name: str, token: str) -> dict[str, Any]:
    run = context.open(name, token)
    status, history = run.status, context.history(run)
    now = progress(status, history.events, history.timings, context.queue.position(run))
    ends = [event for event in history.events if event["event"] == "EpochEnd"]
    taken = [event for event in history.events if event["event"] == "StepEnd"]
    report, where = run.report() or {}, standing(run, history.events)
    return {
        "run": run.name,
        "state": status.state,
        "status": status.state,
        "phase": status.phase,
        "reason": status.reason,
        "epoch": ends[-1]["epoch"] if ends else 0,
        "step": taken[-1]["step"] if taken else 0,
        "fraction": now.fraction,
        "seconds_left": now.seconds_left,
        "validation": ends[-1]["validation"]["scores"] if ends and ends[-1]["validation"] else None,
        "test": report.get("test"),
        "best_epoch": where["best_epoch"],
        "best_epochs": where["best_epochs"],
        "epochs_without_improvement": where["epochs_without_improvement"],
        "patience": where["patience"],
        "unfreezing_phase": where["phase"],
        "unfreezing_phases": where["phases"],
    }
