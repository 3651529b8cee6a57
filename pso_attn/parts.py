"""What a search is made of, and what is done with it: trained, rehearsed, scored."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pso_attn.config import Configuration
from pso_attn.configured_space import make_space
from pso_attn.errors import ConfigurationError
from pso_attn.samplers import make_sampler
from pso_attn.space import Space
from pso_attn.types import Evaluator, Generation, Objective, Sampler, Settings
from pso_attn.weight_search import WeightSearch

if TYPE_CHECKING:  # what loads torch would slow down --help
    import torch

    from pso_attn.evaluate import LongTraining, OwnFactory, OwnObjective, Scored
    from pso_attn.evaluate.executors import Executor
    from pso_attn.evaluate.full_length import SearchTrainer
    from pso_attn.evaluate.jobs import Trainer
    from pso_attn.evaluate.weights import WeightTrainer


@dataclass(frozen=True, eq=False)
class Parts:
    """What a search is made of.

    task: a `pso_attn.tasks.Task`, its data read; None where `function`, an objective of one's
    own, stands in its place. factory: of modules of one's own, in place of built-in ones.
    weights: what of the weights is searched, where that is more than settings.
    """

    configuration: Configuration
    task: Any
    space: Space
    objectives: tuple[Objective, ...]
    function: Callable[..., Any] | None = None
    factory: "OwnFactory | None" = None
    weights: WeightSearch | None = None

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the data; None for an objective of one's own, whose data nobody sees."""
        if self.task is None:
            return None
        data = str(self.task.fingerprint)
        return data if self.weights is None else self.weights.fingerprint(data)

    def with_model(self, more: Mapping[str, Any]) -> "Parts":
        """Return the parts with these knobs fixed beside those that [model] fixes."""
        model = {**self.configuration.model, **more}
        configuration = replace(self.configuration, model=model)
        space = replace(make_space(configuration, self.task), notes=self.space.notes)
        return replace(self, configuration=configuration, space=space)

    def on(self, device: str) -> "Parts":
        """Return the parts on another device, which has to have what is trained there alone."""
        return replace(self, configuration=replace(self.configuration, device=device))

    def sampler(self) -> Sampler:
        """Return the sampler, as the first invocation made it."""
        return make_sampler(self.configuration)

    def evaluator(
        self,
        on_progress: Callable[[Any], None] | None = None,
        on_best: Callable[..., None] | None = None,
        on_forecast: Callable[[Any], None] | None = None,
        checkpoints: Path | None = None,
        executor: "Executor | None" = None,
    ) -> Evaluator:
        """Return the evaluator on the configuration's device; DeviceError if it is absent.

        checkpoints: the run's folder of models, for what trials of one's own keep. executor: where
        chunks train, by default in this process.
        """
        from pso_attn.evaluate import (
            ModuleEvaluator,
            ObjectiveEvaluator,
            SwarmEvaluator,
            resolve_device,
        )
        from pso_attn.evaluate.weights import WeightEvaluator

        device = self._device_there if executor else resolve_device(self.configuration.device)
        if self.function is not None:
            return ObjectiveEvaluator(
                self.space,
                self.own_objective(device),
                self.objectives,
                self.configuration.budget,
                self.configuration.seed,
                checkpoints,
                on_progress,
                executor,
            )
        if self.weights is not None:
            begin = partial(self.weights.begin, self._device_here, checkpoints)
            return WeightEvaluator(
                self.space,
                self.task,
                self.objectives,
                self.configuration.budget,
                self.configuration.seed,
                device,
                begin=begin,
                folder=checkpoints,
                on_progress=on_progress,
                on_best=on_best,
                executor=executor,
                trainer=self.weight_trainer(device),
            )
        kind: Any = SwarmEvaluator if self.factory is None else ModuleEvaluator
        evaluator: Evaluator = kind(
            self.space,
            self.task if self.factory is None else self.factory,
            self.objectives,
            self.configuration.budget,
            self.configuration.seed,
            device,
            on_progress=on_progress,
            on_best=on_best,
            on_forecast=on_forecast,
            executor=executor,
        )
        return evaluator

    def executor(self) -> "Executor":
        """Return where chunks train, as the configuration says; to be closed after use.

        Raises ConfigurationError where what is trained cannot be sent there.
        """
        if self.weights is not None:
            return self._executor_of(self.weight_trainer(self._device_there))
        return self._executor_of(self._searched_trainer())

    def _executor_of(self, trainer: "Trainer") -> "Executor":
        from pso_attn.evaluate.executors import make_executor

        where = self.configuration.execution
        return make_executor(
            where.executor,
            trainer,
            self._device_there,
            where.workers,
            where.chunk_timeout_s,
            where.ray_address,
            self.configuration.code_folder,
        )

    def _searched_trainer(self) -> "SearchTrainer":
        """Return who trains a chunk of settings."""
        from pso_attn.evaluate import ModuleTrainer, ObjectiveTrainer, SwarmTrainer

        objective, budget = self.objectives[0], self.configuration.budget
        device = self._device_there
        if self.function is not None:
            return ObjectiveTrainer(self.own_objective(device), objective, budget)
        if self.factory is not None:
            return ModuleTrainer(self.factory, objective, budget, device)
        return SwarmTrainer(self.task, objective, budget, device)

    @property
    def _device_there(self) -> "torch.device":
        """The device where chunks train: on a cluster it need not be one of this machine."""
        import torch

        from pso_attn.evaluate import resolve_device

        name = self.configuration.device
        is_elsewhere = self.configuration.execution.executor == "ray"
        return torch.device(name) if is_elsewhere else resolve_device(name)

    @property
    def _device_here(self) -> "torch.device":
        """The device of what this process trains: its CPU where other machines alone have GPUs."""
        import torch

        from pso_attn.evaluate import resolve_device

        is_elsewhere = self.configuration.execution.executor == "ray"
        if is_elsewhere and not torch.cuda.is_available():
            return torch.device("cpu")
        return resolve_device(self.configuration.device)

    def weight_trainer(self, device: "torch.device | None" = None) -> "WeightTrainer":
        """Return who scores positions of weights, by default in this process."""
        assert self.weights is not None
        device = device or self._device_here
        return self.weights.trainer(self.objectives[0], self.configuration.budget, device)

    def own_objective(self, device: "torch.device | None" = None) -> "OwnObjective":
        """Return the objective of one's own, by default on the configuration's device."""
        from pso_attn.evaluate import OwnObjective, resolve_device

        assert self.function is not None
        assert self.configuration.objective is not None
        batched = self.configuration.objective_batched
        device = device or resolve_device(self.configuration.device)
        return OwnObjective(self.function, self.configuration.objective, batched, device)

    def rehearsed(self, generation: Generation, workers: int) -> dict[str, Any]:
        """Return what a search will take, from some training of its first generation.

        workers: how many are to train it at once. Raises ConfigurationError where nothing of it
        can be trained.
        """
        from pso_attn.evaluate import (
            rehearse,
            rehearse_modules,
            rehearse_objective,
            resolve_device,
        )
        from pso_attn.evaluate.weights import rehearse_weights

        if not generation.chunks:
            violated = next(iter(generation.candidates[0].violations))
            raise ConfigurationError(
                f"{self.configuration.source}: nothing of the first generation can be trained: "
                f"{violated}; narrow the space to what can"
            )
        budget = self.configuration.budget
        if self.weights is not None:
            began = time.perf_counter()
            fitness = self.weight_trainer().fitness(None)  # trains in full what is searched
            before = {"first_training_seconds": time.perf_counter() - began}
            knobs = len(self.space.coordinates)
            measured = rehearse_weights(fitness, generation, budget, knobs)
            return {**measured, **(before if self.weights.start.needs_training else {})}
        if self.function is not None:
            objective = self.objectives[0]
            return rehearse_objective(self.own_objective(), generation, budget, objective)
        device = resolve_device(self.configuration.device)
        if self.factory is not None:
            return rehearse_modules(self.factory, generation, budget, device)
        return rehearse(generation, self.task, budget, device, workers)

    def refusal(self, settings: Settings) -> str | None:
        """Return why settings cannot be trained, in one sentence, or None."""
        from pso_attn.reach import why_refused

        if self.factory is None:
            return why_refused(settings, self.task)
        try:
            self.factory.cost(settings)
        except ConfigurationError as error:
            return str(error)
        return None

    def training(self, settings: Settings, seed: int, steps: int, device: str) -> "LongTraining":
        """Return one training by itself, not begun."""
        import torch

        from pso_attn.evaluate import ModuleMember, ModuleTraining, SwarmTraining, read_member

        if self.factory is not None:
            member = ModuleMember.of(settings, seed)
            return ModuleTraining(self.factory, [member], steps, torch.device(device))
        members = [read_member(settings, seed, self.task)]
        return SwarmTraining(self.task, members, steps, torch.device(device))

    def scored(
        self,
        settings: Sequence[Settings],
        seeds: Sequence[int],
        split: str,
        report: Callable[[int, int], None] | None = None,
    ) -> "list[Scored]":
        """Return each (settings, seed) pair's training at full length, scored on a split.

        They train where chunks do.
        """
        from pso_attn.evaluate.full_length import FullLengthTrainer, score_apart

        trainer = FullLengthTrainer(self._searched_trainer(), split)
        with closing(self._executor_of(trainer)) as executor:
            return score_apart(trainer, executor, settings, seeds, report)
