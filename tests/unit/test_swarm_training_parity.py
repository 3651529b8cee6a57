"""What each particle gets in a swarm is what it gets alone: real tasks, dropout on, 50 steps."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pso_attn.evaluate import TRAINING_KNOBS
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.training import SwarmTraining, on_device
from pso_attn.models import FAMILIES, TaskInfo, swarm_type
from pso_attn.seeding import generator
from pso_attn.tasks import Task, make_task
from pso_attn.tasks.classification import cross_entropy
from pso_attn.tasks.task import Split

STEPS = 50
CPU = torch.device("cpu")
OUTER = {"layers": 2, "d_model": 12, "feedforward_ratio": 2, "batch_size": 8}

# All different in attention, dropout, recipe and seed; the clips bind for some and not for others.
CAUSAL: list[dict[str, Any]] = [
    {"heads": 2, "lr": 3e-3, "weight_decay": 0.1, "dropout": 0.1, "attention_dropout": 0.1},
    {"heads": 2, "kv_heads": 1, "lr": 1e-3, "temperature": 0.7, "clip_norm": 0.03, "warmup": 0.3},
    {"heads": 4, "head_dim": 5, "kv_heads": 2, "lr": 7e-3, "schedule": "linear", "dropout": 0.3},
    {"heads": 3, "temperature": [[0.3, 1.9, 1.1], [2.7, 0.9, 0.4]], "beta1": 0.8, "dropout": 0.11},
    {"heads": 1, "window_tokens": 3, "attention_dropout": 0.35, "schedule": "constant"},
    {"heads": 3, "positions": "rotary", "rope_base": 50.0, "dropout": 0.1, "lr": 2e-3},
    {"heads": 3, "positions": "rotary", "temperature": 0.8, "attention_dropout": 0.1},
    {"heads": 2, "positions": "sinusoidal", "warmup": 0.1, "dropout": 0.1},
    {"mechanism": "linear", "heads": 2, "positions": "none", "dropout": 0.2},
    {"heads": 2, "qk_norm": True, "lr": 3e-3, "attention_dropout": 0.1, "sink": "learned"},
    {
        "heads": 2,
        "softcap": 2.0,
        "sink": ["none", "zero"],
        "learned_temperature": [True, False],
        "dropout": 0.2,
    },
    {"heads": 2, "adaptive_temperature": True, "temperature": 0.6, "dropout": 0.1, "lr": 4e-3},
    {"heads": 3, "adaptive_temperature": [False, True], "qk_norm": [True, False]},
    {
        "heads": 2,
        "learned_temperature": True,
        "temperature": [[0.5, 2.0], [1.0, 3.0]],
        "dropout": 0.1,
    },
    {"heads": 2, "label_smoothing": 0.2, "start_scale": 0.6, "dropout": 0.1},
    {"heads": 3, "label_smoothing": 0.05, "start_scale": 1.8, "lr": 2e-3},
    {"heads": 2, "dilation": 3, "window_tokens": 7, "lr": 2e-3, "head_dropout": 0.1},
    {"heads": 2, "block_tokens": 5, "dropout": 0.1, "attention_dropout": 0.2},
    {"heads": 4, "head_dropout": 0.4, "attention_dropout": 0.1, "lr": 4e-3},
    {
        "heads": 2,
        "head_dim": 3,
        "decay": [[0.3, 1.7], [2.9, 0.0]],
        "beta2": 0.93,
        "attention_dropout": 0.1,
    },
    {"mechanism": "linear", "heads": 3, "kv_heads": 1, "head_dropout": 0.15, "clip_norm": 0.2},
    {"mechanism": ["softmax", "linear"], "heads": [4, 2], "attention_dropout": 0.2, "lr": 5e-3},
]
CAUSAL += [
    {
        "mechanism": "block_low_rank",
        "heads": 2,
        "block_tokens": 3,
        "rank": 2,
        "attention_dropout": 0.1,
    },
    {"mechanism": "block_low_rank", "heads": 3, "attention_dropout": 0.2, "softcap": 3.0},
    {"mechanism": "top_k", "heads": 2, "attention_dropout": 0.1, "positions": "rotary"},
    {"mechanism": "top_k", "heads": 2, "top_k": [7, 2], "qk_norm": True, "attention_dropout": 0.1},
]
CAUSAL += [
    {"mechanism": "sparse", "heads": 2, "entmax_alpha": 2.0, "attention_dropout": 0.1},
    {
        "mechanism": "sparse",
        "heads": 2,
        "entmax_alpha": 1.3,
        "adaptive_temperature": True,
        "dropout": 0.1,
    },
    {"mechanism": "talking_heads", "heads": 3, "attention_dropout": 0.1, "decay": 0.5},
]
CAUSAL += [
    {"heads": 2, "adaptive_span": True, "attention_dropout": 0.1, "lr": 5e-3},
    {"heads": 3, "adaptive_span": [False, True], "sink": "zero", "dropout": 0.1, "decay": 0.2},
    {"mechanism": "top_k", "heads": 2, "adaptive_span": True, "softcap": 3.0, "top_k": 5},
    {"mechanism": "talking_heads", "heads": 2, "adaptive_span": True, "sink": "learned"},
]
LOOKING_BACK: list[dict[str, Any]] = [
    {"mechanism": "retention", "heads": 2, "dropout": 0.1, "forgetting": 6.0, "lr": 3e-3},
    {"mechanism": ["retention", "softmax"], "heads": 3, "positions": "rotary"},
]
LOW_RANK: list[dict[str, Any]] = [
    {"mechanism": "low_rank", "heads": 2, "rank": 4, "attention_dropout": 0.25, "beta1": 0.93},
    {"mechanism": ["low_rank", "softmax"], "heads": 2, "rank": 7, "temperature": 0.6, "lr": 4e-3},
]
LONG: list[dict[str, Any]] = [  # other kernels: fused, by near blocks, and scans of several blocks
    {"heads": 2, "lr": 3e-3, "dropout": 0.1, "temperature": 0.7, "clip_norm": 0.03},
    {"heads": 2, "decay": 0.6, "positions": "rotary", "clip_norm": 10.0},
    {"heads": 2, "attention_dropout": 0.2, "window_tokens": 5},
    {"heads": 2, "window_tokens": [[3, 16], [40, 9]], "dropout": 0.2, "clip_norm": 0.1},
    {"heads": 2, "window_tokens": 1, "learned_temperature": True, "schedule": "linear"},
    {"heads": 1, "window_tokens": 12, "dilation": 3, "decay": 0.2, "kv_heads": 1},
    {"heads": 2, "block_tokens": 17, "lr": 5e-3},
    {"mechanism": "linear", "heads": 2},
    {"mechanism": "retention", "heads": 2, "forgetting": 3.0},
    {"mechanism": "sparse", "heads": 2, "window_tokens": 20},
    {"mechanism": "block_low_rank", "heads": 2, "block_tokens": 32, "rank": 4, "dropout": 0.1},
]
LONG_BOTH_WAYS = [*LONG[1:4], LONG[5]]  # both kernels under decay, windows and dilation
READING: dict[str, dict[str, Any]] = {  # LSTMs, by who computes them
    "batched": {"layers": 1, "bidirectional": True},
    "one_by_one": {"layers": 1, "bidirectional": False},
}
STATES: list[dict[str, Any]] = [
    {"lr": 3e-3, "weight_decay": 0.1, "dropout": 0.1, "schedule": "constant"},
    {"heads": 3, "query": "learned", "attention_dim": 9, "warmup": 0.3, "clip_norm": 0.03},
    {"score": "dot", "heads": 2, "local": "monotonic", "window_tokens": 5, "dropout": 0.3},
    {"score": "dot", "query": "learned", "sentinel": True, "last_state": True, "lr": 5e-3},
    {"score": "general", "local": "predictive", "window_tokens": 3, "schedule": "linear"},
    {"score": "general", "heads": 3, "sentinel": True, "last_state": True, "beta1": 0.8},
    {"score": "concat", "heads": 2, "sentinel": True, "dropout": 0.2, "label_smoothing": 0.1},
    {"score": "concat", "query": "learned", "local": "predictive", "sentinel": True},
    {"local": "monotonic", "window_tokens": 2, "sentinel": True, "attention_dim": 4},
    {"score": "self_attentive", "hops": 3, "hop_penalty": 0.7, "attention_dim": 5},
    {"score": "self_attentive", "hops": 3, "last_state": True, "dropout": 0.1, "lr": 2e-3},
    {"score": "self_attentive", "start_scale": 1.6, "dropout": 0.1, "beta2": 0.93},
]
ON_FILES: list[dict[str, Any]] = [
    {"heads": 2, "lr": 3e-3, "dropout": 0.1, "attention_dropout": 0.1, "clip_norm": 0.03},
    {"heads": 4, "kv_heads": 2, "head_dim": 5, "temperature": 0.6, "weight_decay": 0.1},
    {"mechanism": "linear", "heads": 3, "lr": 2e-3, "clip_norm": 100.0},
    {"mechanism": "low_rank", "heads": 2, "rank": 3, "dropout": 0.2},
    {"mechanism": "sparse", "heads": 2, "start_scale": 1.5},
]
DECODING: list[dict[str, Any]] = [
    {"lr": 3e-3, "dropout": 0.1, "heads": 2, "bidirectional_attention": True},
    {"score": "dot", "local": "monotonic", "window_tokens": 1, "sentinel": True},
    {"score": "general", "local": "predictive", "window_tokens": 2, "lr": 5e-3},
    {"score": "concat", "sentinel": True, "bidirectional_attention": True, "dropout": 0.2},
]


class Reversing:
    """Random words, to be said backwards: the decoder reads what it should have said last."""

    info = TaskInfo(6, None, 9, 6, causal=True, per_token=True, horizon=4)
    loss = staticmethod(cross_entropy)

    def __init__(self) -> None:
        words = torch.from_numpy(generator(0, "words").integers(1, 6, (64, 5)))
        said = words.flip(1)[:, :4]
        read = torch.cat([torch.zeros_like(said[:, :1]), said[:, :-1]], 1)
        self.train = self.validation = Split(torch.cat([words, read], 1), said)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(logits, targets)}


@dataclass(frozen=True)
class Case:
    """All-different trainings on a task, each with a seed of its own."""

    task: Task
    members: list[Member]


TASKS = ["digits", "text", "long text", "long series", "classes", "numbers", "padded", "forecast"]


@pytest.fixture(params=[*TASKS, *READING, "padded states", "decoder"], scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    if request.param in READING:
        outer = {"family": "lstm", "hidden": 6, "batch_size": 8, "recurrence": request.param}
        own = STATES if request.param == "batched" else STATES[1::3]  # what attends is the same
        return case_of(make_task("digits"), {**outer, **READING[request.param]}, own)
    if request.param == "padded states":
        outer = {"family": "lstm", "hidden": 6, "bidirectional": True, "layers": 2}
        own = [{"recurrence": "batched", **one} for one in STATES[1::2]]
        return case_of(series(tmp_path_factory, 11), {**outer, "batch_size": 8}, own)
    if request.param == "decoder":
        outer = {"family": "lstm", "hidden": 4, "bidirectional": True, "batch_size": 8}
        bound = [{**s, "clip_norm": 0.05 * 10**row} for row, s in enumerate(DECODING)]
        return case_of(Reversing(), outer, bound)  # type: ignore[arg-type]  # what is used of a task
    if request.param == "digits":
        return case_of(make_task("digits"), OUTER, CAUSAL + LOW_RANK)
    if request.param == "padded":
        return case_of(series(tmp_path_factory, 11), OUTER, CAUSAL + LOW_RANK)
    if request.param == "long series":
        outer = {**OUTER, "d_model": 8, "batch_size": 2}
        return case_of(series(tmp_path_factory, 130, is_padded=False), outer, LONG_BOTH_WAYS)
    if request.param == "forecast":
        path = tmp_path_factory.mktemp("forecast") / "wide.csv"
        waves = generator(0, "waves").normal(size=(80, 2)).cumsum(0)
        lines = [f"{step},{a:.4f},{b:.4f}" for step, (a, b) in enumerate(waves)]
        path.write_text("\n".join(["step,a,b", *lines]), encoding="utf-8")
        task = make_task("series", str(path), time="step", forecast={"horizon": 3, "context": 8})
        return case_of(task, OUTER, [*ON_FILES, *CAUSAL[4:6]])
    if request.param in ("classes", "numbers"):
        path = tmp_path_factory.mktemp("table") / "table.csv"
        path.write_text(table(), encoding="utf-8")
        return case_of(make_task("table", str(path), target=request.param), OUTER, ON_FILES)
    rng = generator(0, "corpus")
    words = ["".join(rng.choice(list("abcdefgh"), size=4)) for _ in range(30)]
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text(" ".join(rng.choice(words, size=1200)), encoding="utf-8")
    if request.param == "long text":
        outer = {**OUTER, "d_model": 8, "batch_size": 2}
        return case_of(make_task("text", str(path), columns={"tokens": 130}), outer, LONG)
    return case_of(
        make_task("text", str(path), columns={"tokens": 12}), OUTER, CAUSAL + LOOKING_BACK
    )


@dataclass(frozen=True)
class Comparison:
    """Both ways of training the same members in float64, by member and by torch's names.

    The gradients are those of the first step, before clipping.
    """

    members: list[Member]
    swarm_gradients: list[dict[str, Tensor]]
    plain_gradients: list[dict[str, Tensor]]
    swarm_parameters: list[dict[str, Tensor]]
    plain_parameters: list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def compared(case: Case) -> Comparison:
    gradients, parameters = trained_together(case.task, case.members)
    alone = [trained_alone(case.task, member) for member in case.members]
    plain_gradients, plain_parameters = map(list, zip(*alone, strict=True))
    return Comparison(case.members, gradients, plain_gradients, parameters, plain_parameters)


def test_gradients_of_the_first_step_are_those_of_a_plain_module(compared: Comparison) -> None:
    for row, expected in enumerate(compared.plain_gradients):
        largest = max(float(value.abs().max()) for value in expected.values())
        found = compared.swarm_gradients[row]
        assert furthest(found, expected) <= 1e-12 * largest, row


def test_parameters_after_fifty_steps_are_those_of_a_plain_module(compared: Comparison) -> None:
    for row, expected in enumerate(compared.plain_parameters):
        assert furthest(compared.swarm_parameters[row], expected) <= 1e-10, row


def test_every_parameter_has_a_gradient(compared: Comparison) -> None:
    """Else equal gradients would say little."""
    for row, gradients in enumerate(compared.plain_gradients):
        for name, gradient in gradients.items():
            assert float(gradient.abs().max()) > 0, (row, name)


def test_some_clips_bind_and_others_do_not(compared: Comparison) -> None:
    """Else equal parameters would say nothing of clipping."""
    binding = {
        math.sqrt(sum(float(value.square().sum()) for value in gradients.values()))
        > member.recipe.clip_norm
        for gradients, member in zip(compared.plain_gradients, compared.members, strict=True)
    }
    assert binding == {True, False}


def test_validation_loss_after_fifty_steps_in_float32_is_that_of_a_plain_module(
    case: Case,
) -> None:
    task, members = case.task, case.members
    swarm = SwarmTraining(task, members, STEPS, CPU)
    swarm.advance(STEPS)
    for row, metrics in zip(swarm.rows, swarm.score(), strict=True):
        alone = AloneTraining(task, members[row], STEPS, CPU, swarm_dropout=True)
        alone.advance(STEPS)
        assert abs(metrics["loss"] - alone.score()["loss"]) <= 5e-6, row


def test_an_extracted_particle_computes_what_it_does_in_its_swarm(case: Case) -> None:
    task, members = case.task, case.members
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    training.advance(5)
    inputs = on_device(task.validation, CPU, torch.float64).inputs[:6]
    with torch.no_grad():
        together = training.swarm.forward(inputs[None])
        for row in range(len(members)):
            plain = training.swarm.extract(row).eval()
            torch.testing.assert_close(plain(inputs), together[row], rtol=0, atol=1e-12)


def test_trainings_of_different_batch_sizes_are_what_they_are_alone() -> None:
    """They share no step, and so no batched job."""
    task, shape = make_task("digits"), {"layers": 1, "d_model": 8, "heads": 2}
    members = [
        read_member({**shape, "batch_size": size, "dropout": 0.1}, seed, task)
        for seed, size in enumerate([16, 32, 16])
    ]
    chunks = pack([[member] for member in members], task, STEPS, CPU)
    assert chunks == [[0, 2], [1]]
    for chunk in chunks:
        _, parameters = trained_together(task, [members[row] for row in chunk])
        for row, found in zip(chunk, parameters, strict=True):
            assert furthest(found, trained_alone(task, members[row])[1]) <= 1e-10


def test_every_knob_of_attention_and_training_stands_beside_some_dropout() -> None:
    """In a transformer, away from what it is by default."""
    declared = {knob.name: knob for knob in FAMILIES["transformer"].knobs} | TRAINING_KNOBS
    dropped = set[str]()
    for own in (*CAUSAL, *LOOKING_BACK, *LOW_RANK):
        if any(own.get(name) for name in ("dropout", "attention_dropout", "head_dropout")):
            dropped |= {n for n, x in own.items() if {*flat(x)} - {declared[n].default}}
    shared = {"layers", "d_model", "feedforward_ratio", "batch_size", "precision"}
    assert declared.keys() - dropped <= shared


def test_no_knob_and_no_label_is_left_out() -> None:
    """But for what a batch shares, how its products round, and what a knob is by default."""
    varied = {"transformer": [*CAUSAL, *LOOKING_BACK, *LOW_RANK], "lstm": [*STATES, *DECODING]}
    shared = {"layers", "d_model", "feedforward_ratio", "hidden", "bidirectional", "batch_size"}
    for family, settings in varied.items():
        declared = {knob.name: knob for knob in FAMILIES[family].knobs} | TRAINING_KNOBS
        said = [(name, flat(value)) for own in settings for name, value in own.items()]
        named = {name for name, _ in said}
        assert declared.keys() - named <= {*shared, "precision", "recurrence"}
        for name in named:
            if declared[name].kind == "categorical":
                labels = {label for other, values in said if other == name for label in values}
                assert labels >= set(declared[name].choices) - {declared[name].default}, name


def flat(value: Any) -> list[Any]:
    """Return what a setting says, in whatever layer and head."""
    return [one for part in value for one in flat(part)] if isinstance(value, list) else [value]


def case_of(task: Task, outer: dict[str, Any], own: list[dict[str, Any]]) -> Case:
    members = [read_member({**outer, **s}, 100 + 7 * row, task) for row, s in enumerate(own)]
    return Case(task, members)


def series(tmp_path_factory: pytest.TempPathFactory, steps: int, is_padded: bool = True) -> Task:
    """Return a task of series in three classes, of 1 step to so many, or each of so many."""
    path = tmp_path_factory.mktemp("series") / "series.npz"
    rng = generator(0, "series")
    values, kinds = rng.normal(size=(80, 2, steps)), rng.integers(3, size=80)
    values[:, 0] += kinds[:, None]
    lengths = {"lengths": rng.integers(1, steps + 1, size=80)} if is_padded else {}
    np.savez(path, x=values, y=kinds, **lengths)
    return make_task("series", str(path), columns={"patch": 1})


def table() -> str:
    """Return a table of numbers and labels, some of them missing, as CSV."""
    rng, lines = generator(0, "table"), ["size,weight,colour,classes,numbers"]
    for _ in range(120):
        size, weight, colour = rng.normal(), rng.normal(), str(rng.choice(["red", "green", ""]))
        wanted = size * weight + (colour == "red") + 0.1 * rng.normal()
        shown = "" if rng.random() < 0.2 else f"{size:.4f}"
        lines.append(f"{shown},{weight:.4f},{colour},{'ab'[int(wanted > 0)]},{wanted:.4f}")
    return "\n".join(lines)


def trained_together(
    task: Task, members: list[Member]
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Return the members' first gradients and last parameters from one batched job."""
    training = SwarmTraining(task, members, STEPS, CPU, torch.float64)
    storage, step = training.swarm.storage, training.optimiser.step
    first: list[Tensor] = []

    def observed(number: int) -> None:
        first.append(storage.gradients.clone())
        step(number)

    training.optimiser.step = observed  # type: ignore[method-assign]  # an onlooker, for this test
    training.advance(STEPS)
    weights = storage.weights
    parameters = by_member(task, members, training)
    storage.weights = first[0]
    gradients = by_member(task, members, training)
    storage.weights = weights
    return gradients, parameters


def by_member(
    task: Task, members: list[Member], training: SwarmTraining
) -> list[dict[str, Tensor]]:
    """Return what lies in storage for each member, under torch's names and in torch's shapes."""
    found: dict[int, dict[str, Tensor]] = {}
    for position, row in enumerate(training.rows):
        model = members[row].model
        module = swarm_type(model).plain(model, task.info).double()
        module.load_swarm_parameters(training.swarm.storage.true_parameters(position))
        found[row] = {name: value.detach() for name, value in module.named_parameters()}
    return [found[row] for row in range(len(members))]


def trained_alone(task: Task, member: Member) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a member's first gradients and last parameters as a plain module."""
    unclipped = replace(member, recipe=replace(member.recipe, clip_norm=1e12))
    first = AloneTraining(task, unclipped, STEPS, CPU, torch.float64, swarm_dropout=True)
    first.advance(1)
    gradients = {name: p.grad for name, p in first.model.named_parameters() if p.grad is not None}
    training = AloneTraining(task, member, STEPS, CPU, torch.float64, swarm_dropout=True)
    training.advance(STEPS)
    parameters = {name: p.detach() for name, p in training.model.named_parameters()}
    return gradients, parameters


def furthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the largest difference of any entry; both must name the same parameters."""
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)
