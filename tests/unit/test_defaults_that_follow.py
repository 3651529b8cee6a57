"""What a space shows as the default of a knob that follows from the task is what models read."""

from functools import partial

import pytest

from pso_attn.assembly import _derived, declared_knobs
from pso_attn.attention import read_layer
from pso_attn.space import read_space
from pso_attn.tasks import make_task


@pytest.mark.parametrize(
    ("mechanism", "knob", "followed"),
    [
        ("top_k", "top_k", 4),
        ("block_low_rank", "block_tokens", 4),
        ("softmax", "block_tokens", 16),
    ],
)
def test_the_first_particle_has_what_an_unmentioned_knob_would_give(
    mechanism: str, knob: str, followed: int
) -> None:
    task = make_task("digits")  # 16 tokens
    fixed = {"mechanism": mechanism, "d_model": 16, "heads": 2}
    space = read_space({knob: {}}, fixed, declared_knobs(), derive=partial(_derived, task))
    first = space.settings(space.decode(space.starts[0]))
    assert first[knob] == followed
    read = (read_layer(own, 0, task.info.length, task.info.causal) for own in (first, fixed))
    shown = {(own.group, own.top_k, mechanism == "softmax" and own.sight) for own in read}
    assert len(shown) == 1
