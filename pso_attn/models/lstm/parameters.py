"""Which parameters an LSTM with attention over its states has, and with what they start.

Weights are stored (in, out) as all are; those of both directions lie side by side.
"""

from collections.abc import Iterator
from dataclasses import replace

from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm.settings import GATES, LstmSettings
from pso_attn.models.parameters import Parameter, whole


def lstm_parameters(settings: LstmSettings, info: TaskInfo) -> Iterator[Parameter]:
    """Yield the parameters in the order of storage."""
    for parameter in _unscaled(settings, info):
        yield replace(parameter, std=parameter.std * settings.start_scale)


def _unscaled(settings: LstmSettings, info: TaskInfo) -> Iterator[Parameter]:
    h = settings.hidden
    if info.tokens is not None:
        yield whole("embedding", (info.tokens, h), h**-0.5)
    # Jozefowicz et al. 2015: a forget gate that starts open
    remembering = settings.directions * (*(0.0,) * h, *(1.0,) * h, *(0.0,) * 2 * h)
    for layer in range(settings.layers):
        inputs = settings.inputs(layer, info)
        yield _sides(settings, f"encoder.{layer}.weight_ih_l0", (inputs,), inputs**-0.5)
        yield _sides(settings, f"encoder.{layer}.weight_hh_l0", (h,), h**-0.5)
        bias = _sides(settings, f"encoder.{layer}.bias_ih_l0", (), 0.0)
        yield replace(bias, mean=remembering)
        yield _sides(settings, f"encoder.{layer}.bias_hh_l0", (), 0.0)
    if settings.horizon:
        d, inputs = settings.width, settings.inputs(0, info)
        yield whole("bridge", (d, d), d**-0.5)
        yield whole("decoder.weight_ih_l0", (inputs, GATES * d), inputs**-0.5)
        yield whole("decoder.weight_hh_l0", (d, GATES * d), d**-0.5)
        opened = (*(0.0,) * d, *(1.0,) * d, *(0.0,) * 2 * d)
        yield replace(whole("decoder.bias_ih_l0", (GATES * d,), 0.0), mean=opened)
        yield whole("decoder.bias_hh_l0", (GATES * d,), 0.0)
    for own in settings.attention.learned(settings.asked(info), settings.asking[0]):
        name = f"attention.{own.name}"
        is_gate = own.name.startswith("sentinel_") and own.name != "sentinel_map"
        if is_gate and not settings.horizon:
            yield _sides(settings, name, own.shape[:1], own.std, gates=1)
        else:
            yield replace(whole(name, own.shape, own.std), mean=own.mean)
    yield whole("head", (settings.read, info.outputs), 0.02)
    yield whole("head_bias", (info.outputs,), 0.0)


def _sides(
    settings: LstmSettings, name: str, rows: tuple[int, ...], std: float, gates: int = GATES
) -> Parameter:
    """Return one parameter with a part for each direction."""
    width = gates * settings.hidden
    names = (name, f"{name}_reverse")[: settings.directions]
    parts = tuple((own, k * width, (k + 1) * width) for k, own in enumerate(names))
    return Parameter(name, (*rows, settings.directions * width), std, parts)
