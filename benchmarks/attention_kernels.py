"""Ways to attend on a GPU: explicit weights, PyTorch's fused kernels, blocks, FlexAttention.

    python benchmarks/attention_kernels.py [--tokens 32 …] [--precision float32 …] [--repeats 7]

Causal softmax attention of 8 particles with a decay of their own each, with and without a window
of 64 tokens; 8 examples, 4 heads of 32, forward and backward, each way replayed as a CUDA graph,
in turns. Printed: milliseconds in the median (least, greatest) of each way, and the seconds that
FlexAttention takes to compile for a size. All ways are held against explicit weights first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pso_attn.attention.band import Band
from pso_attn.attention.flexible import Flexible, compiled
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.pairs import weighted
from pso_attn.attention.plain import fused
from pso_attn.attention.scores import Scores
from pso_attn.attention.sight import LONG
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.testing.mechanisms import make_layer

PARTICLES, EXAMPLES, HEADS, WIDTH, WINDOW = 8, 8, 4, 32, 64
TOKENS = (32, 64, 128, 256, 512, 2048)
MOST_WEIGHTS = 2**31  # entries of all explicit weights, above which they are left out
WARM_UP, REPLAYS = 3, 10
TOLERANCE = {"float32": 1e-4, "tf32": 5e-3, "bf16": 5e-2}  # of an entry and of a gradient
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def settings(length: int, window: int | None) -> list[LayerSettings]:
    """Return a layer of each particle."""
    knobs = {} if window is None else {"window_tokens": window}
    return [
        make_layer(
            "softmax",
            heads=HEADS,
            head_dim=WIDTH,
            length=length,
            causal=True,
            decay=0.5 + particle / PARTICLES,
            **knobs,
        )
        for particle in range(PARTICLES)
    ]


def ways(length: int, window: int | None, device: torch.device) -> dict[str, Attend]:
    """Return what maps q, k and v (P, B, H, T, d), q scaled, to values of that shape, by name."""
    members = settings(length, window)
    scores = Scores(members, length, True, torch.zeros((), device=device))

    def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return weighted(scores(q, k, {}).softmax(-1), v)

    found: dict[str, Attend] = {}
    if PARTICLES * EXAMPLES * HEADS * length * length <= MOST_WEIGHTS:
        found["explicit"] = explicit
    found["fused"] = lambda q, k, v: fused(q, k, v, scores.mask)
    if members[0].near and scores.bias is not None:
        found["blocks"] = Band(scores.bias, members[0].near, True)
    if length >= LONG:
        found["flex"] = partial(Flexible(members, length, True, device).by, compiled())
    return found


def recorded(step: Callable[[], object]) -> Callable[[], None]:
    """Return what replays a step as a CUDA graph."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


def milliseconds(replay: Callable[[], None]) -> float:
    """Return the time of one replay."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(REPLAYS):
        replay()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / REPLAYS


def compare(length: int, window: int | None, precision: str, repeats: int) -> str:
    """Return a line of the table."""
    torch.compiler.reset()  # PyTorch compiles so many kernels of a function, and then no more
    device = torch.device("cuda", torch.cuda.current_device())
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    drawn = torch.Generator(device).manual_seed(0)
    shape = (PARTICLES, EXAMPLES, HEADS, length, WIDTH)
    q, k, v, pull = (
        torch.randn(shape, device=device, generator=drawn).to(dtype).requires_grad_(turn < 3)
        for turn in range(4)
    )
    replays: dict[str, Callable[[], None]] = {}
    expected: list[Tensor] | None = None
    compiling = 0.0
    with products_in(precision, device):
        for name, attend in ways(length, window, device).items():

            def step(attend: Attend = attend) -> list[Tensor]:
                with autocast(precision, device):
                    out = attend(q * WIDTH**-0.5, k, v)
                return [out, *torch.autograd.grad(out, (q, k, v), pull.to(out.dtype))]

            begun = time.perf_counter()
            found = [x.detach().float() for x in step()]
            torch.cuda.synchronize()
            compiling = time.perf_counter() - begun  # of the last way
            if expected is None:
                expected = found
            for one, other in zip(found, expected, strict=True):
                error = float((one - other).norm() / other.norm())
                if not error < TOLERANCE[precision]:
                    raise SystemExit(f"{name} is off by {error:.1e} at {length} tokens")
            replays[name] = recorded(step)
        times: dict[str, list[float]] = {name: [] for name in replays}
        for _ in range(repeats):
            for name, replay in replays.items():
                times[name].append(milliseconds(replay))
    columns = [
        f"{statistics.median(times[name]):8.3f} ({min(times[name]):.3f}, {max(times[name]):.3f})"
        if name in times
        else "       -"
        for name in ("explicit", "fused", "blocks", "flex")
    ]
    sight = "all" if window is None else str(window)
    table = " ".join(f"{column:25}" for column in columns)
    return f"{length:6} {sight:>6} {precision:9} {table}{compiling:6.1f}"


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS)
    parser.add_argument("--precision", nargs="+", choices=TOLERANCE, default=list(TOLERANCE))
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device here, and a CPU is not what this compares")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, milliseconds")
    names = ("explicit", "fused", "blocks", "FlexAttention")
    heads = " ".join(f"{name:>8}{'':17}" for name in names)
    print(f"tokens window precision {heads} to compile")
    for precision in options.precision:
        for length in options.tokens:
            for window in (None, WINDOW):
                if window is None or window < length:
                    print(compare(length, window, precision, options.repeats), flush=True)


if __name__ == "__main__":
    main()
