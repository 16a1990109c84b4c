"""What is wrong with a run, in plain sentences, from its events alone; a healthy run has none.

At most one sentence for each task and kind, and few in all: whoever is told everything reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

from mtl.reports.plots import History, epochs, steps, task_names

MOST_SENTENCES = 4
# An epoch that takes less than 3 % off the training loss is within what dropout and the order of the rows do to it.
PROGRESS = 0.97
# How far above guessing a score may be and still be no more than luck; that of a few hundred rows swings by as much.
LUCK = 0.05
# A task this good need not improve; one that has lost a tenth of its loss may rest, as all do at the end of a schedule.
# The slowest of three tasks on 840 airline tweets loses that in one epoch.
SOLVED, LEARNT = 0.9, 0.9
# One epoch above the best validation loss is chance, two in a row are a direction; 5 % is more than they swing.
OVERFIT_EPOCHS, OVERFIT_RISE = 2, 1.05
# Four fifths of the step: the others together have a quarter of that task's say.
DOMINANT_SHARE = 0.8
# Unrelated tasks have cosines about 0; single batches swing by 0.15, the mean of several looks by less than 0.1.
# Below that tasks pull apart. Yet pairs at -0.2 and -0.3 were seen to learn well together, so unless a task of the pair
# gets nowhere, only what undoes half of another's step is worth a word.
CONFLICT_COSINE, STRONG_CONFLICT_COSINE = -0.1, -0.5
FEWEST_LOOKS, RECENT_LOOKS = 3, 10
# Half way to unrelated. The default encoder's STS-B Spearman, 0.909 at first, was 0.904 at a drift of 0.2 and 0.866 at
# 0.4, where the defaults come to. Early on the rates are highest and a run may pass this and come back (0.54, then
# 0.39), so it takes two epochs.
FAR_DRIFT, FAR_EPOCHS = 0.5, 2


def diagnose(history: History) -> list[str]:
    """Say what a person should look at, the most serious first; nothing where all is well.

    Args:
        history: Events of a run, finished or not, as its journal holds them; older ones may lack keys.
    """
    found = [
        *_short_of_memory(history),
        *_collapsed(history),
        *_stalling(history),
        *_dominating(history),
        *_overfitting(history),
        *_conflicting(history),
        *_drifting(history),
    ]
    return found[:MOST_SENTENCES]


def _short_of_memory(history: History) -> list[str]:
    divided = [event for event in history if event["event"] == "StepEnd" and event.get("parts", 1) > 1]
    if not divided:
        return []
    return [
        f"The memory was not enough for a whole batch, so since step {divided[0]['step']} it is computed in parts "
        f"({divided[-1]['parts']} of them). The batch size stays what it is; each step takes longer."
    ]


def _collapsed(history: History) -> list[str]:
    health = _embeddings(history)
    if not health or not health[-1]["collapsed"]:
        return []
    return [
        f"The embeddings have collapsed: two random texts have a cosine of {health[-1]['random_cosine']:.2f} on "
        f"average, at the start {health[-1]['start_random_cosine']:.2f}. Search and similarity no longer work on them. "
        "Lower the encoder's learning rate, freeze more of it, or set training.stay_close to 1."
    ]


def _drifting(history: History) -> list[str]:
    health = _embeddings(history)
    ended = any(event["event"] == "RunEnd" for event in history)
    if len(health) < (1 if ended else FAR_EPOCHS) or health[-1]["collapsed"]:
        return []
    if min(look["drift"] for look in health[-FAR_EPOCHS:]) <= FAR_DRIFT:
        return []
    return [
        f"The embeddings have moved far from where they started (drift {health[-1]['drift']:.2f}; 1 is unrelated). "
        "That may be right for these tasks, but search and similarity on other texts suffer. To keep more of them, set "
        "training.stay_close to 1, lower the encoder's learning rate, or freeze its lower layers."
    ]


def _embeddings(history: History) -> list[Mapping[str, Any]]:
    """Return what the embeddings looked like at the end of each epoch, where that was seen."""
    return [event["embedding"] for event in epochs(history) if event.get("embedding")]


def _stalling(history: History) -> list[str]:
    """Find tasks whose training loss is where it began and whose score is that of guessing."""
    if _warms_up(history):
        return []
    return [
        f"{task} has not begun to learn: its training loss is where it started, and its score is that of guessing. "
        "Raise its loss weight or the learning rates, let more of the encoder learn, or see whether its labels fit the "
        "texts."
        for task in task_names(history)
        if _stalls(epochs(history), task)
    ]


def _stalls(ends: History, task: str) -> bool:
    losses = _losses(ends, "train", task)
    if len(losses) < 2 or losses[-1] <= PROGRESS * losses[0]:
        return False
    scores = _scores(ends[-1], "train", task) or _scores(ends[-1], "validation", task)
    # a constant guess has no entity right, and a macro recall of 1 / classes; its macro F1 is lower still
    if "entity_f1" in scores:
        return scores["entity_f1"] <= LUCK
    score = scores.get("macro_recall", scores.get("macro_f1"))
    # a task that does not learn has a loss of ln(classes), or less where some classes are rare
    classes = max(2.0, math.exp(min(losses[0], 50.0)))
    return score is not None and score <= 1 / classes + LUCK


def _warms_up(history: History) -> bool:
    """Say whether the learning rates still rise: nothing can be said of a run before that is over."""
    taken = [event.get("learning_rates") or {} for event in steps(history)[-2:]]
    return len(taken) == 2 and any(rate > taken[0].get(part, rate) for part, rate in taken[1].items())


def _dominating(history: History) -> list[str]:
    """Find the task that decides nearly all of every step while another one gets nowhere."""
    ends = epochs(history)
    held = [task for task in task_names(history) if _is_held(ends, task)]
    shares = _gradient_shares(history) or _loss_shares(history)
    sentences = []
    for task, share in shares.items():
        others = [name for name in held if name != task]
        if share > DOMINANT_SHARE and others:
            sentences.append(
                f"{task} dominates: it makes {share:.0%} of the step, and {_listed(others)} "
                f"{'does' if len(others) == 1 else 'do'} not improve. Lower the loss weight of {task}, or try "
                "training.weighting equal, gradnorm or imtl_g."
            )
    return sentences


def _is_held(ends: History, task: str) -> bool:
    """Say whether a task's training loss stands still although little was learnt and much is left."""
    losses = _losses(ends, "train", task)
    if len(losses) < 2 or losses[-1] <= max(PROGRESS * losses[-2], LEARNT * losses[0]):
        return False
    score = _main_score(ends[-1], "train", task)
    return score is None or score < SOLVED


def _gradient_shares(history: History) -> dict[str, float]:
    """Return each task's mean part of the weighted gradients over recent looks; empty after too few looks."""
    found: dict[str, list[float]] = {}
    for event in _recent_looks(history):
        weights = event.get("weights") or {}
        parts = {task: value * abs(weights.get(task, 1.0)) for task, value in event["conflict"]["shares"].items()}
        for task, share in _normalised(parts).items():
            found.setdefault(task, []).append(share)
    return {task: _mean(values) for task, values in found.items() if len(values) >= FEWEST_LOOKS}


def _loss_shares(history: History) -> dict[str, float]:
    """Return each task's part of the weighted losses of the latest epoch; all there is where no gradient was seen."""
    taken, ends = steps(history), epochs(history)
    sums: dict[str, float] = {}
    for event in taken:
        if ends and event["epoch"] == ends[-1]["epoch"]:
            weights = event.get("weights") or {}
            for task, loss in event["losses"].items():
                sums[task] = sums.get(task, 0.0) + abs(loss * weights.get(task, 1.0))
    return _normalised(sums) if len(sums) > 1 else {}


def _overfitting(history: History) -> list[str]:
    ends = epochs(history)
    found = [(task, _overfits_since(ends, task)) for task in task_names(history)]
    return [
        f"{task} overfits: its validation loss has been above its best since epoch {since}, while its training loss "
        "falls. The best checkpoint is kept, so nothing is lost; fewer epochs, more dropout, label smoothing or more "
        "rows would help."
        for task, since in found
        if since is not None
    ]


def _overfits_since(ends: History, task: str) -> int | None:
    """Return the first epoch after a task's best validation loss if it overfits; None if it does not."""
    both = [
        event
        for event in ends
        if all(task in (event.get(side) or {}).get("losses", {}) for side in ("train", "validation"))
    ]
    if not both:
        return None
    train, validation = _losses(both, "train", task), _losses(both, "validation", task)
    best = validation.index(min(validation))
    after = validation[best + 1 :]
    rises = len(after) >= OVERFIT_EPOCHS and min(after[-OVERFIT_EPOCHS:]) > OVERFIT_RISE * validation[best]
    if not rises or train[-1] >= train[best]:
        return None
    # a loss that rises while the score does too is too much confidence, which calibration takes care of
    scores = [score for event in both if (score := _main_score(event, "validation", task)) is not None]
    if scores and scores[-1] > max(scores[:-1], default=scores[-1]):
        return None
    return int(both[best + 1]["epoch"])


def _conflicting(history: History) -> list[str]:
    """Find the pair of tasks whose gradients point most against each other, if that is strong or holds one back."""
    by_pair = _cosines(history)
    means = {pair: _mean(parts.values()) for pair, parts in by_pair.items()}
    for pair in sorted(means, key=means.__getitem__):
        tasks = _tasks_of(pair, task_names(history))
        suffers = any(_is_held(epochs(history), task) for task in tasks)
        if means[pair] < (CONFLICT_COSINE if suffers else STRONG_CONFLICT_COSINE):
            worst = sorted(by_pair[pair], key=by_pair[pair].__getitem__)[:2]
            return [
                f"{_listed(tasks)} pull the encoder in different directions: the cosine of their gradients is "
                f"{means[pair]:.2f} on average, lowest in {_listed(worst)}. Compare them with each task alone; "
                "training.weighting pcgrad or upgrad takes out what points against another task."
            ]
    return []


def _cosines(history: History) -> dict[str, dict[str, float]]:
    """Return pair -> component -> mean cosine over recent looks; a pair that was seen too rarely is absent."""
    found: dict[str, dict[str, list[float]]] = {}
    for event in _recent_looks(history):
        for part, pairs in event["conflict"]["cosines"].items():
            for pair, cosine in pairs.items():
                found.setdefault(pair, {}).setdefault(part, []).append(cosine)
    return {
        pair: {part: _mean(values) for part, values in parts.items()}
        for pair, parts in found.items()
        if max(map(len, parts.values())) >= FEWEST_LOOKS
    }


def _tasks_of(pair: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the two tasks of a pair; their names may hold the bar themselves, so it is not cut there."""
    return next((both for both in permutations(tasks, 2) if " | ".join(both) == pair), (pair,))


def _recent_looks(history: History) -> list[dict[str, Any]]:
    """Return the latest steps in which gradients were compared; none if there were too few to say anything."""
    found = [event for event in steps(history) if event.get("conflict")]
    return found[-RECENT_LOOKS:] if len(found) >= FEWEST_LOOKS else []


def _losses(ends: History, side: str, task: str) -> list[float]:
    """Return a task's loss at the end of each epoch in which it has one."""
    sides = [event.get(side) or {} for event in ends]
    return [found["losses"][task] for found in sides if task in found.get("losses", {})]


def _scores(end: Mapping[str, Any], side: str, task: str) -> dict[str, float]:
    return (end.get(side) or {}).get("scores", {}).get(task, {})


def _main_score(end: Mapping[str, Any], side: str, task: str) -> float | None:
    """Return the score that counts for a task; in journals that do not say which, the default one."""
    scores = _scores(end, side, task)
    main = ((end.get(side) or {}).get("main") or {}).get(task)
    return next((scores[name] for name in (main, "macro_f1", "entity_f1") if name in scores), None)


def _normalised(parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {name: value / total for name, value in parts.items()} if total > 0 else {}


def _mean(values: Iterable[float]) -> float:
    given = list(values)
    return sum(given) / len(given)


def _listed(names: Sequence[str]) -> str:
    """Write names as a sentence does: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
