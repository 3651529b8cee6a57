"""Vectors that stand for weights: the weights themselves, a random subspace, low-rank updates.

A vector z has n entries; the flat row of weights M. `weights` takes gradients, so that descent
and swarms move in the same coordinates.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

from pso_attn.errors import ConfigurationError
from pso_attn.models.weights.matrices import Matrix
from pso_attn.seeding import generator
from pso_attn.space.weights import WeightTable

TOGETHER = 16  # vectors that a random subspace projects in one product
BLOCK = 4096  # weights whose rows of a random subspace are drawn together
_KEPT = 2**26  # entries of a projection that are kept; a larger one is drawn anew each time


class Coordinates(ABC):
    """n coordinates for the M weights of some matrices. base: (M,), where z = `origin` stands.

    scale: (n,), what one unit of the weights' start is in each coordinate.
    """

    count: int
    scale: Tensor

    def __init__(self, matrices: Sequence[Matrix], base: Tensor) -> None:
        """Remember the matrices and the weights to start from."""
        self.matrices, self.base = tuple(matrices), base

    @property
    @abstractmethod
    def origin(self) -> Tensor:
        """(n,), the vector of `base`."""

    @abstractmethod
    def weights(self, z: Tensor) -> Tensor:
        """Return flat rows of weights (N, M) of vectors (N, n)."""

    @abstractmethod
    def vector(self, weights: Tensor) -> Tensor:
        """Return the vector (n,) whose weights come nearest to a flat row (M,).

        Exact for full coordinates; for the others up to rounding where some vector has these
        weights.
        """

    def to(self, device: torch.device) -> "Coordinates":
        """Move what is kept to a device, and return itself."""
        self.base, self.scale = self.base.to(device), self.scale.to(device)
        return self


class Full(Coordinates):
    """z holds the weights themselves."""

    def __init__(self, matrices: Sequence[Matrix], base: Tensor) -> None:
        """Take each weight's own scale."""
        super().__init__(matrices, base)
        self.count = len(base)
        self.scale = _stds(matrices)

    @property
    def origin(self) -> Tensor:
        """The weights themselves."""
        return self.base

    def weights(self, z: Tensor) -> Tensor:
        """Return z."""
        return z

    def vector(self, weights: Tensor) -> Tensor:
        """Return the weights."""
        return weights.clone()


class Subspace(Coordinates):
    """W = W₀ + σ ∘ P·z / √n with P of standard normal entries, drawn once for a seed.

    Li et al. 2018, arXiv 1804.08838, eq. 2; σ: each weight's scale, so that a standard normal z
    moves every weight by about as much as its start spreads. Blocks of P are drawn as they are
    needed where it is large.
    """

    def __init__(self, matrices: Sequence[Matrix], base: Tensor, size: int, seed: int) -> None:
        """Raises ConfigurationError where there are fewer weights than dimensions."""
        super().__init__(matrices, base)
        if size > len(base):
            raise ConfigurationError(
                f"weights.dimensions is {size}, and the searched matrices have {len(base)} "
                "weights; a subspace is at most as wide as its space"
            )
        self.count, self._seed = size, seed
        self.scale = torch.ones(size)
        self._stds = _stds(matrices)
        self._kept: dict[torch.device, list[tuple[slice, Tensor]]] = {}

    @property
    def origin(self) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self.scale)

    def weights(self, z: Tensor) -> Tensor:
        """Return W₀ + σ ∘ P·z / √n, block by block.

        Always as many vectors at a time: a BLAS rounds by how many rows a product has, and a
        particle's weights are the same whoever shares its chunk.
        """
        groups = pad(z, (0, 0, 0, -len(z) % TOGETHER)).split(TOGETHER)
        moved = [torch.cat([rows @ block.T for rows in groups]) for _, block in self._blocks(z)]
        return self.base.to(z) + torch.cat(moved, 1)[: len(z)]

    def vector(self, weights: Tensor) -> Tensor:
        """Return the least-squares solution, in double precision."""
        wide = weights.double()
        gram = wide.new_zeros(self.count, self.count)
        right = wide.new_zeros(self.count)
        scale = self._stds.to(wide)
        for place, block in self._blocks(wide):
            rows = block / scale[place, None]  # in units of each weight's scale
            gram += rows.T @ rows
            right += rows.T @ ((wide[place] - self.base.to(wide)[place]) / scale[place])
        solved: Tensor = torch.linalg.solve(gram, right)
        return solved.to(weights)

    def _blocks(self, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield which weights, and their rows of σ ∘ P / √n, in the dtype and device of `like`."""
        drawn: Iterable[tuple[slice, Tensor]] = self._drawn()
        if len(self.base) * self.count <= _KEPT:
            if like.device not in self._kept:
                self._kept[like.device] = [(place, rows.to(like.device)) for place, rows in drawn]
            drawn = self._kept[like.device]
        for place, block in drawn:
            yield place, block.to(like)

    def _drawn(self) -> Iterator[tuple[slice, Tensor]]:
        for number, first in enumerate(range(0, len(self.base), BLOCK)):
            place = slice(first, min(first + BLOCK, len(self.base)))
            rng = generator(self._seed, "subspace", number)
            entries = rng.standard_normal((place.stop - first, self.count))
            stds = self._stds[place, None].double().cpu().numpy()
            yield place, torch.from_numpy(entries * stds / sqrt(self.count)).float()


class LowRank(Coordinates):
    """W = W₀ + σ·A·B / √r for each matrix, A (in, r) and B (r, out).

    Hu et al. 2021, arXiv 2106.09685, section 4.1: A starts at random, B at zero. σ: the matrix's
    scale, so that standard normal A and B move every weight by about as much as its start spreads.
    """

    def __init__(self, matrices: Sequence[Matrix], base: Tensor, rank: int, seed: int) -> None:
        """Raises ConfigurationError where a matrix has no such rank, or is a vector."""
        super().__init__(matrices, base)
        for matrix in matrices:
            if len(matrix.shape) != 2 or rank > min(matrix.shape):
                shape = " x ".join(map(str, matrix.shape))
                raise ConfigurationError(
                    f"weights.rank is {rank}, and {matrix.name} is {shape}; the rank is at most "
                    "the smaller side of every searched matrix"
                )
        self._rank, self._seed = rank, seed
        self.count = sum(rank * sum(matrix.shape) for matrix in matrices)
        self.scale = torch.ones(self.count)

    @property
    def origin(self) -> Tensor:
        """A as drawn, B zero."""
        parts = []
        for number, (rows, columns) in enumerate(self._shapes()):
            drawn = generator(self._seed, "low rank", number).standard_normal(rows * self._rank)
            parts += [torch.from_numpy(drawn).float(), torch.zeros(self._rank * columns)]
        return torch.cat(parts).to(self.scale)

    def weights(self, z: Tensor) -> Tensor:
        """Return W₀ + σ·A·B / √r, matrix by matrix."""
        updates, first = [], 0
        for matrix, (rows, columns) in zip(self.matrices, self._shapes(), strict=True):
            middle = first + rows * self._rank
            last = middle + self._rank * columns
            a = z[:, first:middle].view(-1, rows, self._rank)
            b = z[:, middle:last].view(-1, self._rank, columns)
            updates.append((torch.bmm(a, b) * (matrix.std / sqrt(self._rank))).flatten(1))
            first = last
        return self.base.to(z) + torch.cat(updates, 1)

    def vector(self, weights: Tensor) -> Tensor:
        """Return the best factors of each update: its leading singular vectors, evenly scaled.

        Where nothing is moved they are those of the origin: from A = B = 0 no gradient leads away.
        """
        parts, first, origin = [], 0, self.origin
        for matrix, (rows, columns) in zip(self.matrices, self._shapes(), strict=True):
            last = first + self._rank * (rows + columns)
            moved = (weights - self.base.to(weights))[matrix.columns].view(rows, columns)
            if moved.any():
                u, s, v = torch.linalg.svd(moved.double(), full_matrices=False)
                root = (s[: self._rank] * sqrt(self._rank) / matrix.std).sqrt()
                a, b = u[:, : self._rank] * root, root[:, None] * v[: self._rank]
                parts.append(torch.cat([a.flatten(), b.flatten()]).to(weights))
            else:
                parts.append(origin[first:last].to(weights))
            first = last
        return torch.cat(parts)

    def _shapes(self) -> list[tuple[int, int]]:
        return [(matrix.shape[0], matrix.shape[1]) for matrix in self.matrices]


def make_coordinates(
    table: WeightTable, matrices: Sequence[Matrix], base: Tensor, seed: int
) -> Coordinates:
    """Return the coordinates that a [weights] table names, around `base` (M,)."""
    if table.coordinates == "subspace":
        return Subspace(matrices, base, table.size, seed)
    if table.coordinates == "low_rank":
        return LowRank(matrices, base, table.size, seed)
    return Full(matrices, base)


def _stds(matrices: Sequence[Matrix]) -> Tensor:
    return torch.cat([torch.full((matrix.size,), matrix.std) for matrix in matrices])
