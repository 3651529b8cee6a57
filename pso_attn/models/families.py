"""The families of models: what each gives, so that a search can train it. One more is a line."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pso_attn.attention import KNOBS as ATTENTION_KNOBS
from pso_attn.attention.states import KNOBS as STATE_KNOBS
from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm.settings import KNOBS as LSTM_KNOBS
from pso_attn.models.lstm.settings import RECURRENCE, lstm_cost, lstm_defaults, read_lstm
from pso_attn.models.lstm.swarm_lstm import SwarmLstm
from pso_attn.models.parameters import Parameter
from pso_attn.models.settings import KNOBS as TRANSFORMER_KNOBS
from pso_attn.models.settings import read_transformer, transformer_cost, transformer_defaults
from pso_attn.models.swarm import ModelSettings, Swarm
from pso_attn.models.swarm_transformer import SwarmTransformer
from pso_attn.space.knob import Knob


@dataclass(frozen=True)
class Family:
    """One kind of model.

    read: a particle's settings, typed, or ConfigurationError. cost: (typed settings, task, batch)
    -> `parameters`, `flops`, `memory_bytes`. defaults: (typed settings, task) -> the values of
    knobs that follow from others. swarm: the batched form, which names the plain one. ways: the
    knob that says who computes, where there are several who agree up to rounding.
    """

    knobs: tuple[Knob, ...]
    read: Callable[[Mapping[str, Any], TaskInfo], ModelSettings]
    cost: Callable[[Any, TaskInfo, int], dict[str, int]]
    defaults: Callable[[Any, TaskInfo], dict[str, Any]]
    swarm: type[Swarm]
    ways: Knob | None = None


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "transformer": Family(
            (*TRANSFORMER_KNOBS, *ATTENTION_KNOBS),
            read_transformer,
            transformer_cost,
            transformer_defaults,
            SwarmTransformer,
        ),
        "lstm": Family(
            (*LSTM_KNOBS, *STATE_KNOBS),
            read_lstm,
            lstm_cost,
            lstm_defaults,
            SwarmLstm,
            ways=RECURRENCE,
        ),
    }
)
DEFAULT_FAMILY = "transformer"
FAMILY_KNOB = Knob(
    "family",
    "categorical",
    "the kind of model, the same for all particles; it decides which other knobs there are",
    choices=tuple(FAMILIES),
    default=DEFAULT_FAMILY,
)


def family_of(settings: Mapping[str, Any]) -> Family:
    """Return the family that a particle's settings name."""
    return FAMILIES[settings.get("family", DEFAULT_FAMILY)]


def read_model(settings: Mapping[str, Any], info: TaskInfo) -> ModelSettings:
    """Return a particle's typed settings; ConfigurationError where they cannot work."""
    return family_of(settings).read(settings, info)


def model_cost(model: ModelSettings, info: TaskInfo, batch: int) -> dict[str, int]:
    """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training."""
    return FAMILIES[model.family].cost(model, info, batch)


def swarm_type(model: ModelSettings) -> type[Swarm]:
    """Return the batched form of a particle's family."""
    return FAMILIES[model.family].swarm


def parameters_of(model: ModelSettings, info: TaskInfo) -> Iterable[Parameter]:
    """Yield the parameters of one particle in the order of storage."""
    return swarm_type(model).parameters_of(model, info)
