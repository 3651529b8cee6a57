"""Attention both ways between an encoder and a decoder: the encoder looks at the decoder as well.

    S_ij = wᵀ [h_i; s_j; h_i ⊙ s_j]
    u_i = Σ_j softmax_j(S_ij) s_j,  v = Σ_i softmax_i(max_j S_ij) h_i
    g_i = W [h_i; u_i; h_i ⊙ u_i; h_i ⊙ v]

h_i: encoder states; s_j: decoder states. Seo et al. 2016, section 2: eqs. 1 and 2, with a linear
map to the width of a state. There both sequences are given; here the decoder writes its own, so at
step t only its states before t count, and at the first, where there are none, u and v are zero.
The decoder's attention is then over the g_i.
"""

import torch
from torch import Tensor

from pso_attn.attention.learned import LearnedTensors
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "bidirectional_attention",
        "bool",
        "before a decoder attends to the encoder's states, these attend to the decoder's earlier "
        "ones, and what they see is fused into them",
        default=False,
        neutral=False,
        source="Seo et al. 2016 (BiDAF), arXiv 1611.01603, section 2, eqs. 1 and 2",
    ),
)


def fused(
    states: Tensor, decoder: Tensor, learned: LearnedTensors, lengths: Tensor | None
) -> Tensor:
    """Return the encoder's states as each step of the decoder sees them, (P, B, U, T, d).

    states: (P, B, T, d). decoder: (P, B, U, d). lengths: (P or 1, B), how many states an example
    has, None where all have T.
    """
    (weight,), (fuse,) = learned["flow_score"], learned["flow_map"]
    own, other, both = weight[:, None, :, None].chunk(3, 2)  # (P, 1, d, 1)
    products = (states * both.mT) @ decoder.mT  # (P, B, T, U)
    scores = products + states @ own + (decoder @ other).mT
    steps = torch.arange(decoder.shape[2], device=states.device)
    later = steps[None, :] >= steps[1:, None]  # (U − 1, U), of all steps but the first
    known = scores[:, :, None].masked_fill(later[:, None], float("-inf"))  # (P, B, U − 1, T, U)
    seen = known.softmax(-1) @ decoder[:, :, None]  # (P, B, U − 1, T, d)
    largest = known.amax(-1)  # (P, B, U − 1, T)
    if lengths is not None:
        there = torch.arange(states.shape[2], device=states.device) < lengths[..., None]
        largest = largest.masked_fill(~there[:, :, None], float("-inf"))
    shares = largest.softmax(-1)
    whole = (shares @ states)[:, :, :, None]  # (P, B, U − 1, 1, d)
    seen, whole = (
        torch.cat([torch.zeros_like(part[:, :, :1]), part], 2)
        if part.shape[2]
        else part.new_zeros(*part.shape[:2], 1, *part.shape[3:])
        for part in (seen, whole)
    )
    first = states[:, :, None].expand_as(seen)
    joined = torch.cat([first, seen, first * seen, first * whole], -1)
    return (joined.flatten(1, 3) @ fuse).view_as(seen)
