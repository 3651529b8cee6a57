"""What a [weights] table may say, and one sentence for what it may not."""

from typing import Any

import pytest

from pso_attn.config.schema import configuration_from
from pso_attn.errors import ConfigurationError
from pso_attn.space import read_weights


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"layer": [0]}, r'"weights\.layer" is not a key.*did you mean "layers"'),
        ({"matrices": ["Wq", "Wx"]}, r'"weights\.matrices".*some of Wq, Wk, Wv, Wo$'),
        ({"layers": [-1]}, "numbers of layers, from 0"),
        ({"coordinates": "fulll"}, 'did you mean "full"'),
        ({"rank": 2}, 'is for coordinates = "low_rank", and they are "full"'),
        ({"coordinates": "subspace", "dimensions": 0}, "a whole number of at least 1"),
        ({"start": ["a.safetensors", "b.safetensors"]}, "starts from two or more files"),
        ({"mode": "checkpoints", "start": "a.safetensors"}, "names 1; mode"),
        ({"mode": "checkpoints", "start": ["a", "random"]}, "safetensors files alone"),
        ({"bounds": 0}, r'"weights\.bounds" is 0; expected a number above 0'),
        ({"examples": -1}, "a whole number of at least 0"),
        ({"quantise": "int4"}, 'one of "none", "int8", "ternary"'),
        ({"fitness": "mine"}, "is called with"),
        ({"maximize": True}, "is for a fitness of your own"),
        ({"gradient_steps": 5}, 'is for mode = "hybrid"'),
        ({"mode": "hybrid", "gradient_steps": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_gets_one_sentence(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        read_weights(keys, "a.toml")
    assert str(raised.value).startswith("a.toml: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"weights": {}}, r"\[weights\] is empty"),
        ({"weights": {"mode": "weights"}, "search": {"heads": [1, 2]}}, 'use mode = "joint"'),
        ({"weights": {"mode": "joint"}}, r"\[search\] is empty; name a knob"),
        ({"weights": {"mode": "joint"}, "search": {"layers": [1, 2]}}, '"layers" is in'),
        ({"weights": {"mode": "weights"}, "model": {"family": "a:b"}}, "leave .weights. out"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        configuration_from({"task": "digits", **document}, "a.toml")


def test_a_configuration_of_weights_reads_back_to_itself() -> None:
    document = {"task": "digits", "weights": {"layers": [0], "quantise": "ternary"}}
    read = configuration_from(document, "a.toml")
    assert configuration_from(read.document(), "a.toml") == read
    assert read.weight_table is not None
    assert read.weight_table.layers == (0,)
