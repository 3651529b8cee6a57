"""Which weights a run keeps as its best, where a generation trains in several chunks."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator
from pso_attn.models import MODEL_KNOBS
from pso_attn.space import read_space
from pso_attn.tasks import make_task
from pso_attn.types import Budget, Generation, History, Objective, Outcome, Proposal, State


def test_a_later_chunk_replaces_the_best_only_where_it_is_better() -> None:
    task, objective = make_task("digits"), Objective("loss", "minimize")
    knobs = {**MODEL_KNOBS, **TRAINING_KNOBS}
    space = read_space({"layers": [1, 2], "lr": {}}, {"d_model": 16}, knobs)
    budget = Budget(particles=2, batch=2, generations=1, steps=12, rungs=(1.0,))
    offered: list[int] = []

    def offer(outcome: Outcome, settings: Any, weights: Any) -> None:
        offered.append(outcome.trial)

    evaluator = SwarmEvaluator(
        space, task, (objective,), budget, 0, torch.device("cpu"), on_best=offer
    )
    positions = np.stack(
        [space.encode({"layers": n, "lr": lr}) for n, lr in ((1, 1e-2), (2, 1e-4))]
    )
    history = History((objective,))
    generation = evaluator.plan(Proposal(positions, (0, 1)), history)
    assert generation.chunks == ((0,), (1,))
    outcomes = [o for o in evaluator.evaluate(generation, history, lambda: False)]
    first, second = (o for o in outcomes if isinstance(o, Outcome))
    assert first.values is not None
    assert second.values is not None
    assert first.values < second.values
    assert offered == [0]

    half = Generation(0, generation.candidates, generation.chunks, {0: first})
    list(evaluator.evaluate(half, history, lambda: False))
    assert offered == [0]

    left = replace(first, state=State.PRUNED)  # whoever left early has no full loss to beat
    half = Generation(0, generation.candidates, generation.chunks, {0: left})
    list(evaluator.evaluate(half, history, lambda: False))
    assert offered == [0, 1]
