"""Where randomness comes from: counter-based generators keyed by what they are for.

Nothing in this package draws from a global generator. The same key gives the same draws in any
process, in any order, which is what lets a run resume to the same trajectory.
"""

import zlib

import numpy as np

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
