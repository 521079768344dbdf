"""The model zoo, and a model reference to a model folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ebmctl import settings
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import sha256

Kind = Literal["generator", "concept", "classifier"]
PACKAGE = Path(__file__).parent
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class Figure:
    """Something measured of a model, and the command that gave it."""

    name: str
    value: float
    command: str


@dataclass(frozen=True)
class ZooModel:
    """An entry of zoo.toml.

    A model is bundled (`bundled` names its folder in `ebmctl/models`), or in a repository of the Hub at a full
    revision, or unpublished (neither). `sha256` is that of its weights. A concept belongs to a `family`, such as
    faces, and is the energy of an attribute under its labels.
    """

    name: str
    kind: Kind
    dataset: str
    shape: tuple[int, int, int]
    recipe: str
    aliases: tuple[str, ...] = ()
    bundled: str | None = None
    repo: str | None = None
    revision: str | None = None
    sha256: str | None = None
    family: str | None = None
    concept: str | None = None
    licence: str = "Apache-2.0"
    paper: str = "arXiv:2012.01316"
    figures: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        names = [self.name, *self.aliases, *filter(None, (self.bundled, self.family, self.concept))]
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name of small letters, digits, '_', '.' and '-'")
        if min(self.shape) < 1:
            raise ValueError(f"shape is channels, height and width, not {self.shape}")
        if self.kind == "concept" and not (self.family and self.concept):
            raise ValueError("a concept has a family and a concept")
        if self.repo and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("a repo has a revision of 40 hexadecimal digits")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 has 64 hexadecimal digits")

    @property
    def folder(self) -> Path | None:
        """The folder of a bundled model."""
        return PACKAGE / "models" / self.bundled if self.bundled else None


def shipped() -> Path:
    """The zoo.toml that ships: packed beside this file, or at the top of the source tree."""
    packed = PACKAGE / "zoo.toml"
    return packed if packed.is_file() else PACKAGE.parent / "zoo.toml"


def read_zoo(path: Path) -> dict[str, ZooModel]:
    """The entries of a zoo.toml by name; raises EbmctlError that names the entry at fault."""
    models = settings.read_toml(path).get("models", {})
    try:
        return {
            name: settings.build(ZooModel, {**values, "name": name}, f"models.{name}")
            for name, values in models.items()
        }
    except (UsageError, TypeError, AttributeError) as error:
        raise EbmctlError(f"{path}: {error}") from error


def zoo() -> dict[str, ZooModel]:
    """All entries by name."""
    return read_zoo(shipped())


def find_entry(name: str) -> ZooModel | None:
    """The entry of that name or alias."""
    return next((entry for entry in zoo().values() if name in (entry.name, *entry.aliases)), None)


def default_model(dataset: str) -> ZooModel | None:
    """The zoo's generator for a dataset: the one that has the dataset's name as its alias."""
    entry = find_entry(dataset)
    return entry if entry and entry.kind == "generator" and entry.dataset == dataset else None


def find_model(reference: str) -> Path:
    """The model folder that a reference names: a model folder or a run folder (its `model/`), or a name of the zoo."""
    path = Path(reference).expanduser()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise EbmctlError(f"{reference} is a run that has not saved a model yet")
    if entry := find_entry(reference):
        return entry_folder(entry)
    if path.exists():
        raise EbmctlError(f"{reference} is not a model folder: it has no config.json")
    known = ", ".join(name for entry in zoo().values() for name in (entry.aliases or (entry.name,)))
    raise EbmctlError(
        f"there is no model '{reference}': give a model folder, the run folder that `ebmctl train` made"
        + (f", or one of the zoo: {known}" if known else "")
    )


def entry_folder(entry: ZooModel) -> Path:
    """The verified folder of a zoo's model; raises EbmctlError where it can't be had, or was altered."""
    folder = entry.folder
    if folder is None:
        raise EbmctlError(f"'{entry.name}' is not published; train it: ebmctl train {entry.dataset}")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EbmctlError(f"the bundled model '{entry.name}' is missing from this installation; install ebmctl again")
    if entry.sha256 and sha256(weights) != entry.sha256:
        raise EbmctlError(f"the weights of '{entry.name}' in {folder} were altered: their checksum is wrong")
    return folder
