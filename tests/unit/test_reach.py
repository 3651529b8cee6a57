"""A value that no particle can have is named before anything trains; defaults are the declared."""

from typing import Any

import pytest

from pso_attn.assembly import assemble
from pso_attn.attention import MECHANISMS
from pso_attn.config import configuration_from
from pso_attn.errors import ConfigurationError
from pso_attn.parts import Parts

MECHANISMS_OF_DIGITS = set(MECHANISMS) - {"retention", "low_rank"}


def parts(task: str, search: dict[str, Any], **model: Any) -> Parts:
    document = {"task": task, "model": {"d_model": 16, **model}, "search": search}
    return assemble(configuration_from(document, "here.toml"))


@pytest.mark.parametrize(
    ("task", "search", "words"),
    [
        ("text", {"mechanism": ["softmax", "low_rank"]}, "mechanism: .* causal"),
        ("digits", {"mechanism": ["softmax", "low_rank"], "rank": {"high": 32}}, "rank = 32 "),
        ("digits", {"heads": [1, 2, 32]}, "heads = 32 leaves head_dim = 0"),
    ],
)
def test_a_value_that_no_particle_can_have_is_refused(
    task: str, search: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"here.toml: search.*{words}"):
        parts(task, search)


def test_a_value_that_works_beside_some_others_is_kept() -> None:
    space = parts("digits", {"heads": [1, 32], "head_dim": [1, 4]}, d_model=16).space
    assert space.dimension == 2
    document = {"task": "digits", "search": {"heads": [1, 32], "d_model": [16, 64]}}
    assert assemble(configuration_from(document, "here.toml")).space.dimension == 2


RANKS = {"mechanism": ["softmax", "block_low_rank"], "rank": {"low": 1, "high": 16}}


@pytest.mark.parametrize(
    ("search", "model"),
    [
        ({**RANKS, "block_tokens": {"low": 2, "high": 16}}, {}),
        ({**RANKS, "block_tokens": {"low": 2, "high": 16}, "layers": [1, 2], "lr": {}}, {}),
        ({**RANKS, "block_tokens": {"low": 2, "high": 16, "per": "layer"}}, {"layers": 4}),
        ({**RANKS, "mechanism": sorted(MECHANISMS_OF_DIGITS), "block_tokens": {"high": 16}}, {}),
    ],
)
def test_an_end_that_works_beside_another_end_alone_is_kept(
    search: dict[str, Any], model: dict[str, Any]
) -> None:
    assert "rank" in parts("digits", search, **model).space.names


def test_an_end_that_works_beside_no_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"search.rank: rank = 16 exceeds the \d+ tokens"):
        parts("digits", {**RANKS, "block_tokens": {"low": 2, "high": 15}})


def test_a_window_sees_all_by_default_whatever_its_range() -> None:
    search = {"window_tokens": {"low": 2, "high": 40, "log": True}, "heads": [1, 2, 4]}
    space = parts("digits", search).space
    assert space.decode(space.starts[0])["window_tokens"] == 15
