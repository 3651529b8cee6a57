"""What trainings take at their height is what is estimated, so that chunks fit that should."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pso_attn.attention.layer import FUSED_TOKENS
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.probe import height_bytes
from pso_attn.evaluate.room import chunk_bytes, order_bytes, table_bytes, taken
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import TaskInfo, Transformer, read_transformer
from pso_attn.models.footprint import WITH_HOLES
from pso_attn.tasks import Task, make_task
from pso_attn.tasks.loaders import LoaderTask

CPU = torch.device("cpu")
WIDE = {"layers": 1, "d_model": 512}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("digits", WIDE),
    ("digits", {"layers": 1, "d_model": 16}),
    ("digits", {"layers": 3, "d_model": 32, "batch_size": 64, "attention_dropout": 0.1}),
    ("digits", {"layers": 2, "d_model": 64, "mechanism": "linear"}),
    ("text", {"layers": 1, "d_model": 64, "heads": 4}),
    ("digits", {"family": "lstm", "hidden": 64, "bidirectional": True}),
    ("digits", {**WIDE, "feedforward_ratio": 1, "heads": 8, "kv_heads": 1}),
]
SHAPES += [  # of text of 128 tokens, where a plain softmax holds no scores
    ("long text", {"layers": 1, "d_model": 32, "heads": 4, "batch_size": 8, **own})
    for own in (
        {},
        {"window_tokens": 8},
        {"window_tokens": 30},
        {"window_tokens": 60},
        {"softcap": 5.0},
        {"mechanism": "linear"},
        {"mechanism": "sparse"},
        {"mechanism": "block_low_rank"},
        {"batch_size": 128, "attention_dropout": 0.1},
    )
]
REAL = """
import json, sys
import torch
from pso_attn.evaluate.device import give_freed_memory_back
from pso_attn.evaluate.room import chunk_bytes
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.tasks import make_task

task, device = make_task("digits"), torch.device("cpu")

def kib(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def life(settings, count):
    members = [read_member({**settings, "lr": 1e-3 * (k + 1)}, 1, task) for k in range(count)]
    training = SwarmTraining(task, members, 3, device)
    training.advance(2)
    training.score()
    training.keep(list(range(1, count)))
    training.advance(3)
    training.score()
    return chunk_bytes(members, task.info, 3)

life(json.loads(sys.argv[1]), 2)  # what libraries take once and for all chunks
give_freed_memory_back()
before = kib("VmRSS")
estimate = life(json.loads(sys.argv[1]), 4)
print(estimate / 1024 / (kib("VmHWM") - before))  # getrusage would count the parent's too
"""


def height_of(task: Task, members: list[Member]) -> int:
    """Return the bytes at the height of training members, scoring, and going on without one."""

    def life() -> None:
        training = SwarmTraining(task, members, 3, CPU)
        training.advance(2)
        training.score()
        training.keep(list(range(1, len(members))))
        training.advance(3)

    return height_bytes(life)


@pytest.mark.parametrize(("name", "settings"), SHAPES, ids=str)
def test_the_tensors_of_a_chunk_are_never_more_than_its_estimate_leaves_room_for(
    name: str, settings: dict[str, Any]
) -> None:
    """From its start to its end; the estimate has room for an allocator's holes as well."""
    task = make_task("text", columns={"tokens": 128}) if "long" in name else make_task(name)
    count = 4
    members = [read_member({**settings, "lr": 1e-3 * (k + 1)}, 1, task) for k in range(count)]
    estimate = taken(members, task.info, 0).model_bytes
    assert 0.9 * WITH_HOLES < estimate / height_of(task, members) < 1.35 * WITH_HOLES


def test_rows_are_as_wide_as_the_widest_of_a_chunk() -> None:
    """Three who need a quarter of what the fourth needs take four times as much beside it."""
    task, shape = make_task("digits"), {**WIDE, "feedforward_ratio": 1, "head_dim": 64}
    members = [read_member({**shape, "heads": heads}, 1, task) for heads in (16, 1, 1, 1)]
    estimate = chunk_bytes(members, task.info, 3)
    assert 0.9 * WITH_HOLES < estimate / height_of(task, members) < 1.35 * WITH_HOLES
    assert estimate > 1.3 * taken(members, task.info, 0).model_bytes


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"d_model": 16, "layers": 1}, 12),
        ({"d_model": 16, "layers": 1}, 4),
        ({"family": "lstm", "hidden": 8}, 4),
    ],
    ids=str,
)
def test_logits_of_many_classes_are_estimated_where_each_token_has_a_target(
    settings: dict[str, Any], asked: int
) -> None:
    """A step of few examples takes less than what is scored together."""
    tokens, classes = torch.arange(300 * 12).view(300, 12) % 50, torch.arange(300 * asked) % 1200
    examples = [(tokens, classes.view(300, asked))]
    task: Any = LoaderTask(examples, examples, examples)
    members = [read_member({**settings, "batch_size": 2}, seed, task) for seed in range(2)]
    estimate = taken(members, task.info, 0).model_bytes
    assert 0.9 * WITH_HOLES < estimate / height_of(task, members) < 1.35 * WITH_HOLES


@pytest.mark.parametrize(
    "other", [{"softcap": 5.0}, {"sink": "zero"}, {"attention_dropout": 0.2}], ids=str
)
def test_who_holds_no_scores_holds_none_beside_one_who_does(other: dict[str, Any]) -> None:
    task = make_task("text", columns={"tokens": 128})
    settings = {"layers": 1, "d_model": 32, "heads": 4, "batch_size": 64}
    alone, beside = (
        [read_member({**settings, **own}, 1, task) for own in ({}, {}, {}, last)]
        for last in ({}, other)
    )
    heights = [height_of(task, members) for members in (alone, beside)]
    more = (
        taken([beside[-1]], task.info, 0).model_bytes
        - taken([alone[-1]], task.info, 0).model_bytes
    )
    assert heights[1] < heights[0] + more


def test_what_passes_over_padding_holds_the_scores_of_long_sequences(tmp_path: Path) -> None:
    rows = [f"{'good bad ' * (40 + k % 50)},{k % 2}" for k in range(1000)]
    path = tmp_path / "said.csv"
    path.write_text("\n".join(["said,verdict", *rows]))
    options = {"tokens": FUSED_TOKENS}
    task = make_task("text_labels", str(path), target="verdict", columns=options)
    assert task.info.length >= FUSED_TOKENS
    settings = {"layers": 1, "d_model": 16, "heads": 4}
    for own in ({}, {"window_tokens": 8}, {"mechanism": "block_low_rank"}):
        members = [read_member({**settings, **own}, seed, task) for seed in range(2)]
        estimate = taken(members, task.info, 0).model_bytes
        assert 0.9 * WITH_HOLES < estimate / height_of(task, members) < 1.35 * WITH_HOLES


def test_what_is_added_to_scores_is_estimated_and_one_for_all_where_tokens_see_all() -> None:
    """With few examples and many tokens nothing else counts."""
    task = make_task("text", columns={"tokens": 768})
    shape = {"layers": 3, "d_model": 16, "heads": 8, "batch_size": 1}

    def height(members: list[Member]) -> int:
        def life() -> None:
            training = SwarmTraining(task, members, 1, CPU)
            training.advance(1)
            training.keep([0, 1])

        return height_bytes(life)

    of_all = height([read_member(shape, seed, task) for seed in range(2)])
    members = [read_member({**shape, "decay": 1.0}, seed, task) for seed in range(2)]
    fading = height(members)
    assert of_all < fading / 5
    assert fading * WITH_HOLES < taken(members, task.info, 0).model_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_trains_a_chunk_takes_what_is_estimated() -> None:
    found = subprocess.run(
        [sys.executable, "-c", REAL, json.dumps(WIDE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.85 < float(found.stdout) < 1.6


def test_leaving_copies_nothing_of_what_is_large() -> None:
    """What is new are the gradients of those who stay."""
    task = make_task("digits")
    members = [read_member({**WIDE, "lr": 1e-3 * (k + 1)}, 1, task) for k in range(4)]
    training = SwarmTraining(task, members, 2, CPU)
    training.advance(1)
    flat = training.swarm.storage.weights[0].nbytes
    assert height_bytes(lambda: training.keep([0, 1, 3])) < 3.1 * flat


def test_a_step_of_the_optimiser_and_hidden_values_while_scoring_take_little_beside() -> None:
    task, heights = make_task("digits"), []
    for ratio in (1, 8):
        own = {"layers": 1, "d_model": 256, "feedforward_ratio": ratio}
        members = [read_member(own, seed, task) for seed in range(4)]
        heights.append(height_bytes(SwarmTraining(task, members, 1, CPU).score))
    assert heights[1] < 1.3 * heights[0]  # all hidden values are 2.5 times as many
    members = [read_member(WIDE, seed, task) for seed in range(4)]
    training = SwarmTraining(task, members, 1, CPU)
    flat = training.swarm.storage.weights.nbytes
    assert height_bytes(lambda: training.optimiser.step(0)) < 0.4 * flat


def test_what_is_kept_for_every_step_is_estimated_and_equal_seeds_share_it() -> None:
    steps, batch, seeds = 1000, 64, np.arange(64) % 2
    task = make_task("digits")
    member = read_member({"layers": 1, "d_model": 8, "batch_size": batch}, 0, task)
    for distinct in (seeds, np.arange(64)):
        tracemalloc.start()
        order = DataOrder(distinct, 1000, steps, batch, CPU)
        _, height = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        one = order_bytes(member, steps)
        assert len(set(distinct.tolist())) * one <= height
        assert height < (len(set(distinct.tolist())) + 0.2) * one
        assert order.at(7).shape == (64, batch)
    members = [read_member({"layers": 1, "d_model": 8}, seed, task) for seed in seeds.tolist()]
    training = SwarmTraining(task, members, steps, CPU)
    optimiser = training.optimiser
    tables = (training._keys, training._losses, optimiser._scale, optimiser._shrink)
    kept = sum(table.nbytes for table in (*tables, optimiser._epsilon))
    assert kept == sum(table_bytes(member, steps) for member in members)


def test_many_steps_leave_room_for_fewer_trainings_in_a_chunk() -> None:
    task = make_task("digits")
    member = read_member({"layers": 1, "d_model": 8}, 0, task)
    steps = 2 * taken([member], task.info, 0).model_bytes // table_bytes(member, 1)
    together = [[read_member({"layers": 1, "d_model": 8}, 0, task)] for _ in range(4)]
    limit = chunk_bytes([member] * 2, task.info, steps, len(task.validation))
    assert sizes(task, together, 0, limit) == [4]
    assert sizes(task, together, steps, limit) == [2, 2]
    apart = [[read_member({"layers": 1, "d_model": 8}, seed, task)] for seed in range(4)]
    assert sizes(task, apart, steps, limit) == [1, 1, 1, 1]


def sizes(task: Task, candidates: Any, steps: int, limit_bytes: int) -> list[int]:
    """Return how many candidates share each chunk; none is probed at ten times the limit."""
    return [len(chunk) for chunk in pack(candidates, task, steps, CPU, limit_bytes)]


@pytest.mark.parametrize("causal", [False, True])
def test_a_plain_module_in_which_all_is_seen_holds_nothing_for_each_pair_of_tokens(
    causal: bool,
) -> None:
    """It is timed beside the swarm, and exported: there, too, T² numbers would fill a machine."""
    length, heads = 1024, 4
    info = TaskInfo(None, 3, length, 2, causal=causal, per_token=causal)

    def took(**own: Any) -> int:
        settings = {"d_model": 16, "layers": 1, "heads": heads, **own}
        module = Transformer(read_transformer(settings, info), info)
        return sum(buffer.nbytes for buffer in module.buffers())

    assert took() < length**2
    assert length**2 < took(window_tokens=300) < heads * 8 * length**2
    assert took(window_tokens=300, decay=0.5) >= heads * 8 * length**2
    inputs = torch.randn(1, length, 3)
    module = Transformer(read_transformer({"d_model": 16, "heads": heads}, info), info).eval()
    with torch.no_grad():
        assert height_bytes(lambda: module(inputs)) < 4 * length**2
