"""Gradient surgery: what the tasks' gradients of the shared weights have to do with each other decides their weights.

Every method of TorchJD (Quinton 2024, arXiv:2406.16232) used here computes its weights from the Gramian, the tasks'
inner products, alone, so the gradients never have to be put into one matrix. Loading TorchJD takes a second, so this
file is imported when one of its methods is chosen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd.aggregation import (
    CAGradWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    NashMTL,
    PCGradWeighting,
    UPGradWeighting,
)
from torchjd.linalg import DualConeProjector

from mtl.training.weighting.base import TaskWeights, Weighting, own_randomness, random_state
from mtl.training.weighting.gradients import Gradient, add_gradient, inner_products, reaches

LONGEST_STEP = 1.0  # of Nash-MTL, as in its paper
RIDGE = 1e-4  # of the Gramian's trace, as TorchJD adds to it: tasks with parallel gradients have no single answer


class SurgeryWeighting(Weighting):
    """Combines the tasks' gradients of the shared weights; heads get the gradient of their own loss.

    With fewer than two tasks that reach the shared weights, with gradients that are all 0, and with one that is not
    finite, which the loop then notices, the gradients are summed.

    Args:
        weights: As in `Weighting`.
        solver: Gramian (K, K) -> weights (K,). It is given Gramians of trace 1: the weights do not depend on its
            scale, but the solvers' thresholds do.
        clip: As in `Weighting`.
    """

    takes_apart = True

    def __init__(
        self, weights: Mapping[str, float], *, solver: Callable[[Tensor], Tensor], clip: float | None = None
    ) -> None:
        super().__init__(weights, clip=clip)
        self.solver = solver

    def combine(
        self,
        gradients: Iterator[tuple[str, Gradient]],
        shared: Sequence[nn.Parameter],
        losses: Mapping[str, Tensor],
    ) -> dict[str, float]:
        """Add the gradients with the weights that suit them all."""
        found = dict(gradients)
        keys = [key for key, gradient in found.items() if reaches(gradient)]
        weights = dict.fromkeys(keys, 1.0)
        if len(keys) > 1:
            gramian = inner_products([found[key] for key in keys])
            size = float(gramian.trace())
            if 0 < size < math.inf:
                weights = dict(zip(keys, self.solve(gramian, keys).tolist(), strict=True))
        for key, weight in weights.items():
            add_gradient(shared, found.pop(key), weight)
        return weights

    def solve(self, gramian: Tensor, keys: Sequence[str]) -> Tensor:
        """Return the weight of each task.

        Args:
            gramian: Of the gradients, on the CPU. Shape: (K, K).
            keys: Their tasks, K of them.
        """
        return self.solver(gramian / gramian.trace())


class PCGrad(SurgeryWeighting):
    """Projects each gradient onto the normal plane of those it conflicts with, in random order (Yu 2020).

    arXiv:2001.06782. Without conflict it is the sum.

    Args:
        weights: As in `Weighting`.
        seed: Of the orders, which leave torch's own random numbers alone.
        clip: As in `Weighting`.
    """

    random_state: Tensor

    def __init__(self, weights: Mapping[str, float], *, seed: int, clip: float | None = None) -> None:
        super().__init__(weights, solver=PCGradWeighting(), clip=clip)
        self.register_buffer("random_state", random_state(seed))

    def solve(self, gramian: Tensor, keys: Sequence[str]) -> Tensor:
        """Return the weights of one draw of the orders."""
        with own_randomness(self.random_state):
            return super().solve(gramian, keys)


class NashBargain(SurgeryWeighting):
    """The tasks bargain over the step (Navon 2022, arXiv:2202.01017).

    The solver starts from the last bargain, which is therefore part of the state. Where tasks are absent from a batch,
    those that are there bargain among themselves, each from where it was. As in the paper the step is at most 1 long.

    Args:
        weights: As in `Weighting`.
        clip: As in `Weighting`.
    """

    last: Tensor

    def __init__(self, weights: Mapping[str, float], *, clip: float | None = None) -> None:
        super().__init__(weights, solver=nn.Identity(), clip=clip)
        self._solvers: dict[int, NashMTL] = {}
        self.register_buffer("last", torch.ones(len(weights)))

    def solve(self, gramian: Tensor, keys: Sequence[str]) -> Tensor:
        """Return the bargain of these tasks."""
        places = [list(self.weights).index(key) for key in keys]
        bargain = self._solvers.setdefault(len(keys), NashMTL(len(keys))).weighting
        bargain.prvs_alpha = self.last[places].cpu().numpy()
        size = gramian.trace()
        bargain.max_norm = LONGEST_STEP / float(size.sqrt())
        with warnings.catch_warnings():  # of cvxpy, that the problem could be stated in a form that is faster to solve
            warnings.simplefilter("ignore")
            weights = bargain(_root(gramian / size))
        self.last[places] = torch.as_tensor(bargain.prvs_alpha, dtype=self.last.dtype).to(self.last.device)
        return weights


def _root(gramian: Tensor) -> Tensor:
    """Return a matrix with this Gramian: the solver of Nash-MTL wants the gradients, but only uses their products."""
    values, vectors = torch.linalg.eigh(gramian)
    return vectors * values.clamp(min=0).sqrt()


class LeastSquaresProjector(DualConeProjector):
    """Projects onto the dual cone of the gradients by non-negative least squares (Lawson & Hanson 1974).

    The smallest v'Gv with v >= u is, with v = u + x and G = R'R, that of ||Rx + Ru|| with x >= 0. TorchJD's own
    projector solves the same problem by a library whose licence, the GPL, would bind whoever passes this app on.
    """

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:  # noqa: N803 - the names of TorchJD's
        """Return the projections' weights, shape (K, K), for the rows of U, shape (K, K), and the Gramian G, (K, K)."""
        gramian = G.double().numpy()
        root = np.linalg.cholesky(gramian / gramian.trace() + RIDGE * np.eye(len(gramian))).T
        rows = [u + nnls(root, -root @ u)[0] for u in U.double().numpy()]
        return torch.as_tensor(np.stack(rows), dtype=G.dtype)


def mgda(run: TaskWeights) -> Weighting:
    """The shortest convex combination (Désidéri 2012; Sener & Koltun 2018, arXiv:1810.04650); its weights sum to 1."""
    return SurgeryWeighting(run.weights, solver=MGDAWeighting(), clip=run.clip)


def imtl_g(run: TaskWeights) -> Weighting:
    """The direction with equal projections on all gradients (Liu 2021, ICLR); its weights sum to 1, some below 0.

    They grow without bound as gradients become exactly opposite; `training.clip` then keeps the step in its limits.
    """
    return SurgeryWeighting(run.weights, solver=IMTLGWeighting(), clip=run.clip)


def upgrad(run: TaskWeights) -> Weighting:
    """The mean of the gradients, each projected onto what harms no task (Quinton 2024, arXiv:2406.16232)."""
    return SurgeryWeighting(run.weights, solver=UPGradWeighting(projector=LeastSquaresProjector()), clip=run.clip)


def cagrad(run: TaskWeights) -> Weighting:
    """The best step for the worst task within a ball around the mean (Liu 2021, arXiv:2110.14048)."""
    return SurgeryWeighting(run.weights, solver=CAGradWeighting(run.options.caution), clip=run.clip)


SURGERIES: dict[str, Callable[[TaskWeights], Weighting]] = {
    "pcgrad": lambda run: PCGrad(run.weights, seed=run.seed, clip=run.clip),
    "mgda": mgda,
    "imtl_g": imtl_g,
    "upgrad": upgrad,
    "cagrad": cagrad,
    "nash_mtl": lambda run: NashBargain(run.weights, clip=run.clip),
}
