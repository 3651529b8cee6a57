"""AdamW for a whole swarm: every particle has its own learning rate, decay, momentum and clip."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.attention.alike import VECTOR
from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.graphs import Step, at
from pso_attn.evaluate.precision import KNOBS as PRECISION_KNOBS
from pso_attn.evaluate.smoothing import KNOBS as SMOOTHING_KNOBS
from pso_attn.models.storage import gathered
from pso_attn.space.knob import Knob

EPSILON = 1e-8
BLOCK_BYTES = 2**24  # that a step takes beside what it keeps
Table = NDArray[np.float64]
_ADAM = "Kingma & Ba 2014, arXiv 1412.6980, algorithm 1"

KNOBS = (
    Knob(
        "lr",
        "float",
        "peak learning rate",
        low=1e-4,
        high=3e-2,
        log=True,
        minimum=1e-8,
        maximum=10.0,
        default=1e-3,
        source=_ADAM,
    ),
    Knob(
        "weight_decay",
        "float",
        "decoupled weight decay, per unit of learning rate, of all that is learned, biases "
        "and logarithms of temperatures too",
        low=1e-4,
        high=1.0,
        log=True,
        minimum=0.0,
        maximum=100.0,
        default=0.01,
        neutral=0.0,
        source="Loshchilov & Hutter 2017, arXiv 1711.05101, algorithm 2",
    ),
    Knob(
        "beta1",
        "float",
        "decay of the gradient's running mean",
        low=0.8,
        high=0.95,
        minimum=0.0,
        maximum=0.9999,
        default=0.9,
        source=_ADAM,
    ),
    Knob(
        "beta2",
        "float",
        "decay of the squared gradient's running mean",
        low=0.9,
        high=0.999,
        minimum=0.0,
        maximum=0.99999,
        default=0.999,
        source=_ADAM,
    ),
    Knob(
        "warmup",
        "float",
        "fraction of the steps over which the learning rate rises from zero",
        low=0.0,
        high=0.3,
        minimum=0.0,
        maximum=0.9,
        default=0.0,
        neutral=0.0,
        source="Goyal et al. 2017, arXiv 1706.02677, section 2.2",
    ),
    Knob(
        "schedule",
        "categorical",
        "how the learning rate falls to zero after the warm-up",
        choices=("cosine", "linear", "constant"),
        default="cosine",
        neutral="constant",
        source="Loshchilov & Hutter 2016, arXiv 1608.03983, eq. 5",
    ),
    Knob(
        "clip_norm",
        "float",
        "largest norm of a particle's gradient",
        low=0.1,
        high=10.0,
        log=True,
        minimum=1e-6,
        default=1.0,
        limit="above every gradient's norm",
        source="Pascanu et al. 2012, arXiv 1211.5063, algorithm 1",
    ),
    Knob(
        "batch_size",
        "ordered",
        "examples per step",
        choices=(16, 32, 64),
        minimum=1,
        default=32,
        source="Bengio 2012, arXiv 1206.5533, section 3.1",
    ),
    *SMOOTHING_KNOBS,
    *PRECISION_KNOBS,
)


@dataclass(frozen=True)
class Recipe:
    """How one particle is trained."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    warmup: float
    schedule: str
    clip_norm: float
    batch_size: int
    label_smoothing: float
    precision: str

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, from 0, of a training of `steps`."""
        rise = self.warmup * steps
        if step + 1 <= rise:
            return self.lr * (step + 1) / rise
        done = (step - rise) / (steps - rise) if step > rise else 0.0
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (1 - done) if self.schedule == "linear" else self.lr


def read_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Return the training part of a particle's settings, with declared defaults."""
    given = {knob.name: settings.get(knob.name, knob.default) for knob in KNOBS}
    return Recipe(**given)


def check_batch(batch_size: int, examples: int) -> None:
    """Raise ConfigurationError where a batch would hold some training example twice."""
    if batch_size > examples:
        raise ConfigurationError(
            f"batch_size = {batch_size} exceeds the {examples} training examples; choose at most "
            f"{examples}"
        )


class SwarmAdamW:
    """Steps all particles at once over flat weights and gradients, both (N, P).

    Loshchilov & Hutter 2017, arXiv 1711.05101, algorithm 2, after clipping each particle's
    gradient to its own norm. Columns that a particle does not own have zero gradient and stay.
    """

    def __init__(
        self, weights: Tensor, gradients: Tensor, recipes: Sequence[Recipe], steps: int
    ) -> None:
        """Start with zero moments; `steps` is the full budget, whoever leaves early."""
        self.weights, self.gradients = weights, gradients
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)

        def each(values: Sequence[float] | Table) -> Tensor:
            table = torch.as_tensor(values, dtype=weights.dtype, device=weights.device)
            return table[..., None]

        def by_step(value: Callable[[Recipe, int], float]) -> Table:  # (steps, N)
            values = (value(recipe, step) for step in range(steps) for recipe in recipes)
            return np.fromiter(values, np.float64, steps * len(recipes)).reshape(steps, -1)

        rates = by_step(lambda recipe, step: recipe.rate(step, steps))
        self._shrink = each(1 - rates * [recipe.weight_decay for recipe in recipes])
        rates /= 1 - by_step(lambda recipe, step: recipe.beta1 ** (step + 1))
        root = each(np.sqrt(1 - by_step(lambda recipe, step: recipe.beta2 ** (step + 1))))
        self._scale, self._epsilon = each(rates) * root, root * EPSILON
        self._clip = each([recipe.clip_norm for recipe in recipes])
        self._new1 = each([1 - recipe.beta1 for recipe in recipes])
        self._new2 = each([1 - recipe.beta2 for recipe in recipes])

    @property
    def _at_once(self) -> int:
        """How many columns are stepped at once: whole vectors of a core's."""
        fit = BLOCK_BYTES // (len(self.weights) * self.weights.element_size())
        return max(1, fit // VECTOR) * VECTOR

    @property
    def state(self) -> dict[str, Tensor]:
        """What is carried from step to step beside the weights, (N, P) each, by name."""
        return {"first": self.first, "second": self.second}

    def step(self, step: Step) -> None:
        """Move the weights by the gradients, which are gone then; `step` counts from 0."""
        weights, gradients = self.weights, self.gradients
        norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
        gradients.mul_((self._clip / (norm + 1e-6)).clamp_(max=1.0))
        self.first.lerp_(gradients, self._new1)
        self.second.lerp_(gradients.square_(), self._new2)
        weights.mul_(at(self._shrink, step))
        moved = torch.mul(self.first, at(self._scale, step), out=gradients)  # 0 where nobody owns
        # m / (√(v / r²) + ε) = r m / (√v + r ε); MKL's square root is slow on zeros
        epsilon, width = at(self._epsilon, step), self._at_once
        pieces = zip(*(x.split(width, 1) for x in (weights, moved, self.second)), strict=True)
        for columns, by, second in pieces:
            columns.addcdiv_(by, second.rsqrt().reciprocal_().add_(epsilon), value=-1)

    @torch.no_grad()
    def keep(self, rows: Sequence[int], weights: Tensor, gradients: Tensor) -> None:
        """Go on with these rows alone, ascending, over the new flat tensors."""
        self.weights, self.gradients = weights, gradients
        self.first, self.second = gathered(self.first, rows), gathered(self.second, rows)
        self._scale, self._epsilon = self._scale[:, rows], self._epsilon[:, rows]
        self._shrink, self._clip = self._shrink[:, rows], self._clip[rows]
        self._new1, self._new2 = self._new1[rows], self._new2[rows]
