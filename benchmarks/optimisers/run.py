"""How soon samplers find what is good, at equal evaluations: one row a search, resumable.

    python benchmarks/optimisers/run.py --setting batch-10 --samplers pso,tpe --split develop \\
        --seeds 0-2 --out /tmp/develop.csv

A batch is proposed whole before any of it is told. Searches that the file already holds are not
run again; seeds are outermost, so that whatever is done is paired. `summary.py` reads the file.
Columns: setting, sampler, problem, group, split, seed; the score (see `problem.py`) after a
quarter, half and all of the evaluations; CPU seconds in the sampler, all of its processes; the
package that the sampler's moves come from, with its version.
"""

import argparse
import csv
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from peers import maker, version_of
from problem import Problem, scores
from suite import chosen

from pso_attn.errors import ConfigurationError, PsoAttnError
from pso_attn.space import Space
from pso_attn.types import History, Proposal, Sampler

COLUMNS = (
    *("setting", "sampler", "problem", "group", "split", "seed"),
    *("quarter", "half", "whole", "seconds", "version"),
)


@dataclass(frozen=True)
class Setting:
    """How a budget is spent. particles: of the swarm, where there is one."""

    particles: int
    batch: int
    evaluations: int

    @property
    def generations(self) -> int:
        return self.evaluations // self.batch

    @property
    def checkpoints(self) -> list[int]:
        """Evaluations after a quarter, half and all of the generations."""
        return [max(1, self.generations * k // 4) * self.batch for k in (1, 2, 4)]


SETTINGS: Mapping[str, Setting] = {
    "batch-10": Setting(10, 10, 200),
    "serial": Setting(8, 1, 50),
    "batch-8": Setting(8, 8, 48),
    "batch-20": Setting(20, 20, 100),
    "batch-20-long": Setting(20, 20, 400),
    "batch-32": Setting(32, 32, 640),
    "batch-64": Setting(64, 64, 640),
}


@dataclass(frozen=True, eq=False)
class Job:
    """One search. label: what the sampler is called in the file."""

    setting: str
    sampler: str
    label: str
    problem: Problem
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        return (self.setting, self.label, self.problem.name, str(self.seed))


class Timed:
    """A sampler, and the CPU seconds that its proposals took, in this process and in its own."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self._own = sampler, 0.0

    def propose(self, space: Space, history: History) -> Proposal:
        began = time.process_time()
        proposal = self.sampler.propose(space, history)
        self._own += time.process_time() - began
        return proposal

    @property
    def seconds(self) -> float:
        elsewhere: float = getattr(self.sampler, "seconds_elsewhere", 0.0)
        return self._own + elsewhere


def run_job(job: Job) -> tuple[object, ...]:
    """Return the row of a search."""
    setting = SETTINGS[job.setting]
    extra = (job.options,) if job.options else ()
    made = maker(job.sampler)(
        job.seed, setting.particles, setting.batch, setting.generations, *extra
    )
    timed = Timed(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peers warn of their own defaults, once a batch
        found = scores(job.problem, timed, job.seed, setting.generations, setting.checkpoints)
    return (
        *(job.setting, job.label, job.problem.name, job.problem.group, job.problem.split),
        *(job.seed, *(f"{score:.3f}" for score in found), f"{timed.seconds:.3f}"),
        version_of(job.sampler),
    )


def finished(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the searches that a file holds; ConfigurationError for another file.

    What a kill left of a line that was being written is taken away.
    """
    written = path.read_text() if path.exists() else ""
    whole = written[: written.rfind("\n") + 1]
    key, rows = (*COLUMNS[:3], "seed"), csv.DictReader(whole.splitlines())
    begun = ",".join(COLUMNS).startswith(written)  # of its header at most, or empty
    if not begun and not {*key} <= {*(rows.fieldnames or ())}:
        raise ConfigurationError(f"{path} is no file of this program; give --out another name")
    if whole != written:
        path.write_text(whole)
    return {tuple(row[name] for name in key) for row in rows}


def numbers(text: str) -> list[int]:
    """Return the seeds of "0-9", "3" or "0,2,5-7"; ConfigurationError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            seeds = range(int(first), int(last or first) + 1)
        except ValueError:
            seeds = range(0)
        if not seeds:
            raise ConfigurationError(f'--seeds has "{part}"; give e.g. 3, 0-9 or 0,2,5-7')
        found += seeds
    return found


def problems_of(asked: argparse.Namespace) -> list[Problem]:
    """Return the problems asked for; ConfigurationError for a part or a group that none has."""
    parts = [part for part in asked.problems.split(",") if part]
    groups = [group for group in asked.groups.split(",") if group]
    half = None if asked.split == "both" else asked.split
    problems = chosen(half, groups, parts, not asked.all_dimensions)
    where = "no problem" if half is None else f"no problem of the {half} half"
    for group in groups:
        if not any(problem.group == group for problem in problems):
            known = ", ".join(dict.fromkeys(problem.group for problem in chosen(half)))
            raise ConfigurationError(f'{where} is of the group "{group}"; groups are {known}')
    for part in parts:
        if not any(part in problem.name for problem in problems):
            names = [problem.name for problem in chosen(half, groups)]
            raise ConfigurationError(
                f'{where} has "{part}" in its name; names are such as {", ".join(names[:5])}'
            )
    return problems


def rows_of(jobs: Sequence[Job], workers: int) -> Iterator[tuple[object, ...]]:
    """Yield the rows as they are finished."""
    if workers == 1:
        yield from map(run_job, jobs)
        return
    global _queued
    _queued = jobs
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap_unordered(_run_queued, range(len(jobs)))


_queued: Sequence[Job] = ()  # what forked workers find; a problem's instance cannot be pickled


def _run_queued(index: int) -> tuple[object, ...]:
    return run_job(_queued[index])


def main() -> None:
    asked = _arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        problems, seeds, options = (
            problems_of(asked),
            numbers(asked.seeds),
            _options(asked.options),
        )
        suffix = f":{asked.label}" if asked.label else ""
        done = finished(asked.out)
        jobs = [
            Job(asked.setting, name, name + suffix, problem, seed, options)
            for seed in seeds
            for problem in problems
            for name in asked.samplers.split(",")
        ]
        jobs = list({job.key: job for job in jobs if job.key not in done}.values())
        if asked.workers < 1:
            raise ConfigurationError(f"--workers is {asked.workers}; give at least 1")
        for name in {job.sampler for job in jobs}:
            maker(name)
        _write(asked.out, jobs, asked.workers)
    except PsoAttnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _options(text: str) -> Mapping[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--options is no JSON: {error}") from error
    if not isinstance(options, dict):
        raise ConfigurationError('--options is no table; give e.g. {"draws": 40}')
    return options


def _write(path: Path, jobs: Sequence[Job], workers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or not path.stat().st_size
    began = time.monotonic()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        for count, row in enumerate(rows_of(jobs, workers), 1):
            writer.writerow(row)
            file.flush()
            spent = time.monotonic() - began
            print(f"{count}/{len(jobs)}  {spent:.0f} s  {' '.join(map(str, row[1:3]))}  "
                  f"seed {row[5]}: {row[8]}", file=sys.stderr)  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="batch-10")
    parser.add_argument("--samplers", default="pso", help="names or module:Class, by comma")
    parser.add_argument("--split", choices=("develop", "held-out", "both"), default="develop")
    parser.add_argument("--groups", default="", help='e.g. "noisy,HPO"')
    parser.add_argument("--problems", default="", help="parts of names, by comma")
    parser.add_argument("--all-dimensions", action="store_true", help="of COCO's functions")
    parser.add_argument("--seeds", default="0-9", help="e.g. 0-9 or 0,3,7")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--options", default="{}", help="of the samplers, as JSON")
    parser.add_argument(
        "--label", default="", help="stands behind the samplers' names in the file"
    )
    parser.add_argument("--out", type=Path, required=True, help="a CSV file, appended to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
