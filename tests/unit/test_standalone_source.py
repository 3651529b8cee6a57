"""A part of the package as a module of its own."""

import sys
import types
from typing import Any

import pytest

from pso_attn.attention.alike import in_vectors
from pso_attn.cli.output import emit
from pso_attn.config import Configuration
from pso_attn.counter import dropout_scale
from pso_attn.models import TaskInfo, Transformer, read_transformer
from pso_attn.models.standalone import standalone_source


def executed(source: str) -> dict[str, Any]:
    module = types.ModuleType("cut_out")
    sys.modules["cut_out"] = module  # as an import would, for the dataclasses in it
    exec(source, module.__dict__)
    return module.__dict__


def test_the_model_stands_alone_and_says_no_word_of_its_package() -> None:
    source = standalone_source(TaskInfo, read_transformer, Transformer)
    assert "import pso_attn" not in source
    assert "from pso_attn" not in source
    made = executed(source)
    info = made["TaskInfo"](None, 4, 16, 10, causal=False, per_token=False)
    model = made["Transformer"](made["read_transformer"]({"heads": 2}, info), info)
    assert type(model).__module__ == "cut_out"


def test_a_definition_comes_in_the_words_of_its_file_after_what_it_needs() -> None:
    source = standalone_source(dropout_scale, in_vectors)
    assert "def _mix(words" in source
    assert source.index("VECTOR = ") < source.index("def in_vectors")
    assert source.count("VECTOR = ") == 1
    assert "@lru_cache(maxsize=64)\ndef _lasting" in source
    assert "def keys" not in source


def test_two_things_of_one_name_stay_two(capsys: pytest.CaptureFixture[str]) -> None:
    source = standalone_source(Configuration, emit)
    assert "\ndef _plain(" in source
    assert "\ndef output__plain(" in source
    made = executed(source)
    configuration = made["Configuration"]("a.toml", "digits", model={"layers": 1})
    assert configuration.document()["model"] == {"layers": 1}
    made["emit"]({"loss": float("inf")}, as_json=True, quiet=False)
    assert '"loss": null' in capsys.readouterr().out
