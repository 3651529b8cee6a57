"""How many heads attend, how wide they are, and which of them share keys and values."""

from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "heads",
        "ordered",
        "attention heads, each with its own query map, and with its own keys and values unless "
        "kv_heads are fewer",
        choices=(1, 2, 4, 8, 16),
        default=4,
        minimum=1,
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2",
    ),
    Knob(
        "head_dim",
        "ordered",
        "width of one head; by default d_model // heads",
        choices=(4, 8, 16, 32, 64),
        minimum=1,
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2",
    ),
    Knob(
        "kv_heads",
        "ordered",
        "key/value heads shared by groups of heads; by default as many as heads, 1 is multi-query",
        choices=(1, 2, 4, 8, 16),
        minimum=1,
        limit="at the number of heads",
        per=("model", "layer"),
        divides="heads",
        source="Shazeer 2019, arXiv 1911.02150, section 3; "
        "Ainslie et al. 2023, arXiv 2305.13245, section 2.2",
    ),
)
