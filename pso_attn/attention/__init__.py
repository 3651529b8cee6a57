"""What is tuned: one file a mechanism or family of knobs, on tensors (P, B, H, T, d).

P particle, B batch, H head, T token, d head width.
"""

from pso_attn.attention import (
    drops,
    heads,
    low_rank,
    positions,
    retention,
    sharpness,
    sight,
    sink,
    span,
    sparse,
    top_k,
)
from pso_attn.attention.block_low_rank import BlockLowRank
from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import Kernel, LayerSettings, read_layer
from pso_attn.attention.linear import Linear
from pso_attn.attention.low_rank import LowRank
from pso_attn.attention.retention import Retention
from pso_attn.attention.softmax import Softmax
from pso_attn.attention.sparse import Sparse
from pso_attn.attention.talking_heads import TalkingHeads
from pso_attn.attention.top_k import TopK
from pso_attn.space.knob import Knob

MECHANISMS: dict[str, type[Kernel]] = {
    "softmax": Softmax,
    "linear": Linear,
    "low_rank": LowRank,
    "block_low_rank": BlockLowRank,
    "retention": Retention,
    "top_k": TopK,
    "sparse": Sparse,
    "talking_heads": TalkingHeads,
}

KNOBS = (
    Knob(
        "mechanism",
        "categorical",
        "how tokens attend: softmax over pairs, over the k best, sparse or with heads that mix; "
        "linear in T; through r projected rows of all tokens (low_rank, not for causal tasks) or "
        "of each far block; fading retention (for causal tasks alone)",
        choices=tuple(MECHANISMS),
        default="softmax",
        per=("model", "layer"),
    ),
    *heads.KNOBS,
    *positions.KNOBS,
    *sharpness.KNOBS,
    *sight.KNOBS,
    *span.KNOBS,
    *sink.KNOBS,
    *drops.KNOBS,
    *low_rank.KNOBS,
    *retention.KNOBS,
    *top_k.KNOBS,
    *sparse.KNOBS,
)

__all__ = ["KNOBS", "MECHANISMS", "Kernel", "LayerSettings", "Noise", "read_layer"]
