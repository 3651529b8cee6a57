"""Each example on file tasks runs as it stands, from an empty folder to predictions."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "baseline", "header", "rows"),
    [
        ("table", "ridge regression", "prediction", 42),
        ("series", "1-nearest neighbour", "prediction,p(0),p(1)", 100),
    ],
)
def test_an_example_searches_confirms_exports_and_predicts(
    name: str, baseline: str, header: str, rows: int, tmp_path: Path
) -> None:
    script = str(EXAMPLES / f"{name}.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data: source" in done.stderr
    assert baseline in done.stdout
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    assert len(lines) - start - 1 == rows
