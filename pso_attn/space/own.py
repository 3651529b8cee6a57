"""Knobs of one's own: what a space file says of a key that nothing declares, as a declaration.

The code that reads such a knob is not ours, so the file alone says what it may be.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from pso_attn.errors import ConfigurationError
from pso_attn.space.knob import Kind, Knob
from pso_attn.space.layers import COUNTS
from pso_attn.space.ranges import shown
from pso_attn.types import Scalar

_DOC = "of your own code"


def own_knobs(
    search: Mapping[str, Any], fixed: Mapping[str, Any], declared: Collection[str], where: str
) -> dict[str, Knob]:
    """Return a declaration for each key of [search] and [model] that is not declared.

    A range is of whole numbers where both its ends are, else of floats; a list of numbers is
    ordered, any other is of labels, unless `ordered` says otherwise. The default is the middle of
    the range (of its logarithm where `log` says so) or the first choice. where: the file's name.
    Raises ConfigurationError for what no knob can be.
    """
    _check_counts({**search, **fixed}, search, where)
    knobs = {}
    for name in sorted(search):  # a file that is written again may change its own order
        if name not in declared:
            _check_name(name, f"{where}: search.{name}")
            knobs[name] = _searched(name, search[name], f"{where}: search.{name}")
    for name in sorted(fixed):
        if name not in declared:
            _check_name(name, f"{where}: model.{name}")
            knobs[name] = _fixed(name, fixed[name], f"{where}: model.{name}")
    return knobs


def _check_name(name: str, label: str) -> None:
    if "." in name:
        raise ConfigurationError(
            f"{label} has a dot in its name, which stands for layers and heads; leave it out"
        )


def _check_counts(stated: Mapping[str, Any], search: Mapping[str, Any], where: str) -> None:
    """Raise ConfigurationError where something varies by layer and layers are no number."""
    per = [name for name, table in search.items() if isinstance(table, Mapping) and "per" in table]
    for count in COUNTS if per else ():
        said = stated.get(count)
        listed = said if isinstance(said, list) else [said]
        wrong = [one for one in listed if isinstance(one, str | bool | float)]
        if wrong:
            raise ConfigurationError(
                f"{where}: {count} is {shown(wrong[0])}, and {per[0]} has one value for each; "
                "give whole numbers"
            )


def _searched(name: str, stated: Any, label: str) -> Knob:
    table = stated if isinstance(stated, Mapping) else {}
    choices = stated if isinstance(stated, list) else table.get("choices")
    if isinstance(choices, list) and choices:
        return _of_choices(name, choices, table.get("ordered"), label)
    whole = all(isinstance(table.get(end), int) for end in ("low", "high"))
    return _knob(name, "int" if whole else "float")


def _of_choices(name: str, choices: list[Any], ordered: Any, label: str) -> Knob:
    for k, choice in enumerate(choices):
        if not isinstance(choice, bool | int | float | str):
            raise ConfigurationError(
                f"{label}[{k}] is {shown(choice)}; expected a number, text, true or false"
            )
        if isinstance(choice, float) and not math.isfinite(choice):
            raise ConfigurationError(f"{label}[{k}] is {shown(choice)}; expected a finite number")
    numbers = [choice for choice in choices if not isinstance(choice, bool | str)]
    are_numbers = len(numbers) == len(choices)
    if ordered not in (None, True, False):
        raise ConfigurationError(f"{label}.ordered is {shown(ordered)}; expected true or false")
    if not (are_numbers if ordered is None else ordered):
        return _knob(name, "categorical", choices=tuple(choices), default=choices[0])
    if not are_numbers:
        return _knob(name, "ordered", choices=tuple(choices), default=choices[0])
    if any(isinstance(choice, float) for choice in choices):
        choices = [float(choice) for choice in choices]
    return _knob(
        name,
        "ordered",
        choices=tuple(sorted(choices)),
        default=choices[0],
        minimum=min(choices),
        maximum=max(choices),
    )


def _fixed(name: str, value: Any, label: str) -> Knob:
    if isinstance(value, bool):
        return _knob(name, "bool")
    if isinstance(value, int | float):
        return _knob(name, "int" if isinstance(value, int) else "float")
    if isinstance(value, str):
        return _knob(name, "categorical", choices=(value,), default=value)
    raise ConfigurationError(f"{label} is {shown(value)}; expected a number, text, true or false")


def _knob(
    name: str,
    kind: Kind,
    choices: tuple[Scalar, ...] = (),
    default: Scalar | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Knob:
    return Knob(
        name,
        kind,
        _DOC,
        choices=choices,
        default=default,
        minimum=minimum,
        maximum=maximum,
        per=("model", "layer", "head"),
    )
