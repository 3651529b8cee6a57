"""One batch against one by one: time of N all-different trainings, as one swarm and alone.

    python benchmarks/batched_training.py [--repeats 7] [--json] [--device cpu] [--works NAME …]
                                          [--large] [--precision float32] [--no-graphs]

The peer is a loop over plain modules of true size (scaled_dot_product_attention, fused AdamW,
gradient clipping, torch's dropout), on the same data, in the same run, in turns with the swarm.
A figure is the peer's time / the swarm's: above 1, the swarm is faster. One intra-op thread,
because two made everything slower at these sizes. Printed: median, least and greatest.

On a CUDA device three figures for each size: the swarm's steps as a CUDA graph against the peer as
it is, both as they are, and both as graphs. --large adds language models that fill a GPU.
"""

import argparse
import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from pso_attn.evaluate import graphs
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import wait_for
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.precision import KNOBS as PRECISION
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import TaskInfo
from pso_attn.tasks.classification import cross_entropy
from pso_attn.tasks.task import Split

WARM_UP = graphs.WARM_UP


@dataclass(frozen=True)
class Work:
    """A size: batch, tokens, width, layers, particles; a language model or a classifier.

    steps: that are timed at once. precision: numbers that products are taken in.
    """

    batch: int
    length: int
    d_model: int
    layers: int
    particles: int
    is_language_model: bool = False
    steps: int = 8
    precision: str = "float32"


WORKS = {
    "nano-64": Work(16, 8, 16, 2, 64),
    "micro-16": Work(16, 16, 32, 2, 16),
    "tiny-32": Work(32, 16, 32, 2, 32),
    "lm-8": Work(16, 64, 64, 2, 8, is_language_model=True),
}

ON_A_GPU = {
    "nano-64": WORKS["nano-64"],
    "micro-64": Work(16, 16, 32, 2, 64, steps=4),
    "tiny-64": Work(32, 16, 32, 2, 64, steps=4),
    "lm-8": WORKS["lm-8"],
}

LARGE = {
    "large-128": Work(32, 256, 128, 2, 16, is_language_model=True, steps=4),
    "large-256": Work(16, 512, 256, 4, 8, is_language_model=True, steps=2),
    "large-512": Work(8, 1024, 512, 4, 4, is_language_model=True, steps=2),
    "large-1024": Work(4, 2048, 1024, 4, 2, is_language_model=True, steps=2),
}
ALL = {**WORKS, **ON_A_GPU, **LARGE}
FUSED_FROM = 256  # tokens: there nobody drops attention weights, so that fused kernels serve both


@dataclass(frozen=True)
class Way:
    """Whether the swarm's steps and the peer's are replayed as CUDA graphs; what to call it."""

    name: str
    swarm_graphs: bool
    peer_graphs: bool


EAGER = Way("eager", False, False)
ON_CUDA = (Way("", True, False), EAGER, Way("graphed peer", True, True))


def make_task(work: Work) -> Any:
    """Return random examples of the work's shape; speed does not depend on what they say."""
    rng = np.random.default_rng(0)
    t, classes, examples = work.length, 10, 512
    if work.is_language_model:
        info = TaskInfo(64, None, t, 64, causal=True, per_token=True)
        words = torch.from_numpy(rng.integers(0, 64, (examples, t + 1)))
        split = Split(words[:, :-1], words[:, 1:])
    else:
        info = TaskInfo(None, 4, t, classes, causal=False, per_token=False)
        inputs = torch.from_numpy(rng.standard_normal((examples, t, 4), dtype=np.float32))
        split = Split(inputs, torch.from_numpy(rng.integers(0, classes, examples)))
    return SimpleNamespace(
        info=info, train=split, validation=split, test=split, loss=cross_entropy
    )


def make_members(work: Work, task: Any) -> list[Member]:
    """Return trainings that differ in every knob; their attention has four shapes."""
    rng = np.random.default_rng(1)
    shapes = [("softmax", 2), ("softmax", 4), ("softmax", 8), ("linear", 4)]
    members = []
    for index in range(work.particles):
        mechanism, heads = shapes[index % len(shapes)]
        settings = {
            "layers": work.layers,
            "d_model": work.d_model,
            "mechanism": mechanism,
            "heads": heads,
            "kv_heads": int(rng.choice([1, heads])),
            "temperature": float(rng.uniform(0.5, 2)),
            "decay": float(rng.choice([0.0, 1.0])),
            "window_tokens": int(rng.integers(2, work.length)),
            "attention_dropout": float(rng.uniform(0, 0.2)) * (work.length < FUSED_FROM),
            "dropout": float(rng.uniform(0, 0.2)),
            "lr": float(10 ** rng.uniform(-3.5, -2)),
            "batch_size": work.batch,
            "precision": work.precision,
        }
        members.append(read_member(settings, index, task))
    return members


def seconds(run: Callable[[int], None], device: torch.device, steps: int) -> float:
    """Return the time of steps 0 … steps-1 after the warm-up that `run` already had."""
    wait_for(device)
    start = time.perf_counter()
    run(steps)
    wait_for(device)
    return time.perf_counter() - start


def ratios(work: Work, repeats: int, device: torch.device, way: Way = EAGER) -> list[float]:
    """Return peer / swarm for each repetition; both train the same members, in turns."""
    task = make_task(work)
    members, total = make_members(work, task), WARM_UP + repeats * work.steps
    swarm = SwarmTraining(task, members, total, device)
    swarm.records = way.swarm_graphs
    alone = [_peer(way)(task, member, total, device) for member in members]

    def one_by_one(until: int) -> None:
        for training in alone:
            training.advance(until)

    swarm.advance(WARM_UP)
    one_by_one(WARM_UP)
    if device.type == "cuda":
        check_recorded(swarm.is_recorded, way.swarm_graphs, "the swarm")
        for training in alone:
            check_recorded(getattr(training, "is_recorded", False), way.peer_graphs, "a peer")
    found = []
    for repeat in range(repeats):
        until = WARM_UP + (repeat + 1) * work.steps
        batched = seconds(swarm.advance, device, until)
        found.append(seconds(one_by_one, device, until) / batched)
    return found


def check_recorded(found: bool, wanted: bool, whose: str) -> None:
    """Stop where steps are replayed and should not be, or the other way round."""
    if found != wanted:
        raise SystemExit(f"steps of {whose} are {'' if found else 'not '}recorded as a CUDA graph")


def _peer(way: Way) -> type[AloneTraining]:
    if not way.peer_graphs:
        return AloneTraining
    from graphed_peer import GraphedTraining  # which lies beside this file

    return GraphedTraining


def operations(work: Work) -> dict[str, int]:
    """Return how many operations a step of the swarm and of one peer dispatches."""
    task, device = make_task(work), torch.device("cpu")
    members = make_members(work, task)
    swarm = SwarmTraining(task, members, 3, device)
    alone = AloneTraining(task, members[0], 3, device)
    return {"swarm": dispatched(swarm).total(), "one": dispatched(alone).total()}


def dispatched(training: SwarmTraining | AloneTraining) -> Counter[str]:
    """Return how often a step dispatches each operator, but for those that compute nothing."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    found = Counter[str]()
    training.advance(1)
    with Counting():
        training.advance(2)
    return Counter({name: count for name, count in found.items() if name not in NOTHING})


# operators that compute nothing: views, and memory that is only asked for
NOTHING = {
    *("view", "_unsafe_view", "expand", "permute", "transpose", "t", "split", "split_with_sizes"),
    *("unbind", "detach", "slice", "select", "unsqueeze", "squeeze", "alias", "as_strided"),
    *("diagonal", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Let sizes be chosen, and the numbers that they are trained in."""
    parser.add_argument("--works", nargs="+", choices=list(ALL), help="these sizes alone")
    parser.add_argument("--large", action="store_true", help="sizes that fill a GPU as well")
    parser.add_argument("--precision", choices=PRECISION[0].choices, default="float32")


def chosen(options: argparse.Namespace) -> dict[str, Work]:
    """Return the sizes that were asked for, by name; by default those of the device."""
    usual = ON_A_GPU if torch.device(options.device).type == "cuda" else WORKS
    names = options.works or [*usual, *(LARGE if options.large else ())]
    return {name: replace(ALL[name], precision=options.precision) for name in names}


def main() -> None:
    """Print a line for each size, or one JSON document of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    add_choices(parser)
    parser.add_argument("--no-graphs", action="store_true", help="no CUDA graphs")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    medians: dict[str, float] = {}
    if not options.json:
        name = f"{device.type} {name or platform.machine()}"
        print(f"{name}, torch {torch.__version__}, 1 thread, {options.precision}")
        print("one by one / swarm:")
        print(f"{'work':23} {'median':>8} {'least':>6} {'greatest':>9}")
    works = chosen(options)
    ways = ON_CUDA if device.type == "cuda" and not options.no_graphs else (EAGER,)
    for work, way in ((work, way) for work in works for way in ways):
        found = ratios(works[work], options.repeats, device, way)
        key = work if len(ways) == 1 else f"{work} {way.name}".strip()
        medians[key] = round(statistics.median(found), 3)
        if not options.json:
            print(f"{key:23} {medians[key]:8.2f} {min(found):6.2f} {max(found):9.2f}", flush=True)
    if device.type == "cpu" and not options.works:
        from planned_training import worst  # which builds on this file

        medians["planner-worst"] = round(worst(7, lambda _: None), 3)
        if not options.json:
            print(f"planner, worst of a grid of 12: {medians['planner-worst']:.2f}")
    counts = operations(WORKS["nano-64"])
    medians["ops-64"] = counts["swarm"]
    if options.json:
        print(json.dumps(medians))
    else:
        peer = counts["one"] * WORKS["nano-64"].particles
        print(f"operations a step, nano-64: {counts['swarm']} against {peer} one by one")


if __name__ == "__main__":
    main()
