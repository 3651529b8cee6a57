"""A training by itself whose steps are replayed as a CUDA graph: the strongest peer on a GPU.

It is `AloneTraining` with a step that may read its number from the device: AdamW is fused and
capturable, its rate comes from a table. Trained as it is where there is no CUDA device.
"""

import torch

from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.graphs import Step, StepGraph, at
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.tasks.task import Task


class GraphedTraining(AloneTraining):
    """Trains as `AloneTraining` does, to the same floats but for the rounding of rates."""

    def __init__(self, task: Task, member: Member, steps: int, device: torch.device) -> None:
        """Start from the member's seed; `steps` is the full budget."""
        super().__init__(task, member, steps, device)
        recipe = member.recipe
        rates = [recipe.rate(step, steps) for step in range(steps)]
        self._rates = torch.tensor(rates, device=device)
        self._rate = torch.tensor(recipe.lr, device=device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=self._rate,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._parameters = list(self.model.parameters())
        self._graph = StepGraph(0, device) if device.type == "cuda" else None

    @one_thread()
    def advance(self, until: int) -> None:
        """Train up to step `until`."""
        self.model.train()
        with products_in(self.member.recipe.precision, self._rate.device):
            for step in range(self.step, until):
                if self._graph is None:
                    self.train_step(step)
                else:
                    self._graph.advance(self.train_step)
        self.step = until

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._graph is not None and self._graph.is_recorded

    def train_step(self, step: Step) -> None:
        """Train one step, whose number may lie on the device."""
        rows = self._order.at(step)[0]
        inputs = self._train.inputs.index_select(0, rows)
        targets = self._train.targets.index_select(0, rows)
        with autocast(self.member.recipe.precision, inputs.device):
            logits = self.model(inputs)
        logits = logits.to(self._parameters[0].dtype)
        loss = self.task.loss(logits[None], targets[None])[0]
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters, self.member.recipe.clip_norm)
        self._rate.copy_(at(self._rates, step))
        self.optimiser.step()
