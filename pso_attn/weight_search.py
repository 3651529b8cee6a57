"""The parts of a search for weights: where it begins, and what scores its positions."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pso_attn.checkpoints import load_checkpoint, save_checkpoint
from pso_attn.config import Configuration
from pso_attn.configured_space import naming
from pso_attn.errors import ConfigurationError
from pso_attn.imports import check_call, load_function
from pso_attn.space import FIRST, Space
from pso_attn.swarm import VARIANTS
from pso_attn.types import Budget, Objective

if TYPE_CHECKING:  # what loads torch would slow down --help
    import torch

    from pso_attn.evaluate.weights import Start, WeightTrainer

DRAWN_BYTES = 8  # of a weight, in float64 as it is drawn
PLACE_BYTES = 2 * 8  # of a weight, at least: where a particle is and was, in float64
DROPS = ("dropout", "attention_dropout", "head_dropout")


@dataclass(frozen=True, eq=False)
class WeightSearch:
    """What is searched of a model's weights. own: a fitness of somebody's own, or None."""

    configuration: Configuration
    task: Any
    start: "Start"
    own: Callable[..., Any] | None

    @classmethod
    def of(cls, configuration: Configuration, task: Any, space: Space) -> "WeightSearch":
        """Read what [weights] names; ConfigurationError where it does not fit the model.

        space: of the knobs, whose defaults say which shapes the matrices have.
        """
        from pso_attn.evaluate import cost
        from pso_attn.evaluate.weights import Start

        table, own = configuration.weight_table, None
        assert table is not None
        settings = space.settings(space.decode(space.starts[0]))
        with naming(configuration.source):
            if configuration.sampler == "pso-consensus" and table.mode in ("weights", "joint"):
                raise ConfigurationError(
                    "sampler pso-consensus averages weights that gradient steps led apart, and "
                    f'mode = "{table.mode}" takes none; choose pso, or mode = "hybrid"'
                )
            if table.mode == "joint":
                _check_acting(configuration.search)
            if table.fitness is not None:
                own = load_function(table.fitness, "weights.fitness", configuration.code)
                check_call(own, table.fitness, "model, batch", 2)
            parameters = cost(settings, task.info)["parameters"]
            _check_fits(DRAWN_BYTES * parameters, "the model", "narrow d_model or layers")
            start = Start.of(table, settings, task.info, configuration.seed)
            assert start.count, "there is something to search"
            budget = configuration.budget
            held, what = budget.batch, f"a batch of {budget.batch} positions"
            if configuration.sampler in VARIANTS:
                held, what = budget.particles, f"a swarm of {budget.particles} particles"
            _check_fits(
                PLACE_BYTES * held * start.count,
                f"{what} with {start.count:,} weights each",
                'name fewer matrices, or coordinates = "subspace"',
            )
        return cls(configuration, task, start, own)

    def space(self, space: Space) -> Space:
        """Return the space of the knobs with the weights beside them."""
        particles = self.configuration.budget.particles
        return space.with_weights(self.start.first_positions(particles))

    def fingerprint(self, data: str) -> str:
        """Return the SHA-256 of the data and of the checkpoints that the search starts from."""
        digest = hashlib.sha256(data.encode())
        for name in self.start.table.files:
            digest.update(Path(name).read_bytes())
        return digest.hexdigest() if self.start.table.files else data

    def trainer(
        self, objective: Objective, budget: Budget, device: "torch.device"
    ) -> "WeightTrainer":
        """Return who scores positions."""
        from pso_attn.evaluate.weights import OwnFitness, WeightTrainer

        own, name = None, self.start.table.fitness
        if name is not None:
            assert self.own is not None
            own = OwnFitness(self.own, name)
        generations = self.configuration.planned_generations
        return WeightTrainer(self.start, self.task, objective, budget, device, generations, own)

    def begin(self, device: "torch.device", checkpoints: Path | None) -> None:
        """Leave the model whose weights are searched in the run's folder of models.

        Where a file gives it, or it is there already, there is nothing to do. A damaged one is
        refused by RunError.
        """
        if checkpoints is None or not self.start.needs_training:
            return
        from pso_attn.evaluate.device import give_freed_memory_back
        from pso_attn.evaluate.weights import train_first

        if load_checkpoint(checkpoints / FIRST) is None:
            settings, steps = self.start.settings, self.configuration.budget.steps
            try:
                parts = train_first(self.task, settings, self.start.seed, steps, device)
            finally:
                give_freed_memory_back()  # to those who train the search
            save_checkpoint(checkpoints / FIRST, parts, {"settings": dict(settings)})


def _check_acting(search: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a knob that acts on trainings alone."""
    from pso_attn.evaluate import TRAINING_KNOBS

    for name in search:
        if name in TRAINING_KNOBS or name in DROPS:
            raise ConfigurationError(
                f'search.{name} acts while a model trains, and mode = "joint" trains none; fix it '
                'in [model], or use mode = "hybrid"'
            )


def _check_fits(needed_bytes: int, what: str, advice: str) -> None:
    """Raise ConfigurationError for what the machine's memory can never hold."""
    from pso_attn.evaluate.room import machine_bytes

    if needed_bytes > machine_bytes():
        raise ConfigurationError(
            f"{what} takes at least {needed_bytes / 2**20:.0f} MiB of memory, and the machine has "
            f"{machine_bytes() / 2**20:.0f}; {advice}"
        )
