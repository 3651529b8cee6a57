"""What the memoryless baselines share: which particle takes which slot, and no options."""

from collections.abc import Mapping
from typing import Any

from pso_attn.errors import ConfigurationError


def slots(generation: int, batch: int, particles: int) -> tuple[int, ...]:
    """Return the particles of one generation: (generation * batch + slot) mod particles."""
    return tuple((generation * batch + slot) % particles for slot in range(batch))


def refuse_options(sampler: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if there is any option."""
    if options:
        raise ConfigurationError(
            f'{sampler} takes no options, and "{next(iter(options))}" was given; leave it out'
        )
