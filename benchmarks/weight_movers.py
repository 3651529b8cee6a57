"""Which sampler moves 4,096 attention weights best: digits, 3,200 evaluations.

A transformer of one layer is trained on digits; then its Wq, Wk, Wv, Wo (32 x 32 each) are the
particles' positions. `weights`: the four matrices are drawn anew and searched for. `ternary`: they
are quantised to three values a matrix (Ma et al. 2024, arXiv 2402.17764, absmean) and what is
quantised is searched for, from the trained matrices on. The fitness is the cross-entropy of
--examples training images, drawn for each generation and common to it. Printed: test accuracy of
the trial with the least stored loss. Beside them: what is untouched, and Adam on the same weights,
straight through the quantiser, with the same number of forward passes (a step counts three).

    python benchmarks/weight_movers.py --samplers pso,sepcmaes --seeds 5
"""

import argparse
import math
import platform
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy, gelu, layer_norm

from pso_attn.imports import load_name
from pso_attn.samplers import SAMPLERS
from pso_attn.seeding import generator
from pso_attn.tasks.digits import make_digits
from pso_attn.testing.driving import MINIMISED, finished
from pso_attn.testing.spaces import cube
from pso_attn.types import History

WIDTH, HEADS, HIDDEN, MATRICES = 32, 4, 64, 4  # the matrices: q k v o
STEPS, RATE, BATCH = 300, 5e-3, 64
BOUNDS = {"weights": 3.0, "ternary": 1.0}  # deviations of a matrix from the centre to a face


def logits(rest, attention, inputs):
    """Return (P, B, 10) of attention (P, 4, C, C); all else is shared."""
    particles, (batch, tokens, _) = len(attention), inputs.shape
    embedded = inputs @ rest["embedding"] + rest["positions"]
    seen = layer_norm(embedded, (WIDTH,)).flatten(0, 1)  # (B T, C)

    def heads(i):
        shape = (particles, batch, tokens, HEADS, WIDTH // HEADS)
        return (seen @ attention[:, i]).view(shape).transpose(2, 3)

    q, k, v = (heads(i) for i in range(3))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS), -1)
    joined = (weights @ v).transpose(2, 3).reshape(particles, batch * tokens, WIDTH)
    x = embedded.flatten(0, 1) + joined @ attention[:, 3]
    x = x + gelu(layer_norm(x, (WIDTH,)) @ rest["expand"]) @ rest["contract"]
    x = layer_norm(x, (WIDTH,)).view(particles, batch, tokens, WIDTH).mean(2)
    return x @ rest["head"] + rest["bias"]


def losses(rest, attention, inputs, targets):
    out = logits(rest, attention, inputs)
    each = cross_entropy(out.transpose(1, 2), targets.expand(len(attention), -1), reduction="none")
    return each.mean(1)


def ternary(attention):
    scale = attention.abs().mean((-1, -2), keepdim=True)
    return torch.clamp(torch.round(attention / (scale + 1e-12)), -1, 1) * scale


def drawn(rng, rows, columns):
    return (torch.rand(rows, columns, generator=rng) * 2 - 1) / math.sqrt(rows)


def trained(task, seed):
    """Return a trained model: what stays (by name), and its attention (4, C, C)."""
    rng = torch.Generator().manual_seed(seed)
    rest = {
        "embedding": drawn(rng, task.info.features, WIDTH),
        "positions": torch.zeros(task.info.length, WIDTH),
        "expand": drawn(rng, WIDTH, HIDDEN),
        "contract": drawn(rng, HIDDEN, WIDTH),
        "head": drawn(rng, WIDTH, task.info.outputs),
        "bias": torch.zeros(task.info.outputs),
    }
    attention = torch.stack([drawn(rng, WIDTH, WIDTH) for _ in range(MATRICES)])[None]
    descend(task, rest, attention, [*rest.values(), attention], STEPS, RATE, rng)
    return {name: value.detach() for name, value in rest.items()}, attention.detach()[0]


def descend(task, rest, attention, parameters, steps, rate, rng, seen=lambda matrices: matrices):
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(task.train), (BATCH,), generator=rng)
        x, y = task.train.inputs[rows], task.train.targets[rows]
        optimiser.zero_grad()
        losses(rest, seen(attention), x, y).mean().backward()
        optimiser.step()


class Problem:
    """One problem of one seed: positions (P, D) in the unit cube to losses and accuracy."""

    def __init__(self, task, kind, seed, examples):
        self.task, self.kind, self.seed, self.examples = task, kind, seed, examples
        self.rest, attention = trained(task, seed)
        if kind == "weights":
            rng = torch.Generator().manual_seed(1000 + seed)
            attention = torch.stack([drawn(rng, WIDTH, WIDTH) for _ in range(MATRICES)])
        self.base = attention
        self.scale = BOUNDS[kind] * attention.std((1, 2), keepdim=True)

    def matrices(self, positions):
        offsets = torch.from_numpy(2 * positions - 1).float().view(-1, MATRICES, WIDTH, WIDTH)
        return self.quantised(self.base + self.scale * offsets)

    def quantised(self, attention):
        return ternary(attention) if self.kind == "ternary" else attention

    @torch.no_grad()
    def losses(self, positions, generation):
        rng = generator(self.seed, generation, "examples")
        count = min(self.examples, len(self.task.train))
        rows = rng.choice(len(self.task.train), count, replace=False)
        x, y = self.task.train.inputs[rows], self.task.train.targets[rows]
        chunks = self.matrices(positions).split(8)
        return torch.cat([losses(self.rest, chunk, x, y) for chunk in chunks]).double().numpy()

    @torch.no_grad()
    def accuracy(self, matrices):
        out = logits(self.rest, matrices, self.task.test.inputs).argmax(-1)
        return float((out == self.task.test.targets).float().mean())

    def by_gradient(self, steps):
        attention = self.base[None].clone()

        def seen(matrices):  # straight through: the forward's value, the backward's identity
            return matrices + (self.quantised(matrices) - matrices).detach()

        rng = torch.Generator().manual_seed(2000 + self.seed)
        descend(self.task, self.rest, attention, [attention], steps, RATE, rng, seen)
        return self.accuracy(self.quantised(attention.detach()))


def searched(problem, space, name, particles, evaluations, options):
    """Return the test accuracy of the best trial, and the seconds that the sampler took."""
    made, generations = load_name(SAMPLERS[name], "sampler"), evaluations // particles
    sampler = made(problem.seed, particles, particles, generations, options)
    history, best, seconds = History(MINIMISED), (math.inf, None), 0.0
    for number in range(generations):
        begun = time.perf_counter()
        proposal = sampler.propose(space, history)
        seconds += time.perf_counter() - begun
        found = problem.losses(proposal.positions, number)
        if found.min() < best[0]:
            best = found.min(), proposal.positions[found.argmin()]
        trials = tuple(
            finished(number, number * particles + i, member, position, float(loss))
            for i, (member, position, loss) in enumerate(
                zip(proposal.particles, proposal.positions, found, strict=True)
            )
        )
        history = History(MINIMISED, (*history.generations, trials))
    return problem.accuracy(problem.matrices(best[1][None])), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", default="pso,pso-competitive,pso-social,openes,sepcmaes")
    parser.add_argument("--problems", default="weights,ternary")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--particles", type=int, default=32)
    parser.add_argument("--evaluations", type=int, default=3200)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=NUMBER")
    given = parser.parse_args()
    options = {name: float(number) for name, number in (o.split("=") for o in given.set)}
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},")
    print(f"numpy {np.__version__}; {given.evaluations} evaluations of {given.examples} images")
    task = make_digits()
    space = cube(MATRICES * WIDTH * WIDTH)
    for kind in given.problems.split(","):
        problems = [Problem(task, kind, seed, given.examples) for seed in range(given.seeds)]
        report(kind, "untouched", [p.accuracy(p.quantised(p.base[None])) for p in problems])
        report(kind, "gradient", [p.by_gradient(given.evaluations // 3) for p in problems])
        for name in given.samplers.split(","):
            run = (name, given.particles, given.evaluations, options)
            rows = [searched(problem, space, *run) for problem in problems]
            report(kind, name, [row[0] for row in rows], np.median([row[1] for row in rows]))


def report(kind, name, accuracies, seconds=0.0):
    each = " ".join(f"{accuracy:.3f}" for accuracy in accuracies)
    middle = np.median(accuracies)
    print(f"{kind:8} {name:16} {middle:.3f}  [{each}]  proposing {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
