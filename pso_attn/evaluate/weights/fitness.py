"""Scores of positions: weights are laid into models, and these answer examples, all at once."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite, nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pso_attn.evaluate.device import (
    idle_threads,
    keep_freed_memory,
    memory_budget_bytes,
    one_thread,
)
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.own_answers import read_answer
from pso_attn.evaluate.own_code import OwnCodeError, own_code, why
from pso_attn.evaluate.scoring import by_particle, score_split
from pso_attn.evaluate.tiles import even_parts
from pso_attn.evaluate.training import on_device
from pso_attn.evaluate.weights.carriers import Carriers
from pso_attn.evaluate.weights.searched import DRAW, Searched
from pso_attn.models import ModelSettings, PlainModel, read_model
from pso_attn.models.footprint import SCORED_TOGETHER
from pso_attn.seeding import generator, training_seed
from pso_attn.space import FITNESS
from pso_attn.tasks.task import Split, Task
from pso_attn.types import Settings

SEEN = 128  # validation examples that a particle's metrics are of
COMPARED = 2048  # examples on which a search is compared with its controls
TILE_FLOATS, FLOATS_PER_CHANNEL = 2**22, 10  # activations worked on at a time; of one token
TILE_BYTES = 16  # of a GPU's memory for each of those floats: scores of attention lie beside them


@dataclass(frozen=True)
class Score:
    """One position's objective, and the validation metrics; error: why it has none, or None."""

    value: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class OwnFitness:
    """A function of somebody's own, (model, batch) -> a number, and the name that it goes by."""

    function: Callable[[PlainModel, Split], Any]
    name: str

    def score(self, model: PlainModel, batch: Split, metrics: Mapping[str, float]) -> Score:
        """Return what it says of a model; what it raises, or no number, is the score's error.

        It gets a copy of the batch: what it changes there reaches no other model.
        """
        copied = Split(batch.inputs.clone(), batch.targets.clone())
        try:
            with own_code(0, batch.inputs.device):
                answer = self.function(model, copied)
            value = read_answer(answer, FITNESS, self.name)[FITNESS]
        except OwnCodeError as error:
            return Score(nan, metrics, str(error))
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            return Score(nan, metrics, why(self.name, error))
        return Score(value, metrics)


class Fitness:
    """What particles of a weight search are worth."""

    def __init__(
        self,
        searched: Searched,
        task: Task,
        objective: str,
        seed: int,
        device: torch.device,
        own: OwnFitness | None = None,
    ) -> None:
        """Remember what is scored on what. objective: the metric's name, unless `own` is given."""
        self.searched, self.task, self.objective = searched.to(device), task, objective
        self.seed, self.device, self.own = seed, device, own
        self._splits: dict[str, Split] = {}
        self._kept: dict[int, tuple[tuple[ModelSettings, ...], Carriers]] = {}  # by tile
        keep_freed_memory()

    def score(
        self,
        settings: Sequence[Settings],
        positions: Tensor,
        seeds: Sequence[int],
        with_metrics: bool = True,
    ) -> list[Score]:
        """Return the score of each position (N, n); seeds: of the examples that all see."""
        vectors = self.searched.vectors(positions.to(self.device))
        seen = self.seen if with_metrics else None
        return self._scores(
            settings,
            lambda rows: self.searched.rows(vectors[rows]),
            self.examples(seeds),
            seen,
        )

    def score_rows(self, settings: Sequence[Settings], rows: Tensor) -> list[Score]:
        """Return the score of flat rows (N, M), as models use them, on fixed examples.

        All of them where they are not many: what is compared at the end sees more than a search.
        """
        examples = self._fixed(self.searched.table.split, COMPARED)
        seen = self._fixed("validation", COMPARED)
        return self._scores(settings, lambda chosen: rows[chosen], examples, seen)

    def score_part(
        self, settings: Sequence[Settings], rows: Tensor, split: str, chosen: slice
    ) -> list[Score]:
        """Return the score of flat rows (N, M), as models use them, on part of a split.

        Its metrics are of that part, with the objective of one's own among them.
        """
        whole = self.split(split)
        part = Split(whole.inputs[chosen], whole.targets[chosen])
        scores = self._scores(settings, lambda places: rows[places], part, part)
        if self.own is None:
            return scores
        return [
            replace(score, metrics={**score.metrics, self.objective: score.value})
            for score in scores
        ]

    def parts(self, settings: Settings, position: Tensor) -> dict[str, Tensor]:
        """Return all parameters of one position's model by name, as it uses them."""
        vector = self.searched.vectors(position[None].to(self.device))
        return self.parts_of(settings, self.searched.rows(vector))

    def parts_of(self, settings: Settings, row: Tensor) -> dict[str, Tensor]:
        """Return all parameters of the model of one flat row (1, M) by name."""
        carriers = self.carriers([read_model(settings, self.task.info)])
        carriers.load(row)
        return carriers.swarm.storage.true_parameters(0)

    def examples(self, seeds: Sequence[int]) -> Split:
        """Return the examples of an evaluation: a draw for each seed, or the whole split."""
        table = self.searched.table
        data = self.split(table.split)
        if table.examples == 0 or table.examples >= len(data):
            return data
        rows = np.concatenate(
            [
                generator(seed, "examples").permutation(len(data))[: table.examples]
                for seed in seeds
            ]
        )
        chosen = torch.from_numpy(rows).to(self.device)
        return Split(data.inputs[chosen], data.targets[chosen])

    @property
    def seen(self) -> Split:
        """The validation examples that a particle's metrics are of."""
        return self._fixed("validation", SEEN)

    def plain(self, settings: Settings, row: Tensor) -> PlainModel:
        """Return the stand-alone model of one flat row (1, M)."""
        carriers = self.carriers([read_model(settings, self.task.info)])
        carriers.load(row)
        return carriers.swarm.extract(0).eval()

    def _fixed(self, name: str, count: int) -> Split:
        """Return `count` examples of a split, always the same, or all where count is 0."""
        data = self.split(name)
        if count == 0 or count >= len(data):
            return data
        chosen = generator(self.seed, "examples", name).permutation(len(data))[:count]
        rows = torch.from_numpy(np.sort(chosen)).to(self.device)
        return Split(data.inputs[rows], data.targets[rows])

    def split(self, name: str) -> Split:
        """Return a split of the task on the device."""
        if name not in self._splits:
            self._splits[name] = on_device(getattr(self.task, name), self.device, torch.float32)
        return self._splits[name]

    def carriers(self, models: Sequence[ModelSettings]) -> Carriers:
        """Return models to lay weights into, new ones."""
        seed = training_seed(self.seed, DRAW)
        return Carriers(models, self.task.info, self.searched, seed, self.device)

    @cached_property
    def _threads(self) -> int:
        """On how many threads tiles are scored: the cores that were idle at first."""
        return idle_threads(self.device)

    def _models(self, settings: Sequence[Settings]) -> list[ModelSettings]:
        """Return settings, typed; what stands there often is read once."""
        distinct: list[tuple[Settings, ModelSettings]] = []
        models = []
        for one in settings:
            known = next((model for other, model in distinct if other == one), None)
            if known is None:
                known = read_model(one, self.task.info)
                distinct.append((one, known))
            models.append(known)
        return models

    def _carriers(self, tile: int, models: Sequence[ModelSettings]) -> Carriers:
        """Return the models of a tile to lay weights into, the last ones where they serve."""
        known = self._kept.get(tile)
        if known is None or known[0] != tuple(models):
            known = self._kept[tile] = tuple(models), self.carriers(models)
        return known[1]

    def _scores(
        self,
        settings: Sequence[Settings],
        rows_of: Callable[[list[int]], Tensor],
        examples: Split,
        seen: Split | None,
    ) -> list[Score]:
        """Return the score of each row; rows_of: which of them -> (n, M)."""
        models, precision = self._models(settings), read_recipe(settings[0]).precision
        order = sorted(range(len(models)), key=lambda row: models[row].group)
        tiles = even_parts(order, self._tile_count(models, examples))

        def one(index: int) -> list[Score]:
            rows = tiles[index]
            carriers = self._carriers(index, [models[row] for row in rows])
            with torch.no_grad():
                carriers.load(rows_of(rows))
                return self._scored(carriers, examples, seen, precision)

        threads = min(len(tiles), self._threads)
        if self.own is not None:
            threads = 1  # its random numbers, and where it prints, are the whole process's
        with one_thread():
            if threads == 1:
                found = [one(index) for index in range(len(tiles))]
            else:
                with ThreadPoolExecutor(threads) as pool:
                    found = list(pool.map(one, range(len(tiles))))
        by_row = {
            row: score
            for rows, scores in zip(tiles, found, strict=True)
            for row, score in zip(rows, scores, strict=True)
        }
        return [by_row[row] for row in range(len(models))]

    def _scored(
        self, carriers: Carriers, examples: Split, seen: Split | None, precision: str
    ) -> list[Score]:
        """Return the scores of loaded models, in the order that they were asked for."""
        count = len(carriers.rows)
        metrics: list[dict[str, float]] = [{} for _ in range(count)]
        if seen is not None:
            metrics = by_particle(score_split(carriers.swarm, self.task, seen, precision))
        if self.own is not None:
            models = (carriers.swarm.extract(row).eval() for row in range(count))
            pairs = zip(models, metrics, strict=True)
            scores = [self.own.score(model, examples, one) for model, one in pairs]
        else:
            ours = metrics
            if examples is not seen:
                ours = by_particle(score_split(carriers.swarm, self.task, examples, precision))
            values = (one[self.objective] for one in ours)
            scores = [_score(value, one) for value, one in zip(values, metrics, strict=True)]
        found = dict(zip(carriers.rows, scores, strict=True))
        return [found[row] for row in range(count)]

    def _tile_count(self, models: Sequence[ModelSettings], chosen: Split) -> int:
        """Return into how many tiles a chunk is cut, so that caches hold what is worked on.

        A GPU has it in its memory and wants as much at once as that holds.
        """
        info, width = self.task.info, self.searched.rest["head"].shape[0]
        together = min(len(chosen), SCORED_TOGETHER)
        floats = together * info.length * width * FLOATS_PER_CHANNEL
        on_cpu = self.device.type == "cpu"
        most = TILE_FLOATS if on_cpu else memory_budget_bytes(self.device) // TILE_BYTES
        return -(-len(models) * floats // most)


def _score(value: float, metrics: Mapping[str, float]) -> Score:
    if isfinite(value):
        return Score(value, metrics)
    return Score(value, metrics, "the fitness of its weights is not a finite number")
