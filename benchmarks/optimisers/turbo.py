"""TuRBO-1 on BoTorch: Eriksson et al. (2019), Scalable Global Optimization via Local Bayesian
Optimization; package `botorch`.

As in the paper's code and BoTorch's tutorial: a local Gaussian process (Matérn 5/2, a length for
each coordinate, the bounds of the paper's code), a trust region around the best observation,
Thompson samples over perturbed Sobol points, one for each slot of the batch. Labels are one-hot,
candidates are snapped to what can be evaluated before they are sampled, knobs that do not act lie
at their defaults.
"""

import math

import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.generation import MaxPosteriorSampling
from botorch.models import SingleTaskGP
from flattened import FlatPeer, at_defaults
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.settings import max_cholesky_size

from pso_attn.seeding import generator, sobol
from pso_attn.space import Space
from pso_attn.types import Array

FIRST, LONGEST, SHORTEST = 0.8, 1.6, 0.5**7  # side of the trust region
SUCCESSES = 3  # batches in a row that improve, until the region doubles
ENOUGH = 1e-3  # an improvement is more than this share of the best
PERTURBED = 20.0  # coordinates, in the mean, in which a candidate differs from the centre


class Turbo(FlatPeer):
    """One trust region, begun anew with 2 D Sobol points when it has shrunk to nothing."""

    def __init__(self, seed: int, particles: int, batch: int, generations: int) -> None:
        super().__init__(seed, particles, batch, generations)
        self._points = self._losses = np.empty(0)
        self._restarts = -1
        self._length = 0.0

    def ask(self, space: Space) -> Array:
        if self._length < SHORTEST:
            self._begin(space)
        rng = generator(self.seed, self._told, "turbo")
        if len(self._losses) < self._first:
            drawn = sobol(self.seed + 1000 * self._restarts, space.dimension, 0, self._first)
            rows = np.arange(len(self._losses), len(self._losses) + self.batch) % self._first
            return at_defaults(space, drawn[rows])
        return self._sampled(space, rng)

    def tell(self, space: Space, positions: Array, losses: Array) -> None:
        finite = np.isfinite(np.r_[self._losses, losses])
        worst = np.r_[self._losses, losses][finite].max() if finite.any() else 0.0
        losses = np.where(np.isfinite(losses), losses, worst)
        if len(self._losses) >= self._first:
            self._resize(losses)
        self._points = np.vstack((self._points, at_defaults(space, positions)))
        self._losses = np.r_[self._losses, losses]

    def _begin(self, space: Space) -> None:
        self._points, self._losses = np.empty((0, space.dimension)), np.empty(0)
        self._first = math.ceil(2 * space.dimension / self.batch) * self.batch
        self._failures_allowed = math.ceil(max(4.0, space.dimension) / self.batch)
        self._restarts += 1
        self._length, self._successes, self._failures = FIRST, 0, 0

    def _resize(self, losses: Array) -> None:
        best = float(self._losses.min())
        is_better = float(losses.min()) < best - ENOUGH * abs(best)
        self._successes = self._successes + 1 if is_better else 0
        self._failures = 0 if is_better else self._failures + 1
        if self._successes == SUCCESSES:
            self._length, self._successes = min(2.0 * self._length, LONGEST), 0
        elif self._failures == self._failures_allowed:
            self._length, self._failures = 0.5 * self._length, 0

    def _sampled(self, space: Space, rng: np.random.Generator) -> Array:
        """Return the batch: of each sample of the process over the candidates the least point."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            model = _fitted(_one_hot(space, self._points), self._losses)
            lengths = model.covar_module.base_kernel.lengthscale.detach().numpy().ravel()
            own = [float(np.exp(np.mean(np.log(lengths[part])))) for part in _blocks(space)]
            candidates = self._candidates(space, np.array(own), rng)
            shown = torch.from_numpy(_one_hot(space, candidates))
            with torch.no_grad(), max_cholesky_size(float("inf")):
                sampling = MaxPosteriorSampling(model, replacement=False)
                picked = sampling(shown, num_samples=self.batch)
        rows = [int((shown == point).all(dim=1).nonzero()[0, 0]) for point in picked]
        return candidates[rows]

    def _candidates(self, space: Space, lengths: Array, rng: np.random.Generator) -> Array:
        """Return the different points (n, D) that may be evaluated next."""
        dimension = space.dimension
        count = min(5000, max(2000, 200 * dimension))
        weights = lengths / np.exp(np.mean(np.log(lengths)))
        centre = self._points[np.argmin(self._losses)]
        low = np.clip(centre - 0.5 * weights * self._length, 0.0, 1.0)
        high = np.clip(centre + 0.5 * weights * self._length, 0.0, 1.0)
        drawn = sobol(int(rng.integers(2**31)), dimension, 0, count)
        inside = low + (high - low) * drawn
        inside[:, space.categorical] = drawn[:, space.categorical]  # no label is near another
        moved = rng.random((count, dimension)) <= min(PERTURBED / dimension, 1.0)
        moved[np.arange(count), rng.integers(dimension, size=count)] |= ~moved.any(axis=1)
        # in a region that is relaxed to one-hot no label would ever change: here its side is the
        # chance that one is drawn anew
        stays = rng.random((count, dimension)) > self._length
        moved &= ~(space.categorical & stays)
        different = np.unique(at_defaults(space, np.where(moved, inside, centre)), axis=0)
        while len(different) < self.batch:  # a region smaller than the bins of all knobs
            more = at_defaults(space, rng.random((self.batch, dimension)))
            different = np.unique(np.vstack((different, more)), axis=0)
        return different


def _blocks(space: Space) -> list[slice]:
    """Return where each coordinate stands in a point that has its labels one-hot."""
    widths = np.where(space.categorical, space.levels, 1)
    ends = np.cumsum(widths)
    return [slice(int(end - width), int(end)) for end, width in zip(ends, widths, strict=True)]


def _one_hot(space: Space, positions: Array) -> Array:
    """Return snapped positions (n, D) with a column for each label."""
    blocks = _blocks(space)
    wide = np.zeros((len(positions), blocks[-1].stop))
    for column, (part, levels) in enumerate(zip(blocks, space.levels, strict=True)):
        if space.categorical[column]:
            places = np.minimum(positions[:, column] * levels, levels - 1).astype(int)
            wide[np.arange(len(positions)), part.start + places] = 1.0
        else:
            wide[:, part] = positions[:, [column]]
    return wide


def _fitted(points: Array, losses: Array) -> SingleTaskGP:
    """Return the process of the likeliest hyperparameters, bounded as in the paper."""
    middle, spread = np.median(losses), np.std(losses)
    targets = -(losses - middle) / (spread if spread > 1e-6 else 1.0)  # BoTorch maximises
    kernel = MaternKernel(
        nu=2.5, ard_num_dims=points.shape[1], lengthscale_constraint=Interval(0.005, 2.0)
    )
    model = SingleTaskGP(
        torch.from_numpy(points),
        torch.from_numpy(targets)[:, None],
        covar_module=ScaleKernel(kernel, outputscale_constraint=Interval(0.05, 20.0)),
        likelihood=GaussianLikelihood(noise_constraint=Interval(5e-4, 0.2)),
        outcome_transform=None,
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model
