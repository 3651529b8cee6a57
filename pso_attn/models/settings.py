"""A transformer's settings, read from a particle's settings and checked; and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from pso_attn.attention import LayerSettings, read_layer
from pso_attn.attention.band import EXPLICIT_KEYS, KEPT_KEYS
from pso_attn.attention.block_low_rank import far_and_near
from pso_attn.attention.kinds import PAIRING
from pso_attn.attention.linear import BLOCK_TOKENS
from pso_attn.attention.sharpness import UNCAPPED
from pso_attn.attention.sight import blocks_seen
from pso_attn.errors import ConfigurationError
from pso_attn.models.footprint import footprint
from pso_attn.models.info import TaskInfo
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "layers",
        "int",
        "transformer blocks",
        low=1,
        high=4,
        minimum=1,
        maximum=1024,
        default=2,
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.1",
    ),
    Knob(
        "d_model",
        "ordered",
        "width of the residual stream",
        choices=(16, 32, 64, 128),
        minimum=1,
        default=32,
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.1",
    ),
    Knob(
        "feedforward_ratio",
        "ordered",
        "hidden width of the feed-forward part, as a multiple of d_model",
        choices=(1, 2, 4),
        minimum=0.25,
        default=4,
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.3",
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
        "dropout",
        "float",
        "probability with which an entry of a block's two outputs is dropped in training",
        low=0.0,
        high=0.5,
        minimum=0.0,
        maximum=0.95,
        default=0.0,
        neutral=0.0,
        source="Vaswani et al. 2017, arXiv 1706.03762, section 5.4",
    ),
)


@dataclass(frozen=True)
class TransformerSettings:
    """What one particle's transformer is. feedforward: hidden width of the MLP.

    positions: "learned", "sinusoidal", "rotary" or "none".
    """

    layers: int
    d_model: int
    feedforward: int
    dropout: float
    start_scale: float
    positions: str
    attention: tuple[LayerSettings, ...]
    family: ClassVar[str] = "transformer"

    @property
    def outer_shape(self) -> tuple[int, int, int]:
        """What must be equal for particles to train as one batch."""
        return (self.layers, self.d_model, self.feedforward)

    @property
    def group(self) -> tuple[Any, ...]:
        """Sort key: brings together who shares kernels, and among them who learns the same."""
        kernels = tuple((layer.inner_dim, *layer.group) for layer in self.attention)
        return (kernels, self.positions, tuple(layer.learns for layer in self.attention))


def read_transformer(settings: Mapping[str, Any], info: TaskInfo) -> TransformerSettings:
    """Return the typed settings; ConfigurationError where they cannot work on this task."""
    defaults = {knob.name: knob.default for knob in KNOBS}
    given = {**defaults, **settings}
    layers, d_model = int(given["layers"]), int(given["d_model"])
    feedforward = round(d_model * given["feedforward_ratio"])
    if layers < 1 or d_model < 1:
        raise ConfigurationError(
            f"layers = {layers} and d_model = {d_model} leave no model; each must be at least 1"
        )
    if feedforward < 1:
        raise ConfigurationError(
            f"feedforward_ratio = {given['feedforward_ratio']} leaves nothing of d_model = "
            f"{d_model}; choose one that gives a hidden width of at least 1"
        )
    positions = given.get("positions", "learned")
    if info.weighted and positions != "learned":
        raise ConfigurationError(
            f'positions = "{positions}", but the columns of a table have no order; leave it at '
            '"learned", which gives each column a bias'
        )
    attention = tuple(
        read_layer(given, layer, info.length, info.causal) for layer in range(layers)
    )
    return TransformerSettings(
        layers=layers,
        d_model=d_model,
        feedforward=feedforward,
        dropout=float(given["dropout"]),
        start_scale=float(given["start_scale"]),
        positions=positions,
        attention=attention,
    )


def transformer_cost(settings: TransformerSettings, info: TaskInfo, batch: int) -> dict[str, int]:
    """Return what a stand-alone training costs.

    parameters: trainable scalars. flops: forward and backward of one example, 2 per
    multiply-add, backward counted as twice the forward; products of matrices alone, and of the
    scores only those within the window or the past, as a kernel that skips the rest would need.
    memory_bytes: at its height, by `footprint`, with batches of `batch` examples. What autograd
    and one layer's kernels hold at once was counted by allocations of real steps (docs/log.md).
    """
    c, t = settings.d_model, info.length
    inputs = info.tokens if info.tokens is not None else info.features or 0
    parameters = inputs * c + (c + 1) * info.outputs
    parameters += t * c if settings.positions == "learned" else 0
    macs = (0 if info.tokens is not None else t * inputs * c) + c * info.outputs * (
        (info.horizon or t) if info.per_token else 1
    )
    trained = t * (4 * c + info.per_token * 4 * info.outputs)
    scored, again, constants = 0, 0, [_constants(layer, t) for layer in settings.attention]
    for layer in settings.attention:
        keys = t + blocks * layer.rank if (blocks := _blocks(layer, t)) else layer.rank or t
        kv_dim = layer.kv_heads * layer.head_dim
        weights = c * (2 * layer.inner_dim + 2 * kv_dim) + 2 * c * settings.feedforward
        parameters += weights + sum(prod(own.shape) for own in layer.learned(t, c))
        macs += t * weights + 2 * layer.rank * (blocks * layer.block or t) * kv_dim
        if layer.mechanism == "talking_heads":
            macs += 2 * layer.heads * layer.sight.pairs(t, info.causal)
        if layer.sharpness.learned == "token":
            macs += t * c * layer.heads
        macs += 2 * layer.head_dim * _scored(layer, t, info.causal)
        kept, held = _scores_held(layer, t, keys, info)
        trained += t * (4 * c + 2 * settings.feedforward + 4 * layer.inner_dim) + kept
        again = max(again, 0 if kept else held)  # weights that the gradient computes anew
        copies = 6 + _copies(layer, info)
        scored = max(scored, t * (4 * c + copies * layer.inner_dim) + held)
    trained += t * max(layer.inner_dim for layer in settings.attention) + again
    if info.per_token:
        answers = (info.horizon or t) * info.outputs  # a softmax of them is held beside
        scored = max(scored, t * c + 2 * answers)
    return {
        "parameters": parameters,
        "flops": 3 * 2 * macs,
        "memory_bytes": footprint(parameters, batch, trained, scored, constants),
    }


def transformer_defaults(settings: TransformerSettings, info: TaskInfo) -> dict[str, Any]:
    """Return the values of knobs that follow from others: one for all layers, or a list."""
    layers, widest = settings.attention, info.length - 1
    by_layer: dict[str, list[Any]] = {
        "head_dim": [layer.head_dim for layer in layers],
        "kv_heads": [layer.kv_heads for layer in layers],
        "rank": [layer.rank for layer in layers],
        "top_k": [layer.top_k for layer in layers],
        "block_tokens": [layer.block or info.length for layer in layers],
        "window_tokens": [_one(list(layer.sight.window_tokens or [widest])) for layer in layers],
        "softcap": [min(layer.sharpness.softcap, UNCAPPED) for layer in layers],
    }
    return {name: _one(values) for name, values in by_layer.items()}


def _one(values: list[Any]) -> Any:
    """Return the value that all share, or the list."""
    return values[0] if all(value == values[0] for value in values) else values


def _scores_held(layer: LayerSettings, length: int, keys: int, info: TaskInfo) -> tuple[int, int]:
    """Return how many scores of one example a step keeps, and a kernel holds while it scores.

    A plain softmax holds none of a long sequence, unless it drops some, sees near blocks alone or
    has padding to pass over.
    """
    causal = info.causal
    if layer.mechanism == "linear":
        pairs = length * min(length, BLOCK_TOKENS) * int(causal)
        held = layer.heads * (pairs + 2 * layer.head_dim**2)  # φ(k)vᵀ
        return held, 2 * held
    whole, dropped = layer.heads * length * keys, bool(layer.drops.weights)
    if layer.is_plain and not info.padded:
        blocks = blocks_seen(causal)
        seen = blocks * layer.near
        explicit = seen if seen <= EXPLICIT_KEYS else 0
        held = layer.heads * length * explicit if layer.is_long else whole
        is_kept = not layer.is_long or explicit <= KEPT_KEYS * layer.head_dim
        is_fused = bool(layer.near) and not explicit  # which keeps keys and values of neighbours
        copies = 2 * (blocks - 1) * length * layer.inner_dim * is_fused
        return (2 * whole if dropped else held * is_kept + copies), 2 * held
    kept = 1 + dropped + (layer.mechanism == "talking_heads")
    unbounded = 2 if layer.is_plain else 3
    return kept * whole, {"sparse": 4, "retention": 2}.get(layer.mechanism, unbounded) * whole


def _copies(layer: LayerSettings, info: TaskInfo) -> int:
    """Return how many more tensors as wide as all heads a kernel has than queries and the like."""
    if layer.mechanism == "linear":
        return 4  # features of queries and keys, block by block
    if info.padded or not (layer.is_plain and layer.is_long):
        return 0
    if layer.near:
        return 2 + 2 * blocks_seen(info.causal)  # keys and values of neighbours
    return 3 if layer.mechanism == "softmax" else 5  # of rows of far blocks as well


def _constants(layer: LayerSettings, length: int) -> int:
    """Return how many numbers a kernel adds to scores, or multiplies them by, of its own."""
    is_own = layer.mechanism in PAIRING and not layer.sight.is_whole(length)
    return layer.heads * length**2 if is_own or layer.mechanism == "retention" else 0


def _scored(layer: LayerSettings, length: int, causal: bool) -> int:
    """Return how many (query, key) pairs all heads score; for linear, its equivalent in pairs."""
    if layer.mechanism == "linear":
        return layer.heads * length * layer.head_dim  # φ(k)vᵀ and its product with φ(q)
    if layer.mechanism == "low_rank":
        return layer.heads * length * layer.rank
    if layer.mechanism == "block_low_rank":
        seen = far_and_near(length, layer.block, layer.rank, causal)
        return layer.heads * int(seen.sum())
    return layer.sight.pairs(length, causal)


def _blocks(layer: LayerSettings, length: int) -> int:
    """Return how many blocks low-rank attention by blocks has, 0 for other mechanisms."""
    return -(-length // layer.block) if layer.block else 0
