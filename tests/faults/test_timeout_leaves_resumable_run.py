import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.cli.progress import SearchProgress

SPACE = """
task = "digits"
[model]
d_model = 16
[search]
layers = [1, 2]
lr = {}
[budget]
particles = 6
generations = 2
steps = 2
[[start]]
layers = 1
[[start]]
layers = 1
lr = 0.01
"""


def test_a_timeout_that_passes_in_a_chunk_ends_the_search_when_the_chunk_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_s, observe = 0.0, SearchProgress.observe

    def observed(*heard: Any) -> None:
        nonlocal late_s
        late_s = 3600.0  # from the first outcome on
        observe(*heard)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s)
    space, where = tmp_path / "two_depths.toml", ("--runs-dir", str(tmp_path / "runs"))
    space.write_text(SPACE)
    with monkeypatch.context() as patched:
        patched.setattr("pso_attn.search.time", clock)
        patched.setattr(SearchProgress, "observe", observed)
        search = ["search", str(space), "--run", "r", "--timeout", "1800", *where]
        begun = CliRunner().invoke(app, search)
    assert begun.exit_code == 0, begun.stderr
    left = load_run("r", tmp_path / "runs").unfinished
    assert left is not None
    first, _ = left.chunks
    assert set(left.outcomes) == set(first)
    assert len(first) > 1
    resumed = CliRunner().invoke(app, ["resume", "r", *where])
    assert resumed.exit_code == 0, resumed.stderr
    assert len(load_run("r", tmp_path / "runs").history) == 2


def test_a_search_that_its_time_ends_says_after_how_many_generations(tmp_path: Path) -> None:
    space, where = tmp_path / "two_depths.toml", ("--runs-dir", str(tmp_path / "runs"))
    space.write_text(SPACE)
    ended = CliRunner().invoke(app, ["search", str(space), "--run", "r", "--timeout", "0", *where])
    assert ended.exit_code == 0, ended.stderr
    assert "note: the time was over after 0 of 2 generations\n" in ended.stderr
    whole = CliRunner().invoke(app, ["resume", "r", "--timeout", "1800", *where])
    assert whole.exit_code == 0, whole.stderr
    assert "the time was over" not in whole.stderr
