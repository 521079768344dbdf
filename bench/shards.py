"""Shards against the original files: reading speed, and peak memory with 5,000 and with 100,000 images."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from bench.timing import best
from ebmctl.data.base import DataRequest
from ebmctl.data.folder import image_files
from ebmctl.data.lazy import FileReader, LazyImages
from ebmctl.data.order import IndexOrder, ShardOrder
from ebmctl.data.shards import ShardImages, write_shards

SIZE, FILES = 64, 1000


class Random:
    """Images that are made when they are asked for."""

    label_names: tuple[str, ...] = ()
    exclusive = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: range) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.randint(0, 256, (len(indices), 3, SIZE, SIZE), dtype=torch.uint8)
        return images, torch.zeros(len(indices), 0)


def speed(folder: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    for number in range(FILES):  # photographs of 256 pixels, as LSUN has them
        small = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=draw).numpy()
        Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    request = DataRequest("train", folder, SIZE, 3)
    originals = LazyImages(range(FILES), FileReader(image_files(folder)), torch.zeros(FILES, 0), [], request)
    list(write_shards(originals, "originals", folder / "shards", (3, SIZE, SIZE)))
    shards = ShardImages(folder / "shards", request)
    files, packed = IndexOrder(FILES, 128, 0), ShardOrder(shards.lengths, 128, 0)
    decoding, reading = best(
        lambda: [originals.__getitems__(files.batch(step)) for step in range(4)],
        lambda: [shards.__getitems__(packed.batch(step)) for step in range(4)],
    )
    print(f"decoding the originals   {512 / decoding:8,.0f} images a second")
    print(f"shards over it           {decoding / reading:8.1f}    (target: at least 5)")


CHILD = """
import resource, sys
from pathlib import Path
from accelerate import Accelerator
from ebmctl.data.base import DataRequest
from ebmctl.data.shards import ShardImages
from ebmctl.training.trainer import Trainer, fit
from ebmctl.config.recipe import resolve
changes = ["network.width=8", "network.blocks=[0]", "network.multipliers=[1]", "network.scales=1",
           "network.attention=0", "objective.steps=1", "objective.kl_loss=false", "objective.buffer_size=100",
           "optimizer.batch_size=64", "run.steps=30"]
recipe = resolve("shards:" + sys.argv[1], None, changes, {})
data = ShardImages(Path(sys.argv[1]), DataRequest("train", Path(sys.argv[1]), 64, 3))
for _ in fit(Trainer(recipe, data, Accelerator(cpu=True))):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(folder: Path) -> None:
    peaks = []
    for count in (5_000, 100_000):
        path = folder / str(count)
        list(write_shards(Random(count), "random", path, (3, SIZE, SIZE)))  # type: ignore[arg-type]  # as good as one
        done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    print(f"peak memory, 5,000       {peaks[0]:8,.0f} MB")
    print(f"100,000 over it          {peaks[1] / peaks[0]:8.2f}    (target: at most 1.2)")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        speed(Path(temporary))
    with tempfile.TemporaryDirectory() as temporary:
        memory(Path(temporary))


if __name__ == "__main__":
    main()
