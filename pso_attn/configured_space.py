"""From a configuration to its space: which knobs there are, and what expressions derive."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pso_attn.config import Configuration
from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob, Space, own_knobs, read_space
from pso_attn.types import Settings

if TYPE_CHECKING:  # what loads torch would slow down --help
    from pso_attn.evaluate import OwnFactory

OWN_KNOBS = {"objective", "model.family"}  # whose code reads keys that only the file declares


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
        return _read(configuration, partial(derived, task))

    def derive(settings: Settings) -> Mapping[str, Any]:
        with naming(configuration.source):
            return factory.cost(settings)

    return _read(configuration, derive)


def make_bare_space(configuration: Configuration, has_starts: bool = False) -> Space:
    """Return the space without constraints and starts: enough to read what is stored.

    It needs no task, so a run can be shown when its data are gone. has_starts: with starts.
    """
    starts = configuration.starts if has_starts else ()
    space = _read(replace(configuration, constraints=(), starts=starts), None)
    return replace(space, weights=configuration.weight_coordinates or 0)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the space file's name before what is wrong with what it names."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


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
        is_empty_meant=bool(configuration.weights),
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


def derived(task: Any, settings: Settings) -> dict[str, Any]:
    """Return what a training costs, and the values of knobs that follow from others."""
    from pso_attn.evaluate import cost
    from pso_attn.models import family_of, read_model

    defaults = family_of(settings).defaults(read_model(settings, task.info), task.info)
    return {**cost(settings, task.info), **defaults}
