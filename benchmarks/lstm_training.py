"""A swarm of LSTMs against one by one: time of N all-different trainings, in both ways of a swarm.

    python benchmarks/lstm_training.py [--repeats 7] [--json] [--device cpu] [--works NAME …]

A swarm runs its LSTMs in one loop over all particles (`recurrence = "batched"`) or each by torch's
own kernel (`"one_by_one"`). The peer is a loop over plain modules of true size (`nn.LSTM`,
attention over its states, fused AdamW, gradient clipping, torch's dropout), on the same data, in
the same run, in turns with both. A figure is the peer's time / the swarm's: above 1, the swarm is
faster. One intra-op thread. Printed: median, least and greatest.
"""

import argparse
import json
import platform
import statistics
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from batched_training import WARM_UP, seconds  # which lies beside this file

from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import TaskInfo
from pso_attn.tasks.classification import cross_entropy
from pso_attn.tasks.task import Split

WAYS, STEPS = ("batched", "one_by_one"), 8


@dataclass(frozen=True)
class Work:
    """A size: batch, tokens, hidden width, directions, layers, particles."""

    batch: int
    length: int
    hidden: int
    directions: int
    layers: int
    particles: int


WORKS = {
    "nano-64": Work(16, 8, 8, 1, 1, 64),
    "nano-16": Work(16, 8, 8, 1, 1, 16),
    "micro-16": Work(32, 16, 16, 1, 1, 16),
    "micro-4": Work(32, 16, 16, 1, 1, 4),
    "both-16": Work(32, 16, 16, 2, 1, 16),
    "small-16": Work(32, 16, 32, 1, 1, 16),
    "deep-16": Work(32, 16, 32, 2, 2, 16),
    "long-16": Work(16, 64, 32, 1, 1, 16),
    "wide-8": Work(32, 16, 128, 1, 1, 8),
}


def make_task(work: Work) -> Any:
    """Return made-up vectors and classes: timings do not depend on what they are."""
    rng = np.random.default_rng(0)
    info = TaskInfo(None, 4, work.length, 10, causal=False, per_token=False)
    inputs = torch.from_numpy(rng.standard_normal((512, work.length, 4), dtype=np.float32))
    split = Split(inputs, torch.from_numpy(rng.integers(0, 10, 512)))
    return SimpleNamespace(info=info, train=split, loss=cross_entropy)


def make_members(work: Work, task: Any, recurrence: str) -> list[Member]:
    """Return trainings that differ in every knob; they attend in four ways."""
    rng = np.random.default_rng(1)
    kinds: list[dict[str, Any]] = [
        {"score": "additive", "heads": 2},
        {"score": "general", "local": "predictive", "window_tokens": 4},
        {"score": "self_attentive", "hops": 4, "hop_penalty": 0.1},
        {"score": "dot", "sentinel": True},
    ]
    members = []
    for index in range(work.particles):
        settings = {
            **kinds[index % len(kinds)],
            "family": "lstm",
            "recurrence": recurrence,
            "layers": work.layers,
            "hidden": work.hidden,
            "bidirectional": work.directions == 2,
            "dropout": float(rng.uniform(0, 0.2)),
            "lr": float(10 ** rng.uniform(-3.5, -2)),
            "batch_size": work.batch,
        }
        members.append(read_member(settings, index, task))
    return members


def ratios(work: Work, repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Return peer / swarm for each repetition, by way; all train the same members, in turns."""
    task, total = make_task(work), WARM_UP + repeats * STEPS
    swarms = {
        way: SwarmTraining(task, make_members(work, task, way), total, device) for way in WAYS
    }
    members = make_members(work, task, WAYS[0])
    alone = [AloneTraining(task, member, total, device) for member in members]

    def one_by_one(until: int) -> None:
        for training in alone:
            training.advance(until)

    for run in (one_by_one, *(swarm.advance for swarm in swarms.values())):
        run(WARM_UP)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(repeats):
        until = WARM_UP + (repeat + 1) * STEPS
        taken = {way: seconds(swarm.advance, device, until) for way, swarm in swarms.items()}
        peer = seconds(one_by_one, device, until)
        for way in WAYS:
            found[way].append(peer / taken[way])
    return found


def main() -> None:
    """Print a line for each size, or one JSON document of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    medians: dict[str, float] = {}
    if not options.json:
        print(f"{device} {platform.machine()}, torch {torch.__version__}, 1 thread")
        print(f"{'work':10} {'way':10} {'median':>7} {'least':>6} {'greatest':>9}")
    for name in options.works:
        for way, found in ratios(WORKS[name], options.repeats, device).items():
            medians[f"{name} {way}"] = round(statistics.median(found), 3)
            if not options.json:
                spread = f"{min(found):6.2f} {max(found):9.2f}"
                print(f"{name:10} {way:10} {statistics.median(found):7.2f} {spread}", flush=True)
    if options.json:
        print(json.dumps(medians))


if __name__ == "__main__":
    main()
