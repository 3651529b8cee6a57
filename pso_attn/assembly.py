"""From a configuration to the parts of a search: task, space, sampler, evaluator, device.

The one place that knows every part by name; third parties' come in as "module:Name".
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pso_attn.config import Configuration
from pso_attn.errors import ConfigurationError, PsoAttnError, nearest
from pso_attn.imports import load_function, refuse_imports
from pso_attn.seeding import generator
from pso_attn.space import Knob, Space, own_knobs, read_space
from pso_attn.types import Evaluator, Generation, Objective, Sampler, Settings

if TYPE_CHECKING:  # what loads torch would slow down --help
    from pso_attn.evaluate import LongTraining, OwnFactory, OwnObjective, Scored

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
OWN_TRIED = 4  # settings for which a factory is asked before it is given up
OWN_KNOBS = {"objective", "model.family"}  # whose code reads keys that only the file declares
_TASK_NAMES = (
    *("name", "info", "metrics", "train", "validation", "test", "fingerprint"),
    *("describe", "preprocessing", "loss", "score", "baselines"),
)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a search is made of.

    task: a `pso_attn.tasks.Task`, its data read; None where `function`, an objective of one's
    own, stands in its place. factory: of modules of one's own, in place of built-in ones.
    """

    configuration: Configuration
    task: Any
    space: Space
    objectives: tuple[Objective, ...]
    function: Callable[..., Any] | None = None
    factory: "OwnFactory | None" = None

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the data; None for an objective of one's own, whose data nobody sees."""
        return None if self.task is None else str(self.task.fingerprint)

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
        checkpoints: Path | None = None,
    ) -> Evaluator:
        """Return the evaluator on the configuration's device; DeviceError if it is absent.

        checkpoints: the run's folder of models, for what trials of one's own keep.
        """
        from pso_attn.evaluate import (
            ModuleEvaluator,
            ObjectiveEvaluator,
            SwarmEvaluator,
            resolve_device,
        )

        if self.function is not None:
            return ObjectiveEvaluator(
                self.space,
                self.own_objective(),
                self.objectives,
                self.configuration.budget,
                self.configuration.seed,
                checkpoints,
                on_progress,
            )
        kind: Any = SwarmEvaluator if self.factory is None else ModuleEvaluator
        evaluator: Evaluator = kind(
            self.space,
            self.task if self.factory is None else self.factory,
            self.objectives,
            self.configuration.budget,
            self.configuration.seed,
            resolve_device(self.configuration.device),
            on_progress=on_progress,
            on_best=on_best,
            on_forecast=on_forecast,
        )
        return evaluator

    def own_objective(self) -> "OwnObjective":
        """Return the objective of one's own, on the configuration's device."""
        from pso_attn.evaluate import OwnObjective, resolve_device

        assert self.function is not None
        assert self.configuration.objective is not None
        device = resolve_device(self.configuration.device)
        batched = self.configuration.objective_batched
        return OwnObjective(self.function, self.configuration.objective, batched, device)

    def rehearsed(self, generation: Generation) -> dict[str, Any]:
        """Return what a search will take, from some training of its first generation."""
        from pso_attn.evaluate import (
            rehearse,
            rehearse_modules,
            rehearse_objective,
            resolve_device,
        )

        budget = self.configuration.budget
        if self.function is not None:
            objective = self.objectives[0]
            return rehearse_objective(self.own_objective(), generation, budget, objective)
        device = resolve_device(self.configuration.device)
        if self.factory is not None:
            return rehearse_modules(self.factory, generation, budget, device)
        return rehearse(generation, self.task, budget, device)

    def refusal(self, settings: Settings) -> str | None:
        """Return why settings cannot be trained, in one sentence, or None."""
        from pso_attn.reach import why_refused

        if self.factory is None:
            return why_refused(settings, self.task)
        try:
            self.factory.cost(settings)
        except ConfigurationError as error:
            return str(error)
        return None

    def training(self, settings: Settings, seed: int, steps: int, device: str) -> "LongTraining":
        """Return one training by itself, not begun."""
        import torch

        from pso_attn.evaluate import ModuleMember, ModuleTraining, SwarmTraining, read_member

        if self.factory is not None:
            member = ModuleMember.of(settings, seed)
            return ModuleTraining(self.factory, [member], steps, torch.device(device))
        members = [read_member(settings, seed, self.task)]
        return SwarmTraining(self.task, members, steps, torch.device(device))

    def scored(
        self,
        settings: Sequence[Settings],
        seeds: Sequence[int],
        split: str,
        report: Callable[[int, int], None] | None = None,
    ) -> "list[Scored]":
        """Return each (settings, seed) pair's training at full length, scored on a split."""
        from pso_attn.evaluate import resolve_device, score_objective, train_modules, train_swarm

        budget = self.configuration.budget
        if self.function is not None:
            function, objective = self.own_objective(), self.objectives[0]
            return score_objective(function, settings, seeds, budget, objective, split, report)
        device = resolve_device(self.configuration.device)
        if self.factory is not None:
            own = self.factory
            return train_modules(own, settings, seeds, budget.steps, device, split, report)
        return train_swarm(self.task, settings, seeds, budget.steps, device, split, report)


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
    with _naming(configuration.source):
        task = make_task(configuration)
        make_sampler(configuration)
    objectives = tuple(_objective(name, task, configuration) for name in configuration.objectives)
    from pso_attn.reach import check_reach

    factory = make_factory(configuration, task)
    notes = () if factory is None else _check_factory(factory, configuration)
    space = make_space(configuration, task, factory)
    if factory is None:
        notes = check_reach(space, task, configuration.model, configuration.source)
    _check_precision(space, configuration)
    space = replace(space, notes=(*space.notes, *notes))
    found = {"fingerprint": task.fingerprint, "direction": objectives[0].direction}
    return Parts(replace(configuration, **found), task, space, objectives, factory=factory)


def declared_knobs(configuration: Configuration | None = None) -> dict[str, Knob]:
    """Return every knob that a space file may name, by name: the model's, then the training's.

    Without a configuration those of the transformer. What an objective or a factory of one's own
    reads, nobody but the file declares.
    """
    from pso_attn.evaluate import TRAINING_KNOBS
    from pso_attn.models import DEFAULT_FAMILY, FAMILIES, FAMILY_KNOB

    if configuration is not None and OWN_KNOBS & configuration.own_code.keys():
        declared = {} if configuration.objective is not None else TRAINING_KNOBS
        search, fixed = configuration.search, configuration.fixed
        return {**own_knobs(search, fixed, declared, configuration.source), **declared}
    family = DEFAULT_FAMILY if configuration is None else configuration.family
    own = (FAMILY_KNOB, *FAMILIES[family].knobs)
    return {**{knob.name: knob for knob in own}, **TRAINING_KNOBS}


def make_space(
    configuration: Configuration, task: Any, factory: "OwnFactory | None" = None
) -> Space:
    """Return the space of a configuration; what expressions derive is as on this task.

    Nothing is derived of an objective of one's own, which has no task.
    """
    if task is None:
        return _read(configuration, None)
    if factory is None:
        return _read(configuration, partial(_derived, task))

    def derive(settings: Settings) -> Mapping[str, Any]:
        with _naming(configuration.source):
            return factory.cost(settings)

    return _read(configuration, derive)


def make_factory(configuration: Configuration, task: Any) -> "OwnFactory | None":
    """Return the factory of one's own that the configuration names, None for a built-in family."""
    from pso_attn.evaluate import OwnFactory

    name, key = configuration.family, "model.family"
    if key not in configuration.own_code:
        return None
    with _naming(configuration.source):
        function = load_function(name, key, configuration.code)
        _check_call(function, name, "settings, task_info", 2)
    return OwnFactory(function, name, task)


def make_bare_space(configuration: Configuration) -> Space:
    """Return the space without constraints and starts: enough to read what is stored.

    It needs no task, so a run can be shown when its data are gone.
    """
    return _read(replace(configuration, constraints=(), starts=()), None)


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
            return _call(made, name, options)
    except PsoAttnError:
        raise
    except Exception as error:  # a user's class may raise anything
        raise ConfigurationError(why(name, error)) from error


def make_sampler(configuration: Configuration) -> Sampler:
    """Return the sampler, a name in `SAMPLERS` or "module:Class".

    It gets the original budget of generations, so that a longer resume changes no schedule.
    """
    name = configuration.sampler
    if ":" not in name and name not in SAMPLERS:
        raise ConfigurationError(f'"{name}" is not a sampler{nearest(name, SAMPLERS)}')
    made = load_function(SAMPLERS.get(name, name), "sampler", configuration.code)
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


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the space file's name before what is wrong with the task or the sampler it names."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


def _check_factory(factory: "OwnFactory", configuration: Configuration) -> tuple[str, ...]:
    """Return what a person should hear of a factory; ConfigurationError where it works nowhere.

    A few settings are made, for each may take long, and before a constraint asks for many.
    """
    space, rng = make_bare_space(configuration), generator(0, "reach")
    others = rng.random((OWN_TRIED - 1, space.dimension))
    refusals = []
    for position in (space.starts[0], *others):
        try:
            factory.cost(space.settings(space.decode(position)))
        except ConfigurationError as error:
            refusals.append(str(error))
        else:
            return (f"the defaults cannot be trained: {refusals[0]}",) if refusals else ()
    raise ConfigurationError(f"{configuration.source}: {refusals[0]}")


def _own_parts(configuration: Configuration, function: Callable[..., Any] | None) -> Parts:
    """Return the parts of a search whose objective is somebody's own function."""
    assert configuration.objective is not None
    with _naming(configuration.source):
        if function is None:
            function = load_function(configuration.objective, "objective", configuration.code)
        _check_call(function, configuration.objective, "settings, trial", 2)
        make_sampler(configuration)
    objectives = own_objectives(configuration)
    space = make_space(configuration, None)
    found = replace(configuration, direction=objectives[0].direction)
    return Parts(found, None, space, objectives, function)


def own_objectives(configuration: Configuration) -> tuple[Objective, ...]:
    """Return the objectives of one's own, with the directions that the file declares."""
    return tuple(
        Objective(name, "maximize" if name in configuration.maximize else "minimize")
        for name in configuration.objectives
    )


def _check_call(function: Callable[..., Any], name: str, arguments: str, count: int) -> None:
    """Raise ConfigurationError for a function that cannot be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as error:
        raise ConfigurationError(
            f'"{name}" cannot be called with ({arguments}): {error}'
        ) from error
    except ValueError:  # of a builtin, whose signature nobody knows
        return


def _read(
    configuration: Configuration, derive: Callable[[Settings], Mapping[str, Any]] | None
) -> Space:
    knobs = declared_knobs(configuration)
    if not OWN_KNOBS & configuration.own_code.keys():
        _check_family(configuration, knobs)
    return read_space(
        search=configuration.search,
        fixed=configuration.fixed,
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
        bound = partial(made, **arguments)
        inspect.signature(made).bind(**arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(arguments) or "no arguments"
        raise ConfigurationError(f'"{name}" cannot be called with {given}: {error}') from error
    return bound()
