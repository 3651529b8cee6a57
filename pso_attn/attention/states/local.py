"""How far around its place a query looks, and where that place is."""

from pso_attn.attention.states.scores import QUERYING
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "local",
        "categorical",
        "which states are seen: all; those near the query's own token, which for an answer to the "
        "whole sequence is the last (monotonic); or those near T·sigmoid(vᵀ tanh(W s)), under a "
        "Gaussian of σ = window_tokens / 2 (predictive)",
        choices=("none", "monotonic", "predictive"),
        default="none",
        neutral="none",
        when={"score": QUERYING},
        source="Luong et al. 2015, arXiv 1508.04025, section 3.2, eqs. 7-10",
    ),
    Knob(
        "window_tokens",
        "int",
        "D: how many tokens away from its place a query sees, on each side",
        low=1,
        high=16,
        log=True,
        minimum=1,
        default=10,
        limit="from T - 1 on, for T tokens; under a Gaussian far above T",
        when={"local": ("monotonic", "predictive")},
        source="Luong et al. 2015, arXiv 1508.04025, section 3.2",
    ),
)
