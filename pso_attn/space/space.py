"""A search space: settings on one side, the unit cube on the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn import seeding
from pso_attn.errors import ConfigurationError, nearest
from pso_attn.space.codec import Coordinate, Scale
from pso_attn.space.conditions import When
from pso_attn.space.constraints import FAILED, Constraint
from pso_attn.space.divisors import Divisor
from pso_attn.space.layers import flat_name, head_count, nest
from pso_attn.space.ranges import place
from pso_attn.space.repair import Repaired, repaired
from pso_attn.types import Array, Params, Scalar, Settings

Derive = Callable[[Settings], Mapping[str, Any]]
LARGEST_DOUBLE = 256  # coordinates of a position in double precision; more are float32


@dataclass(frozen=True)
class Held:
    """A knob that does not vary: its value, a list where fixed so, and when it acts.

    when: None if it never does.
    """

    name: str
    value: Any
    when: When | None


@dataclass(frozen=True, eq=False)
class Space:
    """What may vary, and what holds.

    coordinates: one for each flat knob, K in all; what conditions others comes first.
    weights: further coordinates after those of the knobs, D = K + weights: what they mean, a model
    knows.
    held: every other knob that has a value, fixed or by default.
    constraints, divisors: what settings must meet. derive: settings -> figures that
    expressions may name, `parameters` and `flops` among them, and the values of knobs that are
    derived from others.
    starts: (K, D), what is tried first: the defaults, then the starts of the file, repaired.
    anchors: (A, D), points that are feasible, towards which `repair` moves others.
    notes: what a person should hear about how the file was read.
    """

    coordinates: tuple[Coordinate, ...]
    held: tuple[Held, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    divisors: tuple[Divisor, ...] = ()
    derive: Derive | None = None
    starts: Array = field(default_factory=lambda: np.empty((0, 0)))
    anchors: Array = field(default_factory=lambda: np.empty((0, 0)))
    notes: tuple[str, ...] = ()
    weights: int = 0

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Flat names, in the order of the coordinates."""
        return tuple(coordinate.name for coordinate in self.coordinates)

    @property
    def dimension(self) -> int:
        """D, the number of coordinates."""
        return len(self.coordinates) + self.weights

    @cached_property
    def categorical(self) -> NDArray[np.bool_]:
        """(D,), true where a coordinate holds a label: nothing may be computed with it."""
        labels = [coordinate.is_categorical for coordinate in self.coordinates]
        return np.array(labels + [False] * self.weights, dtype=bool)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """(D,), the number of values of a discrete coordinate, 0 where it is continuous."""
        levels = [c.scale.levels for c in self.coordinates]
        return np.array(levels + [0] * self.weights, dtype=np.int64)

    def decode(self, position: Array) -> dict[str, Scalar]:
        """Return the flat params at a position (D,), active knobs only."""
        raw, unconditional = self._raw(position), self._unconditional
        return {
            name: raw[name]
            for name, coordinate in zip(self.names, self.coordinates, strict=True)
            if name in unconditional or self._acts(coordinate, raw)
        }

    def encode(self, params: Params) -> Array:
        """Return the position (D,) of flat params: bin centres where discrete.

        Knobs that are not named take their default, and weights the middle. Raises
        ConfigurationError for a name or a value that the space does not have.
        """
        for name in params:
            if name not in self.names:
                raise ConfigurationError(f"{name} is not searched{nearest(name, self.names)}")
        points = [_point(c, params.get(c.name, c.knob.default)) for c in self.coordinates]
        return np.array(points + [0.5] * self.weights)

    def snap(self, positions: Array) -> Array:
        """Return positions (…, D) with discrete coordinates at the centres of their bins."""
        snapped = np.array(positions, dtype=np.float64)
        for column in np.flatnonzero(self.levels):
            scale = self.coordinates[column].scale
            snapped[..., column] = scale.snap(np.clip(snapped[..., column], 0.0, 1.0))
        return snapped

    def active(self, position: Array) -> NDArray[np.bool_]:
        """Return which coordinates act at a position (D,)."""
        raw = self._raw(position)
        acting = [self._acts(c, raw) for c in self.coordinates]
        return np.array(acting + [True] * self.weights, dtype=bool)

    def all_active(self, positions: Array) -> NDArray[np.bool_]:
        """Return which coordinates act at positions (n, D), (n, D).

        Asked once of all that agree where conditions look: hundreds of draws have few labels.
        """
        if len(self._unconditional) == len(self.coordinates):
            return np.ones(positions.shape, dtype=bool)
        known: dict[bytes, NDArray[np.bool_]] = {}
        acting = np.empty(positions.shape, dtype=bool)
        for row, seen in enumerate(positions[:, self._looked_at]):
            name = seen.tobytes()
            if name not in known:
                known[name] = self.active(positions[row])
            acting[row] = known[name]
        return acting

    def settings(self, params: Params) -> dict[str, Any]:
        """Return the nested settings of flat params: what varies, what is fixed, and defaults.

        Lists have the true numbers of layers and heads. A knob that acts in no layer is left
        out; one that acts in some has its neutral value in the others.
        """
        raw: dict[str, Any] = {**self.fixed, **params}
        held = {h.name: h.value for h in self.held if h.when is not None and _holds(h.when, raw)}
        if not self._is_layered:
            return held | {name: params[name] for name in self.names if name in params}
        acting = {c.path[0] for c in self.coordinates if c.name in params}
        return held | nest(
            (c.path, params.get(c.name, c.knob.neutral))
            for c in self.coordinates
            if c.path[0] in acting and _exists(c, raw)
        )

    def completed(self, given: Settings) -> dict[str, Any]:
        """Return given settings with the default of every other knob that acts beside them."""
        flat: dict[str, Any] = {}
        for name, value in given.items():
            for k, item in enumerate(value if isinstance(value, list) else [value]):
                flat[flat_name(name, k) if isinstance(value, list) else name] = item
        defaults = {c.name: c.knob.default for c in self.coordinates}
        raw = self.fixed | defaults | flat
        acting = {c.name: raw[c.name] for c in self.coordinates if self._acts(c, raw)}
        return {**self.settings(acting), **given}

    def violations(self, params: Params) -> dict[str, float]:
        """Return what flat params violate, by how much (> 0); nothing where they are feasible.

        Settings for which `derive` raises ConfigurationError violate what needs its figures.
        """
        if not self.constraints and not self.divisors:
            return {}
        settings = self.settings(params)
        amounts = {divisor.text: divisor.violation(settings) for divisor in self.divisors}
        try:
            values = self.values(params)
        except ConfigurationError:
            values = self._knob_values(params)  # what needs a figure fails
        for constraint in self.constraints:
            known = values.keys() >= constraint.names
            amounts[constraint.text] = constraint.violation(values) if known else FAILED
        return {text: amount for text, amount in amounts.items() if amount > 0}

    def values(self, params: Params) -> Mapping[str, Any]:
        """Return what expressions see; a knob that does not act has its default.

        Figures stand there if one is named. ConfigurationError where `derive` raises it.
        """
        values = self._knob_values(params)
        if all(values.keys() >= constraint.names for constraint in self.constraints):
            return values
        return {**self.derived(self.settings(params)), **values}

    def derived(self, settings: Settings) -> Mapping[str, Any]:
        """Return the figures of settings; ConfigurationError where these cannot work."""
        return self.derive(settings) if self.derive else {}

    def settled(self, position: Array) -> Array:
        """Return a position with every divisor lowered to the next that divides, if any does."""
        for divisor in self.divisors:
            for column, coordinate in enumerate(self.coordinates):
                base, layer, _ = coordinate.path
                if base != divisor.name:
                    continue
                params = self.decode(position)
                if coordinate.name in params:
                    number = divisor.number(self.settings(params), layer)
                    lower = divisor.lowered(params[coordinate.name], number, coordinate.scale)
                    if lower != params[coordinate.name]:
                        position = position.copy()
                        position[column] = coordinate.scale.point(lower)
        return position

    def repair(self, position: Array, seed: int, generation: int, particle: int) -> Repaired:
        """Return what is trained in place of a position (D,): itself where it is feasible.

        Deterministic: draws are keyed by (seed, generation, particle, "repair").
        """
        inside, count = self.rounded(np.clip(position, 0.0, 1.0)), len(self.coordinates)
        draws = partial(seeding.generator, seed, generation, particle, "repair")
        found = repaired(self.of_knobs, inside[:count], draws)
        if not self.weights:
            return found
        whole = self.rounded(np.concatenate([found.position, inside[count:]]))
        params = self.decode(whole)  # rounding may have moved a knob
        return Repaired(whole, params, self.violations(params))

    @cached_property
    def of_knobs(self) -> "Space":
        """The space without its weights."""
        if not self.weights:
            return self
        starts = self.starts[:, : len(self.coordinates)]
        return replace(self, weights=0, starts=starts)

    def with_weights(self, first: Array) -> "Space":
        """Return the space with weights beside its knobs.

        first: (S, n), what is tried first of them, the first row with each start of the knobs, the
        others with the defaults.
        """
        rows = [np.concatenate([start, first[0]]) for start in self.starts]
        rows += [np.concatenate([self.starts[0], weights]) for weights in first[1:]]
        return replace(self, weights=first.shape[1], starts=np.stack(rows))

    def rounded(self, positions: Array) -> Array:
        """Return positions (…, D) as they are stored: of many coordinates in single precision."""
        if self.dimension <= LARGEST_DOUBLE:
            return positions
        return np.asarray(positions, dtype=np.float32).astype(np.float64)

    def with_starts(self, positions: Array, first_trial: int) -> Array:
        """Return positions (B, D) with the rows of the first K trials of a run at its starts."""
        result = positions.copy()
        rows = self.starts[first_trial : first_trial + len(positions)]
        result[: len(rows)] = rows
        return result

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Held values by flat name, for conditions and counts."""
        fixed: dict[str, Any] = {}
        for held in self.held:
            if isinstance(held.value, list):
                fixed |= {flat_name(held.name, k): item for k, item in enumerate(held.value)}
            else:
                fixed[held.name] = held.value
        return fixed

    @cached_property
    def _scales(self) -> tuple[Scale, ...]:
        return tuple(coordinate.scale for coordinate in self.coordinates)

    @cached_property
    def _is_layered(self) -> bool:
        """Whether any knob differs between layers."""
        return any(coordinate.path[1] is not None for coordinate in self.coordinates)

    @cached_property
    def _looked_at(self) -> list[int]:
        """Columns of the knobs on which it depends which ones act."""
        names = {name for c in self.coordinates for name in c.when}
        names |= {"layers", "heads"} if self._is_layered else set()
        return [k for k, c in enumerate(self.coordinates) if {c.name, c.path[0]} & names]

    @cached_property
    def _unconditional(self) -> frozenset[str]:
        """Flat names of the knobs that always act."""
        return frozenset(c.name for c in self.coordinates if not c.when and c.path[1] is None)

    def _raw(self, position: Array) -> dict[str, Any]:
        """Return the value of every knob by flat name, whether it acts or not."""
        inside = np.clip(position[: len(self.coordinates)], 0.0, 1.0).tolist()
        values = [scale.value(x) for scale, x in zip(self._scales, inside, strict=True)]
        return self.fixed | dict(zip(self.names, values, strict=True))

    def _knob_values(self, params: Params) -> Mapping[str, Any]:
        given = {c.name: params.get(c.name, c.knob.default) for c in self.coordinates}
        raw = self.fixed | given
        varying = nest((c.path, given[c.name]) for c in self.coordinates if _exists(c, raw))
        return {held.name: held.value for held in self.held} | varying

    @staticmethod
    def _acts(coordinate: Coordinate, raw: Mapping[str, Any]) -> bool:
        return _exists(coordinate, raw) and _holds(coordinate.when, raw)


def _exists(coordinate: Coordinate, raw: Mapping[str, Any]) -> bool:
    """Tell whether a coordinate's layer and head are there."""
    _, layer, head = coordinate.path
    if layer is None:
        return True
    return bool(layer < raw["layers"]) and (head is None or head < head_count(raw, layer))


def _holds(when: When, raw: Mapping[str, Any]) -> bool:
    for name, allowed in when.items():
        if name in raw:
            if raw[name] not in allowed:
                return False
        else:  # differs between layers: any of them will do
            layers = range(raw["layers"])
            if not any(raw.get(flat_name(name, layer)) in allowed for layer in layers):
                return False
    return True


def _point(coordinate: Coordinate, value: Any) -> float:
    admitted: Any = place(coordinate.scale, value, coordinate.name)
    return coordinate.scale.point(admitted)
