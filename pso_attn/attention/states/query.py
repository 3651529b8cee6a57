"""Who asks: the query that states are compared with."""

from pso_attn.attention.states.scores import QUERYING
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "query",
        "categorical",
        "what states are compared with: the last state, or a vector that is learned; in a decoder "
        "its own state always",
        choices=("last", "learned"),
        default="last",
        when={"score": QUERYING},
        source="Luong et al. 2015, arXiv 1508.04025, section 3; "
        "Yang et al. 2016, Hierarchical attention networks, eq. 6",
    ),
)
