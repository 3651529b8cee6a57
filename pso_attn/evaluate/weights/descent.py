"""Gradient descent in the coordinates of a weight search: its control, and half of a hybrid."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.counter import keys
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.optimiser import SwarmAdamW, read_recipe
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.own_code import task_loss
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.evaluate.smoothing import Smoothing
from pso_attn.evaluate.weights.fitness import Fitness
from pso_attn.models import read_model
from pso_attn.types import Settings


class Descent:
    """N vectors under AdamW on the training split; the rest of each model stays.

    Where the search quantises, gradients pass straight through.
    """

    def __init__(
        self,
        fitness: Fitness,
        settings: Sequence[Settings],
        vectors: Tensor,
        seeds: Sequence[int],
        steps: int,
    ) -> None:
        """Start at vectors (N, n) of these settings. seeds: of data order and dropout."""
        self.searched, self.task = fitness.searched, fitness.task
        self.vectors = vectors.clone()
        self._gradients = torch.zeros_like(self.vectors)
        self._train = fitness.split("train")
        models = [read_model(one, self.task.info) for one in settings]
        self._carriers = fitness.carriers(models)
        recipes = [read_recipe(one) for one in settings]
        self._optimiser = SwarmAdamW(self.vectors, self._gradients, recipes, steps)
        self._precision = recipes[0].precision
        shares = [recipes[row].label_smoothing for row in self._carriers.rows]
        self._smooth = Smoothing(shares, self.vectors)
        placed = np.array([seeds[row] for row in self._carriers.rows], dtype=np.int64)
        batch, device = recipes[0].batch_size, vectors.device
        self._order = DataOrder(placed, len(self._train), steps, batch, device)
        self._keys = keys(placed, steps, self._carriers.swarm.sites).to(device)
        self.step = 0

    @one_thread()
    def advance(self, until: int) -> None:
        """Move the vectors up to step `until`."""
        train = self._train
        for step in range(self.step, until):
            leaf = self.vectors.detach().requires_grad_()
            rows = self.searched.rows(leaf)
            self._carriers.load(rows.detach())
            chosen = self._order.at(step)  # (N or 1, B)
            inputs, targets = train.inputs[chosen], train.targets[chosen]
            with products_in(self._precision, leaf.device):
                self._differentiate(inputs, targets, step)
            gradients = self._carriers.gradients(rows)
            (found,) = torch.autograd.grad(rows, leaf, gradients)
            self._gradients.copy_(found)
            self._optimiser.step(step)
        self.step = until

    def _differentiate(self, inputs: Tensor, targets: Tensor, step: int) -> None:
        """Leave the gradients of a step's training losses with the models that weights lie in."""
        swarm = self._carriers.swarm
        with autocast(self._precision, inputs.device):
            logits = swarm.forward(inputs, self._keys[step])
        logits = logits.to(self.vectors.dtype)
        losses = self._smooth(task_loss(self.task, logits, targets), logits)
        if swarm.penalty is not None:
            losses = losses + swarm.penalty
        swarm.storage.differentiate(losses.sum())


def descended(
    fitness: Fitness,
    settings: Sequence[Settings],
    positions: NDArray[np.float32],
    seeds: Sequence[int],
    falls: bool,
) -> NDArray[np.float32]:
    """Return where a hybrid's gradient steps lead from positions (N, n), inside the unit cube.

    Who diverges stays where it began: no number would be left to go on from, for itself or for a
    mean of several. falls: whether the rate falls as the settings say; else it stays at its peak,
    since what is yet to be averaged need not settle. seeds: of each particle's data order. Were it
    one for all, particles that are near each other would end where all others do, and a move
    between them would gain nothing.
    """
    vectors = fitness.searched.vectors(torch.from_numpy(positions).to(fitness.device))
    steps = fitness.searched.table.gradient_steps
    if not falls:
        settings = [{**one, "schedule": "constant"} for one in settings]
    descent = Descent(fitness, settings, vectors, seeds, steps)
    descent.advance(steps)
    sound = descent.vectors.isfinite().all(1, keepdim=True)
    ended = torch.where(sound, descent.vectors, vectors)
    found: NDArray[np.float32] = fitness.searched.positions(ended).cpu().numpy()
    return found
