"""A model packaged for the Hub: its folder, and a model card."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation.results import CardRow, read_result
from ebmctl.files import read_json, sha256
from ebmctl.models import hub, zoo
from ebmctl.models.card import without_paths
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import load
from ebmctl.models.pictures import most_images
from ebmctl.publish.card import model_card
from ebmctl.publish.curves import in_markdown
from ebmctl.training.folder import RunFolder


@dataclass(frozen=True)
class Package:
    """The files to send by their names there, what they are of, the weights' checksum, and what the card lacks."""

    files: Mapping[str, Path]
    config: ModelConfig
    sha256: str
    lacks: str = ""


@contextlib.contextmanager
def package(
    reference: str, repo: str, samples: int, licence: str | None, result_files: Sequence[Path]
) -> Iterator[Package]:
    """A model's files as they are sent, in a folder that is removed afterwards.

    The weights are the model's own, loaded once to see that they are whole. The configuration names no path of this
    machine. The card has a picture of `samples` samples (0: none), drawn with seed 0, within its text: pictures are
    not sent as files.
    """
    if not hub.REPO.fullmatch(repo):
        raise UsageError(f"'{repo}' is not a repository name; give USER/REPO")
    if samples < 0:
        raise UsageError(f"--samples must be 0 or more, not {samples}")
    model = load(reference)
    if samples > (most := most_images(*model.shape[1:])):
        raise UsageError(f"--samples must be at most {most:,}, what a picture holds, not {samples}")
    source = model.source
    assert source is not None
    checksum = sha256(source / hub.WEIGHTS)
    run = RunFolder(source.parent)
    found = [*sorted((run.path / "evaluation").glob("*.json")), *result_files]
    dataset = model.recipe.data.dataset.public
    rows = [row for path in found for row in read_result(path, checksum).card_rows(dataset)]
    entry = zoo.find_entry(reference)
    if entry:
        rows += [
            CardRow("unconditional-image-generation", entry.dataset, m.name, m.value, f"`{m.command}`")
            for m in entry.metrics
        ]
    metrics = run.read_metrics()
    curves = lacks = ""
    try:
        curves = in_markdown(metrics)
    except EbmctlError as error:  # a card is one without them
        lacks = f"the card shows no curves of the training: {error}"
    card = model_card(model, repo, checksum, samples, licence, rows, metrics, curves)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            shutil.copyfile(source / hub.WEIGHTS, folder / hub.WEIGHTS)
            document = without_paths(read_json(source / hub.CONFIG))
            (folder / hub.CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            (folder / hub.CARD).write_text(card, encoding="utf-8", errors="replace")
        except OSError as error:
            raise EbmctlError(f"can't write to {folder}: {error.strerror}") from error
        yield Package({file: folder / file for file in hub.FILES}, model.config, checksum, lacks)


def zoo_entry(config: ModelConfig, repo: str, revision: str, checksum: str) -> str:
    """The zoo.toml entry of a pushed model, to paste."""
    data = config.recipe.data
    dataset = data.dataset.public
    concept = data.label.lower() if data.label and data.label != "class" else None
    name = f"{config.recipe.network.name}.{dataset}" + (f"-{concept}" if concept else "")
    labels = config.labels
    meant = {"label": labels[1]} if len(labels) == 2 and labels[0] == f"not {labels[1]}" else {}
    entry = {
        "kind": "concept" if concept else "generator",
        "repo": repo,
        "revision": revision,
        "sha256": checksum,
        "dataset": dataset,
        "shape": list(config.shape),
        "recipe": data.dataset.recipe,
        **({"family": dataset, "concept": concept, **meant} if concept else {}),
    }
    return tomli_w.dumps({"models": {name: entry}})
