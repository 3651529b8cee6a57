"""What a person gets who installs a wheel instead of a checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pso_attn", "search_spaces", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.mark.slow
def test_a_wheel_holds_the_built_in_spaces_and_finds_them(tmp_path: Path) -> None:
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", tmp_path)
    subprocess.run([sys.executable, "-m", "pip", *wheel, source], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(unpacked)
    code = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r})\n"
        "from pso_attn.config import builtin_spaces\n"
        "print(*(f'{name}={path}' for name, path in builtin_spaces().items()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    inside = unpacked / "pso_attn" / "search_spaces"
    expected = [f"{path.stem}={inside / path.name}" for path in (ROOT / "search_spaces").iterdir()]
    assert sorted(said.stdout.split()) == sorted(expected)
