"""Which particle takes which slot of a generation, and what sizes a swarm may have."""

from pso_attn.errors import ConfigurationError
from pso_attn.types import MOST_PARTICLES

MOST_PAIRS = 25_000_000  # of particles that see each other, each an index of 8 bytes


def slots(generation: int, batch: int, particles: int) -> tuple[int, ...]:
    """Return the particles of one generation: (generation * batch + slot) mod particles."""
    return tuple((generation * batch + slot) % particles for slot in range(batch))


def check_size(particles: int, batch: int) -> None:
    """Raise ConfigurationError for too few or too many particles, or a batch that does not fit."""
    if particles < 2:
        raise ConfigurationError(
            f"a swarm of {particles} has nobody to learn from; give at least 2 particles, "
            "or choose the sampler random or qmc"
        )
    if particles > MOST_PARTICLES:
        raise ConfigurationError(
            f"a swarm of {particles} is too large; give at most {MOST_PARTICLES:,} particles"
        )
    if not 1 <= batch <= particles:
        raise ConfigurationError(
            f"a batch of {batch} does not fit a swarm of {particles}; give 1 to {particles}"
        )


def check_pairs(topology: str, neighbours: int, particles: int) -> None:
    """Raise ConfigurationError for more pairs of particles than memory should hold.

    neighbours: on each side, of a ring. On the others but a star each sees a few.
    """
    seen = {"ring": min(2 * neighbours + 1, particles), "star": particles}.get(topology, 1)
    if particles * seen > MOST_PAIRS:
        raise ConfigurationError(
            f'topology "{topology}" of {particles} particles has {particles * seen:,} pairs, and '
            f"{MOST_PAIRS:,} are the most; give fewer particles, or a ring of few neighbours"
        )
