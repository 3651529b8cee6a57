"""One training by itself, with a plain module: what the batched job is compared with."""

import numpy as np
import torch

from pso_attn.counter import keys
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.own_code import task_loss
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.evaluate.scoring import scores_of
from pso_attn.evaluate.training import on_device
from pso_attn.models import swarm_type
from pso_attn.tasks.task import Split, Task


class AloneTraining:
    """A stand-alone module of true size under torch's own AdamW, from the swarm's start and data.

    swarm_dropout: draw the swarm's dropout masks in place of torch's, to compare float by float.
    """

    def __init__(
        self,
        task: Task,
        member: Member,
        steps: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        swarm_dropout: bool = False,
    ) -> None:
        """Start from the member's seed; `steps` is the full budget."""
        self.task, self.member, self.steps, self.step = task, member, steps, 0
        swarm = swarm_type(member.model)
        started = swarm.started([member.model], task.info, [member.seed], dtype, device)
        self.model = started.extract(0)
        recipe = member.recipe
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self._train = on_device(task.train, device, dtype)
        self._splits: dict[str, Split] = {}
        seeds = np.array([member.seed], dtype=np.int64)
        self._order = DataOrder(seeds, len(task.train), steps, recipe.batch_size, device)
        self._keys = keys(seeds, steps, started.sites).to(device) if swarm_dropout else None

    @one_thread()
    def advance(self, until: int) -> None:
        """Train up to step `until`."""
        recipe, parameters = self.member.recipe, list(self.model.parameters())
        self.model.train()
        with products_in(recipe.precision, parameters[0].device):
            for step in range(self.step, until):
                rows = self._order.at(step)[0]
                inputs = self._train.inputs.index_select(0, rows)
                targets = self._train.targets.index_select(0, rows)
                drawn = None if self._keys is None else self._keys[step]
                with autocast(recipe.precision, inputs.device):
                    logits = self.model(inputs, drawn)
                logits = logits.to(parameters[0].dtype)
                loss = task_loss(self.task, logits[None], targets[None])[0]
                if recipe.label_smoothing:
                    even = -logits.log_softmax(-1).mean()
                    loss = torch.lerp(loss, even, recipe.label_smoothing)
                if self.model.penalty is not None:
                    loss = loss + self.model.penalty
                self.optimiser.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
                self.optimiser.param_groups[0]["lr"] = recipe.rate(step, self.steps)
                self.optimiser.step()
        self.step = until

    @one_thread()
    @torch.no_grad()
    def score(self, split: str = "validation") -> dict[str, float]:
        """Return the task's metrics on a split, in batches as a swarm is scored."""
        device, dtype = self._train.inputs.device, next(self.model.parameters()).dtype
        if split not in self._splits:
            self._splits[split] = on_device(getattr(self.task, split), device, dtype)
        self.model.eval()
        with products_in("float32", device):
            scores = scores_of(
                lambda inputs: self.model(inputs[0])[None], self.task, self._splits[split], dtype
            )
        return {name: float(value[0]) for name, value in scores.items()}
