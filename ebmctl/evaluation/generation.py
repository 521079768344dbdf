"""Many images of a model, in batches, each with a seed of its own, and optionally kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ebmctl.config.plan import SamplingPlan
from ebmctl.core.buffer import quantize
from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_file, atomic_folder, read_json
from ebmctl.models.model import Model, sample_batches

Progress = Callable[[int, int], None]
DESCRIPTION = "generation.json"


@dataclass(frozen=True)
class Generation:
    """n images of a model by a plan."""

    plan: SamplingPlan
    n: int
    seed: int = 0
    batch: int = 100
    label: str | None = None

    def pixels(self, model: Model, keep: Path | None, progress: Progress) -> Iterator[Tensor]:
        """Batches of uint8 images (B, C, H, W); `progress(done, n)` is called after each.

        With `keep` each batch is a folder of PNG files there, and batches that are there already are read.
        Raises EbmctlError if the folder contains images that were drawn differently.
        """
        if keep:
            self._describe(model, keep)
        for index, low in enumerate(range(0, self.n, self.batch)):
            count = min(self.batch, self.n - low)
            folder = keep / f"batch-{index:05d}" if keep else None
            images = _read(folder, count) if folder else None
            if images is None:
                images = self._draw(model, index, count)
                if folder:
                    _write(folder, images)
            yield images
            progress(low + count, self.n)

    def _draw(self, model: Model, index: int, count: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {index}".encode()).digest()
        seed = int.from_bytes(digest[:6], "big")  # a batch's own, whatever was drawn before
        batches = sample_batches(model, self.plan, count, seed, self.label)
        return torch.cat([quantize(images).cpu() for images in batches])

    def _describe(self, model: Model, keep: Path) -> None:
        # without their number: more of the same can be added
        what: dict[str, Any] = {"model_sha256": model.sha256(), "plan": self.plan.to_mapping()}
        mine = what | {"seed": self.seed, "batch": self.batch, "label": self.label}
        path = keep / DESCRIPTION
        if path.is_file():
            if read_json(path) != mine:
                raise EbmctlError(
                    f"{keep} contains images of another model, seed, batch or recipe; give another folder"
                )
            return
        if keep.is_dir() and any(keep.iterdir()):
            raise EbmctlError(f"{keep} is not empty and has no {DESCRIPTION}; give another folder")
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")


def _write(folder: Path, images: Tensor) -> None:
    with atomic_folder(folder) as temporary:
        for number, image in enumerate(images):
            array = image.permute(1, 2, 0).numpy()
            Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(temporary / f"{number:05d}.png")


def _read(folder: Path, count: int) -> Tensor | None:
    """A kept batch of exactly that many images; None where it is not there (a smaller draw is another one)."""
    files = sorted(folder.glob("*.png"))
    if len(files) != count:
        return None
    try:
        arrays = [np.array(Image.open(file)) for file in files]
    except OSError as error:
        raise EbmctlError(f"can't read the images in {folder}: {error}; delete that folder") from error
    stacked = torch.from_numpy(np.stack(arrays))
    return stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
