"""Several rows of weights over the same states, and what keeps them apart.

    A = softmax(W₂ tanh(W₁ Hᵀ)), M = A H, penalty ‖A Aᵀ − I‖²_F

H: (T, d) states. W₁: (a, d). W₂: (r, a). All r rows of M are read. Lin et al. 2017, eqs. 6-8.
"""

from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "hops",
        "ordered",
        "r: how many rows of weights a self-attentive read-out has, each over whole states",
        choices=(1, 2, 4, 8),
        default=1,
        minimum=1,
        when={"score": ("self_attentive",)},
        source="Lin et al. 2017, arXiv 1703.03130, section 2.1",
    ),
    Knob(
        "hop_penalty",
        "float",
        "how much ‖A Aᵀ − I‖²_F, which draws hops apart, adds to the training loss",
        low=0.0,
        high=1.0,
        minimum=0.0,
        default=0.0,
        neutral=0.0,
        when={"score": ("self_attentive",)},
        source="Lin et al. 2017, arXiv 1703.03130, eq. 8",
    ),
)
