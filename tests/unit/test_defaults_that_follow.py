"""What a space shows as the default of a knob that follows from the task is what models read."""

from functools import partial
from typing import Any

import pytest

from pso_attn.attention import read_layer
from pso_attn.configured_space import declared_knobs, derived
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
    space = read_space({knob: {}}, fixed, declared_knobs(), derive=partial(derived, task))
    first = space.settings(space.decode(space.starts[0]))
    assert first[knob] == followed
    read = (read_layer(own, 0, task.info.length, task.info.causal) for own in (first, fixed))
    shown = {(own.group, own.top_k, mechanism == "softmax" and own.sight) for own in read}
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("mechanisms", "acting", "layered", "followed"),
    [
        (["softmax", "low_rank"], "low_rank", False, {"rank": 4}),
        (["softmax", "low_rank"], "low_rank", True, {"rank": 4}),
        (["linear", "block_low_rank"], "block_low_rank", False, {"rank": 1, "block_tokens": 4}),
        (["linear", "top_k"], "top_k", False, {"top_k": 4, "block_tokens": 16}),
    ],
)
def test_a_knob_of_one_mechanism_among_several_starts_as_that_mechanism_would_have_it(
    mechanisms: list[str], acting: str, layered: bool, followed: dict[str, int]
) -> None:
    """The first particle has another mechanism; whoever moves to this one finds the default."""
    task = make_task("digits")
    by_layer = {"per": "layer"} if layered else {}
    search = {"mechanism": {"choices": mechanisms, **by_layer}}
    search |= dict.fromkeys(followed, by_layer)
    fixed = {"d_model": 16, "heads": 2, "layers": 2}
    space = read_space(search, fixed, declared_knobs(), derive=partial(derived, task))
    first = space.decode(space.starts[0])
    assert not {c.path[0] for c in space.coordinates if c.name in first} & set(followed)
    moved = space.starts[0].copy()
    for column, coordinate in enumerate(space.coordinates):
        if coordinate.path[0] == "mechanism":
            moved[column] = coordinate.scale.point(acting)
    settings = space.settings(space.decode(moved))
    for name, value in followed.items():
        assert settings[name] == ([value] * 2 if layered else value)
    plain = {**fixed, "mechanism": acting}
    read = (read_layer(own, 0, task.info.length, task.info.causal) for own in (settings, plain))
    assert len({(own.group, own.top_k) for own in read}) == 1


@pytest.mark.parametrize(
    ("own", "taken"), [({}, 100.0), ({"low": 0.1, "high": 1.0}, 1.0), ({"choices": [2, 50]}, 50)]
)
def test_where_a_cap_is_searched_the_first_particle_has_the_one_nearest_to_none(
    own: dict[str, Any], taken: float
) -> None:
    task = make_task("digits")
    space = read_space({"softcap": own}, {}, declared_knobs(), derive=partial(derived, task))
    assert space.settings(space.decode(space.starts[0]))["softcap"] == taken


def test_a_temperature_by_head_is_not_searched_where_each_token_has_its_own() -> None:
    """Else one training would have two names."""
    both = {"learned_temperature": {}, "adaptive_temperature": {}}
    space = read_space(both, {}, declared_knobs())
    columns = [coordinate.name for coordinate in space.coordinates]
    for adaptive in (0.0, 1.0):
        position = space.starts[0].copy()
        position[columns.index("adaptive_temperature")] = adaptive
        found = space.settings(space.decode(position))
        assert ("learned_temperature" in found) == (not found["adaptive_temperature"])
