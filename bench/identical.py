"""What a refactoring must not change: checksums of short runs, to be compared between two states of the code.

    python -m bench.identical > before.json      # then change the code
    python -m bench.identical --against before.json

Training with each objective, samples, outlier tables, compositions and figures, by the command line. What is no result
is left out: times, and where on this machine something is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL = ["optimizer.batch_size=16", "run.checkpoint_every=1000", "run.preview_every=50", "data.workers=0"]
ICD = [*SMALL, "objective.entropy_after=32", "objective.kl_samples=12", "objective.kl_chunk=8"]
CD = [*SMALL, "objective.name=cd", "objective.steps=5", "objective.start=buffer"]
FACES = ["network.widths=[8, 8]", "objective.label_weight=0.1", "data.label_dropout=0.2", *SMALL]
TRAININGS = {
    "icd": ["digits", "--recipe", "digits-icd", *(x for s in ICD for x in ("--set", s))],
    "cd": ["digits", "--recipe", "digits-icd", *(x for s in CD for x in ("--set", s))],
    "energy-matching": ["digits", *(x for s in SMALL for x in ("--set", s))],
    "labels": ["faces", "--label", "smiling", *(x for s in FACES for x in ("--set", s))],
}
OOD = ["ood", "--in", "digits", "--out", "noise", "--out", "flipped:digits", "--n", "60", "--json"]
COMMANDS = {
    "sample-flow": ["sample", "digits", "-n", "9", "-o", "sample-flow.png", "--chain", "sample-flow.gif", "--json"],
    "sample-chain": ["sample", "digits-icd", "-n", "4", "--rounds", "3", "-o", "sample-chain.png", "--json"],
    **{f"ood-{name}": [*OOD, "--score", name] for name in ("energy", "typicality", "gradient")},
    "compose": ["compose", "young & (female | 2*~smiling)", "-n", "4", "-o", "compose.png", "--check", "--json"],
    "compose-plain": ["compose", "young", "not:smiling", "--no-shared", "-n", "2", "-o", "compose-plain.png", "--json"],
    "evaluate": [
        *["evaluate", "digits", "-n", "40", "--batch", "16", "--metrics", "fid,is,kid,prc,bits", "--levels", "15"],
        *["--chains", "4", "--real", "80", "--figures", "figures", "--json"],
    ],
}
NO_RESULT = {"seconds", "model", "models", "run", "output", "command", "sha256"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the checksums of another state of the code")
    parser.add_argument("--steps", type=int, default=50, help="of each training")
    arguments = parser.parse_args()
    found = dict(checksums(arguments.steps))
    if arguments.against is None:
        print(json.dumps(found, indent=1))
        return
    before: dict[str, str] = json.loads(arguments.against.read_text())
    differing = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
    print("\n".join(f"differs: {name}" for name in differing) or f"all {len(found)} are equal")
    sys.exit(bool(differing))


def checksums(steps: int) -> Iterator[tuple[str, str]]:
    """A checksum for each file and each JSON result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for training, words in TRAININGS.items():
            result = run(folder, ["train", *words, "--steps", str(steps), "--out", training, "--json"])
            yield f"{training}.json", digest(plain(result))
            lines = (folder / training / "metrics.jsonl").read_text().splitlines()
            yield f"{training}/metrics", digest([plain(json.loads(line)) for line in lines])
            for path in sorted((folder / training).rglob("*")):
                if path.suffix in (".safetensors", ".png"):
                    yield str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()
        for command, words in COMMANDS.items():
            yield f"{command}.json", digest(plain(run(folder, words)))
        for path in sorted([*folder.glob("*.png"), *folder.glob("*.gif"), *folder.glob("figures/*.png")]):
            yield str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()


def run(folder: Path, words: list[str]) -> Any:
    print(" ".join(["ebmctl", *words]), file=sys.stderr, flush=True)
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "EBMCTL_PLUGINS": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ebmctl", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr}")
    return json.loads(done.stdout)


def plain(value: Any) -> Any:
    """A result without what is none."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in NO_RESULT}
    if isinstance(value, list):
        return [Path(item).name if isinstance(item, str) and "/" in item else plain(item) for item in value]
    return value


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main()
