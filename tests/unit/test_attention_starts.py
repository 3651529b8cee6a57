"""What attention learns starts where its knobs say, or as its authors have it."""

from math import log2
from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.models import SwarmTransformer, TaskInfo, read_transformer

TOLERANCE = 1e-12
LENGTH, HEADS = 5, 2
INFO = TaskInfo(tokens=7, features=None, length=LENGTH, outputs=3, causal=False, per_token=True)
WARM = [[0.3, 2.7], [1.0, 0.6]]


def started(**own: Any) -> SwarmTransformer:
    """Return a swarm of one at its start; whatever it learns, its maps start alike."""
    model = read_transformer({"layers": 2, "d_model": 6, "heads": HEADS, **own}, INFO)
    return SwarmTransformer.started([model], INFO, [3], torch.float64)


def logits(swarm: SwarmTransformer) -> Tensor:
    ids = torch.randint(7, (1, 4, LENGTH), generator=torch.Generator().manual_seed(2))
    return swarm.forward(ids).detach()


@pytest.mark.parametrize(
    ("learning", "given"),
    [
        ({"learned_temperature": True, "temperature": WARM}, {"temperature": WARM}),
        ({"learned_temperature": True, "qk_norm": True}, {"qk_norm": True}),
        ({"adaptive_temperature": True, "temperature": WARM}, {"temperature": WARM}),
        ({"adaptive_temperature": True, "temperature": 1e-3}, {"temperature": 1e-3}),
        ({"adaptive_temperature": True, "temperature": 1e3}, {"temperature": 1e3}),
        ({"sink": "learned"}, {"sink": "zero"}),
        ({"mechanism": "talking_heads", "decay": 0.7}, {"decay": 0.7}),
    ],
    ids=str,
)
def test_a_model_that_learns_starts_as_one_that_is_given_the_start(
    learning: dict[str, Any], given: dict[str, Any]
) -> None:
    found, truth = logits(started(**learning)), logits(started(**given))
    torch.testing.assert_close(found, truth, rtol=0, atol=TOLERANCE)


def test_the_scale_of_unit_queries_and_keys_starts_as_its_authors_start_it() -> None:
    """Henry et al. 2020: log2(T² − T); where that is not above zero, as if T were 2."""
    for length, expected in ((LENGTH, log2(LENGTH**2 - LENGTH)), (2, 1.0), (1, 1.0)):
        (layer,) = read_transformer(
            {"layers": 1, "d_model": 6, "heads": HEADS, "qk_norm": True},
            TaskInfo(7, None, length, 3, causal=False, per_token=True),
        ).attention
        (scale,) = layer.learned(length, 6)
        assert (scale.name, scale.shape, scale.std) == ("qk_scale", (HEADS,), 0.0)
        assert scale.mean == pytest.approx((expected,))


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_the_spread_of_a_start_does_not_move_what_is_not_drawn(scale: float) -> None:
    own = {"learned_temperature": True, "temperature": 0.4, "sink": "learned", "qk_norm": True}
    found, truth = (
        started(**own, start_scale=spread).storage.true_parameters(0) for spread in (scale, 1.0)
    )
    for name in ("log_temperature", "sink", "qk_scale"):
        learned = f"blocks.0.attention.{name}"
        assert torch.equal(found[learned], truth[learned])
