"""One shared sentence encoder, several task heads, fine-tuned from a CSV.

    from mtl import Predictor
    Predictor.load("checkpoints/starter").predict(["The striker scored twice."])

Shapes, wherever they are given: B texts, T tokens, D embedding size, C classes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl.inference.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and the page and the configuration do without it
    if name == "Predictor":
        from mtl.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
