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
from pso_attn.space import FITNESS, Space

if TYPE_CHECKING:  # what loads torch would slow down --help
    from torch import Tensor

    from pso_attn.evaluate.weights import Fitness, Start

DROPS = ("dropout", "attention_dropout", "head_dropout")
FIRST = "start.safetensors"  # the model whose weights are searched


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
        from pso_attn.evaluate.weights import Start

        table, own = configuration.weight_table, None
        assert table is not None
        settings = space.settings(space.decode(space.starts[0]))
        with naming(configuration.source):
            if table.mode == "joint":
                _check_acting(configuration.search)
            if table.fitness is not None:
                own = load_function(table.fitness, "weights.fitness", configuration.code)
                check_call(own, table.fitness, "model, batch", 2)
            start = Start.of(table, settings, task.info, configuration.seed)
            assert start.count, "there is something to search"
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

    def fitness(self, device: str, checkpoints: Path | None) -> "Fitness":
        """Return what scores positions; the model is trained first where nothing gives it.

        checkpoints: the run's folder of models, where it is kept.
        """
        from pso_attn.evaluate import resolve_device
        from pso_attn.evaluate.weights import Fitness, OwnFitness

        name, own = self.start.table.fitness, None
        if name is not None:
            assert self.own is not None
            own = OwnFitness(self.own, name)
        trained = self._trained(device, checkpoints) if self.start.needs_training else None
        return Fitness(
            self.start.searched(trained),
            self.task,
            self.configuration.objectives[0] if self.own is None else FITNESS,
            self.configuration.seed,
            resolve_device(device),
            own,
        )

    def _trained(self, device: str, checkpoints: Path | None) -> "Mapping[str, Tensor]":
        from pso_attn.evaluate import resolve_device
        from pso_attn.evaluate.weights import train_first

        kept = None if checkpoints is None else load_checkpoint(checkpoints / FIRST)
        if kept is not None:
            return kept.tensors
        configuration, settings = self.configuration, self.start.settings
        steps = configuration.budget.steps
        device_ = resolve_device(device)
        parts = train_first(self.task, settings, configuration.seed, steps, device_)
        if checkpoints is not None:
            save_checkpoint(checkpoints / FIRST, parts, {"settings": dict(settings)})
        return parts


def _check_acting(search: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for a knob that acts on trainings alone."""
    from pso_attn.evaluate import TRAINING_KNOBS

    for name in search:
        if name in TRAINING_KNOBS or name in DROPS:
            raise ConfigurationError(
                f'search.{name} acts while a model trains, and mode = "joint" trains none; fix it '
                'in [model], or use mode = "hybrid"'
            )
