"""How a state of the LSTM is scored: compared with a query, or by itself."""

from pso_attn.space.knob import Knob

# with a query s; all but "self_attentive"
QUERYING = ("additive", "dot", "general", "concat")
# through an inner layer whose width is a knob; that of "concat" is as wide as a state
INNER = ("additive", "self_attentive")

KNOBS = (
    Knob(
        "score",
        "categorical",
        "how a state h is scored: additive vᵀ tanh(W s + U h), dot sᵀh, general sᵀW h or concat "
        "vᵀ tanh(W [s; h]) with a query s; or self_attentive, W₂ tanh(W₁ h), without one",
        choices=(*QUERYING, "self_attentive"),
        default="additive",
        source="Bahdanau et al. 2014, arXiv 1409.0473, appendix A.1.2; "
        "Luong et al. 2015, arXiv 1508.04025, section 3.1; Lin et al. 2017, arXiv 1703.03130",
    ),
    Knob(
        "attention_dim",
        "ordered",
        "width of the layer inside a score; by default as wide as a state",
        choices=(8, 16, 32, 64),
        minimum=1,
        when={"score": INNER},
        source="Bahdanau et al. 2014, arXiv 1409.0473, appendix A.2.3 (n'); "
        "Lin et al. 2017, arXiv 1703.03130, section 2 (d_a)",
    ),
)
