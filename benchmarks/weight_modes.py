"""What searches for weights reach on the test split, beside their controls, over seeds.

    python benchmarks/weight_modes.py [weights] [ternary] [checkpoints] [hybrid] [--seeds 5]
        [--first 0] [--sampler pso] [--json] [--set key=value ...]

weights: `digits-weights`, 4,096 attention weights from random. ternary: `digits-ternary`.
checkpoints: five fine-tunings of one model of digits, of other rates and data orders, searched in
the space between them. hybrid: `digits-hybrid`, gradient steps between moves.
Every case is an ordinary run: a search by the functions of the command, then `confirm`, which
scores what the search alone chose. Gradient descent has as many forward passes as the search.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pso_attn.checkpoints import save_checkpoint
from pso_attn.config import configured, read_configuration
from pso_attn.confirm import confirm_run
from pso_attn.driving import start_run
from pso_attn.evaluate.weights import Descent, Fitness, Start, train_first
from pso_attn.models.weights import by_name
from pso_attn.runs import load_run
from pso_attn.space import read_weights
from pso_attn.tasks import make_task

MODEL = {"layers": 1, "d_model": 32, "feedforward_ratio": 2, "lr": 5e-3}
TUNED, BEFORE, AFTER = 5, 150, 150  # checkpoints; gradient steps in common, and of each


def checkpoints(seed: int, folder: Path) -> list[str]:
    """Leave fine-tunings of one model, which differ in rate and data order; return their paths."""
    task = make_task("digits")
    device = torch.device("cpu")
    parts = train_first(task, MODEL, seed, BEFORE, device)
    save_checkpoint(folder / "base.safetensors", parts, {})
    table = read_weights(
        {"matrices": "all", "start": str(folder / "base.safetensors")}, "benchmark"
    )
    start = Start.of(table, MODEL, task.info, seed)
    fitness = Fitness(start.searched(None), task, "loss", seed, device)
    settings = [{**MODEL, "lr": rate} for rate in (1e-3, 2e-3, 3e-3, 5e-3, 8e-3)]
    vectors = fitness.searched.untouched.expand(TUNED, -1)
    descent = Descent(fitness, settings, vectors, [1000 * seed + k for k in range(TUNED)], AFTER)
    descent.advance(AFTER)
    names = []
    for number, row in enumerate(descent.vectors):
        path = folder / f"tuned-{number}.safetensors"
        save_checkpoint(path, by_name(start.matrices, row), {})
        names.append(str(path))
    return names


def case(name: str, seed: int, sampler: str, sets: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return test accuracy and loss of the winner and of everything beside it."""
    flags = {"seed": seed, "sampler": sampler}
    if name == "checkpoints":
        document = {
            "task": "digits",
            "model": MODEL,
            "weights": {"mode": "checkpoints", "start": checkpoints(seed, folder)},
            "budget": {"particles": 20, "generations": 20, "steps": 1},
        }
        configuration = configured(document, "checkpoints", folder, sets, flags)
    else:
        configuration = read_configuration(f"digits-{name}", sets, flags)
    with start_run(configuration, name, folder) as driven:
        driven.run(float("inf"))
        driven.hold_against(math.inf)
    found = confirm_run(load_run(name, folder), 1)
    shown = {}
    for measure in ("accuracy", "loss"):
        for who, row in (("best", 1), ("untouched", 0)):
            shown[f"{who}, {measure}"] = found["rows"][row]["test"][measure]["mean"]
        for who, scores in found["baselines"].items():
            if measure in scores:
                shown[f"{who}, {measure}"] = scores[measure]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["weights", "ternary"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--sampler", default="pso")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    document = {}
    for name in given.cases:
        rows = []
        for seed in range(given.first, given.first + given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(case(name, seed, given.sampler, given.sets, Path(folder)))
        document[name] = {who: [row[who] for row in rows] for who in rows[0]}
        if given.json:
            continue
        print(
            f"{name}, {given.sampler}: on the test split, of seeds {given.first} to "
            f"{given.first + given.seeds - 1}"
        )
        for who, values in document[name].items():
            each = " ".join(f"{value:.3f}" for value in values)
            middle, mean = statistics.median(values), statistics.fmean(values)
            print(f"  {who:<30} median {middle:.3f}  mean {mean:.3f}   {each}")
    if given.json:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
