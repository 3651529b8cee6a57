"""A knob's declaration: the one place where its type, range, default, meaning and source stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pso_attn.types import Scalar

Kind = Literal["float", "int", "ordered", "categorical", "bool"]
Per = Literal["model", "layer", "head"]


@dataclass(frozen=True)
class Knob:
    """One thing that may vary.

    low, high, log, step: for float and int, in the knob's own unit; both ends are included.
    They are the range of `{}` in a space file; minimum and maximum bound what may be asked for
    at all (None: no bound).
    choices: for ordered and categorical; `ordered` means that neighbours are alike.
    default: what an unmentioned knob takes; None means derived elsewhere (`doc` says how).
    neutral: the value at which the knob changes nothing; None where there is none.
    limit: in words, where it changes nothing if no one value does: that depends on other sizes, or
    is only approached.
    when: other knobs' values under which this one acts, e.g. {"mechanism": ("softmax",)}.
    per: the granularities it may be given at.
    divides: another knob that this one must divide; a searched value is repaired downwards.
    """

    name: str
    kind: Kind
    doc: str
    low: float | None = None
    high: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()
    default: Scalar | None = None
    neutral: Scalar | None = None
    limit: str = ""
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    per: tuple[Per, ...] = ("model",)
    divides: str | None = None
    source: str = ""
