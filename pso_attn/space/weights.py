"""The [weights] table of a space file: which weight matrices are searched, and from where.

A position then has further coordinates after those of the knobs; what they mean to a model stands
in `pso_attn.models.weights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pso_attn.errors import ConfigurationError, nearest

MATRICES = ("Wq", "Wk", "Wv", "Wo")
COORDINATES = ("full", "subspace", "low_rank")
SPLITS = ("train", "validation")
MODES = ("weights", "joint", "hybrid", "checkpoints")
QUANTISERS = ("none", "int8", "ternary")
FIRST = "start.safetensors"  # the model whose weights are searched, in a run's folder of models
FITNESS = "fitness"  # the objective's name, where it is somebody's own function
DRAWN, TRAINED = "random", "trained"  # starts that need no file
_BOUNDS = {"hybrid": 30.0, "checkpoints": 2.0}  # gradients must not be cut short at a face
_KEYS = (
    *("layers", "matrices", "coordinates", "dimensions", "rank", "start", "bounds"),
    *("mode", "examples", "split", "quantise", "fitness", "maximize", "gradient_steps"),
)


@dataclass(frozen=True)
class WeightTable:
    """What of a model's weights is searched.

    layers: their numbers, from 0, or None for all. matrices: of `MATRICES`, or ("all",) for every
    parameter of the model. coordinates: "full"; "subspace" of `size` dimensions; "low_rank" of
    rank `size`. start: "random", "trained", or paths of safetensors files, one or several.
    bounds: half the width of the box, in units of the scale with which weights start; of
    `checkpoints`, in units of half the range between them. mode: one of `MODES`. examples: of the
    split that an evaluation sees, 0 for all. split: "train" or "validation". quantise: what the
    searched matrices go through. fitness: "module:function" of somebody's own, or None, and
    maximize: whether more of it is better. gradient_steps: of a hybrid, between two moves.
    """

    layers: tuple[int, ...] | None
    matrices: tuple[str, ...]
    coordinates: str
    size: int
    start: tuple[str, ...]
    bounds: float
    mode: str
    examples: int
    split: str
    quantise: str
    fitness: str | None
    maximize: bool
    gradient_steps: int

    @property
    def is_drawn(self) -> bool:
        """Tell whether the searched matrices are drawn anew before the search."""
        return self.start == (DRAWN,)

    @property
    def files(self) -> tuple[str, ...]:
        """The checkpoints to start from; none where no file is needed."""
        return () if self.start in ((DRAWN,), (TRAINED,)) else self.start


def read_weights(table: Mapping[str, Any], where: str) -> WeightTable:
    """Return what a [weights] table says; ConfigurationError for what it may not.

    where: the file's name, for messages.
    """
    for name in table:
        if name not in _KEYS:
            raise ConfigurationError(
                f'{where}: "weights.{name}" is not a key of a space file{nearest(name, _KEYS)}'
            )
    read = _Reader(table, where)
    mode = read.one_of("mode", MODES)
    start = _start(read, mode)
    coordinates = read.one_of("coordinates", COORDINATES)
    return WeightTable(
        layers=_layers(read),
        matrices=_matrices(read, mode),
        coordinates=coordinates,
        size=_size(read, coordinates),
        start=start,
        bounds=read.number("bounds", _BOUNDS.get(mode, 3.0)),
        mode=mode,
        examples=read.whole("examples", 0, 0),
        split=read.one_of("split", SPLITS, SPLITS[mode in ("hybrid", "checkpoints")]),
        quantise=read.one_of("quantise", QUANTISERS),
        fitness=_fitness(read),
        maximize=read.flag("maximize"),
        gradient_steps=_gradient_steps(read, mode),
    )


@dataclass(frozen=True)
class _Reader:
    """The values of one table, each of the type that its key has."""

    table: Mapping[str, Any]
    where: str

    def wrong(self, name: str, expected: str) -> ConfigurationError:
        value = self.table.get(name)
        shown = f'"{value}"' if isinstance(value, str) else value
        return ConfigurationError(
            f'{self.where}: "weights.{name}" is {shown}; expected {expected}'
        )

    def one_of(self, name: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.table.get(name, default or known[0])
        if value not in known:
            listed = ", ".join(f'"{choice}"' for choice in known)
            raise self.wrong(name, f"one of {listed}{nearest(str(value), known)}")
        return str(value)

    def whole(self, name: str, default: int, low: int) -> int:
        value = self.table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.wrong(name, f"a whole number of at least {low}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise self.wrong(name, "a number above 0")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.table.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value


def _start(read: _Reader, mode: str) -> tuple[str, ...]:
    value = read.table.get("start", DRAWN)
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(n, str) and n for n in names)
    ):
        raise read.wrong("start", f'"{DRAWN}", "{TRAINED}", a safetensors file, or a list of them')
    several = len(names) > 1
    if several != (mode == "checkpoints"):
        raise ConfigurationError(
            f'{read.where}: weights.mode is "{mode}" and weights.start names {len(names)}; '
            'mode "checkpoints" starts from two or more files, every other mode from one'
        )
    if several and {DRAWN, TRAINED} & set(names):
        raise read.wrong("start", "safetensors files alone, where there are several")
    return tuple(names)


def _layers(read: _Reader) -> tuple[int, ...] | None:
    value = read.table.get("layers", "all")
    if value == "all":
        return None
    numbers = value if isinstance(value, list) else [value]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
    if not numbers or not whole or len(set(numbers)) < len(numbers):
        raise read.wrong("layers", 'numbers of layers, from 0, such as [0, 1], or "all"')
    return tuple(numbers)


def _matrices(read: _Reader, mode: str) -> tuple[str, ...]:
    value = read.table.get("matrices", "all" if mode == "checkpoints" else list(MATRICES))
    if value == "all":
        return ("all",)
    if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
        raise read.wrong("matrices", f'some of {", ".join(MATRICES)}, or "all" for every weight')
    if not set(map(str, value)) <= set(MATRICES):
        raise read.wrong("matrices", f"some of {', '.join(MATRICES)}")
    return tuple(value)


def _size(read: _Reader, coordinates: str) -> int:
    needed = {"full": None, "subspace": "dimensions", "low_rank": "rank"}
    for kind, name in needed.items():
        if name is not None and name in read.table and kind != coordinates:
            raise ConfigurationError(
                f'{read.where}: "weights.{name}" is for coordinates = "{kind}", and they are '
                f'"{coordinates}"; leave it out'
            )
    name = needed[coordinates]
    return 0 if name is None else read.whole(name, 256 if coordinates == "subspace" else 1, 1)


def _fitness(read: _Reader) -> str | None:
    value = read.table.get("fitness")
    if value is not None and (not isinstance(value, str) or ":" not in value):
        raise read.wrong("fitness", '"module:function", which is called with (model, batch)')
    if "maximize" in read.table and value is None:
        raise ConfigurationError(
            f'{read.where}: "weights.maximize" is for a fitness of your own; name it, as '
            'fitness = "module:function", or leave the key out'
        )
    return value


def _gradient_steps(read: _Reader, mode: str) -> int:
    if "gradient_steps" in read.table and mode != "hybrid":
        raise ConfigurationError(
            f'{read.where}: "weights.gradient_steps" is for mode = "hybrid", and it is '
            f'"{mode}"; leave it out'
        )
    return read.whole("gradient_steps", 10, 1) if mode == "hybrid" else 0
