"""What a particle's settings say of one layer: a value for all layers, or its entry in a list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """The settings as layer `layer`, from 0, reads them."""

    settings: Mapping[str, Any]
    layer: int

    def one(self, name: str, default: Any = None) -> Any:
        """Return a knob's value in this layer; a list has one entry a layer."""
        value = self.settings.get(name)
        if isinstance(value, list | tuple):
            value = value[self.layer]
        return default if value is None else value

    def each(self, name: str, heads: int, default: Any = None) -> tuple[Any, ...]:
        """Return a knob's value in each head of this layer."""
        value = self.one(name, default)
        if not isinstance(value, list | tuple):
            return (value,) * heads
        return tuple(default if entry is None else entry for entry in value)
