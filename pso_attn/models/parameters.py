"""Which parameters a transformer of given settings has, and with what they start.

Weights are stored (in, out), so that a batch of particles multiplies with one `bmm`. Blocks have
no biases and their norms no gains: both would be absorbed by the linear map that follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pso_attn.models.info import TaskInfo
from pso_attn.models.settings import TransformerSettings
from pso_attn.seeding import generator


@dataclass(frozen=True)
class Parameter:
    """One parameter of one particle.

    shape: as stored. true: the parts of the stand-alone model, name -> columns of the last axis
    that it owns; columns that nobody owns stay zero. std, mean: of the normal start; a mean is one
    number for each entry, or for each of the last axis, or for all.
    """

    name: str
    shape: tuple[int, ...]
    std: float
    true: tuple[tuple[str, int, int], ...]
    mean: tuple[float, ...] = (0.0,)


def parameters_of(settings: TransformerSettings, info: TaskInfo) -> Iterator[Parameter]:
    """Yield the parameters in the order of storage."""
    for parameter in _unscaled(settings, info):
        yield replace(parameter, std=parameter.std * settings.start_scale)


def _unscaled(settings: TransformerSettings, info: TaskInfo) -> Iterator[Parameter]:
    c = settings.d_model
    inputs = info.tokens if info.tokens is not None else info.features or 0
    embedding_std = c**-0.5 if info.tokens is not None else inputs**-0.5
    yield whole("embedding", (inputs, c), embedding_std)
    if settings.positions == "learned":
        yield whole("positions", (info.length, c), c**-0.5)
    residual = (2 * settings.layers) ** -0.5  # GPT-2: keeps the residual stream's variance
    for index, layer in enumerate(settings.attention):
        prefix = f"blocks.{index}"
        inner, kv_dim = layer.inner_dim, layer.kv_heads * layer.head_dim
        yield Parameter(
            f"{prefix}.attention.qkv",
            (c, 3 * inner),
            c**-0.5,
            (
                (f"{prefix}.attention.query", 0, inner),
                (f"{prefix}.attention.key", inner, inner + kv_dim),
                (f"{prefix}.attention.value", 2 * inner, 2 * inner + kv_dim),
            ),
        )
        for own in layer.learned(info.length, c):
            name = f"{prefix}.attention.{own.name}"
            yield replace(whole(name, own.shape, own.std), mean=own.mean)
        yield whole(f"{prefix}.attention.output", (inner, c), inner**-0.5 * residual)
        yield whole(f"{prefix}.expand", (c, settings.feedforward), c**-0.5)
        contract_std = settings.feedforward**-0.5 * residual
        yield whole(f"{prefix}.contract", (settings.feedforward, c), contract_std)
    yield whole("head", (c, info.outputs), 0.02)
    yield whole("head_bias", (info.outputs,), 0.0)


def start(parameter: Parameter, seed: int) -> NDArray[np.float64]:
    """Return the parameter's start for one training seed, drawn for each true part by name."""
    values = np.zeros(parameter.shape)
    if any(parameter.mean):
        whole = len(parameter.mean) == values.size
        values += np.reshape(parameter.mean, parameter.shape if whole else -1)
    if parameter.std:
        for name, first, last in parameter.true:
            rng = generator(seed, "start", name)
            shape = (*parameter.shape[:-1], last - first)
            values[..., first:last] += parameter.std * rng.standard_normal(shape)
    return values


def whole(name: str, shape: tuple[int, ...], std: float) -> Parameter:
    """Return a parameter that is stored as the stand-alone model has it, under the same name."""
    return Parameter(name, shape, std, ((name, 0, shape[-1]),))
