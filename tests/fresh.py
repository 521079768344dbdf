"""A fresh environment with ebmctl and packages of this repository installed from wheels."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Fresh:
    """An environment that sees what the present one has installed, but for what is linked to this repository.

    A path file names the present site-packages; path files in those, which editable installs consist of, are not
    followed from there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder.parent / "wheels"
        self._run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
        self.python = folder / "bin" / "python"
        inside = self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        known = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        assert sysconfig.get_path("purelib") in known
        (Path(inside) / "present.pth").write_text("\n".join(known) + "\n")

    def install(self, *sources: Path) -> None:
        """Build a wheel of each and install it; nothing else is installed, and nothing is fetched."""
        self.wheels.mkdir(exist_ok=True)
        for source in sources:
            self.run("pip", "wheel", "-q", "--no-deps", "-w", str(self.wheels), str(source))
            name = source.name if source != ROOT else "ebmctl"
            (wheel,) = self.wheels.glob(f"{name.replace('-', '_')}-*.whl")
            self.run("pip", "install", "-q", "--no-deps", str(wheel))

    def run(self, *command: str, where: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment: python, pip, pytest or ebmctl."""
        program, *arguments = command
        start = {
            "python": [str(self.folder / "bin" / "python")],
            "pip": [str(self.folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"],
            "pytest": [str(self.folder / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            "ebmctl": [str(self.folder / "bin" / "ebmctl")],
        }[program]
        return self._run([*start, *arguments], where or self.folder.parent, check)

    def _run(self, command: list[str], where: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EBMCTL_", "PYTHONPATH"))}
        pip = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # "0" switches isolation off
        environment = {**kept, **pip, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done
