"""From the tables of a space file to a space, or one sentence that says why not."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import inf
from typing import Any

from pso_attn.errors import ConfigurationError, ConstraintError, nearest
from pso_attn.space.codec import Coordinate, scale_of
from pso_attn.space.conditions import Conditions, When, for_layer, merged_when
from pso_attn.space.constraints import Constraint, parse
from pso_attn.space.divisors import Divisor, check_divisor
from pso_attn.space.knob import Knob
from pso_attn.space.layers import COUNTS, counts_first, flat_name, flatten, unnest
from pso_attn.space.ranges import Range, admit, resolve, shown
from pso_attn.space.space import Derive, Held, Space
from pso_attn.space.starting import with_first_points
from pso_attn.types import Scalar

FIGURES = ("parameters", "flops")  # what expressions may name beside knobs


def read_space(
    search: Mapping[str, Any],
    fixed: Mapping[str, Any],
    knobs: Mapping[str, Knob],
    constraints: Sequence[str] = (),
    starts: Sequence[Mapping[str, Any]] = (),
    derive: Derive | None = None,
    where: str = "the space",
    is_empty_meant: bool = False,
) -> Space:
    """Return the space that the tables of a space file describe.

    search, fixed: its [search] and [model] tables. knobs: all declared ones, by name. derive:
    settings -> `parameters`, `flops` and the values of knobs without a default of their own;
    called where an expression names one. where: the file's name, for messages. is_empty_meant:
    whether something else than knobs varies. Raises
    ConfigurationError, or ConstraintError, in one sentence.
    """
    for table, names in (("search", search), ("model", fixed)):
        for name in names:
            if name not in knobs:
                hint = nearest(name, knobs)
                raise ConfigurationError(f"{where}: {table}.{name} is not a knob{hint}")
    for name in search:
        if name in fixed:
            raise ConfigurationError(
                f"{where}: {name} is in both [model] and [search]; keep one of them"
            )
    if not search and not is_empty_meant:
        raise ConfigurationError(
            f"{where}: [search] is empty, so nothing varies; name a knob, such as "
            "heads = [1, 2, 4]"
        )
    ranges = {  # in the order of declaration: a file that is written again may change its own
        name: resolve(knob, search[name], f"{where}: search.{name}")
        for name, knob in knobs.items()
        if name in search
    }
    values = _held_values(fixed, ranges, knobs, f"{where}: model.")
    conditions = _conditions(search, ranges, values, knobs, where)
    divisors = _divisors(ranges, values, knobs, f"{where}: model.")
    said = [range_.note for range_ in ranges.values()]
    said += [check_divisor(divisor, ranges, values, where) for divisor in divisors]
    space = Space(
        coordinates=_coordinates(ranges, values, conditions, where),
        held=tuple(_held(values, fixed, conditions, where)),
        constraints=_constraints(constraints, knobs, derive, where),
        divisors=divisors,
        derive=derive,
        notes=tuple(note for note in said if note),
    )
    following = frozenset(
        name
        for name in ranges
        if knobs[name].default is None
        and not (isinstance(search[name], Mapping) and "default" in search[name])
    )
    return with_first_points(space, starts, knobs, following, where)


def read_settings(
    given: Mapping[str, Any], knobs: Mapping[str, Knob], where: str = "the settings"
) -> dict[str, Any]:
    """Return settings that a person wrote down, every value admitted by its knob's declaration.

    Raises ConfigurationError in one sentence that begins with `where`, a file's name.
    """
    for name in given:
        if name not in knobs:
            raise ConfigurationError(f"{where}: {name} is not a knob{nearest(name, knobs)}")
    values = _held_values(given, {}, knobs, f"{where}: ")
    _divisors({}, values, knobs, f"{where}: ")
    return {name: values[name] for name in given}


def _held_values(
    fixed: Mapping[str, Any], ranges: Mapping[str, Range], knobs: Mapping[str, Knob], label: str
) -> dict[str, Any]:
    """Return the value of every knob that does not vary and has one: fixed, or its default."""
    values: dict[str, Any] = {
        name: knob.default
        for name, knob in knobs.items()
        if name not in ranges and knob.default is not None
    }
    for name in counts_first(fixed):
        knob, value = knobs[name], fixed[name]
        if isinstance(value, list) and "layer" in knob.per:
            values[name] = _held_list(knob, value, values, label + name)
        else:
            values[name] = admit(knob, value, label + name)
    return values


def _held_list(knob: Knob, rows: list[Any], held: Mapping[str, Any], label: str) -> list[Any]:
    """Return a fixed list, one entry for each layer, or a list of heads for each."""
    per_head = _differs_by_head(rows)
    if per_head and "head" not in knob.per:
        raise ConfigurationError(
            f"{label} varies by layer, not by head; give one value for each layer"
        )
    for count in COUNTS if per_head else COUNTS[:1]:
        if count not in held:
            raise ConfigurationError(
                f"{label} is a list, and {count} is not fixed; fix it, or give one value for all"
            )
    heads: Any = held.get("heads")
    width = (lambda layer: heads[layer]) if isinstance(heads, list) else (lambda _: heads)
    absent: tuple[Any, ...] = (None,)  # as settings have it of a layer where the knob does not act
    if knob.kind == "float" and knob.default is None:
        absent = (None, inf)  # the latter in exports, of a softcap
    for item in unnest(rows, held["layers"], width, label).values():
        if item not in absent:
            admit(knob, item, label)
    return rows


def _differs_by_head(value: Any) -> bool:
    """Tell whether a fixed value has a list of heads for some layer."""
    return isinstance(value, list) and any(isinstance(row, list) for row in value)


def _conditions(
    search: Mapping[str, Any],
    ranges: Mapping[str, Range],
    values: Mapping[str, Any],
    knobs: Mapping[str, Knob],
    where: str,
) -> Conditions:
    possible: dict[str, Sequence[Scalar]] = {
        name: tuple(dict.fromkeys(flatten(values[name]))) if name in values else ()
        for name in knobs
    }
    stated: dict[str, When] = {name: knob.when for name, knob in knobs.items()}
    for name, range_ in ranges.items():
        table, label = search[name], f"{where}: search.{name}"
        given = table.get("when", {}) if isinstance(table, Mapping) else {}
        stated[name] = merged_when(knobs[name], given, knobs, label)
        possible[name] = scale_of(range_.knob).values
        for key in stated[name]:
            is_searched_so = key in ranges and ranges[key].per == "head"
            if is_searched_so or _differs_by_head(values.get(key)):
                raise ConfigurationError(
                    f"{label}.when names {key}, which differs between heads; give {key} one value "
                    "for each layer at most"
                )
    return Conditions(stated, possible)


def _coordinates(
    ranges: Mapping[str, Range], values: Mapping[str, Any], conditions: Conditions, where: str
) -> tuple[Coordinate, ...]:
    """Return one coordinate for each flat knob; what conditions others comes first."""
    layered = {name for name, range_ in ranges.items() if range_.per == "layer"}
    layered |= {name for name, value in values.items() if isinstance(value, list)}
    coordinates = []
    for name, range_ in ranges.items():
        label = f"{where}: search.{name}"
        when = _when(conditions, name, label)
        sizes = {
            count: _largest(count, conditions, f"{label}.per")
            for count in COUNTS[: ("model", "layer", "head").index(range_.per)]
        }
        layers = range(sizes["layers"]) if "layers" in sizes else (None,)
        heads = range(sizes["heads"]) if "heads" in sizes else (None,)
        for layer, head in product(layers, heads):
            flat = flat_name(name, layer, head)
            own = for_layer(when, layer, layered)
            coordinates.append(Coordinate(flat, range_.knob, (name, layer, head), own))
    return tuple(sorted(coordinates, key=lambda c: (c.path[0] not in COUNTS, len(c.when))))


def _when(conditions: Conditions, name: str, label: str) -> When:
    try:
        return conditions.of(name)
    except ConfigurationError as error:
        raise ConfigurationError(f"{label} {error}") from None


def _largest(count: str, conditions: Conditions, label: str) -> int:
    """Return the largest number of layers or heads that the space reaches."""
    possible = conditions.possible.get(count, ())
    if not possible or conditions.of(count):
        raise ConfigurationError(
            f"{label} needs {count} to have a value always; fix it under [model] or search it"
        )
    return int(max(possible))


def _held(
    values: Mapping[str, Any], fixed: Mapping[str, Any], conditions: Conditions, where: str
) -> Iterator[Held]:
    for name, value in values.items():
        if name in fixed:
            yield Held(name, value, _when(conditions, name, f"{where}: model.{name}"))
        else:
            try:
                yield Held(name, value, conditions.of(name))
            except ConfigurationError:  # its default never acts, which nobody asked for
                yield Held(name, value, None)


def _constraints(
    texts: Sequence[str], knobs: Mapping[str, Knob], derive: Derive | None, where: str
) -> tuple[Constraint, ...]:
    known = [*knobs, *(FIGURES if derive else ())]
    try:
        return tuple(parse(text, known) for text in dict.fromkeys(texts))
    except ConstraintError as error:
        raise ConstraintError(f"{where}: {error}") from None


def _divisors(
    ranges: Mapping[str, Range], values: Mapping[str, Any], knobs: Mapping[str, Knob], label: str
) -> tuple[Divisor, ...]:
    given = {*ranges, *values}
    divisors = []
    for name, knob in knobs.items():
        if knob.divides is None or not {name, knob.divides} <= given:
            continue
        divisor = Divisor(name, knob.divides)
        if name in ranges or knob.divides in ranges:
            divisors.append(divisor)
        elif divisor.violation(values):
            raise ConfigurationError(
                f"{label}{name} is {shown(values[name])}, which does not divide "
                f"{knob.divides} = {shown(values[knob.divides])}; choose a divisor"
            )
    return tuple(divisors)
