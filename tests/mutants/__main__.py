"""Apply each fault of the lists beside this file to a copy of the code, and see its tests fail.

    python -m tests.mutants [WORD]     # those whose line has the word

A test that passes on wrong code tests nothing. This takes minutes, and is not part of `make test`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ebmctl.config.conversion import build, read_toml

ROOT = Path(__file__).parents[2]
COPIED = ("ebmctl", "tests", "bench", "docs", "plugins", "pyproject.toml", "zoo.toml", "README.md")


@dataclass(frozen=True)
class Mutant:
    """A fault: in a file, `old` (which stands there once) becomes `new`; `tests` are the pytest arguments to fail."""

    about: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def survives(self, root: Path) -> bool:
        """Whether the tests pass on the faulty code in a copy of the repository."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            sys.exit(f"{self.about}: {self.file} has this {text.count(self.old)} times, not once: {self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        try:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self.tests]
            environment = {**os.environ, "PYTHONPATH": str(root)}
            done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        finally:
            path.write_text(text, encoding="utf-8")
        if done.returncode not in (0, 1):  # pytest's own troubles
            sys.exit(f"{self.about}: {' '.join(self.tests)} can't be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0


def mutants() -> Iterator[Mutant]:
    """All faults of the lists."""
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        for index, values in enumerate(read_toml(path)["mutant"]):
            yield build(Mutant, values, f"{path.name}: mutant {index}")


def main() -> None:
    word = " ".join(sys.argv[1:])
    chosen = [mutant for mutant in mutants() if word in mutant.about]
    survivors = []
    with tempfile.TemporaryDirectory() as name:
        for item in COPIED:
            source = ROOT / item
            shutil.copytree(source, Path(name, item)) if source.is_dir() else shutil.copy2(source, Path(name, item))
        for mutant in chosen:
            survives = mutant.survives(Path(name))
            print(f"{'SURVIVES' if survives else 'dies':8}  {mutant.about}", flush=True)
            survivors += [mutant] if survives else []
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} died")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
