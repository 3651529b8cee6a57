"""Values that differ between layers or heads: flat names here, nested lists in settings."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pso_attn.errors import ConfigurationError
from pso_attn.space.codec import Path
from pso_attn.types import Scalar

COUNTS = ("layers", "heads")  # the knobs that say how many entries there are


def counts_first(names: Iterable[str]) -> list[str]:
    """Return names with those first that say how long the others' lists are."""
    places = {name: place for place, name in enumerate(COUNTS)}
    return sorted(names, key=lambda name: places.get(name, len(COUNTS)))


def flat_name(base: str, layer: int | None = None, head: int | None = None) -> str:
    """Return "base", "base.layer" or "base.layer.head"."""
    return ".".join(str(part) for part in (base, layer, head) if part is not None)


def head_count(values: Mapping[str, Any], layer: int) -> int:
    """Return the number of heads of one layer, from flat values."""
    return int(values["heads"] if "heads" in values else values[flat_name("heads", layer)])


def nest(entries: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Return nested settings of flat entries, which come in the order of layers and heads."""
    nested: dict[str, Any] = {}
    for (base, layer, head), value in entries:
        if layer is None:
            nested[base] = value
        elif head is None:
            nested.setdefault(base, []).append(value)
        else:
            rows = nested.setdefault(base, [])
            if len(rows) <= layer:
                rows.append([])
            rows[layer].append(value)
    return nested


def flatten(value: Any) -> Iterator[Any]:
    """Yield the scalars of a nested list, or the scalar itself."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from flatten(item)
    else:
        yield value


def unnest(
    value: Any, layers: int, heads: Callable[[int], int], label: str
) -> dict[tuple[int | None, int | None], Scalar]:
    """Return a nested list's scalars by (layer, head), None where one stands for all.

    Raises ConfigurationError, beginning with `label`, where a list has not one entry for each
    layer or head.
    """
    if not isinstance(value, list):
        return {(None, None): value}
    _check_length(value, layers, "layer", label)
    entries: dict[tuple[int | None, int | None], Scalar] = {}
    for layer, row in enumerate(value):
        if isinstance(row, list):
            _check_length(row, heads(layer), f"head of layer {layer}", label)
            entries |= {(layer, head): item for head, item in enumerate(row)}
        else:
            entries[layer, None] = row
    return entries


def _check_length(row: list[Any], expected: int, what: str, label: str) -> None:
    if len(row) != expected:
        raise ConfigurationError(
            f"{label} has {len(row)} entries; expected {expected}, one for each {what}"
        )
