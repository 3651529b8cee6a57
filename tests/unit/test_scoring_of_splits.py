"""Scoring a split: in batches and a few particles at a time, to the same floats."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.evaluate.probe import height_bytes
from pso_attn.evaluate.scoring import scores_of
from pso_attn.tasks import Split
from pso_attn.tasks.targets import ClassTarget, NumberTarget

PARTICLES, EXAMPLES, FEATURES = 50, 1000, 5
TARGETS: list[ClassTarget | NumberTarget] = [
    ClassTarget("kind", tuple("abcdefghij")),
    NumberTarget("price", 2.0, 3.0),
]


def own_answers(target: ClassTarget | NumberTarget) -> tuple[Any, Any, Split]:
    """Return a task, what gives its logits, and a split."""
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(PARTICLES, FEATURES, target.outputs, generator=draw)
    inputs = torch.randn(EXAMPLES, FEATURES, generator=draw)
    numbers = torch.randn(EXAMPLES, generator=draw)
    is_number = isinstance(target, NumberTarget)
    targets = numbers if is_number else torch.arange(EXAMPLES) % target.outputs
    task = SimpleNamespace(info=SimpleNamespace(per_token=False), score=target.score)

    def forward(x: Tensor) -> Tensor:
        return x.expand(PARTICLES, -1, -1) @ maps

    return task, forward, Split(inputs, targets)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("together", [1, 3, PARTICLES])
def test_how_many_particles_are_scored_at_once_changes_no_float(
    target: ClassTarget | NumberTarget, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, forward, data = own_answers(target)
    logits = torch.cat([forward(batch[None]) for batch in data.inputs.split(128)], 1)
    expected = target.score(logits, data.targets[None])
    at_once = together * EXAMPLES * target.outputs
    monkeypatch.setattr("pso_attn.evaluate.scoring.AT_ONCE", at_once)
    found = scores_of(forward, task, data, torch.float32)
    assert list(found) == list(expected)
    for name, values in found.items():
        assert torch.equal(values, expected[name])


def test_answers_are_held_once_and_what_metrics_make_of_them_is_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One-hot classes alone are twice as large as the logits that they are of."""
    task, forward, data = own_answers(TARGETS[0])
    monkeypatch.setattr("pso_attn.evaluate.scoring.AT_ONCE", 1)
    height = height_bytes(lambda: scores_of(forward, task, data, torch.float32))
    answers = 4 * PARTICLES * EXAMPLES * TARGETS[0].outputs
    assert answers < height < 1.5 * answers
