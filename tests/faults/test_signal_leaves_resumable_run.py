import os
import signal
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app


def test_sigterm_leaves_a_run_that_the_printed_command_resumes(tmp_path: Path) -> None:
    search = subprocess.Popen(
        [
            *(sys.executable, "-m", "pso_attn", "search", "digits", "--run", "r"),
            *("--particles", "4", "--set", "budget.steps=20", "--generations", "1000"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert search.stderr is not None
    assert any(line.startswith("1/1000 generations") for line in search.stderr)
    search.send_signal(signal.SIGTERM)
    out, err = search.communicate()
    assert (search.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; go on with: pso-attn resume r"
    done = len(load_run("r", tmp_path / "runs").history)
    assert done >= 1
    runs_dir = str(tmp_path / "runs")
    resume = ["resume", "r", "--runs-dir", runs_dir, "--generations", str(done + 1)]
    resumed = CliRunner().invoke(app, resume)
    assert resumed.exit_code == 0, resumed.stderr
    assert len(load_run("r", tmp_path / "runs").history) == done + 1
