"""Packs zoo.toml, which stands at the top of the source tree, into the package; pyproject.toml has all else."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithZoo(build_py):
    """Adds zoo.toml beside the modules."""

    def run(self) -> None:
        """Build, then copy it."""
        super().run()
        if not self.editable_mode:
            self.copy_file("zoo.toml", str(Path(self.build_lib, "ebmctl", "zoo.toml")))


setup(cmdclass={"build_py": BuildWithZoo})
