"""From a configuration to the parts of a search: task, space, sampler, evaluator, device.

The one place that knows every part by name; third parties' come in as "module:Name".
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pso_attn.config import Configuration
from pso_attn.configured_space import make_bare_space, make_space, naming
from pso_attn.errors import ConfigurationError, PsoAttnError, nearest
from pso_attn.imports import call, check_call, load_function, refuse_imports
from pso_attn.parts import Parts
from pso_attn.samplers import check_sampler, make_sampler
from pso_attn.seeding import generator
from pso_attn.space import FITNESS, Space
from pso_attn.types import Objective
from pso_attn.weight_search import WeightSearch

if TYPE_CHECKING:  # what loads torch would slow down --help
    from pso_attn.evaluate import OwnFactory

OWN_TRIED = 4  # settings for which a factory is asked before it is given up
_TASK_NAMES = (
    *("name", "info", "metrics", "train", "validation", "test", "fingerprint"),
    *("describe", "preprocessing", "loss", "score", "baselines"),
)


def assemble(
    configuration: Configuration,
    allow_import: bool = True,
    function: Callable[..., Any] | None = None,
) -> Parts:
    """Return the parts that a configuration names, data read and space checked.

    function: the objective of one's own, where it is at hand.
    The configuration in them has the data's fingerprint and the objective's direction.
    Everything that a person can get wrong is found here, before any training. Raises
    ConfigurationError, and DataError for data that is missing or cannot work.
    """
    if not allow_import:
        refuse_imports(configuration)
    if configuration.objective is not None:
        return _own_parts(configuration, function)
    with naming(configuration.source):
        task = make_task(configuration)
        sampler = make_sampler(configuration)
    objectives = tuple(_objective(name, task, configuration) for name in configuration.objectives)
    table = configuration.weight_table
    if table is not None and table.fitness is not None:
        objectives = (Objective(FITNESS, "maximize" if table.maximize else "minimize"),)
    factory = make_factory(configuration, task)
    notes = () if factory is None else _check_factory(factory, configuration)
    space = make_space(configuration, task, factory)
    if factory is None:
        from pso_attn.reach import check_reach  # loads torch, which --help does without

        notes = check_reach(space, task, configuration.model, configuration.source)
    _check_precision(space, configuration)
    space, weights = replace(space, notes=(*space.notes, *notes)), None
    found: dict[str, Any] = {"direction": objectives[0].direction}
    if configuration.weights:
        weights = WeightSearch.of(configuration, task, space)
        space = weights.space(space)
        found["weight_coordinates"] = space.weights
    with naming(configuration.source):
        check_sampler(sampler, space)
    parts = Parts(configuration, task, space, objectives, factory=factory, weights=weights)
    found["fingerprint"] = parts.fingerprint
    return replace(parts, configuration=replace(configuration, **found))


def make_factory(configuration: Configuration, task: Any) -> "OwnFactory | None":
    """Return the factory of one's own that the configuration names, None for a built-in family."""
    from pso_attn.evaluate import OwnFactory

    name, key = configuration.family, "model.family"
    if key not in configuration.own_code:
        return None
    with naming(configuration.source):
        function = load_function(name, key, configuration.code)
        check_call(function, name, "settings, task_info", 2)
    return OwnFactory(function, name, task)


def make_task(configuration: Configuration) -> Any:
    """Return the task, built in or "module:Class", with its data read."""
    options = configuration.task_options
    if ":" in configuration.task:
        made = load_function(configuration.task, "task", configuration.code)
        task = _made(made, configuration.task, options)
        missing = [name for name in _TASK_NAMES if not hasattr(task, name)]
        if missing:
            raise ConfigurationError(
                f'task = "{configuration.task}" has no "{missing[0]}"; see pso_attn.tasks.Task'
            )
        return task
    from pso_attn import tasks

    return tasks.make_task(configuration.task, **options)


def _made(made: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Return what a class of a user's own makes; whatever it raises is one sentence."""
    from pso_attn.evaluate.own_code import why

    try:
        with redirect_stdout(sys.stderr):
            return call(made, name, options)
    except PsoAttnError:
        raise
    except (Exception, SystemExit) as error:  # a user's class may raise anything
        raise ConfigurationError(why(name, error)) from error


def _check_factory(factory: "OwnFactory", configuration: Configuration) -> tuple[str, ...]:
    """Return what a person should hear of a factory; ConfigurationError where it works nowhere.

    A few settings are made, for each may take long, and before a constraint asks for many.
    """
    space, rng = make_bare_space(configuration), generator(0, "reach")
    others = rng.random((OWN_TRIED - 1, space.dimension))
    refusals = []
    for position in (space.starts[0], *others):
        settings = space.settings(space.decode(position))
        try:
            factory.cost(settings)
        except ConfigurationError as error:
            refusals.append(str(error))
        else:
            with naming(configuration.source):
                factory.make(settings, 0)  # a second one, which may share what it should not
            return (f"the defaults cannot be trained: {refusals[0]}",) if refusals else ()
    raise ConfigurationError(f"{configuration.source}: {refusals[0]}")


def _own_parts(configuration: Configuration, function: Callable[..., Any] | None) -> Parts:
    """Return the parts of a search whose objective is somebody's own function."""
    assert configuration.objective is not None
    with naming(configuration.source):
        if function is None:
            function = load_function(configuration.objective, "objective", configuration.code)
        check_call(function, configuration.objective, "settings, trial", 2)
        sampler = make_sampler(configuration)
    objectives = own_objectives(configuration)
    space = make_space(configuration, None)
    with naming(configuration.source):
        check_sampler(sampler, space)
    found = replace(configuration, direction=objectives[0].direction)
    return Parts(found, None, space, objectives, function)


def own_objectives(configuration: Configuration) -> tuple[Objective, ...]:
    """Return the objectives of one's own, with the directions that the file declares."""
    return tuple(
        Objective(name, "maximize" if name in configuration.maximize else "minimize")
        for name in configuration.objectives
    )


def _check_precision(space: Space, configuration: Configuration) -> None:
    """Raise DeviceError for a precision, fixed or searched, that a device named by now has not."""
    if configuration.device == "auto":
        return
    import torch

    from pso_attn.evaluate.precision import check_precision

    default = space.settings(space.decode(space.starts[0]))
    named = {default.get("precision", "float32")}
    for coordinate in space.coordinates:
        if coordinate.path[0] == "precision":
            named |= set(coordinate.scale.values)
    for precision in sorted(named):
        check_precision(precision, torch.device(configuration.device))


def _objective(name: str, task: Any, configuration: Configuration) -> Objective:
    if name not in task.metrics:
        raise ConfigurationError(
            f'{configuration.source}: objectives has "{name}", which task '
            f'"{configuration.task}" does not measure{nearest(name, task.metrics)}'
        )
    return Objective(name, task.metrics[name])
