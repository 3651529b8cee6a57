"""One swarm against processes that share a GPU, each training its part one by one.

    python benchmarks/shared_gpu.py [--device cuda] [--processes 8 16] [--works NAME …]
                                    [--large] [--precision float32] [--repeats 7] [--json]

It is what a person would do without a batch. The processes train plain modules, as they are, and
without NVIDIA's multi-process service; the swarm's steps are a CUDA graph. In turns, in the same
run. A figure is the processes' time / the swarm's. --large adds language models that fill a GPU.
None of these has been measured on one yet.
"""

import argparse
import json
import statistics
import time

import torch
from batched_training import WARM_UP, Work, add_choices, chosen, make_members, make_task, seconds
from planned_training import Processes

from pso_attn.evaluate.training import SwarmTraining


def ratios(work: Work, count: int, repeats: int, device: torch.device) -> list[float]:
    """Return processes / swarm for each repetition; both train the same members, in turns."""
    task, total = make_task(work), WARM_UP + repeats * work.steps
    swarm, found = SwarmTraining(task, make_members(work, task), total, device), []
    with Processes(work, count, total, device) as processes:
        swarm.advance(WARM_UP)
        processes.advance(WARM_UP)
        for repeat in range(repeats):
            until = WARM_UP + (repeat + 1) * work.steps
            batched = seconds(swarm.advance, device, until)
            start = time.perf_counter()
            processes.advance(until)
            found.append((time.perf_counter() - start) / batched)
    return found


def main() -> None:
    """Print a line for each size and number of processes, or one JSON document of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", nargs="+", type=int, default=[8, 16], help="2 or more each")
    add_choices(parser)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device here; --device cpu tries the script alone")
    torch.set_num_threads(1)
    if not options.json:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        print(f"{name}, torch {torch.__version__}, {options.precision}")
        print("processes / swarm: median, least, greatest")
    medians: dict[str, float] = {}
    for key, work in chosen(options).items():
        for count in options.processes:
            found = ratios(work, count, options.repeats, device)
            name = f"{key}, {count} processes"
            medians[name] = round(statistics.median(found), 3)
            if not options.json:
                spread = f"{min(found):6.2f} {max(found):6.2f}"
                print(f"{name:26} {medians[name]:6.2f} {spread}", flush=True)
    if options.json:
        print(json.dumps(medians))


if __name__ == "__main__":
    main()
