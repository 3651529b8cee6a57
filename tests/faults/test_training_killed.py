"""A full training that is killed or interrupted: the same command goes on to the same floats."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pso_attn.checkpoints import TRAINED

KILLS = 4
TINY = ("--particles", "2", "--generations", "1", "--set", "budget.steps=30")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pso_attn", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> None:
    """Wait for a command that must succeed."""
    _, err = process.communicate()
    assert process.returncode == 0, err


def under_way(checkpoints: Path) -> list[tuple[str, int]]:
    """Return what is saved of trainings that are not finished, and when."""
    saved = []
    for path in checkpoints.glob("training-*"):
        try:
            saved.append((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:  # finished this very moment
            continue
    return saved


def has_saved_more(process: subprocess.Popen[str], checkpoints: Path) -> bool:
    """Wait until a training saves once more; False if it ends first."""
    before = under_way(checkpoints)
    while process.poll() is None:
        if under_way(checkpoints) not in ([], before):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_a_training_killed_again_and_again_has_the_weights_of_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    checkpoints, train = tmp_path / "r" / "checkpoints", ("train", "r", "--runs-dir", tmp_path)
    done(start("search", "digits", "--run", "r", *TINY, "--runs-dir", tmp_path))
    done(start(*train))
    expected = load_file(checkpoints / TRAINED)
    (checkpoints / TRAINED).unlink()
    delays_s = np.random.default_rng(0).uniform(0, 0.3, KILLS)
    for delay_s in delays_s:
        process = start(*train)
        assert has_saved_more(process, checkpoints), "it ended before it could be killed"
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    done(start(*train))
    found = load_file(checkpoints / TRAINED)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {path.name for path in checkpoints.iterdir()} == {"best.safetensors", TRAINED}


def test_sigint_leaves_a_training_that_the_printed_command_goes_on_with(tmp_path: Path) -> None:
    done(start("search", "digits", "--run", "r", *TINY, "--runs-dir", tmp_path))
    command = ("train", "r", "--steps", "20000", "--runs-dir", str(tmp_path), "--patience", "40")
    process = start(*command)
    assert has_saved_more(process, tmp_path / "r" / "checkpoints")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"interrupted; go on with: {shlex.join(['pso-attn', *command])}"
