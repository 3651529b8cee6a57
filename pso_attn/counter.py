"""Random tensors from counters: the same (seed, step, site, coordinate) gives the same draw.

A mask does not depend on who shares the batch, on the order of particles, or on what was drawn
before, so a particle trained in a swarm drops exactly what it would drop alone.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

# The multipliers of the 32-bit hash "lowbias32" (Wellons). Its first and last shifts are left out:
# both inputs are mixed already, and only the high bits of the result are compared.
_FIRST, _SECOND = 0x7FEB352D, -0x7B935975


def keys(seeds: NDArray[np.int64], steps: int, sites: int) -> torch.Tensor:
    """Return one 32-bit key per step, site and particle: int32 (steps, sites, N).

    seeds: (N,) training seeds in [0, 2**31). Hashed with murmur3's finaliser.
    """
    base = _mix(seeds.astype(np.uint32))[None, None, :]
    step = _mix(np.arange(steps, dtype=np.uint32) + np.uint32(0x9E3779B9))[:, None, None]
    site = _mix(np.arange(sites, dtype=np.uint32) + np.uint32(0x85EBCA6B))[None, :, None]
    return torch.from_numpy(_mix(_mix(base ^ step) + site).view(np.int32))


def dropout_scale(key: torch.Tensor, rate: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the factors of inverted dropout: 0 with probability `rate`, else 1 / (1 - rate).

    key: int32 (N,). rate: (N,) in [0, 1); its dtype is the result's. shape: one particle's own
    shape; a factor depends on its coordinate in that shape alone. Returns (N, *shape).
    """
    bits = _coordinates(int(np.prod(shape)), key.device) ^ key[:, None]  # (N, count)
    bits.mul_(_FIRST)
    bits.bitwise_xor_(bits >> 15)
    bits.mul_(_SECOND)
    threshold = (rate.double() * 2.0**32 - 2.0**31).clamp_(max=2.0**31 - 1).to(torch.int32)
    kept = 1 / (1 - rate)
    return ((bits >= threshold[:, None]) * kept[:, None]).view(len(key), *shape)


@lru_cache(maxsize=64)
def _coordinates(count: int, device: torch.device) -> torch.Tensor:
    """Return well mixed 32-bit words for the coordinates 0 … count-1: int32 (count,)."""
    return torch.from_numpy(_mix(np.arange(count, dtype=np.uint32)).view(np.int32)).to(device)


def _mix(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return murmur3's 32-bit finaliser of each word (Appleby)."""
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x85EBCA6B)
    words = words ^ (words >> np.uint32(13))
    words = words * np.uint32(0xC2B2AE35)
    return words ^ (words >> np.uint32(16))
