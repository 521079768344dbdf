"""CIFAR-10 and CIFAR-100 in their binary version (the other one is pickled, and nothing pickled is ever loaded)."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset, TensorImages
from ebmctl.data.datasets import missing
from ebmctl.data.transform import fit_pixels
from ebmctl.errors import EbmctlError

SITE = "https://www.cs.toronto.edu/~kriz/"
ARCHIVES = {
    "cifar10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
    "cifar100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary"),
}


def make_cifar10(request: DataRequest) -> ImageDataset:
    """CIFAR-10 with its 10 classes."""
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] if request.split == "train" else ["test_batch.bin"]
    return _make("cifar10", files, "batches.meta.txt", 1, request)


def make_cifar100(request: DataRequest) -> ImageDataset:
    """CIFAR-100 with its 100 fine classes."""
    return _make("cifar100", [f"{request.split}.bin"], "fine_label_names.txt", 2, request)


def make_interpolations(request: DataRequest) -> ImageDataset:
    """Means of two different CIFAR-10 images each (paper, Table 3), every image paired with another by a fixed seed."""
    found = make_cifar10(request)
    images = found.__getitems__(range(len(found))).images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    first, second = images[order], images[order.roll(1)]
    pairs = zip(torch.split(first, 4096), torch.split(second, 4096), strict=True)
    mean = torch.cat([(a.int() + b.int() + 1).div(2, rounding_mode="floor").byte() for a, b in pairs])
    return TensorImages(mean)


def _make(name: str, files: list[str], names_file: str, label_bytes: int, request: DataRequest) -> ImageDataset:
    archive, md5, folder_name = ARCHIVES[name]
    folder = request.root / folder_name
    if not all((folder / file).is_file() for file in [*files, names_file]):
        if not request.download:
            how = f"unpack {SITE}{archive} there (the binary version; the Python version is pickled, and not read)"
            raise missing(name, request.root, how)
        from torchvision.datasets.utils import download_and_extract_archive

        try:
            download_and_extract_archive(SITE + archive, str(request.root), filename=archive, md5=md5)
        except (OSError, RuntimeError) as error:
            how = f"it could not be downloaded; unpack {SITE}{archive} (the binary version) there by hand"
            raise missing(name, request.root, how, error) from error
    names = (folder / names_file).read_text(encoding="utf-8").split()
    images, labels = [], []
    record = label_bytes + 3072
    for file in files:
        data = (folder / file).read_bytes()
        if not data or len(data) % record:
            raise EbmctlError(f"{folder / file} is truncated: {len(data)} bytes are not a whole number of images")
        rows = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, record)
        labels.append(rows[:, label_bytes - 1].long())
        images.append(rows[:, label_bytes:].view(-1, 3, 32, 32))
    classes = torch.cat(labels)
    if classes.max() >= len(names):
        raise EbmctlError(f"{folder} has the class {int(classes.max())}, but {names_file} lists only {len(names)}")
    one_hot = torch.eye(len(names))[classes]
    return TensorImages(fit_pixels(torch.cat(images), request.size, request.channels), one_hot, names)
