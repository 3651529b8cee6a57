"""Attention maps: what each token takes from each is what the plain model computes with."""

from typing import Any

import pytest
import torch

from pso_attn.attention import MECHANISMS
from pso_attn.models import PlainModel, TaskInfo, read_model, swarm_type
from pso_attn.models.attention_maps import attention_maps
from pso_attn.tasks import make_task, shown_example

INFO = TaskInfo(None, 3, 7, 2, causal=False, per_token=False, padded=True)
CAUSAL = TaskInfo(5, None, 7, 5, causal=True, per_token=True)


def made(info: TaskInfo, settings: dict[str, Any]) -> PlainModel:
    model = read_model({"d_model": 12, "heads": 4, "kv_heads": 2, **settings}, info)
    return swarm_type(model).started([model], info, [3]).extract(0)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_values_taken_by_the_maps_are_what_the_heads_give(mechanism: str) -> None:
    """Heads are three wide and seven tokens long, so that values are replaced in three parts."""
    info = CAUSAL if mechanism == "retention" else INFO
    torch.manual_seed(0)
    inputs = torch.randn(2, 7, 3)
    inputs[1, 5:] = 0.0  # padding
    inputs = torch.randint(5, (2, 7)) if info is CAUSAL else inputs
    model = made(info, {"mechanism": mechanism, "layers": 2, "attention_dropout": 0.0})
    seen: list[tuple[Any, ...]] = []
    layer = model.blocks[1].attention  # type: ignore[index, union-attr]  # a transformer's
    layer.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    model.eval()(inputs)
    maps = attention_maps(model, inputs)[1]
    x, out = seen[0]
    values = layer.value(x).unflatten(-1, (2, -1)).transpose(1, 2).repeat_interleave(2, 1)
    torch.testing.assert_close(layer.output((maps @ values).transpose(1, 2).flatten(-2)), out)
    assert maps.shape == (2, 4, 7, 7)
    if info is INFO and mechanism in ("softmax", "top_k", "sparse"):
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, 7))
        assert maps[1, :, :, 5:].abs().max() == 0


def test_looking_changes_nothing_of_the_model() -> None:
    model = made(CAUSAL, {"layers": 1, "dropout": 0.5}).train()
    inputs = torch.randint(5, (2, 7))
    first, second = attention_maps(model, inputs), attention_maps(model, inputs)
    torch.testing.assert_close(first, second)
    assert model.training
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_a_digit_is_shown_as_its_picture_and_a_text_as_its_characters() -> None:
    from sklearn.datasets import load_digits

    digits = make_task("digits")
    learned = digits.preprocessing()
    shown = shown_example(digits, 4)
    assert shown.picture is not None
    pixels = (shown.picture * learned["pixel_deviation"] + learned["pixel_mean"]).round()
    assert (load_digits().images == pixels).all(axis=(1, 2)).any()
    assert shown.tokens[-1] == "16"
    text = make_task("text")
    told = "".join(shown_example(text, 0).tokens)
    wanted = "".join(text.symbols[i] for i in text.validation.inputs[0])  # type: ignore[attr-defined]
    assert told == wanted.replace(" ", "␣").replace("\n", "↵")
