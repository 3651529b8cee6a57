import os
import signal
import subprocess
import sys
from pathlib import Path


def test_sigterm_ends_a_comparison_with_130_and_its_own_command(tmp_path: Path) -> None:
    command = ["compare", "digits", "--samplers", "random,qmc", "--particles", "4"]
    command += ["--set", "budget.steps=20", "--generations", "1000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "pso_attn", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert running.stderr is not None
    while "generations" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate()
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"interrupted; go on with: pso-attn {' '.join(command)}"
