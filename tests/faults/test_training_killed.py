"""SIGKILL at random moments of a full training: what goes on ends at the same floats."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pso_attn.cli
import pso_attn.full_training  # loaded before the fork, so that a kill hits the training
import pso_attn.settings_file  # as above
from pso_attn.checkpoints import TRAINED

KILLS = 6
fork = multiprocessing.get_context("fork")


def command(arguments: list[str]) -> None:
    """Run the command line in this process, silently, saving as often as can be."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    pso_attn.full_training.SAVE_EVERY_S = 0.0
    sys.argv = ["pso-attn", *arguments]
    pso_attn.cli.main()


def start(*arguments: str) -> Any:
    process = fork.Process(target=command, args=(list(arguments),))
    process.start()
    return process


@pytest.mark.slow
def test_a_training_killed_again_and_again_has_the_weights_of_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    where = ("--runs-dir", str(tmp_path), "--quiet")
    sizes = ("--particles", "2", "--generations", "1", "--set", "budget.steps=8")
    search = start("search", "digits", "--run", "r", *sizes, *where)
    search.join()
    assert search.exitcode == 0
    checkpoints = tmp_path / "r" / "checkpoints"
    begun_s = time.monotonic()
    whole = start("train", "r", *where)
    whole.join()
    assert whole.exitcode == 0
    duration_s = time.monotonic() - begun_s
    expected = load_file(checkpoints / TRAINED)
    (checkpoints / TRAINED).unlink()

    delays_s = iter(np.random.default_rng(0).uniform(0.2, 0.6, 1000) * duration_s)
    kills = 0
    while not (checkpoints / TRAINED).exists() or kills < KILLS:
        if (checkpoints / TRAINED).exists():  # finished before it was killed often enough
            assert all(
                torch.equal(tensor, expected[name])
                for name, tensor in load_file(checkpoints / TRAINED).items()
            )
            (checkpoints / TRAINED).unlink()
        process = start("train", "r", *where)
        process.join(next(delays_s))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    found = load_file(checkpoints / TRAINED)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    finish = start("train", "r", *where)
    finish.join()
    assert finish.exitcode == 0
    assert {path.name for path in checkpoints.iterdir()} == {"best.safetensors", TRAINED}


def test_sigint_leaves_a_training_that_the_printed_command_goes_on_with(tmp_path: Path) -> None:
    where = ("--runs-dir", str(tmp_path), "--quiet")
    sizes = ("--particles", "2", "--generations", "1", "--set", "budget.steps=4")
    search = start("search", "digits", "--run", "r", *sizes, *where)
    search.join()
    train = start("train", "r", "--steps", "100000", *where)
    while not list((tmp_path / "r" / "checkpoints").glob("training-*")):
        assert train.is_alive()
        time.sleep(0.05)
    os.kill(train.pid, signal.SIGINT)
    train.join()
    assert train.exitcode == 130
    assert list((tmp_path / "r" / "checkpoints").glob("training-*"))
