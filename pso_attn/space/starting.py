"""What a search tries first: the defaults and the file's [[start]] tables, made feasible."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pso_attn.errors import ConfigurationError, ConstraintError, nearest
from pso_attn.space.codec import Coordinate
from pso_attn.space.knob import Knob
from pso_attn.space.layers import counts_first, head_count, unnest
from pso_attn.space.ranges import admit, place, shown
from pso_attn.space.repair import find_anchors
from pso_attn.space.space import Space
from pso_attn.types import Array, Params, Scalar


def with_first_points(
    space: Space,
    starts: Sequence[Mapping[str, Any]],
    knobs: Mapping[str, Knob],
    following: frozenset[str],
    where: str,
) -> Space:
    """Return the space with its anchors and starts; notes say what a constraint changed.

    following: searched knobs without a default of their own, which take what `derive` gives.
    Raises ConstraintError where an expression makes no sense or nothing meets all of them.
    """
    tables = [{}, *starts]
    wanted = np.stack(
        [_position(space, table, knobs, following, where, k) for k, table in enumerate(tables)]
    )
    _check_expressions(space, space.decode(space.settled(wanted[0])), where)
    space = replace(space, anchors=find_anchors(space, wanted, where))
    repairs = [space.repair(position, 0, 0, k) for k, position in enumerate(wanted)]
    notes = []
    for k, (position, repair) in enumerate(zip(wanted, repairs, strict=True)):
        params, who = space.decode(position), f"start {k}" if k else "the defaults"
        broken = " and ".join(f'"{text}"' for text in space.violations(params))
        if repair.violations:
            notes.append(f"{who}: stays untrained, for want of a way to meet {broken}")
        elif repair.params != params:
            notes.append(f"{who}: {_changes(params, repair.params)}, to meet {broken}")
    positions = np.stack([repair.position for repair in repairs])
    return replace(space, starts=positions, notes=(*space.notes, *notes))


def _position(
    space: Space,
    table: Mapping[str, Any],
    knobs: Mapping[str, Knob],
    following: frozenset[str],
    where: str,
    k: int,
) -> Array:
    """Return the position of one table's settings; what it does not name has its default."""
    params: dict[str, Scalar] = {}
    for name in counts_first(table):
        label = f"{where}: start {k}: {name}"
        own = {c.name: c for c in space.coordinates if name in (c.path[0], c.name)}
        if not own:
            known = {part for c in space.coordinates for part in (c.path[0], c.name)}
            raise ConfigurationError(f"{label} is not searched{nearest(name, known)}")
        declared = knobs[next(iter(own.values())).path[0]]
        raw = space.fixed | {c.name: c.knob.default for c in space.coordinates} | params
        for flat, value in _entries(table[name], own, raw, label).items():
            admitted = admit(declared, value, label)
            params[flat] = place(own[flat].scale, admitted, label)
    return space.encode({**_followed(space, params, following), **params})


def _followed(
    space: Space, given: Mapping[str, Scalar], following: frozenset[str]
) -> dict[str, Scalar]:
    """Return what the other settings give to knobs whose default follows from them.

    The nearest admitted value of each, and for a knob that does not act what it would be given
    where it does; nothing where those settings cannot work alone.
    """
    found: dict[str, Scalar] = {}
    known: dict[tuple[tuple[str, Scalar], ...], Mapping[str, Any]] = {}
    for coordinate in space.coordinates:
        base, *indices = coordinate.path
        if base not in following:
            continue
        acting = _where_it_acts(space, coordinate, given)
        key = tuple(sorted(acting.items()))
        if key not in known:
            known[key] = _derived(space, acting, following)
        value = known[key].get(base)
        for index in indices:
            if isinstance(value, list) and index is not None and index < len(value):
                value = value[index]
        if isinstance(value, int | float):
            found[coordinate.name] = coordinate.scale.nearest(value)
    return found


def _where_it_acts(
    space: Space, coordinate: Coordinate, given: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Return what is given, with the first values of other knobs that let a coordinate act."""
    raw = {c.name: given.get(c.name, c.knob.default) for c in space.coordinates}
    met = {
        c.name: next(filter(c.scale.admits, allowed))
        for name, allowed in coordinate.when.items()
        for c in space.coordinates
        if name in (c.name, c.path[0])
        and raw[c.name] not in allowed
        and any(map(c.scale.admits, allowed))
    }
    return {**given, **met}


def _derived(
    space: Space, given: Mapping[str, Scalar], following: frozenset[str]
) -> Mapping[str, Any]:
    """Return what the settings give to knobs that follow; nothing where they cannot work."""
    params = space.decode(space.encode(given))
    others = {
        c.name: params[c.name]
        for c in space.coordinates
        if c.name in params and (c.path[0] not in following or c.name in given)
    }
    try:
        return space.derived(space.settings(others))
    except ConfigurationError:
        return {}


def _entries(
    value: Any, own: Mapping[str, Coordinate], raw: Mapping[str, Any], label: str
) -> dict[str, Any]:
    """Return one value for each flat name that `value`, a scalar or a nested list, gives one."""
    first = next(iter(own.values())).path
    if first[1] is None or not isinstance(value, list):
        return dict.fromkeys(own, value)
    entries = unnest(value, raw["layers"], lambda layer: head_count(raw, layer), label)
    if first[2] is None and any(head is not None for _, head in entries):
        raise ConfigurationError(f"{label} varies by layer, not by head; give one value for each")
    found = {}
    for flat, coordinate in own.items():
        _, layer, head = coordinate.path
        for at in ((layer, head), (layer, None)):
            if at in entries:
                found[flat] = entries[at]
    return found


def _check_expressions(space: Space, params: Params, where: str) -> None:
    """Raise ConstraintError for an expression that has no meaning, whatever the values."""
    try:
        values = space.values(params)
    except ConfigurationError:
        return  # the defaults cannot work; other points are tried next
    for constraint in space.constraints:
        missing = sorted(constraint.names - values.keys())
        if missing:
            raise ConstraintError(
                f'{where}: constraint "{constraint.text}" needs {missing[0]}, which has no value '
                "of its own; name it in [model] or [search]"
            )
        try:
            constraint.violation(values)
        except ConstraintError as error:
            raise ConstraintError(f"{where}: {error}") from None


def _changes(before: Params, after: Params) -> str:
    parts = [
        f"{name} {shown(before[name])} became {shown(after[name])}"
        if name in before and name in after
        else f"{name} {'acts' if name in after else 'no longer acts'}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    return ", ".join(parts)
