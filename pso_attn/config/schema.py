"""What a space file may say: its keys, their types, and the sentences for what it may not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

from pso_attn.config.configuration import Configuration, Execution
from pso_attn.errors import ConfigurationError, nearest
from pso_attn.space import read_weights
from pso_attn.types import MOST_PARTICLES, Budget, Direction

Document = Mapping[str, Any]

_COLUMNS = ("target", "group", "time")
_TEXT_KEYS = ("task", "data", *_COLUMNS)
_DATA_TABLES = ("columns", "split", "forecast")
_TABLES = (*_DATA_TABLES, "model", "search", "weights", "constraints", "budget", "swarm", "run")
_OBJECTIVE = ("objective", "objective_batched", "maximize")
_TOP = (*_TEXT_KEYS, *_OBJECTIVE, "objectives", *_TABLES, "start")
_OUTER = ("layers", "d_model", "feedforward_ratio", "batch_size", "precision")
_FAMILIES = ("transformer", "lstm")
_BUDGET = tuple(field.name for field in fields(Budget))
_LARGEST = {"particles": MOST_PARTICLES, "generations": 10**9, "steps": 10**9, "seeds": 10_000}
_RUN_TEXT = (
    *("source", "code", "sampler", "device", "storage", "fingerprint", "direction"),
    *("executor", "ray_address"),
)
_RUN = (
    *_RUN_TEXT,
    "seed",
    "planned_generations",
    "workers",
    "chunk_timeout_s",
    "weight_coordinates",
)
_EXECUTION = tuple(field.name for field in fields(Execution))
_EXECUTORS = ("local", "processes", "ray")
_EXECUTORS_WITH = {
    "workers": ("processes", "ray"),
    "chunk_timeout_s": ("processes", "ray"),
    "ray_address": ("ray",),
}
_MOST_WORKERS = 100_000


def check_document(document: Document, where: str) -> None:
    """Raise ConfigurationError at the first key or type that a space file may not have.

    where: the file's name, for messages. Knobs and their ranges are checked by
    `pso_attn.space.read_space`, and the sampler's options by the sampler.
    """
    _check_top(document, where)
    _check_model(document, where)
    _check_weights(document, where)
    _known(document.get("constraints", {}), ("expressions",), "constraints.", where)
    _known(document.get("budget", {}), _BUDGET, "budget.", where)
    _known(document.get("run", {}), _RUN, "run.", where)
    for name in _RUN_TEXT:
        if name in document.get("run", {}):
            _text(document["run"][name], f"run.{name}", where)


def configuration_from(document: Document, where: str) -> Configuration:
    """Return the configuration that a document describes.

    Raises ConfigurationError, naming `where`, for anything that cannot be meant.
    """
    check_document(document, where)
    if "task" not in document and "objective" not in document:
        raise ConfigurationError(
            f'{where}: "task" is missing; name one, such as task = "digits", or an objective of '
            'your own, as objective = "module:function"'
        )
    run = document.get("run", {})
    budget = _budget(document.get("budget", {}), where)
    planned = run.get("planned_generations", budget.generations)
    return Configuration(
        source=run.get("source", where),
        task=document.get("task", ""),
        objective=document.get("objective"),
        objective_batched=document.get("objective_batched", False),
        maximize=tuple(document.get("maximize", ())),
        code=run.get("code"),
        **{name: document.get(name) for name in ("data", *_COLUMNS)},
        columns=dict(document.get("columns", {})),
        split=dict(document.get("split", {})),
        forecast=dict(document.get("forecast", {})),
        objectives=_objectives(document.get("objectives", ["loss"]), where),
        model=dict(document.get("model", {})),
        search=dict(document.get("search", {})),
        constraints=_expressions(document.get("constraints", {}), where),
        starts=tuple(dict(start) for start in document.get("start", ())),
        budget=budget,
        swarm=dict(document.get("swarm", {})),
        weights=dict(document.get("weights", {})),
        weight_coordinates=run.get("weight_coordinates"),
        sampler=run.get("sampler", "pso"),
        seed=_whole(run.get("seed", 0), "run.seed", where, low=0),
        device=run.get("device", "auto"),
        storage=run.get("storage"),
        execution=execution_from({key: run.get(key) for key in _EXECUTION}, where),
        fingerprint=run.get("fingerprint"),
        direction=_direction(run.get("direction"), where),
        planned_generations=_whole(planned, "run.planned_generations", where),
    )


def execution_from(given: Document, where: str, recorded: Execution | None = None) -> Execution:
    """Return where chunks train: as given, and where nothing is given as recorded.

    given: by the names of `Execution`, None for not given. Another executor than the recorded one
    takes over nothing. Raises ConfigurationError for what is not for the executor.
    """
    told = {key: value for key, value in given.items() if value is not None}
    if recorded is not None and told.get("executor", recorded.executor) == recorded.executor:
        told = {**asdict(recorded), **told}
    name = told.get("executor", "local")
    if name not in _EXECUTORS:
        raise ConfigurationError(
            f'{where}: "executor" is {_show(name)}{nearest(str(name), _EXECUTORS)}'
        )
    for key, executors in _EXECUTORS_WITH.items():
        if told.get(key) is not None and name not in executors:
            raise ConfigurationError(
                f'{where}: "{key}" is for the executor {" or ".join(executors)}, and it is '
                f"{name}; choose another, or leave that out"
            )
    workers, timeout_s = told.get("workers"), told.get("chunk_timeout_s")
    if workers is not None:
        _whole(workers, "workers", where, high=_MOST_WORKERS)
    if timeout_s is not None and not (_is_number(timeout_s) and timeout_s > 0):
        raise _wrong(where, "chunk_timeout_s", timeout_s, "seconds above 0")
    return Execution(name, workers, told.get("ray_address"), timeout_s)


def _check_top(document: Document, where: str) -> None:
    _known(document, _TOP, "", where)
    for name in _TEXT_KEYS:
        if name in document:
            _text(document[name], name, where)
    for name in _TABLES:
        if not isinstance(document.get(name, {}), Mapping):
            raise _wrong(where, name, document[name], f"a table, [{name}]")
    if "forecast" in document and not document["forecast"]:
        raise ConfigurationError(
            f"{where}: [forecast] is empty; say how many steps are forecast, as horizon = 24, or "
            "leave the table out"
        )
    starts = document.get("start", [])
    if not isinstance(starts, list) or not all(isinstance(start, Mapping) for start in starts):
        raise _wrong(where, "start", starts, "a list of tables, [[start]]")
    _check_objective(document, where)


def _check_objective(document: Document, where: str) -> None:
    """Raise ConfigurationError where an objective of one's own is not all that is measured."""
    if "objective" not in document:
        extra = [name for name in _OBJECTIVE[1:] if name in document]
        if extra:
            raise ConfigurationError(
                f'{where}: "{extra[0]}" is for an objective of your own; name it, as '
                'objective = "module:function", or leave the key out'
            )
        return
    _text(document["objective"], "objective", where)
    if ":" not in document["objective"]:
        raise ConfigurationError(
            f'{where}: "objective" is "{document["objective"]}"; expected "module:function", and '
            'a loss or metric of a task is named as objectives = ["loss"]'
        )
    extra = [name for name in (*_TEXT_KEYS, *_DATA_TABLES) if document.get(name)]
    if extra:
        raise ConfigurationError(
            f'{where}: "objective" stands in place of a task, and "{extra[0]}" is there as well; '
            "keep one of them"
        )
    if "family" in document.get("model", {}):
        raise ConfigurationError(
            f'{where}: "objective" makes its own model, and model.family names one as well; '
            "keep one of them"
        )
    batched = document.get("objective_batched", False)
    if not isinstance(batched, bool):
        raise _wrong(where, "objective_batched", batched, "true or false")
    _texts(document.get("maximize", []), "maximize", where)


def _check_model(document: Document, where: str) -> None:
    model = document.get("model", {})
    family = model.get("family", "transformer")
    if family not in _FAMILIES and not (isinstance(family, str) and ":" in family):
        hint = nearest(str(family), _FAMILIES)
        raise ConfigurationError(
            f"{where}: model.family is {_show(family)}{hint}, or a factory of your own as "
            '"module:factory"'
        )
    if "family" in document.get("search", {}):
        raise ConfigurationError(
            f'{where}: "family" is in [search], and all particles are of one; fix it in [model]'
        )
    both = [name for name in document.get("search", {}) if name in model]
    if both:
        raise ConfigurationError(
            f'{where}: "{both[0]}" is fixed in [model] and varied in [search]; keep one of them'
        )


def _check_weights(document: Document, where: str) -> None:
    """Raise ConfigurationError where [weights] does not go with the rest of the file."""
    if "weights" not in document:
        return
    if not document["weights"]:
        raise ConfigurationError(
            f'{where}: [weights] is empty; say which matrices, as matrices = ["Wq", "Wk"], or '
            'mode = "weights" for all four'
        )
    table = read_weights(document["weights"], where)
    searched, settings = document.get("search", {}), ("joint", "hybrid")
    if searched and table.mode not in settings:
        raise ConfigurationError(
            f'{where}: weights.mode is "{table.mode}", which moves weights alone, and [search] '
            'varies settings; use mode = "joint", or fix them in [model]'
        )
    if not searched and table.mode == "joint":
        raise ConfigurationError(
            f'{where}: weights.mode is "joint", and [search] is empty; name a knob, or use '
            'mode = "weights"'
        )
    for name in _OUTER:
        if name in searched:
            raise ConfigurationError(
                f'{where}: "{name}" is in [search], and all particles of a search for weights '
                "share it; fix it in [model]"
            )
    if "objective" in document or ":" in document.get("model", {}).get("family", ""):
        raise ConfigurationError(
            f"{where}: [weights] needs a built-in transformer, and the model is your own code's; "
            "leave [weights] out"
        )
    if document.get("budget", {}).get("common_random_numbers") is False:
        raise ConfigurationError(
            f"{where}: budget.common_random_numbers is false, and in a search for weights all "
            "particles of a generation are scored on the same examples; leave it out"
        )


def _budget(table: Document, where: str) -> Budget:
    numbers = {
        name: _whole(table.get(name, getattr(Budget, name)), f"budget.{name}", where, high=largest)
        for name, largest in _LARGEST.items()
    }
    batch = _whole(table.get("batch", numbers["particles"]), "budget.batch", where)
    if batch > numbers["particles"]:
        raise ConfigurationError(
            f"{where}: budget.batch is {batch}, more than the swarm's {numbers['particles']} "
            "particles; lower it, or raise budget.particles"
        )
    common = table.get("common_random_numbers", True)
    if not isinstance(common, bool):
        raise _wrong(where, "budget.common_random_numbers", common, "true or false")
    return Budget(
        **numbers,
        batch=batch,
        rungs=_rungs(table.get("rungs", list(Budget.rungs)), where),
        common_random_numbers=common,
    )


def _rungs(value: Any, where: str) -> tuple[float, ...]:
    expected = "fractions of the steps, ascending, above 0 and at most 1, such as [0.25, 0.5, 1.0]"
    if not isinstance(value, list) or not all(_is_number(rung) for rung in value):
        raise _wrong(where, "budget.rungs", value, expected)
    rungs = [float(rung) for rung in value]
    if not all(0 < rung <= 1 for rung in rungs) or any(a >= b for a, b in pairwise(rungs)):
        raise _wrong(where, "budget.rungs", value, expected)
    return tuple(rungs) if rungs and rungs[-1] == 1 else (*rungs, 1.0)


def _objectives(value: Any, where: str) -> tuple[str, ...]:
    _texts(value, "objectives", where)
    if len(value) != 1:
        raise ConfigurationError(
            f"{where}: objectives has {len(value)} names; this version searches for exactly one, "
            'such as objectives = ["loss"]'
        )
    return tuple(value)


def _direction(value: Any, where: str) -> Direction | None:
    known: tuple[Direction, ...] = ("minimize", "maximize")
    if value is not None and value not in known:
        raise _wrong(where, "run.direction", value, '"minimize" or "maximize"')
    return next((direction for direction in known if direction == value), None)


def _expressions(table: Document, where: str) -> tuple[str, ...]:
    expressions = table.get("expressions", [])
    _texts(expressions, "constraints.expressions", where)
    return tuple(expressions)


def _known(table: Document, names: Sequence[str], prefix: str, where: str) -> None:
    for name in table:
        if name not in names:
            raise ConfigurationError(
                f'{where}: "{prefix}{name}" is not a key of a space file{nearest(name, names)}'
            )


def _whole(value: Any, name: str, where: str, low: int = 1, high: int = 2**63 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        is_large = _is_number(value) and value > high
        expected = f"from {low} to {high}" if is_large else f"of at least {low}"
        raise _wrong(where, name, value, f"a whole number {expected}")
    return value


def _text(value: Any, name: str, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, name, value, "text in quotes")


def _texts(value: Any, name: str, where: str) -> None:
    if not isinstance(value, list):
        raise _wrong(where, name, value, "a list of text")
    for item in value:
        _text(item, name, where)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(where: str, name: str, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f'{where}: "{name}" is {_show(value)}; expected {expected}')


_SHOWN: Mapping[type, Callable[[Any], str]] = {
    bool: lambda value: str(value).lower(),
    str: lambda value: f'"{value}"',
    dict: lambda value: "a table",
}


def _show(value: Any) -> str:
    return _SHOWN.get(type(value), str)(value)
