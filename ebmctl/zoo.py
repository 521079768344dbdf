"""A model reference to a model folder."""

from __future__ import annotations

from pathlib import Path

from ebmctl.errors import EbmctlError


def find_model(reference: str) -> Path:
    """The model folder that a reference names: a model folder itself, or a run folder (its `model/`)."""
    path = Path(reference).expanduser()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise EbmctlError(f"{reference} is a run that has not saved a model yet")
    if path.exists():
        raise EbmctlError(f"{reference} is not a model folder: it has no config.json")
    raise EbmctlError(
        f"there is no model '{reference}': give a model folder, or the run folder that `ebmctl train` made"
    )
