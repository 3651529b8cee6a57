"""What a space file says of one knob, narrowed from its declaration and checked."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.space.codec import Scale, scale_of
from pso_attn.space.knob import Knob, Per
from pso_attn.types import Scalar

LARGEST = 1e300  # beyond it, the span of a range overflows
LARGEST_INT = 2**40  # beyond it, neighbouring integers share a point on a log scale
MOST_STEPS = 100_000

_RANGE_KEYS = ("low", "high", "log", "step")
_KEYS = (*_RANGE_KEYS, "choices", "ordered", "default", "when", "per")


@dataclass(frozen=True)
class Range:
    """A knob as it is searched. note: what a person should hear about its default, or empty."""

    knob: Knob
    per: Per
    note: str = ""


def resolve(declared: Knob, stated: Any, label: str) -> Range:
    """Return the declared knob narrowed to the range that a space file states.

    stated: a list of choices, or a table of {low, high, log, step, choices, ordered, default,
    when, per}; {} is the declared range. label: begins each sentence of ConfigurationError,
    such as "a.toml: search.heads". `when` is read elsewhere.
    """
    table = _table(stated, label)
    if "ordered" in table and table["ordered"] is not (
        declared.kind not in ("categorical", "bool")
    ):
        raise ConfigurationError(
            f"{label}.ordered is {shown(table['ordered'])}, and {declared.name} is declared "
            f"{declared.kind}; leave it out"
        )
    per = table.get("per", "model")
    if per not in declared.per:
        raise ConfigurationError(
            f"{label}.per is {shown(per)}; {declared.name} may be given per "
            f"{' or '.join(shown(one) for one in declared.per)}"
        )
    extra = [key for key in _RANGE_KEYS if key in table]
    if "choices" in table:
        listed = admit_all(declared, table["choices"], f"{label}.choices")
        knob = _of_choices(declared, _between(listed, table, extra, label), label)
    elif declared.kind in ("float", "int"):
        knob = _of_range(declared, table, label)
    else:
        knob = _of_declared_choices(declared, table, extra, label)
    default, note = _default(declared, knob, table, label)
    return Range(replace(knob, default=default), per, note)


def admit(knob: Knob, value: Any, label: str) -> Scalar:
    """Return `value` as the declared knob's type; ConfigurationError where it may not be had."""
    numeric, whole, low, high = _domain(knob)
    if not numeric:
        for choice in _labels(knob):
            if value == choice and isinstance(value, type(choice)):
                return choice
        texts = [choice for choice in _labels(knob) if isinstance(choice, str)]
        hint = nearest(value, texts) if isinstance(value, str) else ""
        expected = f"; expected {' or '.join(shown(choice) for choice in _labels(knob))}"
        raise ConfigurationError(f"{label} is {shown(value)}{hint or expected}")
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not fits or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"{label} is {shown(value)}; expected {_words(whole, low, high)}")
    largest = LARGEST_INT if whole else LARGEST
    if not abs(value) <= largest:
        said = f"{LARGEST_INT:,}" if whole else f"{LARGEST:g}"
        raise ConfigurationError(
            f"{label} is {shown(value)}; expected {_words(whole, low, high)}, no further from 0 "
            f"than {said}"
        )
    return float(value) if knob.kind == "float" else value


def admit_all(knob: Knob, values: Any, label: str) -> list[Scalar]:
    """Return a list of choices, each admitted by the declared knob, none twice."""
    if not isinstance(values, list) or not values:
        raise ConfigurationError(f"{label} is {shown(values)}; expected a list of choices")
    admitted = [admit(knob, value, f"{label}[{k}]") for k, value in enumerate(values)]
    twice = [value for k, value in enumerate(admitted) if value in admitted[:k]]
    if twice:
        raise ConfigurationError(f"{label} has {shown(twice[0])} twice; keep one of them")
    return admitted


def place(scale: Scale, value: Scalar, label: str) -> Scalar:
    """Return `value` if a searched range has it; else ConfigurationError names the nearest."""
    if scale.admits(value):
        return value
    if scale.levels and isinstance(scale.values[0], str | bool):
        expected = f"expected one of {shown(scale.values)}"
    elif isinstance(value, str | bool):
        expected = "expected a number"
    else:
        expected = f"the nearest in its range is {shown(scale.nearest(value))}"
    raise ConfigurationError(f"{label} is {shown(value)}, which is not searched; {expected}")


def shown(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str) else str(value)


def _table(stated: Any, label: str) -> Mapping[str, Any]:
    if isinstance(stated, list):
        return {"choices": stated}
    if not isinstance(stated, Mapping):
        raise ConfigurationError(
            f"{label} is {shown(stated)}; expected a list of choices or a table such as "
            "{ low = 1, high = 8 }, and a value that stays fixed goes under [model]"
        )
    for key in stated:
        if key not in _KEYS:
            raise ConfigurationError(f"{label}.{key} is not a key of a knob{nearest(key, _KEYS)}")
    return stated


def _of_choices(declared: Knob, choices: Sequence[Scalar], label: str) -> Knob:
    if len(choices) == 1:
        raise ConfigurationError(
            f"{label} has one choice alone, {shown(choices[0])}; fix it under [model], or add "
            "another"
        )
    kind = declared.kind if declared.kind in ("categorical", "bool") else "ordered"
    if _domain(declared)[0]:
        choices = sorted(choices, key=float)
    elif kind != "categorical":
        choices = sorted(choices, key=_labels(declared).index)
    return replace(
        declared, kind=kind, choices=tuple(choices), low=None, high=None, log=False, step=None
    )


def _between(
    choices: Sequence[Scalar], table: Mapping[str, Any], extra: Sequence[str], label: str
) -> Sequence[Scalar]:
    """Return listed numbers between low and high, where those are stated."""
    if not extra:
        return choices
    numeric = not any(isinstance(choice, str | bool) for choice in choices)
    wrong = [key for key in extra if not numeric or key not in ("low", "high")]
    if wrong:
        raise ConfigurationError(f"{label} has both choices and {wrong[0]}; keep one of them")
    low, high = table.get("low", -math.inf), table.get("high", math.inf)
    for key, bound in (("low", low), ("high", high)):
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise ConfigurationError(f"{label}.{key} is {shown(bound)}; expected a number")
    kept = [choice for choice in choices if low <= choice <= high]
    if not kept:
        raise ConfigurationError(
            f"{label} leaves none of its choices {shown(choices)}; widen low and high"
        )
    return kept


def _of_declared_choices(
    declared: Knob, table: Mapping[str, Any], extra: Sequence[str], label: str
) -> Knob:
    """Return the declared choices, between low and high where those are stated."""
    numeric, *_ = _domain(declared)
    wrong = [key for key in extra if not numeric or key not in ("low", "high")]
    if wrong:
        raise ConfigurationError(
            f"{label}.{wrong[0]} is given, and {declared.name} has choices; list those wanted of "
            f"{shown(_labels(declared))}"
        )
    for key in extra:
        admit(declared, table[key], f"{label}.{key}")
    return _of_choices(declared, _between(_labels(declared), table, extra, label), label)


def _of_range(declared: Knob, table: Mapping[str, Any], label: str) -> Knob:
    bounds: dict[str, Any] = {}
    for key, usual in (("low", declared.low), ("high", declared.high)):
        if key not in table and usual is None:
            raise ConfigurationError(f"{label} has no {key}; state it")
        bounds[key] = admit(declared, table.get(key, usual), f"{label}.{key}")
    low, high = float(bounds["low"]), float(bounds["high"])
    if low == high:
        raise ConfigurationError(
            f"{label} has low = high = {shown(bounds['low'])}; fix it under [model] instead"
        )
    if low > high:
        raise ConfigurationError(
            f"{label} is empty: low = {shown(bounds['low'])} is above high = "
            f"{shown(bounds['high'])}; swap or widen them"
        )
    log = table.get("log", declared.log and "step" not in table)
    if not isinstance(log, bool):
        raise ConfigurationError(f"{label}.log is {shown(log)}; expected true or false")
    if log and low <= 0:
        raise ConfigurationError(
            f"{label}.low is {shown(bounds['low'])}; a log scale needs it above 0: raise it, or "
            "say log = false"
        )
    if log and "step" in table:
        raise ConfigurationError(f"{label} has both log and step; keep one of them")
    step = None if log else _step(declared, table.get("step", declared.step), high - low, label)
    return replace(declared, **bounds, log=log, step=step)


def _step(declared: Knob, step: Any, span: float, label: str) -> float | None:
    if step is None:
        return None
    kinds = int if declared.kind == "int" else int | float
    if isinstance(step, bool) or not isinstance(step, kinds) or not 0 < step <= span:
        expected = "a whole number" if declared.kind == "int" else "a number"
        raise ConfigurationError(
            f"{label}.step is {shown(step)}; expected {expected} above 0 and at most "
            f"high - low = {span:g}"
        )
    if declared.kind == "float" and span / step > MOST_STEPS:
        raise ConfigurationError(
            f"{label}.step is {shown(step)}, which makes {span / step:,.0f} values; expected at "
            f"most {MOST_STEPS:,}: leave it out or raise it"
        )
    return step


def _default(
    declared: Knob, knob: Knob, table: Mapping[str, Any], label: str
) -> tuple[Scalar, str]:
    """Return the default and a note, which is not empty where the declared one had to move."""
    scale = scale_of(knob)
    if "default" in table:
        stated = admit(declared, table["default"], f"{label}.default")
        return place(scale, stated, f"{label}.default"), ""
    if declared.default is None:
        return knob.choices[0] if knob.kind == "categorical" else scale.value(0.5), ""
    if scale.admits(declared.default):
        return declared.default, ""
    if not isinstance(declared.default, str):
        default = scale.nearest(declared.default)
    elif knob.kind == "ordered":
        place_of = declared.choices.index
        wanted = place_of(declared.default)
        default = min(knob.choices, key=lambda choice: abs(place_of(choice) - wanted))
    else:
        default = knob.choices[0]
    return default, (
        f"{knob.name}: its default, {shown(declared.default)}, is outside the stated range; "
        f"{shown(default)}, the nearest in it, is taken"
    )


def _domain(knob: Knob) -> tuple[bool, bool, float, float]:
    """Return whether the knob is a number that is not bound to its choices, whether it is
    whole, and between what it must lie."""
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in knob.choices)
    bounded = knob.minimum is not None or knob.maximum is not None
    numeric = knob.kind in ("float", "int") or (knob.kind == "ordered" and numbers and bounded)
    whole = knob.kind == "int" or (
        knob.kind == "ordered"
        and all(isinstance(value, int) for value in (*knob.choices, knob.minimum or 0))
    )
    low = -math.inf if knob.minimum is None else knob.minimum
    high = math.inf if knob.maximum is None else knob.maximum
    return numeric, whole, low, high


def _labels(knob: Knob) -> tuple[Scalar, ...]:
    """Return all that a knob which is no number may be."""
    return (False, True) if knob.kind == "bool" else knob.choices


def _words(whole: bool, low: float, high: float) -> str:
    noun = "a whole number" if whole else "a finite number"
    if math.isinf(high):
        return noun if math.isinf(low) else f"{noun} of at least {low:g}"
    return f"{noun} of at most {high:g}" if math.isinf(low) else f"{noun} from {low:g} to {high:g}"
