"""What the baselines share: they take no options."""

from collections.abc import Mapping
from typing import Any

from pso_attn.errors import ConfigurationError


def refuse_options(sampler: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if there is any option."""
    if options:
        raise ConfigurationError(
            f'{sampler} takes no options, and "{next(iter(options))}" was given; leave it out'
        )
