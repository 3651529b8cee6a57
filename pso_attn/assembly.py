"""From a configuration to the parts of a search: task, space, sampler, evaluator, device.

The one place that knows every part by name; third parties' come in as "module:Name".
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from pso_attn.config import Configuration
from pso_attn.errors import ConfigurationError, nearest
from pso_attn.space import Knob, Space, read_space
from pso_attn.types import Evaluator, Objective, Sampler, Settings

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "pso": "pso_attn.swarm:ScreenedSwarm",
        "pso-classic": "pso_attn.swarm:ClassicSwarm",
        "pso-spso2011": "pso_attn.swarm:Spso2011Swarm",
        "pso-bare-bones": "pso_attn.swarm:BareBonesSwarm",
        "pso-clpso": "pso_attn.swarm:ClpsoSwarm",
        "tpe": "pso_attn.baselines:TreeParzen",
        "gp": "pso_attn.baselines:GaussianProcess",
        "cmaes": "pso_attn.baselines:CovarianceAdaptation",
        "nsga2": "pso_attn.baselines:Genetic",
        "pyswarms": "pso_attn.baselines:PySwarms",
        "random": "pso_attn.baselines:RandomSearch",
        "qmc": "pso_attn.baselines:QuasiMonteCarlo",
    }
)
_TASK_NAMES = (
    *("name", "info", "metrics", "train", "validation", "test", "fingerprint"),
    *("describe", "preprocessing", "loss", "score", "baselines"),
)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a search is made of. task: a `pso_attn.tasks.Task`, its data read."""

    configuration: Configuration
    task: Any
    space: Space
    objectives: tuple[Objective, ...]

    def with_model(self, more: Mapping[str, Any]) -> "Parts":
        """Return the parts with these knobs fixed beside those that [model] fixes."""
        model = {**self.configuration.model, **more}
        configuration = replace(self.configuration, model=model)
        space = replace(make_space(configuration, self.task), notes=self.space.notes)
        return replace(self, configuration=configuration, space=space)

    def sampler(self) -> Sampler:
        """Return the sampler, as the first invocation made it."""
        return make_sampler(self.configuration)

    def evaluator(
        self,
        on_progress: Callable[[Any], None] | None = None,
        on_best: Callable[..., None] | None = None,
        on_forecast: Callable[[Any], None] | None = None,
    ) -> Evaluator:
        """Return the evaluator on the configuration's device; DeviceError if it is absent."""
        from pso_attn.evaluate import SwarmEvaluator, resolve_device

        return SwarmEvaluator(
            self.space,
            self.task,
            self.objectives,
            self.configuration.budget,
            self.configuration.seed,
            resolve_device(self.configuration.device),
            on_progress=on_progress,
            on_best=on_best,
            on_forecast=on_forecast,
        )


def assemble(configuration: Configuration, allow_import: bool = True) -> Parts:
    """Return the parts that a configuration names, data read and space checked.

    The configuration in them has the data's fingerprint and the objective's direction.
    Everything that a person can get wrong is found here, before any training. Raises
    ConfigurationError, and DataError for data that is missing or cannot work.
    """
    if not allow_import:
        refuse_imports(configuration)
    with _naming(configuration.source):
        task = make_task(configuration)
        make_sampler(configuration)
    objectives = tuple(_objective(name, task, configuration) for name in configuration.objectives)
    from pso_attn.reach import check_reach

    space = make_space(configuration, task)
    notes = check_reach(space, task, configuration.model, configuration.source)
    _check_precision(space, configuration)
    space = replace(space, notes=(*space.notes, *notes))
    found = {"fingerprint": task.fingerprint, "direction": objectives[0].direction}
    return Parts(replace(configuration, **found), task, space, objectives)


def declared_knobs(family: str | None = None) -> dict[str, Knob]:
    """Return every knob that a space file of a family may name, by name.

    The family's own come first, then the training's. family: by default the transformer.
    """
    from pso_attn.evaluate import TRAINING_KNOBS
    from pso_attn.models import DEFAULT_FAMILY, FAMILIES, FAMILY_KNOB

    own = (FAMILY_KNOB, *FAMILIES[family or DEFAULT_FAMILY].knobs)
    return {**{knob.name: knob for knob in own}, **TRAINING_KNOBS}


def make_space(configuration: Configuration, task: Any) -> Space:
    """Return the space of a configuration; what expressions derive is as on this task."""
    return _read(configuration, partial(_derived, task))


def make_bare_space(configuration: Configuration) -> Space:
    """Return the space without constraints and starts: enough to read what is stored.

    It needs no task, so a run can be shown when its data are gone.
    """
    return _read(replace(configuration, constraints=(), starts=()), None)


def make_task(configuration: Configuration) -> Any:
    """Return the task, built in or "module:Class", with its data read."""
    options = configuration.task_options
    if ":" in configuration.task:
        task = _call(load_name(configuration.task, "task"), configuration.task, options)
        missing = [name for name in _TASK_NAMES if not hasattr(task, name)]
        if missing:
            raise ConfigurationError(
                f'task = "{configuration.task}" has no "{missing[0]}"; see pso_attn.tasks.Task'
            )
        return task
    from pso_attn import tasks

    return tasks.make_task(configuration.task, **options)


def make_sampler(configuration: Configuration) -> Sampler:
    """Return the sampler, a name in `SAMPLERS` or "module:Class".

    It gets the original budget of generations, so that a longer resume changes no schedule.
    """
    name = configuration.sampler
    if ":" not in name and name not in SAMPLERS:
        raise ConfigurationError(f'"{name}" is not a sampler{nearest(name, SAMPLERS)}')
    made = load_name(SAMPLERS.get(name, name), "sampler")
    arguments = {
        "seed": configuration.seed,
        "particles": configuration.budget.particles,
        "batch": configuration.budget.batch,
        "generations": configuration.planned_generations,
        "options": dict(configuration.swarm),
    }
    sampler = _call(made, name, arguments)
    if not callable(getattr(sampler, "propose", None)):
        raise ConfigurationError(f"sampler {name} has no method propose(space, history)")
    return sampler  # type: ignore[no-any-return]  # checked above, as far as a protocol can be


def load_name(reference: str, what: str) -> Any:
    """Return what "module:Name" refers to; modules in the current folder are found as well.

    Raises ConfigurationError where it does not import or has no such name.
    """
    module, _, name = reference.partition(":")
    if not module or not name.isidentifier():
        raise ConfigurationError(f'{what} = "{reference}" is not of the form "module:Name"')
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything while it loads
        raise ConfigurationError(
            f'{what} = "{reference}": importing {module} failed with '
            f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(imported, name):
        public = [known for known in vars(imported) if not known.startswith("_")]
        raise ConfigurationError(
            f'{what} = "{reference}": {module} has no {name}{nearest(name, public)}'
        )
    return getattr(imported, name)


def refuse_imports(configuration: Configuration) -> None:
    """Raise ConfigurationError if the configuration names anything as "module:Name"."""
    for what, name in (("task", configuration.task), ("sampler", configuration.sampler)):
        if ":" in name:
            raise ConfigurationError(
                f'{what} = "{name}" would import code, which --no-import refuses; '
                "leave out the flag if you trust it"
            )


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the space file's name before what is wrong with the task or the sampler it names."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


def _read(
    configuration: Configuration, derive: Callable[[Settings], Mapping[str, Any]] | None
) -> Space:
    knobs = declared_knobs(configuration.family)
    _check_family(configuration, knobs)
    return read_space(
        search=configuration.search,
        fixed=configuration.model,
        knobs=knobs,
        constraints=configuration.constraints,
        starts=configuration.starts,
        derive=derive,
        where=configuration.source,
    )


def _check_family(configuration: Configuration, own: Mapping[str, Knob]) -> None:
    """Raise ConfigurationError for a knob of another family than the file's."""
    from pso_attn.models import FAMILIES

    for table in ("model", "search"):
        for name in getattr(configuration, table):
            others = [
                f for f, family in FAMILIES.items() if name in {k.name for k in family.knobs}
            ]
            if name not in own and others:
                raise ConfigurationError(
                    f'{configuration.source}: {table}.{name} is a knob of family "{others[0]}", '
                    f'and this file\'s family is "{configuration.family}"; leave it out, or set '
                    f'model.family = "{others[0]}"'
                )


def _derived(task: Any, settings: Settings) -> dict[str, Any]:
    """Return what a training costs, and the values of knobs that follow from others."""
    from pso_attn.evaluate import cost
    from pso_attn.models import family_of, read_model

    defaults = family_of(settings).defaults(read_model(settings, task.info), task.info)
    return {**cost(settings, task.info), **defaults}


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


def _call(made: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a third party's class; a mismatch of its arguments is a sentence."""
    try:
        import inspect

        bound = partial(made, **arguments)
        inspect.signature(made).bind(**arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(arguments) or "no arguments"
        raise ConfigurationError(f'"{name}" cannot be called with {given}: {error}') from error
    return bound()
