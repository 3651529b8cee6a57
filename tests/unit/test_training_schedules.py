"""How learning rates rise and fall: by hand, and as torch's own schedulers have it."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from pso_attn.evaluate.optimiser import read_recipe

STEPS, PEAK = 9, 0.02


def rates(steps: int = STEPS, **own: object) -> list[float]:
    """Return the learning rate of every step, over the peak."""
    recipe = read_recipe({"lr": PEAK, **own})
    return [recipe.rate(step, steps) / PEAK for step in range(steps)]


def scheduled(scheduler: type[LRScheduler], **own: object) -> list[float]:
    """Return the same from one of torch's schedulers."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, found = scheduler(optimiser, **own), []
    for _ in range(STEPS):
        found.append(float(schedule.get_last_lr()[0]))
        optimiser.step()
        schedule.step()
    return found


def test_without_warm_up_rates_fall_as_torch_lets_them_fall() -> None:
    assert rates(schedule="cosine") == pytest.approx(scheduled(CosineAnnealingLR, T_max=STEPS))
    linear = scheduled(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=STEPS)
    assert rates(schedule="linear") == pytest.approx(linear)
    assert rates(schedule="constant") == [1.0] * STEPS
    assert rates() == rates(schedule="cosine")


@pytest.mark.parametrize(
    ("schedule", "fall"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
    ],
)
def test_warm_up_rises_evenly_to_the_peak_and_the_fall_takes_the_steps_that_are_left(
    schedule: str, fall: list[float]
) -> None:
    found = rates(8, schedule=schedule, warmup=0.5)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, *fall])


def test_a_warm_up_that_ends_within_a_step_is_at_the_peak_in_that_step() -> None:
    found = rates(5, schedule="linear", warmup=0.3)  # 1.5 steps
    assert found == pytest.approx([1 / 1.5, 1.0, 3 / 3.5, 2 / 3.5, 1 / 3.5])
