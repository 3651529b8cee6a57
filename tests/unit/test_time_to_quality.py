"""The benchmark of seconds to a quality: what it counts, and that it runs from end to end."""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest
from optuna.trial import TrialState, create_trial

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import time_to_quality

    return time_to_quality


def _outcome(script: ModuleType, runner: str, curve: Sequence[tuple[float, float]]):  # type: ignore[no-untyped-def]  # a class of the script
    job = script.Job("digits", 0, runner, 2, 200, 400)
    return script.Outcome(job, curve, 100.0, {"COMPLETE": 200}, 0.5)


def test_the_ratio_is_of_seconds_to_the_loss_of_the_best_peer(script: ModuleType) -> None:
    ours = _outcome(script, "pso-attn", [(1.0, 0.9), (10.0, 0.4), (20.0, 0.2)])
    worse = _outcome(script, "gp-median", [(2.0, 0.9), (5.0, 0.6)])
    best = _outcome(script, "tpe-median", [(2.0, 0.9), (30.0, 0.5)])
    duel = script.Duel(ours, [worse, best])
    assert duel.best is best
    assert duel.ratio == 3.0


def test_a_loss_that_ours_never_reaches_counts_as_zero_and_is_said(script: ModuleType) -> None:
    ours = _outcome(script, "pso-attn", [(1.0, 0.9)])
    peer = _outcome(script, "tpe-median", [(2.0, 0.9), (30.0, 0.5)])
    figures, lines = script.report("digits", [script.Duel(ours, [peer])])
    assert figures["median"] == 0
    assert figures["reached"] == 0
    assert "not reached" in lines[2]


def test_each_of_our_seeds_meets_each_of_the_peers_seeds(script: ModuleType) -> None:
    ours = [_outcome(script, "pso-attn", [(seconds, 0.5)]) for seconds in (10.0, 20.0)]
    peers = [_outcome(script, "tpe-median", [(60.0, loss)]) for loss in (0.5, 0.4)]
    duels = [script.Duel(one, [other]) for one, other in zip(ours, peers, strict=True)]
    figures, _ = script.report("digits", duels)
    assert figures["median"] == 3.0  # of 6 and 0
    assert figures["pairs_median"] == 1.5  # of 6, 3, 0 and 0
    assert figures["pairs_reached"] == 0.5


def test_only_completed_trials_lower_the_curve_on_the_common_clock(script: ModuleType) -> None:
    trials = [
        create_trial(state=state, value=value)
        for state, value in [
            (TrialState.PRUNED, 0.1),
            (TrialState.COMPLETE, 0.7),
            (TrialState.COMPLETE, 0.8),
            (TrialState.COMPLETE, 0.6),
        ]
    ]
    for second, trial in enumerate(trials):
        trial.datetime_complete = datetime.fromtimestamp(1_000_000 + second)
    job = script.Job("digits", 0, "tpe-median", 2, 4, 40)
    outcome = script.read_outcome(job, trials, 999_999.0, 0.5)
    assert outcome.curve == [(2.0, 0.7), (4.0, 0.6)]
    assert outcome.ended == {"PRUNED": 1, "COMPLETE": 3}


def test_what_finished_is_read_back_and_not_run_again(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = _outcome(script, "tpe-median", [(2.0, 0.9), (30.0, 0.5)])
    out = tmp_path / "runs.jsonl"
    out.write_text(json.dumps(asdict(kept)) + "\n")
    assert script.Ledger(out, sys.stdout).outcome(kept.job).reached(0.6) == 30.0
    assert "loss 0.5000 at    30.0 s" in capsys.readouterr().out


@pytest.mark.parametrize("runner", ["pso-attn", "tpe-median", "gp-halving"])
def test_both_sides_spend_the_trainings_that_are_asked_for(
    script: ModuleType, tmp_path: Path, runner: str
) -> None:
    job = script.Job("digits", 0, runner, 1, 4, 4)
    shared = script.Shared(
        multiprocessing.Value("d", 0.0), multiprocessing.Barrier(1), multiprocessing.Value("i", 4)
    )
    work = script.run_ours if runner == script.OURS else script.run_peer
    work(job, tmp_path, shared, 0)
    trials = script.trials_of(job, tmp_path)
    outcome = script.read_outcome(job, trials, shared.began.value, 0.5)
    assert sum(outcome.ended.values()) == 4
    assert 0 < outcome.reached(outcome.loss) <= outcome.seconds
    assert trials[0].params == {**trials[0].params, "lr": 5e-3}  # the defaults come first


@pytest.mark.slow
def test_the_script_compares_worker_processes_and_keeps_what_finished(
    script: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "runs.jsonl"
    asked = "--spaces digits --seeds 1 --trainings 4 --steps 4 --workers 2 --one-worker none"
    command = [BENCHMARKS / "time_to_quality.py", *asked.split(), "--peers", "tpe-halving"]
    done = subprocess.run(
        [sys.executable, *command, "--out", out, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"digits-2"}
    kept = script.Ledger(out, sys.stderr).known.values()
    assert {outcome.job.runner for outcome in kept} == {"pso-attn", "tpe-halving"}
    assert all(sum(outcome.ended.values()) == 4 for outcome in kept)
