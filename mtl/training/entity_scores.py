"""How well entities were found: precision, recall and F1 of those that match exactly.

An entity is right if its first character, its end and its type are; everything else is wrong, as conlleval counts
(Tjong Kim Sang & De Meulder 2003, arXiv:cs/0306050). Texts that are not annotated do not count.

nervaluate's strict matching does the counting. It goes through the predictions and gives each the first true entity it
matches or overlaps. As long as no two predictions overlap, no wrong one can take away what another matches, and its
counts are conlleval's; neither `read_entities` nor a head gives entities that overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from nervaluate.entities import Entity as Marked
from nervaluate.strategies import StrictEvaluation

from mtl.data.entities import Span
from mtl.modeling.heads import Entity, EntityPrediction


def entity_scores(truths: Sequence[tuple[Span, ...] | None], guesses: Sequence[EntityPrediction]) -> dict[str, float]:
    """Score the entities of some texts, all types together; 0 where there is nothing to divide by.

    Args:
        truths: The true ones of each text; None: not annotated.
        guesses: The predicted ones of the same texts.
    """
    counts = _Counts()
    for truth, guess in _annotated(truths, guesses):
        counts.add(truth, guess.entities)
    return {f"entity_{name}": value for name, value in counts.scores().items()}


def entity_scores_by_type(
    truths: Sequence[tuple[Span, ...] | None], guesses: Sequence[EntityPrediction]
) -> dict[str, dict[str, float]]:
    """Score the entities of some texts type by type, the types in alphabetical order.

    Returns:
        Type -> `precision`, `recall`, `f1`, and `support`: how many there are in truth. Types that are neither there
        nor predicted are absent.
    """
    counts: dict[str, _Counts] = defaultdict(_Counts)
    for truth, guess in _annotated(truths, guesses):
        for label in {span.label for span in truth} | {entity.label for entity in guess.entities}:
            counts[label].add(
                [span for span in truth if span.label == label],
                [entity for entity in guess.entities if entity.label == label],
            )
    return {label: counts[label].scores() | {"support": counts[label].possible} for label in sorted(counts)}


class _Counts:
    """Counts what was right, predicted (`actual`) and to be found (`possible`)."""

    def __init__(self) -> None:
        self.correct = self.actual = self.possible = 0

    def add(self, truth: Sequence[Span], guess: Sequence[Entity]) -> None:
        """Count the entities of one text."""
        if not truth and not guess:
            return
        found, _ = _STRICT.evaluate(_marked(truth), _marked(guess), [])
        self.correct += found.correct
        self.actual += found.actual
        self.possible += found.possible

    def scores(self) -> dict[str, float]:
        """Divide."""
        both = self.actual + self.possible
        return {
            "f1": 2 * self.correct / both if both else 0.0,
            "precision": self.correct / self.actual if self.actual else 0.0,
            "recall": self.correct / self.possible if self.possible else 0.0,
        }


_STRICT = StrictEvaluation()


def _annotated(
    truths: Sequence[tuple[Span, ...] | None], guesses: Sequence[EntityPrediction]
) -> Iterable[tuple[tuple[Span, ...], EntityPrediction]]:
    return ((truth, guess) for truth, guess in zip(truths, guesses, strict=True) if truth is not None)


def _marked(entities: Sequence[Span | Entity]) -> list[Marked]:
    """Write entities as nervaluate does, whose ends are included: neighbours would overlap otherwise."""
    return [Marked(entity.label, entity.start, entity.end - 1) for entity in entities]
