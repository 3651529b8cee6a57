"""Evaluations of weights a second: the swarm in one batched pass against a loop over modules.

Both get the same positions of N particles, decode them, lay the weights into models and return
the training loss of each on the same examples, without gradients, on as many threads. The loop is
what a person would write: one plain module (torch's own layers and fused attention), into whose
attention each particle's matrices are copied. Repeats are interleaved.

    python benchmarks/weight_evaluations.py [--json] [--repeats 15] [--threads 1]
        [--device cpu|cuda]
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

from pso_attn.evaluate.device import resolve_device
from pso_attn.evaluate.weights import Fitness, Start
from pso_attn.models import TaskInfo, family_of, read_model
from pso_attn.models.weights import by_name
from pso_attn.space import read_weights
from pso_attn.tasks.classification import accuracy, cross_entropy
from pso_attn.tasks.task import Split

SIZES = {  # name: examples, tokens, width, layers, particles
    "nano-64": (16, 8, 16, 2, 64),
    "micro-64": (16, 16, 32, 2, 64),
    "digits-64": (256, 16, 32, 1, 64),
}
CLASSES = 10


class Examples:
    """A task of random inputs, of one size: what is timed does not depend on their meaning."""

    def __init__(self, examples: int, tokens: int) -> None:
        self.info = TaskInfo(None, 4, tokens, CLASSES, causal=False, per_token=False)
        draws = torch.Generator().manual_seed(0)
        inputs = torch.randn(examples, tokens, 4, generator=draws)
        targets = torch.randint(CLASSES, (examples,), generator=draws)
        self.train = self.validation = Split(inputs, targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(logits, targets), "accuracy": accuracy(logits, targets)}


class Loop:
    """One plain module, whose attention takes each particle's matrices in turn."""

    def __init__(self, fitness: Fitness, settings: dict[str, int]) -> None:
        self.fitness = fitness
        family, info = family_of(settings), fitness.task.info
        self.model = family.swarm.plain(read_model(settings, info), info).eval()
        self.model.to(fitness.device)
        names = [matrix.name for matrix in fitness.searched.matrices]
        parameters = dict(self.model.named_parameters())
        self.places = [parameters[f"{name}.weight"] for name in names]

    @torch.no_grad()
    def __call__(self, positions: Tensor) -> list[float]:
        searched, split = self.fitness.searched, self.fitness.split("train")
        rows = searched.rows(searched.vectors(positions.to(self.fitness.device)))
        losses = []
        for row in rows:
            matrices = by_name(searched.matrices, row).values()
            for place, matrix in zip(self.places, matrices, strict=True):
                place.copy_(matrix.T)
            logits = self.model(split.inputs)
            losses.append(torch.nn.functional.cross_entropy(logits, split.targets))
        found: list[float] = torch.stack(losses).tolist()  # a GPU is waited for once
        return found


def measure(name: str, repeats: int, device: torch.device) -> dict[str, float]:
    examples, tokens, width, layers, particles = SIZES[name]
    settings = {"layers": layers, "d_model": width, "heads": 2, "feedforward_ratio": 2}
    task = Examples(examples, tokens)
    table = read_weights({"mode": "weights"}, "benchmark")
    start = Start.of(table, settings, task.info, 0)
    fitness = Fitness(start.searched(start.drawn), task, "loss", 0, device)
    loop = Loop(fitness, settings)
    loop.model.load_swarm_parameters(start.drawn)
    draws = torch.Generator().manual_seed(1)
    positions = torch.rand(particles, start.count, generator=draws)

    def batched() -> list[float]:
        return [s.value for s in fitness.score([settings] * particles, positions, [0], False)]

    expected, found = loop(positions), batched()
    worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    assert worst < 1e-4, f"the two disagree by {worst}"
    times: dict[str, list[float]] = {"batched": [], "loop": []}
    for _ in range(repeats):
        for who, run in (("batched", batched), ("loop", lambda: loop(positions))):
            began = time.perf_counter()
            run()
            times[who].append(time.perf_counter() - began)
    ratios = sorted(a / b for a, b in zip(times["loop"], times["batched"], strict=True))
    return {
        "batched_ms": 1e3 * statistics.median(times["batched"]),
        "loop_ms": 1e3 * statistics.median(times["loop"]),
        "ratio": statistics.median(ratios),
        "low": ratios[len(ratios) // 4],
        "high": ratios[-1 - len(ratios) // 4],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = resolve_device(given.device)
    found = {name: measure(name, given.repeats, device) for name in SIZES}
    if given.json:
        print(json.dumps(found))
        return
    where = f"{device}, {given.threads} thread(s)"
    print(f"torch {torch.__version__}, {where}, medians of {given.repeats}")
    for name, row in found.items():
        print(
            f"{name:<10} batched {row['batched_ms']:8.2f} ms   loop {row['loop_ms']:8.2f} ms   "
            f"{row['ratio']:.1f} times ({row['low']:.1f} - {row['high']:.1f})"
        )


if __name__ == "__main__":
    main()
