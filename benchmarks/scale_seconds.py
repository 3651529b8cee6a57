"""How differently long trainings of one space take: measured, for `scale.py` to draw from."""

import time
from functools import cache

import numpy as np
import torch
from space_noise import random_settings

from pso_attn.assembly import assemble
from pso_attn.config import read_configuration
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.tiles import Cut, TiledTraining
from pso_attn.seeding import training_seed
from pso_attn.types import Array

SPACES = ("digits", "text")
STEPS, WARM_UP = 12, 3  # of each training that are timed, and before


@cache
def measured_seconds(count: int) -> tuple[Array, dict[str, dict[str, float]]]:
    """Return trainings' seconds in units of their space's median, and how they spread.

    count: random settings of each space, each trained alone. CPU time, one thread, so that a busy
    machine makes no stragglers of its own.
    """
    torch.set_num_threads(1)
    found, spread = [], {}
    for name in SPACES:
        parts = assemble(read_configuration(name))
        seconds = []
        for settings in random_settings(parts, count, seed=0):
            member = read_member(settings, training_seed(0, 0), parts.task)
            total = WARM_UP + STEPS
            training = TiledTraining(parts.task, [member], total, torch.device("cpu"), Cut())
            training.advance(WARM_UP)
            start = time.process_time()
            training.advance(total)
            seconds.append(time.process_time() - start)
        relative = np.array(seconds) / np.median(seconds)
        found.append(relative)
        quantiles = np.quantile(relative, (0.0, 0.25, 0.75, 0.95, 1.0))
        names = ("least", "25 %", "75 %", "95 %", "greatest")
        spread[name] = dict(zip(names, quantiles.round(2).tolist(), strict=True))
    return np.concatenate(found), spread
