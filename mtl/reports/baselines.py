"""What one gets without a neural network, on the same rows: a score means little until it is compared with these.

Texts: the most frequent class, and a logistic regression on TF-IDF weights of words and pairs of words. Entities:
none at all, and whatever was an entity in training looked up in the text, as in the baseline of CoNLL-2003
(Tjong Kim Sang & De Meulder 2003, ACL W03-0419).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl.data.entities import Span, spans_or_none
from mtl.data.splitting import Examples
from mtl.modeling.heads.base import Entity, EntityPrediction
from mtl.tasks import TaskSpec
from mtl.training.entity_scores import entity_scores
from mtl.training.metrics import class_scores

MOST_ROWS = 50_000
# what keeps a baseline of very many classes within a minute and a gigabyte: rows times classes, features times classes
MOST_CELLS, MOST_WEIGHTS = 1_000_000, 2_000_000
MOST_FEATURES = 50_000
MOST_CHARACTERS = 5_000  # of a text, about a thousand words: more than an encoder reads of it
MOST_ITERATIONS = 100
CHUNK = 10_000  # texts predicted at once: each has a number for every class
# 10 scores better than 1, scikit-learn's own: by macro F1 on each of six tasks that we tried, at 300 rows and at all
INVERSE_PENALTY = 10.0
# Scripts that put no blank between words: each character is a word of its own, and pairs of them are often words.
_UNSPACED = "\u2e80-\u9fff\uf900-\ufaff"
WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+"
_TOKEN = re.compile(rf"{WORD}|[^\w\s]")


@dataclass(frozen=True)
class Baseline:
    """How a simple method does on the test rows.

    Attributes:
        scores: The same scores as the model's; None if the method cannot be used here.
        note: Why not, or what else one should know; usually empty.
    """

    scores: dict[str, float] | None
    note: str = ""


def class_baselines(
    task: TaskSpec, train: Examples, *, texts: Sequence[str], truth: np.ndarray, seed: int = 0
) -> dict[str, Baseline]:
    """Fit `majority` and `tfidf` on the labelled training rows and score them on labelled test rows.

    Args:
        task: Of classes.
        train: The training rows.
        texts: The labelled test rows.
        truth: Their class indices. Shape: (N,).
        seed: Which rows are taken if there are too many.
    """
    index = {label: number for number, label in enumerate(task.labels)}
    labelled = [i for i, cell in enumerate(train.cells.get(task.name, ())) if cell in index]
    labels = np.array([index[train.cells[task.name][i]] for i in labelled], dtype=np.int64)
    if not len(labels):
        nothing = Baseline(None, "No training row is labelled for this task.")
        return {"majority": nothing, "tfidf": nothing}
    majority = np.full_like(truth, np.bincount(labels).argmax())
    return {
        "majority": Baseline(class_scores(truth, majority)),
        "tfidf": _tfidf([train.texts[i] for i in labelled], labels, texts, truth, seed),
    }


def _tfidf(
    train_texts: Sequence[str], labels: np.ndarray, texts: Sequence[str], truth: np.ndarray, seed: int
) -> Baseline:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    classes = len(np.unique(labels))
    if classes < 2:
        return Baseline(None, "All training rows have one class, so there is nothing to tell apart.")
    chosen = _some_rows(len(labels), min(MOST_ROWS, MOST_CELLS // classes), seed)
    model = make_pipeline(
        TfidfVectorizer(
            preprocessor=_lower,
            token_pattern=WORD,
            ngram_range=(1, 2),
            sublinear_tf=True,
            max_features=min(MOST_FEATURES, max(100, MOST_WEIGHTS // classes)),
        ),
        LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_ITERATIONS, random_state=seed),
    )
    with warnings.catch_warnings():
        # after so many iterations it is good enough to compare with
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit([train_texts[i] for i in chosen], labels[chosen])
        except ValueError as error:
            if "empty vocabulary" in str(error):
                return Baseline(None, "The training texts have no words.")
            if "at least 2 classes" in str(error):
                return Baseline(None, "The training rows it looked at have one class.")
            raise
    note = f"Fitted on {len(chosen):,} of {len(labels):,} training rows." if len(chosen) < len(labels) else ""
    parts = [model.predict(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    return Baseline(class_scores(truth, np.concatenate(parts)), note)


def _lower(text: str) -> str:
    return text[:MOST_CHARACTERS].lower()


def _some_rows(count: int, most: int, seed: int) -> np.ndarray:
    """Choose at most so many rows, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def entity_baselines(
    task: TaskSpec, train: Examples, *, texts: Sequence[str], truth: Sequence[tuple[Span, ...] | None]
) -> dict[str, Baseline]:
    """Score `nothing` and `dictionary` on test rows.

    Args:
        task: Of entities.
        train: The training rows.
        texts: The test rows.
        truth: Their entities; None where a row is not annotated.
    """
    nothing = Baseline(entity_scores(truth, [EntityPrediction(())] * len(texts)))
    cells = train.cells.get(task.name, ("",) * len(train))
    entries = dictionary(train.texts, spans_or_none(train.texts, cells), labels=task.labels)
    if not entries:
        return {"nothing": nothing, "dictionary": Baseline(None, "The training rows have no entities.")}
    return {"nothing": nothing, "dictionary": Baseline(entity_scores(truth, look_up(entries, texts)))}


def dictionary(
    texts: Sequence[str], spans: Sequence[tuple[Span, ...] | None], *, labels: Sequence[str]
) -> dict[str, str]:
    """Collect the entities as they are written, with their most frequent type, the first one on ties.

    What is no entity more often than not where it is found in the training texts, such as "the" for the band, is
    left out again: that makes the baseline a good deal harder to beat.

    Args:
        texts: Training texts.
        spans: Their entities; None where a text is not annotated.
        labels: The types that count.
    """
    types: dict[str, Counter[str]] = defaultdict(Counter)
    rows = [(text, row) for text, row in zip(texts, spans, strict=True) if row is not None]
    for text, row in rows:
        for span in row:
            if span.label in labels:
                types[text[span.start : span.end]][span.label] += 1
    entries = {written: counts.most_common(1)[0][0] for written, counts in types.items()}
    surplus: Counter[str] = Counter()
    for (text, row), guess in zip(rows, look_up(entries, [text for text, _ in rows]), strict=True):
        true = {(span.start, span.end) for span in row}
        for entity in guess.entities:
            surplus[text[entity.start : entity.end]] += 1 if (entity.start, entity.end) in true else -1
    return {written: label for written, label in entries.items() if surplus[written] >= 0}


def look_up(entries: Mapping[str, str], texts: Sequence[str]) -> list[EntityPrediction]:
    """Find entries in texts from left to right, the longest one at each place; only whole words count."""
    longest: dict[str, int] = {}
    for written in entries:
        tokens = _TOKEN.findall(written)
        if tokens:
            longest[tokens[0]] = max(len(tokens), longest.get(tokens[0], 0))
    return [EntityPrediction(tuple(_matches(entries, longest, text))) for text in texts]


def _matches(entries: Mapping[str, str], longest: Mapping[str, int], text: str) -> list[Entity]:
    tokens = [match.span() for match in _TOKEN.finditer(text)]
    found: list[Entity] = []
    place = 0
    while place < len(tokens):
        start, end = tokens[place]
        most = min(longest.get(text[start:end], 0), len(tokens) - place)
        hits = (n for n in range(most, 0, -1) if text[start : tokens[place + n - 1][1]] in entries)
        words = next(hits, 0)
        if words:
            stop = tokens[place + words - 1][1]
            found.append(Entity(start, stop, entries[text[start:stop]], 1.0))
        place += max(1, words)
    return found
