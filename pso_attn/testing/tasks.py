"""What every task keeps, as a suite that a test of your own inherits.

class TestMyTask(TaskContract):
    def make(self):
        return MyTask()
"""

import json
import math
import pickle
import re

import torch
from torch.nn import functional

from pso_attn.tasks import Split, Task


class TaskContract:
    """Inherit it in a class named `Test…` and return a new task from `make`."""

    def make(self) -> Task:
        """Return the task, constructed anew."""
        raise NotImplementedError

    def test_every_split_has_the_shapes_and_dtypes_that_the_info_declares(self) -> None:
        """Inputs are as `TaskInfo` says; targets are classes, or numbers for a single output."""
        task = self.make()
        info = task.info
        assert (info.tokens is None) != (info.features is None)
        for split in (task.train, task.validation, task.test):
            assert len(split) > 0
            shape = (len(split), info.length)
            named = split.inputs[..., 0].long() if info.weighted else split.inputs
            if info.tokens is not None:
                assert named.shape == shape
                assert named.dtype == torch.int64
                assert 0 <= int(named.min()) <= int(named.max()) < info.tokens
            if info.tokens is None or info.weighted:
                assert split.inputs.shape == (*shape, info.features or 2)
                assert split.inputs.dtype == torch.float32
                assert bool(split.inputs.isfinite().all())
            if info.horizon:
                assert info.horizon < info.length
                assert split.targets.shape[0] == len(split)
                assert split.targets.shape[1] >= info.horizon  # what is beside is the task's own
            else:
                assert split.targets.shape == (shape if info.per_token else shape[:1])
            if info.outputs == 1:
                assert split.targets.dtype == torch.float32
                assert bool(split.targets.isfinite().all())
            else:
                assert split.targets.dtype == torch.int64
                assert 0 <= int(split.targets.min()) <= int(split.targets.max()) < info.outputs

    def test_no_example_stands_in_two_splits(self) -> None:
        """Nothing that is learned from is scored, nothing that the search sees is confirmed on."""
        task = self.make()
        train, validation, test = (
            _examples(split) for split in (task.train, task.validation, task.test)
        )
        assert not train & validation
        assert not train & test
        assert not validation & test

    def test_a_causal_language_models_target_is_the_next_input(self) -> None:
        """Where every position has a target and none may look ahead, input t + 1 is target t."""
        task = self.make()
        info = task.info
        answers_each = info.per_token and not info.horizon
        if info.causal and answers_each and info.tokens == info.outputs:
            for split in (task.train, task.validation, task.test):
                assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])

    def test_loss_is_the_mean_cross_entropy_or_squared_error_of_each_particle(self) -> None:
        """Whether the particles share a batch or each has its own, and in float64 as well."""
        task = self.make()
        for dtype in (torch.float32, torch.float64):
            for shared in (True, False):
                logits, targets = _answers(task, particles=3, shared=shared, dtype=dtype)
                losses = task.loss(logits, targets)
                assert losses.shape == (3,)
                assert losses.dtype == dtype
                for particle in range(3):
                    answers = logits[particle].flatten(end_dim=-2)
                    wanted = _right(task, targets[0 if shared else particle]).flatten()
                    if task.info.outputs == 1:
                        alone = functional.mse_loss(answers.squeeze(-1), wanted.to(dtype))
                    else:
                        alone = functional.cross_entropy(answers, wanted)
                    torch.testing.assert_close(losses[particle], alone)

    def test_loss_sends_gradients_to_its_own_particle_only(self) -> None:
        """The gradient of one particle's loss is zero in every other particle's logits."""
        task = self.make()
        logits, targets = _answers(task, particles=2)
        logits.requires_grad_()
        task.loss(logits, targets)[0].backward()
        assert logits.grad is not None
        assert bool((logits.grad[0] != 0).any())
        assert not bool((logits.grad[1] != 0).any())

    def test_score_gives_every_metric_of_every_particle_and_agrees_with_the_loss(self) -> None:
        """The names are those that have a direction; twice the same answers, the same figures."""
        task = self.make()
        assert task.metrics["loss"] == "minimize"
        assert set(task.metrics.values()) <= {"minimize", "maximize"}
        logits, targets = _answers(task, particles=3, dtype=torch.float64)
        scores, again = task.score(logits, targets), task.score(logits, targets)
        assert set(scores) == set(task.metrics)
        for name, values in scores.items():
            assert values.shape == (3,)
            assert values.dtype == torch.float64
            assert torch.equal(values, again[name])
        torch.testing.assert_close(scores["loss"], task.loss(logits, targets))

    def test_right_answers_score_better_than_wrong_ones_in_every_direction(self) -> None:
        """Confident and right against confident and wrong, by each metric's own direction."""
        task = self.make()
        _, targets = _answers(task, particles=2)
        if task.info.outputs == 1:
            right = _right(task, targets[0]).double().unsqueeze(-1)
            answers = torch.stack([right, right + 1])
        else:
            classes = torch.arange(task.info.outputs)
            right = (_right(task, targets[0]).unsqueeze(-1) == classes).double() * 5
            answers = torch.stack([right, -right])
        scores = task.score(answers, targets)
        for name, direction in task.metrics.items():
            good, bad = scores[name].tolist()
            assert good < bad if direction == "minimize" else good > bad

    def test_two_constructions_give_the_same_data_and_fingerprint(self) -> None:
        """The data does not depend on a run's seed, or on anything that was drawn before."""
        first, second = self.make(), self.make()
        assert re.fullmatch("[0-9a-f]{64}", first.fingerprint)
        assert first.fingerprint == second.fingerprint
        assert first.info == second.info
        for one, other in (
            (first.train, second.train),
            (first.validation, second.validation),
            (first.test, second.test),
        ):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)

    def test_some_baseline_beats_chance_on_metrics_of_the_task(self) -> None:
        """Uniform guessing costs log(classes) nats, the mean 1 squared deviation."""
        task = self.make()
        baselines = task.baselines()
        for scores in baselines.values():
            assert scores
            assert set(scores) <= set(task.metrics)
        classes = task.info.outputs
        chance = math.log(classes) if classes > 1 else 1.0
        assert min(scores["loss"] for scores in baselines.values() if "loss" in scores) < chance
        if classes > 1:
            best = max(scores.get("accuracy", 1.0) for scores in baselines.values())
            assert best > 1 / classes

    def test_description_can_be_written_as_json_and_names_source_and_licence(self) -> None:
        """It reads back equal, so it holds nothing but plain values."""
        description = self.make().describe()
        assert json.loads(json.dumps(description)) == description
        assert description["source"]
        assert description["licence"]

    def test_preprocessing_can_be_written_as_json_and_comes_from_the_data_alone(self) -> None:
        """An export carries it, so it reads back equal, and equal in every construction."""
        learned = self.make().preprocessing()
        assert json.loads(json.dumps(learned)) == learned == self.make().preprocessing()

    def test_it_can_be_sent_to_another_process_with_the_memory_that_examples_share(self) -> None:
        """Workers and helpers get it as bytes."""
        task = self.make()
        there: Task = pickle.loads(pickle.dumps(task))
        assert there.fingerprint == task.fingerprint
        for here, sent in ((task.train, there.train), (task.test, there.test)):
            assert torch.equal(sent.inputs, here.inputs)
            assert torch.equal(sent.targets, here.targets)
            needed = here.inputs.untyped_storage().nbytes()
            assert sent.inputs.untyped_storage().nbytes() == needed

    def test_moving_a_split_keeps_its_shapes_and_the_memory_that_examples_share(self) -> None:
        """A view of overlapping windows is not multiplied out on the way to a device."""
        split = self.make().train
        moved = split.to("meta")
        for here, there in ((split.inputs, moved.inputs), (split.targets, moved.targets)):
            assert there.device.type == "meta"
            assert (there.shape, there.stride()) == (here.shape, here.stride())
            assert there.untyped_storage().nbytes() == here.untyped_storage().nbytes()


def _examples(split: Split) -> set[bytes]:
    """Return the bytes of every example's inputs."""
    return {row.numpy().tobytes() for row in split.inputs}


def _right(task: Task, targets: torch.Tensor) -> torch.Tensor:
    """Return what is right of targets (…, T), without what stands beside it."""
    return targets[..., : task.info.horizon] if task.info.horizon else targets


def _answers(
    task: Task, particles: int, shared: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and targets of a few training examples, drawn from a fixed generator."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.randint(len(task.train), (1 if shared else particles, 5), generator=rng)
    targets = task.train.targets.index_select(0, rows.flatten())
    targets = targets.view(*rows.shape, *targets.shape[1:])
    shape = (particles, *_right(task, targets).shape[1:], task.info.outputs)
    return torch.randn(shape, generator=rng, dtype=dtype), targets
