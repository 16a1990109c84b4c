"""The named endpoints, for `gradio_client` and plain HTTP; the page's own events are private."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from mtl.config_text import from_dict, read_yaml
from mtl.runs.progress import progress
from mtl.runs.store import STARTER
from mtl.ui.context import AppContext, guarded, lines
from mtl.ui.tabs import classify, predict, similarity
from mtl.ui.train import data, live

Texts = str | list[str]


def build(context: AppContext) -> None:
    """Declare the endpoints."""
    _inference(context)
    _runs(context)


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

    def ask(text: str, checkpoint: str = STARTER, token: str = "") -> dict[str, Any]:
        """Ask every head about one text, from one encoder pass. Returns label, confidence, probabilities per task."""
        return predict.predict(context, text, checkpoint, token)

    handlers: dict[str, Callable[..., Any]] = {
        "embed": embed,
        "similarity": compare,
        "search": search,
        "topic": topic,
        "sentiment": sentiment,
        "predict": ask,
    }
    for name, handler in handlers.items():
        gr.api(guarded(handler), api_name=name, concurrency_limit=4, concurrency_id="inference")


def _runs(context: AppContext) -> None:
    def inspect_csv(path: str | None) -> dict[str, Any]:
        """Say what is understood of a CSV file: columns with roles and reasons, tasks, the split, problem rows."""
        return data.inspect(path or "")

    def start_run(path: str | None, config: Any) -> dict[str, str]:
        """Start a run on a CSV file; `config` has the sections of config.yaml. Returns the run and its token."""
        values = read_yaml(config) if isinstance(config, str) else config
        run, token = live.start(context, from_dict(_plain(values)), [[path, Path(path).name]] if path else [])
        return {"run": run.name, "token": token}

    def run_status(run: str, token: str = "") -> dict[str, Any]:
        """Say where a run stands: state, phase, reason, epoch, step, seconds left, validation and test scores."""
        return _status(context, run, token)

    def stop_run(run: str, token: str = "") -> dict[str, Any]:
        """Stop a run after its current batch and keep its best checkpoint."""
        live.stop(context, run, token)
        return _status(context, run, token)

    # A file must go through a file component, which checks that it was really uploaded.
    with gr.Row(visible=False):
        file, config, answer = gr.File(label="file"), gr.JSON(label="config"), gr.JSON(label="answer")
        gr.Button().click(guarded(inspect_csv), file, answer, api_name="inspect_csv", concurrency_limit=2)
        gr.Button().click(guarded(start_run), [file, config], answer, api_name="start_run", concurrency_limit=1)
    gr.api(guarded(run_status), api_name="run_status", concurrency_limit=None)
    gr.api(guarded(stop_run), api_name="stop_run", concurrency_limit=None)


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
    report = run.report() or {}
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
    }
