"""Seconds until a search reaches the quality that Optuna's own searches reach.

    python benchmarks/time_to_quality.py --quick
    python benchmarks/time_to_quality.py --spaces digits,text --out runs/time_to_quality.jsonl

Ours is `pso-attn search` with its own sampler, batch and rungs, on as many threads as it takes by
itself (leave OMP_NUM_THREADS unset): whole generations of at most --trainings, or of
--ours-trainings, since it may take more of them in less time. The peers are Optuna's
{TPE, GP} x {median, successive halving}, each a study that --workers processes of one thread
share, with plain modules; `optuna_peer.py` says how the two sides are kept alike.

The clock starts when all processes stand with their data read. A target is the lowest validation
loss, at full fidelity, of a seed's peers; both sides are timed to it, and a ratio is the peer's
seconds / ours. Where ours never reaches it the ratio is unknown and counts as 0. What a search
finds is half luck, so the median over all pairs of our seeds and the peers' is given as well. Then
the other way round: how long any peer takes to the loss at which ours ended. All of it again
against one worker, which has a target of its own. Runs of one seed take turns at being first.
--out keeps each finished run, and a second call goes on from there.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO
from unittest import mock

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from optuna_peer import PEERS, STUDY, Job, Shared, configuration, open_storage, run_peer

from pso_attn.baselines.rebuilt_study import quiet_optuna
from pso_attn.config import read_configuration
from pso_attn.driving import start_run

OURS = "pso-attn"
Curve = Sequence[Sequence[float]]  # (seconds, lowest loss so far), where it fell


@dataclass(frozen=True)
class Outcome:
    """What a search reached. ended: its trials by state. load: the machine's, as it began."""

    job: Job
    curve: Curve
    seconds: float
    ended: dict[str, int]
    load: float

    @property
    def loss(self) -> float:
        return self.curve[-1][1] if self.curve else math.inf

    def reached(self, loss: float) -> float | None:
        """Return the seconds until a loss was reached, or None."""
        return next((seconds for seconds, best in self.curve if best <= loss), None)


def run_ours(job: Job, folder: Path, shared: Shared, worker: int) -> None:
    with start_run(configuration(job), STUDY, folder) as driven:
        shared.began.value = time.time()
        driven.run(math.inf)


def measure(job: Job) -> Outcome:
    """Run a search in processes of its own and return what it reached, and when."""
    spawn, load = multiprocessing.get_context("spawn"), os.getloadavg()[0]
    work, count = (run_ours, 1) if job.runner == OURS else (run_peer, job.workers)
    shared = Shared(spawn.Value("d", 0.0), spawn.Barrier(count), spawn.Value("i", job.trainings))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        workers = [
            spawn.Process(target=work, args=(job, folder, shared, worker))
            for worker in range(count)
        ]
        threads = {"OMP_NUM_THREADS": "1"} if work is run_peer else {}
        with mock.patch.dict(os.environ, threads):  # what is spawned inherits it
            for process in workers:
                process.start()
        for process in workers:
            process.join()
        if any(process.exitcode for process in workers):
            raise RuntimeError(f"a worker of {job} failed; see its message above")
        return read_outcome(job, trials_of(job, folder), shared.began.value, load)


def trials_of(job: Job, folder: Path) -> list[FrozenTrial]:
    inside = folder / STUDY if job.runner == OURS else folder
    with quiet_optuna():
        return optuna.load_study(study_name=STUDY, storage=open_storage(inside)).get_trials()


def read_outcome(job: Job, trials: Sequence[FrozenTrial], began: float, load: float) -> Outcome:
    """Return a study's outcome on a clock that started at `began`, in seconds of the epoch."""
    ends = [(t.datetime_complete.timestamp() - began, t) for t in trials if t.datetime_complete]
    curve: list[tuple[float, float]] = []
    for seconds, trial in sorted(ends, key=lambda end: end[0]):
        if trial.state is not TrialState.COMPLETE or trial.value is None:
            continue
        if not curve or trial.value < curve[-1][1]:
            curve.append((seconds, trial.value))
    ended = Counter(trial.state.name for trial in trials)
    return Outcome(job, curve, max(seconds for seconds, _ in ends), dict(ended), load)


@dataclass(frozen=True)
class Duel:
    """One seed: ours against its peers, each side timed to the loss at which the other ended."""

    ours: Outcome
    peers: Sequence[Outcome]

    @property
    def best(self) -> Outcome:
        return min(self.peers, key=lambda peer: (peer.loss, peer.reached(peer.loss) or math.inf))

    @property
    def ratio(self) -> float:
        """The best peer's seconds / ours to the best peer's loss; 0 where ours never had it."""
        ours_s, peer_s = (side.reached(self.best.loss) for side in (self.ours, self.best))
        return peer_s / ours_s if ours_s and peer_s else 0.0

    def row(self) -> str:
        best, ours = self.best, self.ours
        back_s = min((s for peer in self.peers if (s := peer.reached(ours.loss))), default=None)
        ours_s = ours.reached(ours.loss) or math.inf
        longest_s = max(peer.seconds for peer in self.peers)
        return (
            f"{ours.job.seed:4d} {best.job.runner:12} {best.loss:9.4f} "
            f"{_seconds(best.reached(best.loss))} {_seconds(ours.reached(best.loss))} "
            f"{f'{self.ratio:.2f}' if self.ratio else 'loss':>7} | {ours.loss:9.4f} "
            f"{_seconds(ours_s)} {_seconds(back_s)} "
            f"{'  ' if back_s else '> '}{(back_s or longest_s) / ours_s:.2f}"
        )


def _seconds(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"{seconds:11.1f}"


def report(title: str, duels: Sequence[Duel]) -> tuple[dict[str, float], list[str]]:
    """Return the figures over seeds, and a table of every seed."""
    ratios = [duel.ratio for duel in duels]
    pairs = [Duel(one.ours, other.peers).ratio for one in duels for other in duels]
    figures = {
        "median": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "greatest": round(max(ratios), 3),
        "reached": sum(ratio > 0 for ratio in ratios),
        "seeds": len(ratios),
        "pairs_median": round(statistics.median(pairs), 3),
        "pairs_reached": round(sum(ratio > 0 for ratio in pairs) / len(pairs), 3),
    }
    sides = f"{'peer s':>11} {'ours s':>11} {'ratio':>7}"
    back = f"{'our loss':>9} {'ours s':>11} {'peer s':>11}   ratio"
    lines = [f"\n{title}", f"seed {'best peer':12} {'its loss':>9} {sides} | {back}"]
    lines += [duel.row() for duel in duels]
    lines.append(
        f"ratio: median {figures['median']:.2f} ({figures['least']:.2f} … "
        f"{figures['greatest']:.2f}), reached on {figures['reached']} of {len(ratios)} seeds"
    )
    lines.append(
        f"over all pairs of our seeds and theirs: median {figures['pairs_median']:.2f}, "
        f"reached in {figures['pairs_reached']:.0%}"
    )
    return figures, lines


class Ledger:
    """Finished searches, each a line of a file if there is one; any other is run when asked."""

    def __init__(self, file: Path | None, say: TextIO) -> None:
        self.file, self.say, self.known = file, say, dict[Job, Outcome]()
        if file is not None and file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                outcome = Outcome(**{**row, "job": Job(**row["job"])})
                self.known[outcome.job] = outcome

    def outcome(self, job: Job) -> Outcome:
        if job not in self.known:
            self.known[job] = measure(job)
            if self.file is not None:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(self.known[job])) + "\n")
        found = self.known[job]
        print(
            f"{job.space:8} seed {job.seed} {job.runner:12} x{job.workers} {found.seconds:7.1f} s "
            f"loss {found.loss:.4f} at {found.reached(found.loss) or math.inf:7.1f} s, "
            f"{found.ended}, load {found.load:.1f}",
            file=self.say,
            flush=True,
        )
        return found


def duels_of(given: argparse.Namespace, space: str, seed: int, ledger: Ledger) -> list[Duel]:
    """Return the duels of a seed: against peers with all workers, then with one."""
    steps = given.steps or read_configuration(space).budget.steps
    trainings = {OURS: given.ours_trainings or given.trainings}
    pool = [
        Job(space, seed, runner, given.workers, trainings.get(runner, given.trainings), steps)
        for runner in (OURS, *given.peers.split(","))
    ]
    turn = seed % len(pool)
    found = {job: ledger.outcome(job) for job in pool[turn:] + pool[:turn]}
    ours, *peers = (found[job] for job in pool)
    duels = [Duel(ours, peers)]
    if given.workers > 1 and given.one_worker != "none":
        again = peers if given.one_worker == "all" else [duels[0].best]
        alone = [ledger.outcome(replace(peer.job, workers=1)) for peer in again]
        duels.append(Duel(ours, alone))
    return duels


def main() -> None:
    """Print every outcome, then each seed's times and their medians, or these as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", default="digits,text")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trainings", type=int, default=200)
    parser.add_argument("--ours-trainings", type=int, help="how long ours may go on instead")
    parser.add_argument("--steps", type=int, help="as the space says unless given")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument(
        "--one-worker",
        choices=("best", "all", "none"),
        default="best",
        help="which peers run again with one worker: the one that was best with all workers, all",
    )
    parser.add_argument("--out", type=Path, help="a file of finished runs, to go on from")
    parser.add_argument("--quick", action="store_true", help="a small search of digits, one seed")
    parser.add_argument("--json", action="store_true", help="the figures alone, on stdout")
    given = parser.parse_args()
    if given.quick:
        given.spaces, given.seeds, given.trainings, given.steps = "digits", 1, 32, 40
    for peer in set(given.peers.split(",")) - set(PEERS):
        parser.error(f"{peer} is not a peer; choose among {', '.join(PEERS)}")
    say = sys.stderr if given.json else sys.stdout
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}, Optuna {optuna.__version__}; ours may take "
        f"{torch.get_num_threads()} threads",
        file=say,
    )
    ledger = Ledger(given.out, say)
    duels: dict[tuple[str, int], list[Duel]] = {}
    for seed in range(given.seeds):
        for space in given.spaces.split(","):
            for duel in duels_of(given, space, seed, ledger):
                duels.setdefault((space, duel.best.job.workers), []).append(duel)
    figures = {}
    for (space, workers), of_seeds in sorted(duels.items()):
        title = f"{space}, against one-thread workers: {workers}"
        figures[f"{space}-{workers}"], lines = report(title, of_seeds)
        print(*lines, sep="\n", file=say)
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
