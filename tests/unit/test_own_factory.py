"""Modules of one's own, trained by our trainer: alone, in a batch, and where they cannot be."""

import copy
import logging
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from pso_attn.checkpoints import as_safetensors
from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.evaluate import (
    ModuleEvaluator,
    ModuleMember,
    ModuleTrainer,
    ModuleTraining,
    OwnFactory,
)
from pso_attn.evaluate.module_groups import alike
from pso_attn.evaluate.module_runs import rehearse_modules
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.own_factory import apart
from pso_attn.models.footprint import SCORED_TOGETHER
from pso_attn.space import own_knobs, read_space
from pso_attn.tasks import Split, Task, make_task
from pso_attn.types import Budget, Candidate, Generation, History, Objective, Outcome, State

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
STEPS = 12


class Net(nn.Module):
    """A perceptron with a scale that is a plain attribute."""

    def __init__(self, width: int, scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.Linear(64, width)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.body(x.flatten(1)) * self.scale)))


def net(settings: Any, info: Any) -> nn.Module:
    return Net(settings["width"], settings.get("scale", 1.0), settings.get("dropout", 0.0))


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


def trained(
    task: Task, made: Callable[..., Any], rows: list[dict[str, Any]], is_batched: bool = True
) -> ModuleTraining:
    members = [ModuleMember.of(settings, 7 + k) for k, settings in enumerate(rows)]
    training = ModuleTraining(OwnFactory(made, "mine:f", task), members, STEPS, CPU, is_batched)
    training.advance(STEPS)
    return training


def by_row(training: ModuleTraining) -> list[dict[str, float]]:
    scores = dict(zip(training.rows, training.score(), strict=True))
    return [scores[row] for row in range(len(scores))]


ROWS = [{"width": 16, "lr": lr, "clip_norm": clip} for lr, clip in ((0.01, 1), (0.02, 0.5))]


def test_modules_alike_in_a_batch_get_what_they_get_one_by_one(task: Task) -> None:
    rows = [*ROWS, {"width": 8, "lr": 0.01}, {"width": 16, "lr": 0.03, "label_smoothing": 0.1}]
    together, alone = trained(task, net, rows), trained(task, net, rows, is_batched=False)
    assert sorted(together.groups) == [[0, 1, 3], [2]]
    assert [len(group) for group in alone.groups] == [1, 1, 1, 1]
    for mine, its in zip(by_row(together), by_row(alone), strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=5e-6)


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_metric_that_is_no_mean_is_of_the_whole_split(tmp_path: Path, is_batched: bool) -> None:
    """Macro F1 of batches, averaged, is another number."""
    drawn = np.random.default_rng(0).normal(size=(2000, 3))
    label = np.where(drawn[:, 0] > 1.5, "rare", "often")
    table = pd.DataFrame({**dict(zip("abc", drawn.T, strict=True)), "label": label})
    table.to_csv(tmp_path / "rows.csv", index=False)
    task = make_task("table", str(tmp_path / "rows.csv"), target="label")
    data = task.validation
    assert len(data) > 2 * SCORED_TOGETHER

    def linear(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(6, info.outputs))

    training = trained(task, linear, [{"lr": 0.1}, {"lr": 0.2}], is_batched)
    for position, found in enumerate(training.score()):
        model = linear({}, task.info)
        model.load_state_dict(training.true_parameters(position))
        with torch.no_grad():
            expected = task.score(model(data.inputs)[None], data.targets[None])
        assert found == pytest.approx({k: float(v) for k, v in expected.items()}, abs=1e-6)


def test_one_by_itself_gets_what_torchs_own_optimiser_gives(task: Task) -> None:
    settings = {"width": 16, "lr": 0.01, "weight_decay": 0.1, "schedule": "constant"}
    training = trained(task, net, [settings])
    torch.manual_seed(7)
    model = Net(16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    order = DataOrder(np.array([7]), len(task.train), STEPS, 32, CPU)
    for step in range(STEPS):
        chosen = order.at(step)[0]
        logits = model(task.train.inputs[chosen])
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, task.train.targets[chosen]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    for name, value in training.true_parameters(0).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_what_draws_random_numbers_trains_one_by_one_and_the_log_says_why(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "dropout": 0.5} for row in ROWS]
    with caplog.at_level(logging.INFO):
        together = trained(task, net, rows)
    assert together.groups == [[0], [1]]
    assert "train one by one: torch.func cannot batch it" in caplog.text
    assert "random" in str(together)
    (alone,) = by_row(trained(task, net, rows[:1]))
    assert by_row(together)[0] == alone  # it does not depend on who trains beside it


def test_a_module_that_normalises_by_batches_trains_and_keeps_its_buffers(task: Task) -> None:
    def normed(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))

    together = trained(task, normed, ROWS)
    alone = trained(task, normed, ROWS, is_batched=False)
    assert together.groups == [[0, 1]]
    for row in (0, 1):
        kept = together.true_parameters(row)
        assert int(kept["1.num_batches_tracked"]) == STEPS
        torch.testing.assert_close(kept, alone.true_parameters(row), rtol=1e-2, atol=1e-3)


def test_what_gives_other_results_in_a_batch_trains_one_by_one(task: Task) -> None:
    class Mixing(Net):
        def forward(self, x: Tensor) -> Tensor:  # torch.func hands it no plain tensor
            off = 0.0 if type(self.body.weight) is nn.Parameter else 1.0
            return super().forward(x) + off * torch.arange(10.0)

    together = trained(task, lambda s, i: Mixing(s["width"]), ROWS)
    assert together.groups == [[0], [1]]
    assert together.reason == "in a batch it gives other results than by itself"


def test_modules_with_other_attributes_are_not_alike(task: Task) -> None:
    assert alike(Net(8), Net(8))
    assert not alike(Net(8), Net(8, scale=2.0))
    assert not alike(Net(8), Net(9))
    assert not alike(Net(8, dropout=0.1), Net(8, dropout=0.2))
    rows = [{"width": 8, "scale": scale} for scale in (1.0, 2.0)]
    assert trained(task, net, rows).groups == [[0], [1]]


def test_frozen_and_unused_parameters_stay_as_they_were(task: Task) -> None:
    def frozen(settings: Any, info: Any) -> nn.Module:
        module = Net(settings["width"])
        module.body.requires_grad_(False)
        module.unused = nn.Linear(2, 2)
        return module

    settings = {"width": 8, "weight_decay": 0.0}
    before = OwnFactory(frozen, "mine:f", task).make(settings, 7)
    for training in (trained(task, frozen, [settings] * 2), trained(task, frozen, [settings])):
        after = training.true_parameters(0)
        torch.testing.assert_close(after["body.weight"], before.body.weight)
        torch.testing.assert_close(after["unused.weight"], before.unused.weight)
        assert not torch.equal(after["head.weight"], before.head.weight)


def test_a_batch_goes_on_with_those_that_stay(task: Task) -> None:
    rows = [{"width": 16, "lr": lr} for lr in (0.01, 0.02, 0.03)]
    members = [ModuleMember.of(settings, 7) for settings in rows]
    whole = ModuleTraining(OwnFactory(net, "mine:f", task), members, STEPS, CPU)
    part = ModuleTraining(OwnFactory(net, "mine:f", task), members, STEPS, CPU)
    for training in (whole, part):
        training.advance(STEPS // 2)
    part.keep([0, 2])
    for training in (whole, part):
        training.advance(STEPS)
    assert part.rows == [0, 2]
    kept = dict(zip(part.rows, part.score(), strict=True))
    for row, score in kept.items():
        assert score["loss"] == pytest.approx(by_row(whole)[row]["loss"], rel=1e-5)


def test_a_training_goes_on_from_its_state_to_the_same_floats(task: Task) -> None:
    member = [ModuleMember.of({"width": 16, "dropout": 0.5}, 7)]
    whole = ModuleTraining(OwnFactory(net, "mine:f", task), member, STEPS, CPU)
    whole.advance(STEPS // 2)
    state = {name: tensor.clone() for name, tensor in whole.state.items()}
    whole.advance(STEPS)
    again = ModuleTraining(OwnFactory(net, "mine:f", task), member, STEPS, CPU)
    again.restore(state, STEPS // 2)
    again.advance(STEPS)
    assert again.score() == whole.score()


def test_parameters_are_those_trained_and_flops_those_that_torch_counts(task: Task) -> None:
    cost = OwnFactory(net, "mine:f", task).cost({"width": 16})
    assert cost["parameters"] == 65 * 16 + 17 * 10
    assert cost["flops"] == 3 * 2 * (64 * 16 + 16 * 10)
    assert cost["memory_bytes"] > 16 * cost["parameters"]


def test_the_memory_of_a_module_is_what_it_takes_at_its_height_while_it_is_scored(
    task: Task,
) -> None:
    class Wide(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.body(x.flatten(1))).expand(5000, -1, -1) + 1).mean(0)

        def train(self, mode: bool = True) -> Any:  # as who freezes a part may write it
            super().train(mode)

    class Made(Net):
        def forward(self, x: Tensor) -> Tensor:
            made = self.body.weight.expand(1000, -1, -1) * self.scale
            return super().forward(x) + made.mean()

    cost = OwnFactory(lambda s, i: Wide(16), "mine:f", task).cost({"batch_size": 1})
    assert cost["memory_bytes"] > SCORED_TOGETHER * 5000 * (16 + 10) * 4
    once = 1000 * 64 * 16 * 4  # whatever the batch
    cost = OwnFactory(lambda s, i: Made(16), "mine:f", task).cost({"batch_size": 1})
    assert once < cost["memory_bytes"] < 3 * once


def test_a_batch_that_would_hold_an_example_twice_is_refused(task: Task) -> None:
    factory = OwnFactory(net, "mine:f", task)
    assert len(task.train) == 1078
    assert factory.cost({"width": 8, "batch_size": 1078})
    with pytest.raises(ConfigurationError, match="batch_size = 1079 exceeds the 1078 training ex"):
        factory.cost({"width": 8, "batch_size": 1079})


def test_smoothing_that_is_refused_does_not_refuse_the_same_module_without() -> None:
    number = make_task("table", "sklearn:diabetes")  # 10 columns of an id and a weight each
    factory = OwnFactory(lambda s, i: nn.Sequential(nn.Flatten(), nn.Linear(20, 1)), "f", number)
    with pytest.raises(ConfigurationError, match="predicts a number and has no classes"):
        factory.cost({"label_smoothing": 0.1})
    assert factory.cost({"label_smoothing": 0.0})["parameters"] == 21


class Cut(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Wrong(Net):
    def forward(self, x: Tensor) -> Any:
        return [super().forward(x)]


def _raises(settings: Any, info: Any) -> nn.Module:
    raise ValueError("no such width")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (_raises, r"mine:f raised ValueError: no such width \(test_own_factory.py, line"),
        (lambda s, i: None, "mine:f returned a NoneType; expected a torch.nn.Module"),
        (lambda s, i: nn.Flatten(), "a module without parameters to train"),
        (lambda s, i: Net(8).double(), "parameters of torch.float64; expected torch.float32"),
        (lambda s, i: nn.Linear(4, 10), r"gives the shape \(2, 16, 10\) for 2 examples; task"),
        (lambda s, i: nn.Linear(5, 10), "mine:f's module raised RuntimeError"),
        (lambda s, i: Wrong(8), "mine:f's module gives a list; expected a tensor of shape"),
        (
            lambda s, i: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
            "mine:f returned a lazy mod",
        ),
        (lambda s, i: Cut(8), "answers that none of its parameters can be trained by"),
    ],
)
def test_a_factory_that_makes_nothing_to_train_is_one_sentence(
    task: Task, made: Callable[..., Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        OwnFactory(made, "mine:f", task).cost({})


SEARCH: dict[str, Any] = {"width": [8, 16]}
BUDGET = Budget(particles=3, batch=3, generations=1, steps=STEPS)


def outcomes(task: Task, made: Callable[..., Any], widths: list[int]) -> list[Outcome]:
    space = read_space(SEARCH, {}, own_knobs(SEARCH, {}, (), "a"), where="a")
    factory = OwnFactory(made, "mine:f", task)
    ours = ModuleEvaluator(space, factory, (LOSS,), BUDGET, 3, CPU)
    candidates = tuple(
        Candidate(k, k, torch.zeros(1).numpy(), {"width": w}, {"width": w}, (7,))
        for k, w in enumerate(widths)
    )
    planned = Generation(0, candidates, (tuple(range(len(widths))),))
    events = ours.evaluate(planned, History((LOSS,)), lambda: False)
    return sorted((e for e in events if isinstance(e, Outcome)), key=lambda one: one.trial)


def test_a_module_that_gives_no_number_fails_alone(task: Task) -> None:
    def sick(settings: Any, info: Any) -> nn.Module:
        return Net(settings["width"], float("nan") if settings["width"] == 8 else 1.0)

    one, two, three = outcomes(task, sick, [16, 8, 16])
    assert (one.state, three.state) == (State.COMPLETE, State.COMPLETE)
    assert one.values == three.values
    assert two.state is State.FAIL
    assert two.error == "diverged: the training loss at step 1 is not a finite number"
    assert two.metrics["parameters"] == 65 * 8 + 9 * 10


def test_a_module_that_raises_while_it_trains_fails_alone(task: Task) -> None:
    class Late(Net):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 5 and self.body.out_features == 8:
                raise RuntimeError("worn out")
            return super().forward(x)

    one, two, three = outcomes(task, lambda s, i: Late(s["width"]), [16, 8, 16])
    assert (one.state, three.state) == (State.COMPLETE, State.COMPLETE)
    assert two.error is not None
    said = "mine:f's module raised RuntimeError: worn out (test_own_factory.py, line "
    assert two.error.startswith(said)


def test_an_error_within_a_library_is_placed_in_the_users_own_file(task: Task) -> None:
    @torch.no_grad()  # whose frame is torch's, and the outermost
    def raises(settings: Any, info: Any) -> nn.Module:
        return nn.Linear("many", 10)  # type: ignore[arg-type]  # what is wrong here

    with pytest.raises(ConfigurationError, match=r"TypeError: .* \(test_own_factory.py, line \d+"):
        OwnFactory(raises, "mine:f", task).make({}, 0)


def test_modules_share_a_batch_whatever_numbers_they_are_trained_in(task: Task) -> None:
    members = [ModuleMember.of({"width": 96, "precision": "bf16"}, seed) for seed in range(4)]
    training = ModuleTraining(OwnFactory(net, "mine", task), members, STEPS, CPU)
    assert training.reason is None


@pytest.fixture
def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step of a module fits into memory."""

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pso_attn.evaluate.module_stack.ModuleStack.differentiate", full)


@pytest.mark.usefixtures("_full")
def test_a_try_that_memory_does_not_hold_is_not_taken_for_a_module_that_cannot_be_batched(
    task: Task,
) -> None:
    members = [ModuleMember.of({"width": 8}, seed) for seed in range(4)]
    with pytest.raises(torch.OutOfMemoryError):
        ModuleTraining(OwnFactory(net, "mine", task), members, STEPS, CPU)


@pytest.mark.usefixtures("_full")
def test_a_module_that_does_not_fit_alone_fails_and_says_how_much_it_needed(task: Task) -> None:
    found = outcomes(task, lambda s, i: Net(s["width"]), [8, 4096])
    needed = [round(one.metrics["memory_bytes"] / 2**20) for one in found]
    assert needed[0] < needed[1]
    for one, mib in zip(found, needed, strict=True):
        said = f"does not fit into memory: about {mib} MiB are needed on cpu (CUDA out of memory)"
        assert one.error == f"one particle alone {said}"


def goes_on(task: Task, made: Callable[..., Any]) -> list[ModuleTraining]:
    """Return one training at one go, and one that goes on from where another was half-way."""
    member = [ModuleMember.of({"width": 16, "dropout": 0.5}, 7)]
    whole, half, again = (
        ModuleTraining(OwnFactory(made, "mine:f", task), member, STEPS, CPU) for _ in range(3)
    )
    whole.advance(STEPS)
    half.advance(STEPS // 2)
    again.restore(half.state, STEPS // 2)
    again.advance(STEPS)
    return [whole, again]


class Centred(Net):
    """Inputs less a running mean, which is a new tensor after each step."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.flatten(1).mean(0)
        return super().forward(x.flatten(1) - self.mean)


def test_a_buffer_that_is_assigned_anew_is_kept_as_it_was_scored(task: Task) -> None:
    def centred(settings: Any, info: Any) -> nn.Module:
        return Centred(settings["width"])

    together = trained(task, centred, ROWS)
    alone = trained(task, centred, ROWS, is_batched=False)
    assert together.groups == [[0, 1]]
    data = task.validation
    for training in (together, alone):
        for row, score in enumerate(training.score()):
            model = Centred(16).eval()
            model.load_state_dict(training.true_parameters(row))
            assert float(model.mean.abs().max()) > 0.1
            loss = nn.functional.cross_entropy(model(data.inputs), data.targets)
            assert score["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for row in (0, 1):
        mine, its = (training.true_parameters(row)["mean"] for training in (together, alone))
        torch.testing.assert_close(mine, its)
    whole, again = goes_on(task, centred)
    assert again.score() == whole.score()


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_buffer_that_takes_another_shape_is_scratch_and_saved_as_it_was_made(
    task: Task, is_batched: bool
) -> None:
    class Noting(Net):
        def __init__(self) -> None:
            super().__init__(8)
            self.register_buffer("seen", torch.zeros(0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = x.detach().flatten(1)
            return super().forward(x)

    training = trained(task, lambda s, i: Noting(), ROWS, is_batched=is_batched)
    Noting().load_state_dict(training.true_parameters(0))
    whole, again = goes_on(task, lambda s, i: Noting())
    assert again.score() == whole.score()


def test_what_has_a_hook_on_a_gradient_trains_one_by_one_with_it(task: Task) -> None:
    def held(settings: Any, info: Any) -> nn.Module:
        module = Net(settings["width"])
        module.head.weight.register_hook(torch.zeros_like)
        return module

    rows = [{**row, "weight_decay": 0.0} for row in ROWS]
    before = OwnFactory(held, "mine:f", task).make(rows[0], 7)
    training = trained(task, held, rows)
    assert training.groups == [[0], [1]]
    after = training.true_parameters(0)
    torch.testing.assert_close(after["head.weight"], before.head.weight.detach())
    assert not torch.equal(after["body.weight"], before.body.weight)


class Pair(nn.Module):
    """Two square layers, which may be tied, and a buffer that is not saved."""

    def __init__(self, is_tied: bool = True) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.head = nn.Linear(64, 10)
        if is_tied:
            self.two.weight = self.one.weight
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(torch.relu(self.one(x.flatten(1)))) * self.scale)


def test_what_is_tied_is_not_alike_to_what_is_not() -> None:
    assert alike(Pair(), Pair())
    assert alike(Pair(is_tied=False), Pair(is_tied=False))
    assert not alike(Pair(), Pair(is_tied=False))


@pytest.mark.parametrize("is_batched", [True, False])
def test_weights_load_into_what_the_factory_makes(task: Task, is_batched: bool) -> None:
    training = trained(task, lambda s, i: Pair(), [{"lr": 0.01}, {"lr": 0.02}], is_batched)
    for row in (0, 1):
        weights = training.true_parameters(row)
        model = Pair()
        model.load_state_dict(weights)
        assert torch.equal(weights["one.weight"], weights["two.weight"])


def test_tensors_that_share_memory_can_be_saved(task: Task) -> None:
    def shared(settings: Any, info: Any) -> nn.Module:
        module = Net(8)
        module.register_buffer("whole", torch.arange(4.0))
        module.register_buffer("part", module.whole[:2])
        return module

    training = trained(task, shared, [{"lr": 0.01}])
    found = safetensors.torch.load(as_safetensors(training.state))
    assert found["held.whole"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found["held.part"].tolist() == [0.0, 1.0]


def test_pythons_own_random_numbers_are_of_the_step(task: Task) -> None:
    drawn = []

    class Noisy(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                drawn.append(random.random())
            return super().forward(x) * (0.5 + drawn[-1] if self.training else 1.0)

    whole, again = goes_on(task, lambda s, i: Noisy(s["width"]))
    assert len(drawn) == 2 * STEPS
    assert len(set(drawn)) == STEPS
    assert again.score() == whole.score()


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_trainings_of_other_seeds_draw_other_numbers_of_python_and_numpy(
    task: Task, draw: Callable[[], float]
) -> None:
    class Noisy(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (0.5 + draw() if self.training else 1.0)

    def made(settings: Any, info: Any) -> nn.Module:
        return Noisy(settings["width"])

    rows = [{"width": 8, "lr": 0.01}, {"width": 8, "lr": 0.02}]
    together, apart = (trained(task, made, rows, is_batched) for is_batched in (True, False))
    assert together.groups == [[0], [1]]
    assert "draws from Python's or NumPy's generator" in str(together.reason)
    assert by_row(together) == by_row(apart)


def test_parameters_that_a_factory_returned_before_are_refused(task: Task) -> None:
    backbone = nn.Linear(64, 8).requires_grad_(False)

    def over(body: Callable[[], nn.Module]) -> OwnFactory:
        def made(settings: Any, info: Any) -> nn.Module:
            return nn.Sequential(nn.Flatten(), body(), nn.Linear(8, 10))

        return OwnFactory(made, "mine:f", task)

    frozen = over(lambda: backbone)
    assert frozen.make({}, 0)[1] is frozen.make({}, 1)[1]
    backbone.requires_grad_()
    copied = over(lambda: copy.deepcopy(backbone))
    kept = [copied.make({}, seed) for seed in (0, 1)]
    kept.append(copy.deepcopy(kept[0]))
    shared = over(lambda: backbone)
    kept.append(shared.make({}, 0))
    with pytest.raises(ConfigurationError, match="mine:f returned parameters that it returned b"):
        shared.make({}, 1)


def test_a_shared_part_that_its_modules_change_is_refused(task: Task) -> None:
    """Else a training would depend on those before it, and on how often one began anew."""
    normed = nn.BatchNorm1d(64).requires_grad_(False)

    def made(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), normed, nn.Linear(64, 10))

    trained(task, made, [{"lr": 0.1}])
    factory = OwnFactory(made, "mine:f", task)
    with pytest.raises(
        ConfigurationError, match=r'"1\.running_mean" is that of one before, which'
    ):
        factory.make({}, 1)


def test_a_shared_part_that_stays_as_it_is_may_have_buffers(task: Task) -> None:
    class Still(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Any:  # as who freezes a part may write it
            return super().train(False)

    still = Still(64).eval().requires_grad_(False)

    def made(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), still, nn.Linear(64, 10))

    trained(task, made, [{"lr": 0.1}, {"lr": 0.2}], is_batched=False)
    factory = OwnFactory(made, "mine:f", task)
    assert factory.make({}, 0)[1] is factory.make({}, 1)[1]


def test_what_modules_share_stays_on_the_cpu_where_they_train_elsewhere(task: Task) -> None:
    backbone = nn.Linear(64, 8).requires_grad_(False)

    def made(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), backbone, nn.Linear(8, 10))

    factory = OwnFactory(made, "mine:f", task)
    factory.cost({})
    for seed in (0, 1):
        there = factory.make({}, seed, torch.device("meta"))
        assert {p.device.type for p in there.parameters()} == {"meta"}
        assert {p.device.type for p in backbone.parameters()} == {"cpu"}
    module = made({}, task.info)
    copied = apart(module)
    assert copied[1] is not backbone
    assert copied[2] is not module[2]
    assert copied[2].weight is module[2].weight


def test_a_part_that_was_frozen_before_may_be_trained_once(task: Task) -> None:
    part = nn.Linear(64, 10)

    def made(settings: Any, info: Any) -> nn.Module:
        part.requires_grad_(settings["trained"])
        return nn.Sequential(nn.Flatten(), part, nn.Linear(10, 10))

    factory = OwnFactory(made, "mine:f", task)
    kept = [factory.make({"trained": trained}, 0) for trained in (False, False, True)]
    assert len(kept) == 3
    with pytest.raises(ConfigurationError, match="parameters that it returned before"):
        factory.make({"trained": True}, 0)


def test_what_is_not_trained_takes_memory_as_well(task: Task) -> None:
    def over(frozen: int) -> dict[str, int]:
        def made(settings: Any, info: Any) -> nn.Module:
            head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            head.register_parameter("frozen", nn.Parameter(torch.zeros(frozen), False))
            return head

        return OwnFactory(made, "mine:f", task).cost({})

    few, many = over(1), over(10**6 + 1)
    assert many["parameters"] == few["parameters"] == 650
    assert many["memory_bytes"] - few["memory_bytes"] == 4 * 10**6


def test_inputs_of_doubles_are_looked_at_as_they_are_trained_on(task: Task) -> None:
    data = Split(task.train.inputs.double(), task.train.targets)
    doubles: Any = SimpleNamespace(name="doubles", info=task.info, train=data)
    assert OwnFactory(net, "mine:f", doubles).cost({"width": 8})["parameters"] == 610


def test_a_module_that_cannot_be_made_where_it_should_train_fails_alone(task: Task) -> None:
    def made(settings: Any, info: Any) -> nn.Module:
        raise FileNotFoundError("weights.pt")

    trainer = ModuleTrainer(OwnFactory(made, "mine:f", task), LOSS, BUDGET, CPU)
    lost = trainer.failed(Candidate(0, 0, np.zeros(1), {}, {}, (7,)), MemoryError())
    assert lost.state is State.FAIL
    assert str(lost.error).startswith("mine:f raised FileNotFoundError: weights.pt")


def test_a_module_that_exits_while_it_trains_fails_alone(task: Task) -> None:
    class Exits(Net):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 5 and self.body.out_features == 8:
                raise SystemExit(3)
            return super().forward(x)

    one, two = outcomes(task, lambda s, i: Exits(s["width"]), [16, 8])
    assert one.state is State.COMPLETE
    assert two.error is not None
    assert two.error.startswith("mine:f's module raised SystemExit: 3 (test_own_factory.py, line ")


def test_a_rehearsal_names_the_module_that_raises(task: Task) -> None:
    class Late(Net):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 5:
                raise RuntimeError("worn out")
            return super().forward(x)

    factory = OwnFactory(lambda s, i: Late(8), "mine:f", task)
    candidate = Candidate(0, 0, np.zeros(1), {}, {"width": 8}, (7,))
    planned = Generation(0, (candidate,), ((0,),))
    with pytest.raises(OwnCodeError, match="mine:f's module raised RuntimeError: worn out"):
        rehearse_modules(factory, planned, BUDGET, CPU)


@pytest.mark.usefixtures("_full")
def test_a_rehearsal_that_runs_out_of_memory_says_so_in_a_sentence(task: Task) -> None:
    candidate = Candidate(0, 0, np.zeros(1), {}, {"width": 8}, (7, 8))
    planned = Generation(0, (candidate,), ((0,),))
    said = r"memory ran out on cpu: 2 trainings of a chunk need about \d+ MiB together; give a sm"
    with pytest.raises(DeviceError, match=said):
        rehearse_modules(OwnFactory(net, "mine:f", task), planned, BUDGET, CPU)
