"""Trainings of a user's modules over flat weights: several alike as one batch, or one by itself.

Modules that are alike but for their weights become one function of stacked weights, by
`torch.func`. One by itself is called as its author wrote it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pso_attn.evaluate.optimiser import Recipe, SwarmAdamW
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.own_code import draw_from, own_code, task_loss
from pso_attn.evaluate.own_factory import OwnFactory, names_of, state_of
from pso_attn.evaluate.precision import autocast, check_precision, products_in
from pso_attn.evaluate.scoring import by_particle, scores_of
from pso_attn.evaluate.smoothing import Smoothing
from pso_attn.evaluate.training import first_bad_steps
from pso_attn.models.storage import gathered
from pso_attn.seeding import training_seed
from pso_attn.tasks.task import Split


class ModuleStack:
    """N modules and their training; their weights are rows of one (N, P) tensor."""

    def __init__(
        self,
        factory: OwnFactory,
        modules: Sequence[nn.Module],
        recipes: Sequence[Recipe],
        seeds: Sequence[int],
        steps: int,
        train: Split,
        device: torch.device,
    ) -> None:
        """Take modules that are alike, on the device; `steps` is the full budget."""
        self.factory, self.steps, self.step = factory, steps, 0
        self.precision = recipes[0].precision
        check_precision(self.precision, device)
        self.module, self.seeds = modules[0], list(seeds)
        self._saved = names_of(self.module)
        states = [state_of(module) for module in modules]
        self.names = [name for name, p in self.module.named_parameters() if p.requires_grad]
        with torch.no_grad():
            rows = [torch.cat([s[n].detach().flatten() for n in self.names]) for s in states]
            self.weights = torch.stack(rows)  # (N, P)
            held = [name for name in states[0] if name not in self.names]
            self.held = {name: torch.stack([s[name].detach() for s in states]) for name in held}
        self.is_alone = len(modules) == 1
        self._lay()
        self.optimiser = SwarmAdamW(self.weights, self.gradients, recipes, steps)
        self._smooth = Smoothing([recipe.label_smoothing for recipe in recipes], self.weights)
        self._train = train
        numbers = np.array(seeds, dtype=np.int64)
        self._order = DataOrder(numbers, len(train), steps, recipes[0].batch_size, device)
        self._losses = torch.zeros(steps, len(modules), device=device)

    def _lay(self) -> None:
        """Lay the parameters over the rows of flat weights: views, which autograd takes."""
        self.gradients = torch.zeros_like(self.weights)
        own = dict(self.module.named_parameters())
        self.values: dict[str, Tensor] = {}
        first = 0
        for name in self.names:
            last = first + own[name].numel()
            view = self.weights[:, first:last].view(len(self.weights), *own[name].shape)
            if self.is_alone:
                own[name].data = view[0]
                self.values[name] = own[name]
            else:
                self.values[name] = view.detach().requires_grad_()
            first = last
        if self.is_alone:
            state = state_of(self.module)
            self.held = {name: state[name].detach() for name in self.held}

    def advance(self, until: int) -> None:
        """Train up to step `until`."""
        device = self.weights.device
        self.module.train()
        with own_code(self.seeds[0], device), products_in(self.precision, device):
            for step in range(self.step, until):
                draw_from(training_seed(self.seeds[0], step))
                self.train_step(step)
        self.step = until

    def train_step(self, step: int) -> None:
        """Train one step, which counts from 0."""
        losses = self.losses(step)
        self._losses[step] = losses.detach()
        self.differentiate(losses.sum())
        self.optimiser.step(step)

    def losses(self, step: int) -> Tensor:
        """Return the training losses (N,) of a step's batches."""
        chosen = self._order.at(step)  # (N or 1, B)
        inputs, targets = self._train.inputs[chosen], self._train.targets[chosen]
        with autocast(self.precision, self.weights.device):
            logits = self.forward(inputs)
        logits = logits.to(self.weights.dtype)
        return self._smooth(task_loss(self.factory.task, logits, targets), logits)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (N, B, …) for inputs (N or 1, B, …).

        Buffers are then as the modules left them, those too that they assigned anew.
        """
        if self.is_alone:
            logits = self.module(inputs[0])
            self.factory.check_shape(logits, inputs.shape[1])
            now = dict(self.module.named_buffers(remove_duplicate=False))
            self.held = _left(self.held, now)
            return logits[None]  # type: ignore[no-any-return]  # checked to be a tensor

        def one(values: Mapping[str, Tensor], held: Mapping[str, Tensor], x: Tensor) -> Any:
            state = {**values, **held}
            logits = functional_call(self.module, state, (x,))  # which writes into `state`
            return logits, _left(held, state)

        shared = len(inputs) == 1
        batched = vmap(one, in_dims=(0, 0, None if shared else 0), randomness="error")
        logits, self.held = batched(self.values, self.held, inputs[0] if shared else inputs)
        return logits  # type: ignore[no-any-return]  # vmap has no types

    @torch.no_grad()
    def score(self, data: Split) -> list[dict[str, float]]:
        """Return the task's metrics on a split, on the device, for each row."""
        self.module.eval()
        device, dtype = self.weights.device, self.weights.dtype
        with own_code(self.seeds[0], device), products_in("float32", device):
            scores = scores_of(self.forward, self.factory.task, data, dtype)
        return by_particle(scores)

    def first_bad_steps(self) -> list[int | None]:
        """Return for each row the first step, from 1, whose training loss was not finite."""
        return first_bad_steps(self._losses[: self.step])

    @property
    def state(self) -> dict[str, Tensor]:
        """All that is carried from step to step; with the step, what to go on from."""
        carried = {"weights": self.weights, **self.optimiser.state}
        return {**carried, **{f"held.{name}": tensor for name, tensor in self.held.items()}}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on as after `step` steps that left `state`, to the same floats."""
        for name, tensor in self.state.items():
            if not torch.equal(tensor, state[name]):  # else what modules share would seem changed
                tensor.copy_(state[name])
        self.step = step

    def true_parameters(self, row: int) -> dict[str, Tensor]:
        """Return copies of one module's parameters and buffers, named as its `state_dict` does."""
        known = {**self.values, **self.held}
        own = {
            name: known[ours] if self.is_alone else known[ours][row]
            for name, ours in self._saved.items()
        }
        return {name: tensor.detach().clone() for name, tensor in own.items()}

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of a batch alone, in ascending order."""
        kept = torch.tensor(rows, device=self.weights.device)
        self.weights = gathered(self.weights, rows)
        self.held = {name: tensor[kept] for name, tensor in self.held.items()}
        self.seeds = [self.seeds[row] for row in rows]
        self._lay()
        self.optimiser.keep(rows, self.weights, self.gradients)
        self._smooth.keep(kept)
        self._losses = self._losses[:, kept]
        self._order.keep(rows)

    def differentiate(self, loss: Tensor) -> None:
        """Put the gradient of every weight into `gradients`; 0 where the loss has none."""
        values = list(self.values.values())
        found = torch.autograd.grad(loss, values, allow_unused=True)
        count, first = len(self.weights), 0
        for value, gradient in zip(values, found, strict=True):
            last = first + value.numel() // count
            columns = self.gradients[:, first:last]
            if gradient is None:
                columns.zero_()
            else:
                columns.copy_(gradient.reshape(count, -1))
            first = last


def _left(held: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return buffers as a module left them; one of another shape is no state, but its scratch."""
    return {
        name: now[name].detach() if name in now and now[name].shape == old.shape else old
        for name, old in held.items()
    }
