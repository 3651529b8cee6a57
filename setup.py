"""Put the built-in search spaces inside the wheel; everything else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSpaces(build_py):
    """Copy `search_spaces/*.toml` to `pso_attn/search_spaces` in what is built."""

    def run(self):
        """Build as usual, then copy the spaces."""
        super().run()
        if not self.editable_mode:  # an editable install finds them beside the package
            folder = Path(self.build_lib) / "pso_attn" / "search_spaces"
            folder.mkdir(parents=True, exist_ok=True)
            for space in Path("search_spaces").glob("*.toml"):
                shutil.copy(space, folder)


setup(cmdclass={"build_py": BuildWithSpaces})
