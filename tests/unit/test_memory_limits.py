"""How much memory a chunk may take: half of what the machine has, or a control group allows."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import psutil
import pytest
import torch

from pso_attn.evaluate.device import MEMORY_SHARE, group_limit_bytes, memory_budget_bytes
from pso_attn.testing.short_memory import short_memory

CPU = torch.device("cpu")
V1, V2 = "7:cpu,cpuacct:/x\n4:memory:{}\n", "0::{}\n"


def limit(folder: Path, line: str, path: str, files: dict[str, str]) -> float:
    """Return what is read where a process is in the group `path` and groups have these files."""
    process = folder / "process"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(line.format(path))
    for name, text in files.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return group_limit_bytes(process, folder / "groups")


@pytest.mark.parametrize(
    ("line", "mount", "name"),
    [(V1, "memory/", "memory.limit_in_bytes"), (V2, "", "memory.max")],
    ids=["version 1", "version 2"],
)
def test_the_least_limit_of_a_process_group_and_of_those_above_it_holds(
    tmp_path: Path, line: str, mount: str, name: str
) -> None:
    files = {f"{mount}{name}": "9000\n", f"{mount}a/{name}": "3000\n", f"{mount}b/{name}": "10\n"}
    assert (
        limit(tmp_path / "above", line, "/a/in", {**files, f"{mount}a/in/{name}": "4000"}) == 3e3
    )
    assert limit(tmp_path / "own", line, "/a/in", {**files, f"{mount}a/in/{name}": "2000"}) == 2e3
    assert limit(tmp_path / "none", line, "/a/in", {f"{mount}a/in/{name}": "max\n"}) == inf
    # a container that is shown its own group as the root, under a name from outside
    assert limit(tmp_path / "inside", line, "/docker/0f", {f"{mount}{name}": "5000"}) == 5e3


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\xc2\x85b", b"a:b"])
def test_a_group_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    process, group = tmp_path / "process", tmp_path / "groups" / os.fsdecode(name)
    process.mkdir()
    (process / "cgroup").write_bytes(b"0::/" + name + b"\n")
    group.mkdir(parents=True)
    (group / "memory.max").write_text("7000\n")
    assert group_limit_bytes(process, tmp_path / "groups") == 7e3


def test_without_control_groups_the_machines_memory_is_what_counts(tmp_path: Path) -> None:
    assert group_limit_bytes(tmp_path, tmp_path) == inf
    assert memory_budget_bytes(CPU) <= psutil.virtual_memory().total * MEMORY_SHARE


def test_a_process_in_a_real_group_plans_for_half_of_its_limit() -> None:
    """Skipped where this process cannot make a control group with a limit."""
    asks = (
        "import sys; open(sys.argv[1], 'w').write('0');"
        "import torch; from pso_attn.evaluate.device import memory_budget_bytes;"
        "print(memory_budget_bytes(torch.device('cpu')))"
    )
    try:
        with short_memory(2**30) as group:
            found = subprocess.run(
                [sys.executable, "-c", asks, str(group.door)], capture_output=True, text=True
            )
    except OSError as error:
        pytest.skip(f"cannot limit a process's memory here: {error}")
    assert int(found.stdout) == 2**29, found.stderr
