"""Random tensors from counters: the same (seed, step, site, coordinate) gives the same draw.

A mask does not depend on who shares the batch, on the order of particles, or on what was drawn
before, so a particle trained in a swarm drops exactly what it would drop alone.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray

LASTING = 2**18  # coordinates, 1 MiB: larger tables would add up to what a device has
_Table = tuple[tuple[int, ...], tuple[int, ...], torch.device]
_LARGE: WeakValueDictionary[_Table, torch.Tensor] = WeakValueDictionary()


def keys(seeds: NDArray[np.int64], steps: int, sites: int) -> torch.Tensor:
    """Return one odd 32-bit key per step, site and particle: int32 (steps, sites, N).

    seeds: (N,) training seeds in [0, 2**31). Hashed with murmur3's finaliser.
    """
    base = _mix(seeds.astype(np.uint32))[None, None, :]
    step = _mix(np.arange(steps, dtype=np.uint32) + np.uint32(0x9E3779B9))[:, None, None]
    site = _mix(np.arange(sites, dtype=np.uint32) + np.uint32(0x85EBCA6B))[None, :, None]
    return torch.from_numpy((_mix(_mix(base ^ step) + site) | np.uint32(1)).view(np.int32))


@dataclass(frozen=True, eq=False)
class DropRates:
    """Dropout rates of N particles, settled once so that a step only compares with them.

    below: int32 (N,); a hash below it is dropped. kept: (N,), 1 / (1 - rate), in the dtype of the
    factors. They keep the coordinates that they were used with: a recorded CUDA graph reads those
    from where they were, long after a cache may have let go of them.
    """

    below: torch.Tensor
    kept: torch.Tensor
    _used: dict[tuple[tuple[int, ...], ...], torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, rate: torch.Tensor) -> "DropRates":
        """Return rates (N,) in [0, 1), whose dtype the factors take."""
        below = (rate.double() * 2.0**32 - 2.0**31).clamp_(max=2.0**31 - 1).to(torch.int32)
        return cls(below, 1 / (1 - rate))

    def coordinates(self, shape: tuple[int, ...], order: tuple[int, ...]) -> torch.Tensor:
        """Return what `_coordinates` does, on the rates' device."""
        key = (shape, order)
        if key not in self._used:
            self._used[key] = _shared(shape, order, self.below.device)
        return self._used[key]


def dropout_scale(
    key: torch.Tensor,
    rates: DropRates,
    shape: tuple[int, ...],
    order: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Return the factors of inverted dropout: 0 with probability `rate`, else 1 / (1 - rate).

    key: int32 (N,), odd. shape: one particle's own shape; a factor depends on its coordinate in
    that shape alone. order: its axes from the slowest to the fastest in the memory of the factors.
    Returns (N, *shape).

    Multiplicative hashing (Dietzfelbinger et al. 1997, A reliable randomized algorithm for the
    closest-pair problem, section 2) of words that are mixed already; the high bits decide. Three
    passes over one piece of memory, as a step's time goes into memory.
    """
    apart = (-1,) + (1,) * len(shape)
    bits = rates.coordinates(shape, order or tuple(range(len(shape)))) * key.view(apart)
    torch.ge(bits, rates.below.view(apart), out=bits)  # 1 where kept
    kept = rates.kept.view(apart)
    if kept.dtype != torch.float32:
        return bits * kept
    return bits.mul_(kept.view(torch.int32)).view(torch.float32)  # 1 times the bits of a number


def _shared(shape: tuple[int, ...], order: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return what `_coordinates` does; large ones are kept as long as they are in use alone."""
    if prod(shape) <= LASTING:
        return _lasting(shape, order, device)
    key = (shape, order, device)
    found = _LARGE.get(key)
    if found is None:
        found = _LARGE[key] = _coordinates(shape, order, device)
    return found


@lru_cache(maxsize=64)
def _lasting(shape: tuple[int, ...], order: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return _coordinates(shape, order, device)


def _coordinates(
    shape: tuple[int, ...], order: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    """Return well mixed odd 32-bit words for the coordinates of a shape, int32 of that shape."""
    odd = _mix(np.arange(prod(shape), dtype=np.uint32)) | np.uint32(1)
    words = odd.view(np.int32).reshape(shape)
    laid = torch.from_numpy(np.ascontiguousarray(words.transpose(order))).to(device)
    return laid.permute(tuple(np.argsort(order)))


def _mix(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return murmur3's 32-bit finaliser of each word (Appleby)."""
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x85EBCA6B)
    words = words ^ (words >> np.uint32(13))
    words = words * np.uint32(0xC2B2AE35)
    return words ^ (words >> np.uint32(16))
