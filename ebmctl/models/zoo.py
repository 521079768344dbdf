"""The model zoo, and a model reference to a model folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ebmctl.config import conversion
from ebmctl.config.dataset import DatasetName
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import sha256, user_path
from ebmctl.models import hub

Kind = Literal["generator", "concept", "classifier"]
Availability = Literal["bundled", "cached", "remote", "unpublished"]
PACKAGE = Path(__file__).parents[1]
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportedMetric:
    """A measured value of a model, and the command that measured it."""

    name: str
    value: float
    command: str


@dataclass(frozen=True)
class ZooModel:
    """An entry of zoo.toml.

    A model is bundled (`bundled` names its folder in `ebmctl/weights`), or in a repository of the Hub at a full
    revision, or unpublished (neither). `sha256` is that of its weights. A concept belongs to a `family`, such as
    faces, and is the energy of an attribute under its labels; `label` is the one that it means where that is not the
    concept's name. `origin` is the user's own zoo.toml that it comes from, None for what ships.
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
    label: str | None = None
    licence: str = "Apache-2.0"
    paper: str = "arXiv:2012.01316"
    metrics: tuple[ReportedMetric, ...] = ()
    origin: str | None = None

    def __post_init__(self) -> None:
        names = [self.name, self.dataset, self.recipe, *self.aliases]
        names += filter(None, (self.bundled, self.family, self.concept))
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a valid name: use lower-case letters, digits, '_', '.' and '-'")
        if min(self.shape) < 1:
            raise ValueError(f"shape must be channels, height and width, not {self.shape}")
        if self.kind == "concept" and not (self.family and self.concept):
            raise ValueError("a concept needs a family and a concept")
        if self.label is not None and not LABEL.fullmatch(self.label):
            raise ValueError(f"'{self.label}' is not a valid label")
        if self.repo and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("a repo needs a revision of 40 hexadecimal digits")
        if self.repo is not None and not hub.REPO.fullmatch(self.repo):
            raise ValueError(f"repo must be user/repo, not '{self.repo}'")
        if self.repo and self.bundled:
            raise ValueError("a model is bundled or in a repo, not both")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 must have 64 hexadecimal digits")

    @property
    def folder(self) -> Path | None:
        """The folder of the model where it is on this machine, bundled or in the Hub's cache."""
        if self.bundled:
            return PACKAGE / "weights" / self.bundled
        return hub.cached(self.repo, self.revision) if self.repo and self.revision else None

    @property
    def published(self) -> bool:
        """Whether the weights are available."""
        return bool(self.bundled or self.repo)

    @property
    def availability(self) -> Availability:
        """Where the model is."""
        if self.bundled:
            return "bundled"
        if not self.repo:
            return "unpublished"
        return "cached" if self.folder else "remote"

    @property
    def how_to_train(self) -> str:
        """The command that trains it."""
        recipe = "" if self.recipe == DatasetName.parse(self.dataset).recipe else f" --recipe {self.recipe}"
        return f"ebmctl train {self.dataset}{recipe}{self._option}"

    @property
    def how_to_import(self) -> str:
        """The command that reads the authors' checkpoint."""
        return f"ebmctl zoo import CHECKPOINT.pth --recipe {self.recipe}{self._option}"

    @property
    def _option(self) -> str:
        attribute = (self.label or self.concept or "").removeprefix("not ")
        return f" --label {attribute}" if attribute else ""


def shipped() -> Path:
    """The zoo.toml that ships: packed into the package, or at the top of the source tree."""
    packed = PACKAGE / "zoo.toml"
    return packed if packed.is_file() else PACKAGE.parent / "zoo.toml"


def own() -> Path | None:
    """The user's own zoo.toml: the one that EBMCTL_ZOO names, or that of the working folder."""
    if named := os.environ.get("EBMCTL_ZOO"):
        return user_path(named)
    here = Path("zoo.toml")
    source_tree = Path("ebmctl", "models", "zoo.py").is_file()  # whose zoo.toml is the one that ships
    return here if here.is_file() and not source_tree else None


def read_zoo(path: Path, origin: str | None = None) -> dict[str, ZooModel]:
    """The entries of a zoo.toml by name; raises EbmctlError that names the entry at fault."""
    models = conversion.read_toml(path).get("models", {})
    found = {}
    if not isinstance(models, Mapping):
        raise EbmctlError(f"{path}: models must be a table of tables, not {models!r}")
    try:
        for name, values in models.items():
            if not isinstance(values, Mapping):
                raise UsageError(f"models.{name} must be a table, not {values!r}")
            if origin and ("bundled" in values or "origin" in values):
                raise UsageError(
                    f"models.{name}: your own zoo.toml can only name models on the Hub, by repo and revision"
                )
            values = _renamed(values) | {"name": name, "origin": origin}
            found[name] = conversion.build(ZooModel, values, f"models.{name}")
    except (UsageError, TypeError) as error:
        raise EbmctlError(f"{path}: {error}") from error
    return found


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with the current key names: `metrics` was once `figures`."""
    renamed = dict(values)
    if "figures" in renamed and "metrics" not in renamed:
        renamed["metrics"] = renamed.pop("figures")
    return renamed


def zoo() -> dict[str, ZooModel]:
    """All entries by name, the user's own first; they win over those that ship."""
    path = own()
    mine = read_zoo(path, str(path)) if path else {}
    return {**mine, **{name: entry for name, entry in read_zoo(shipped()).items() if name not in mine}}


def find_entry(name: str) -> ZooModel | None:
    """The entry of that name or alias; logs a line if the user's own one takes precedence."""
    found = [entry for entry in zoo().values() if name in (entry.name, *entry.aliases)]
    if found and found[0].origin and (len(found) > 1 or found[0].name in read_zoo(shipped())):
        log.info("'%s' is taken from your %s, not from the zoo that ships", name, found[0].origin)
    return found[0] if found else None


def default_model(dataset: str) -> ZooModel | None:
    """The zoo's generator for a dataset: the one that has the dataset's name as its alias."""
    entry = find_entry(dataset)
    matches = entry and entry.published and entry.kind == "generator" and entry.dataset == dataset
    return entry if matches else None


def find_model(reference: str) -> Path:
    """The model folder that a reference names.

    In that order: a model folder or a run folder (its `model/`), a name of the zoo, `user/repo[@revision]` on the Hub.
    """
    path = user_path(reference)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise EbmctlError(f"{reference} is a run that has not saved a model yet")
    if entry := find_entry(reference):
        return entry_folder(entry)
    if path.exists():
        raise EbmctlError(f"{reference} is not a model folder: it has no config.json")
    if repository := hub.parse(reference):
        if not repository[1] and path.parent.is_dir():  # a mistyped path is not sent to the Hub
            raise EbmctlError(f"{path.parent} has no {path.name}; for a repository of the Hub: {reference}@main")
        return hub.fetch(*repository)
    energies = [entry for entry in zoo().values() if entry.published and entry.kind != "classifier"]
    known = ", ".join(name for entry in energies for name in (entry.aliases or (entry.name,)))
    raise EbmctlError(
        f"there is no model '{reference}': give a model folder, the run folder that `ebmctl train` made, "
        "USER/REPO on the Hub" + (f", or a name in the zoo: {known}" if known else "")
    )


def entry_folder(entry: ZooModel) -> Path:
    """The verified folder of a zoo's model; raises EbmctlError if it is not available, or was altered."""
    if entry.repo:
        return hub.fetch(entry.repo, entry.revision, entry.sha256)
    check(entry)
    folder = entry.folder
    assert folder is not None  # it is bundled
    return folder


def check(entry: ZooModel) -> None:
    """Raise EbmctlError where a model is not on this machine, or is not what its checksum says."""
    if not entry.published:
        raise EbmctlError(
            f"'{entry.name}' is unpublished: no weights are available in this format. Train it: "
            f"{entry.how_to_train} -- or import the authors' checkpoint: {entry.how_to_import}"
        )
    folder = entry.folder
    if folder is None:
        raise EbmctlError(f"'{entry.name}' is not in the Hub's cache: ebmctl zoo pull {entry.name}")
    if entry.repo:
        return hub.check_cached(folder, f"{entry.repo}@{entry.revision}", entry.sha256)
    weights = folder / hub.WEIGHTS
    if not weights.is_file():
        raise EbmctlError(f"the bundled model '{entry.name}' is missing from this installation; reinstall ebmctl")
    if entry.sha256 and sha256(weights) != entry.sha256:
        raise EbmctlError(f"the weights of '{entry.name}' in {folder} were altered: their checksum is wrong")
    return None
