"""An LSTM's settings with attention over its states, read and checked; and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from pso_attn.attention.states import StateAttention, read_attention
from pso_attn.errors import ConfigurationError
from pso_attn.models.footprint import footprint
from pso_attn.models.info import TaskInfo
from pso_attn.space.knob import Knob

GATES = 4  # of an LSTM

RECURRENCE = Knob(
    "recurrence",
    "categorical",
    "who computes an LSTM: one loop over all particles, or torch's own kernel for each; the same "
    "up to rounding, so that a search takes what is quicker where it begins",
    choices=("batched", "one_by_one"),
    default="batched",
)

KNOBS = (
    Knob(
        "layers",
        "int",
        "LSTM layers, each reading the states of the one below",
        low=1,
        high=3,
        minimum=1,
        maximum=64,
        default=1,
        source="Graves et al. 2013, arXiv 1303.5778, eq. 11",
    ),
    Knob(
        "hidden",
        "ordered",
        "width of one direction's state; of embeddings as well, where inputs are tokens",
        choices=(8, 16, 32, 64),
        minimum=1,
        default=32,
        source="Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735, section 4",
    ),
    Knob(
        "bidirectional",
        "bool",
        "each layer also reads from the end, and a state is both directions' side by side",
        default=False,
        neutral=False,
        source="Schuster & Paliwal 1997, doi 10.1109/78.650093; "
        "Graves & Schmidhuber 2005, doi 10.1016/j.neunet.2005.06.042",
    ),
    Knob(
        "dropout",
        "float",
        "probability with which an entry of a layer's states is dropped on its way up in training",
        low=0.0,
        high=0.5,
        minimum=0.0,
        maximum=0.95,
        default=0.0,
        neutral=0.0,
        source="Zaremba et al. 2014, arXiv 1409.2329, section 3.2",
    ),
    Knob(
        "start_scale",
        "float",
        "multiplies the spread with which every map and embedding starts",
        low=0.25,
        high=4.0,
        log=True,
        minimum=1e-3,
        maximum=1e3,
        default=1.0,
        neutral=1.0,
        source="Bengio 2012, arXiv 1206.5533, section 3.1",
    ),
    Knob(
        "last_state",
        "bool",
        "the answer is read from the last state as well, and not from attention alone; a decoder "
        "reads it anyway",
        default=False,
        neutral=False,
        source="after Luong et al. 2015, arXiv 1508.04025, eqs. 5 and 6, less the tanh between",
    ),
    RECURRENCE,
)


@dataclass(frozen=True)
class LstmSettings:
    """What one particle's LSTM is. directions: 1 or 2. attention: over the last layer's states.

    horizon: steps of a decoder as wide as a state, 0 where the answer is to the sequence.
    """

    layers: int
    hidden: int
    directions: int
    dropout: float
    start_scale: float
    last_state: bool
    recurrence: str
    attention: StateAttention
    horizon: int
    family: ClassVar[str] = "lstm"

    @property
    def outer_shape(self) -> tuple[int | str, ...]:
        """What must be equal for particles to train as one batch."""
        return (self.family, self.layers, self.hidden, self.directions, self.recurrence)

    @property
    def group(self) -> tuple[Any, ...]:
        """Sort key: brings together who shares kernels."""
        return (self.attention.group, self.last_state)

    @property
    def width(self) -> int:
        """Columns of a state, both directions' together."""
        return self.directions * self.hidden

    @property
    def read(self) -> int:
        """How wide what the answer is read from is."""
        return self.attention.read + self.width * (self.last_state or self.horizon > 0)

    @property
    def asking(self) -> tuple[int, int]:
        """Whose memory a sentinel is: (states' width, directions) of the last layer or decoder."""
        return (self.width, 1) if self.horizon else (self.hidden, self.directions)

    def asked(self, info: TaskInfo) -> int:
        """Return how wide the inputs are of that layer or decoder."""
        return self.inputs(0 if self.horizon else self.layers - 1, info)

    def inputs(self, layer: int, info: TaskInfo) -> int:
        """Return how wide the inputs of a layer are."""
        if layer:
            return self.width
        return self.hidden if info.tokens is not None else info.features or 0


def read_lstm(settings: Mapping[str, Any], info: TaskInfo) -> LstmSettings:
    """Return the typed settings; ConfigurationError where they cannot work on this task."""
    given = {**{knob.name: knob.default for knob in KNOBS}, **settings}
    layers, hidden = int(given["layers"]), int(given["hidden"])
    if layers < 1 or hidden < 1:
        raise ConfigurationError(
            f"layers = {layers} and hidden = {hidden} leave no model; each must be at least 1"
        )
    if info.per_token and not info.horizon:
        raise ConfigurationError(
            'family "lstm" answers a sequence, or step by step after it, and the task asks for an '
            'answer at each token; choose family "transformer"'
        )
    if info.weighted:
        raise ConfigurationError(
            'family "lstm" reads a sequence, and the columns of a table have no order; choose '
            'family "transformer"'
        )
    directions = 2 if given["bidirectional"] else 1
    return LstmSettings(
        layers=layers,
        hidden=hidden,
        directions=directions,
        dropout=float(given["dropout"]),
        start_scale=float(given["start_scale"]),
        last_state=bool(given["last_state"]),
        recurrence=given["recurrence"],
        attention=read_attention(given, directions * hidden, info.horizon),
        horizon=info.horizon,
    )


def lstm_cost(settings: LstmSettings, info: TaskInfo, batch: int) -> dict[str, int]:
    """Return what a stand-alone training costs, in the terms of `transformer_cost`.

    Products of matrices alone count as flops.
    """
    h, d, steps = settings.hidden, settings.width, settings.horizon
    t = info.length - steps
    parameters = (info.tokens or 0) * h + (settings.read + 1) * info.outputs
    macs, trained = 0, info.length * settings.inputs(0, info)
    for layer in range(settings.layers):
        inputs = settings.inputs(layer, info)
        parameters += settings.directions * GATES * h * (inputs + h + 2)
        macs += settings.directions * t * GATES * h * (inputs + h)
        trained += settings.directions * t * h * 8  # gates, states, cells and their tanh
    if steps:
        inputs = settings.inputs(0, info)
        parameters += d * d + GATES * d * (inputs + d + 2)
        macs += d * d + steps * GATES * d * (inputs + d)
        trained += steps * d * 8
    attention, queries = settings.attention, max(steps, 1)
    for own in attention.learned(settings.asked(info), settings.asking[0]):
        parameters += prod(own.shape)
        times = t if own.name in ("key_map", "score", "flow_map") else 1
        macs += queries * times * prod(own.shape) if own.name not in ("query", "flow_score") else 0
    products = attention.hops + (attention.inner == 0)
    macs += queries * (t * d * products + settings.read * info.outputs)
    kept = 3 * d + 2 * attention.inner + 4 * max(attention.heads, attention.hops)
    if attention.flow:
        macs += t * d * steps * (1 + steps)
        kept += 8 * d + 2 * steps
    answers = steps * info.outputs  # a softmax of them is held beside
    trained += 4 * answers + queries * t * kept
    trained += settings.directions * t * h * 10  # slopes of one layer
    scored = queries * t * kept + (settings.directions * t * h + steps * d) * 14
    scored = max(scored, (t + steps) * d + 2 * answers)
    return {
        "parameters": parameters,
        "flops": 3 * 2 * macs,
        "memory_bytes": footprint(parameters, batch, trained, scored),
    }


def lstm_defaults(settings: LstmSettings, info: TaskInfo) -> dict[str, Any]:
    """Return the values of knobs that follow from others."""
    return {"attention_dim": settings.attention.inner or settings.width}
