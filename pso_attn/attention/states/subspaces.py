"""Several heads: each scores and reads columns of its own.

A state's d columns are cut into equal parts, one a head, and so is the layer inside an additive
score. Vaswani et al. 2017, section 3.2.2, with the LSTM's own output in place of their maps of
values: any number of heads has the parameters of one.
"""

from pso_attn.attention.states.scores import QUERYING
from pso_attn.errors import ConfigurationError
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "heads",
        "ordered",
        "heads that attend on their own, each to its part of the states' columns; they divide "
        "hidden, the columns of one direction",
        choices=(1, 2, 4, 8),
        default=1,
        neutral=1,
        minimum=1,
        when={"score": QUERYING},
        divides="hidden",
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2",
    ),
)


def check_heads(heads: int, width: int, inner: int) -> None:
    """Raise ConfigurationError where heads cannot have equal parts of a state or of the layer."""
    for name, columns in (("a state's", width), ("attention_dim's", inner)):
        if columns % heads:
            raise ConfigurationError(
                f"heads = {heads} do not divide {name} {columns} columns; choose a divisor"
            )
