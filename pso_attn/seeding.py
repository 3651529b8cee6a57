"""Where randomness comes from: counter-based generators keyed by what they are for.

A global generator is only drawn from inside blocks that put it back, by code of somebody's own, by
pyswarms and by plain modules that are timed. The same key gives the same draws in any process, in
any order, which is what lets a run resume to the same trajectory.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError

SOBOL_DIMENSIONS = 21201  # for which scipy has direction numbers
_TRAINING = zlib.crc32(b"training")


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """Return the generator of one purpose, e.g. `generator(seed, generation, particle, "move")`.

    Words are hashed with CRC-32; integers must be non-negative.
    """
    entropy = [seed, *(zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def training_seed(seed: int, *key: int) -> int:
    """Return the seed, in [0, 2**31), of one training.

    Keyed by (run seed, k) for the k-th training of the same settings, so that particles are
    compared on common random numbers, or by (run seed, generation, particle, r) without them.
    """
    return int(np.random.SeedSequence([seed, _TRAINING, *key]).generate_state(1)[0] >> 1)


def check_sobol(dimension: int) -> None:
    """Raise ConfigurationError where no Sobol sequence has so many dimensions."""
    if dimension > SOBOL_DIMENSIONS:
        raise ConfigurationError(
            f"a Sobol sequence has at most {SOBOL_DIMENSIONS} dimensions and this space has "
            f"{dimension}; search fewer knobs or choose the sampler random"
        )


def sobol(seed: int, dimension: int, first: int, count: int) -> NDArray[np.float64]:
    """Return points first .. first + count - 1 of the seed's scrambled Sobol sequence.

    Shape (count, dimension), in [0, 1). Point n does not depend on how many are drawn together.
    Owen (1998), the linear matrix scramble of `scipy.stats.qmc.Sobol`. Raises ConfigurationError
    beyond the dimensions for which direction numbers are tabulated (21201).
    """
    from scipy.stats import qmc  # takes longer to import than the command line may take to start

    check_sobol(dimension)
    engine = qmc.Sobol(dimension, scramble=True, seed=generator(seed, "sobol"))
    if first == 0:  # in a power of two, else scipy warns that the points are not balanced
        return engine.random_base2((count - 1).bit_length())[:count]  # type: ignore[no-any-return]  # scipy has no types
    engine.fast_forward(first)
    return engine.random(count)  # type: ignore[no-any-return]  # scipy has no types
