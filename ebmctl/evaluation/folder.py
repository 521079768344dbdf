"""The images of a folder, scored one by one, in bounded memory."""

from __future__ import annotations

import csv
import heapq
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmctl.data.base import DataRequest
from ebmctl.data.folder import image_files, printable
from ebmctl.data.lazy import FileReader, LazyImages
from ebmctl.data.transform import to_float
from ebmctl.errors import EbmctlError
from ebmctl.evaluation.ood import Detector
from ebmctl.files import atomic_file
from ebmctl.models.pictures import save_grid

BATCH = 128
MOST_UNUSUAL = 20


def score_folder(
    detector: Detector, folder: Path, out: Path, keep: float, plot: Path | None, log: Callable[[str], None]
) -> dict[str, Any]:
    """Write a CSV of file, score, percentile within the known test set, and whether it is over the threshold.

    The threshold keeps a share `keep` of the known test set. With `plot` the most unusual images are drawn. Raises
    EbmctlError for a folder that is missing or holds no image that can be read.
    """
    if not folder.is_dir():
        raise EbmctlError(f"there is no folder {folder}")
    files = image_files(folder)
    if not files:
        raise EbmctlError(f"{folder} contains no images")
    known = np.sort(detector.of_set(detector.inside).scores.numpy())
    threshold = float(np.quantile(known, keep))
    unusual: list[tuple[float, int, Tensor]] = []
    scored = flagged = 0
    skipped: list[str] = []
    with atomic_file(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", detector.score_name, "percentile", "unusual"])
        for rows, images in _batches(detector, files, skipped):
            values = detector.of_images(detector.score, [images])
            for row, value, image in zip(rows, values.tolist(), images, strict=True):
                if not np.isfinite(value):
                    raise EbmctlError(f"the score of {printable(files[row])} is NaN or infinite")
                percentile = 100 * np.searchsorted(known, value, side="right") / len(known)
                over = value > threshold
                name = printable(files[row].relative_to(folder))
                writer.writerow([name, f"{value:.6g}", f"{percentile:.2f}", int(over)])
                scored, flagged = scored + 1, flagged + over
                push = heapq.heappushpop if len(unusual) == MOST_UNUSUAL else heapq.heappush
                push(unusual, (value, row, image))
            log(f"scored {scored:,} of {len(files):,} images")
        if not scored:
            raise EbmctlError(f"none of the {len(files)} images in {folder} can be read")
    if skipped:
        shown = ", ".join(skipped[:10]) + (", ..." if len(skipped) > 10 else "")
        log(f"skipped {len(skipped)} of {len(files)} images that can't be read: {shown}")
    if plot:
        save_grid(plot, torch.stack([image for *_, image in sorted(unusual, reverse=True)]))
        log(f"the most unusual images are in {plot}")
    return {
        "output": str(out),
        "images": scored,
        "unusual": int(flagged),
        "skipped": len(skipped),
        "threshold": threshold,
    }


def _batches(detector: Detector, files: list[Path], skipped: list[str]) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and images (B, C, H, W) in [0, 1] of the files that can be read; the names of the others are added."""
    channels, size, _ = detector.model.shape
    request = DataRequest("test", detector.settings.root, size, channels)
    reader = LazyImages(files, FileReader(files), torch.zeros(len(files), 0), [], request)
    readable = ((row, reader.pixels(row)) for row in range(len(files)))
    while batch := list(itertools.islice(readable, BATCH)):
        skipped += [printable(files[row]) for row, pixels in batch if pixels is None]
        good = [(row, pixels) for row, pixels in batch if pixels is not None]
        if good:
            yield [row for row, _ in good], to_float(torch.stack([pixels for _, pixels in good]))
