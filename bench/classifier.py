"""Train a classifier that judges what energies draw, apart from them, and write its folder.

python -m bench.classifier faces --out DIR [--seconds 300] [--steps N] [--seed 1000]
python -m bench.classifier celebahq --architecture resnet18 --seconds 36000 --out DIR

Seconds are the processor's, so that a busy machine does not make it worse; whichever of them and steps ends first.

Faces and objects are drawn anew under indices that no energy's training set has; other sets have one training split
for all. Judged on the test split.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ebmctl import __version__
from ebmctl.config.dataset import USUAL_SHAPE, DatasetName
from ebmctl.data.base import DataRequest, ImageDataset, TensorImages
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.data.drawn.images import DrawnImages
from ebmctl.data.transform import to_float
from ebmctl.files import sha256
from ebmctl.models.classifier import (
    PLAIN,
    RESNET18,
    Classifier,
    ClassifierConfig,
    ClassifierNetwork,
    heads_of,
    save_classifier,
    targets,
)

FRESH = 40_000
APART = 10_000_000  # the first index of what is drawn for classifiers; the energies' are below 50,000
MIRRORED = ("faces", "fashion-mnist", "celeba", "celebahq")  # mirroring changes no label of theirs
CARD = """\
---
library_name: ebmctl
license: apache-2.0
tags: [image-classification]
---
# A classifier of {dataset}

It judges images that energies draw (`ebmctl compose --check`), and shares no weights with them. Right on the test
split: {accuracy}.

    {command}
"""


def training_set(name: str, size: int, channels: int) -> ImageDataset:
    dataset = opened(name, "train", size, channels)
    if not isinstance(dataset, DrawnImages):
        return dataset
    images, labels = dataset.draw(list(range(APART, APART + FRESH)), dataset.request)
    return TensorImages(images, labels, dataset.label_names, exclusive=False)


def opened(name: str, split: str, size: int, channels: int) -> ImageDataset:
    request = DataRequest(split, default_root(), size, channels)
    return open_dataset(DatasetName.parse(name), request)


def varied(x: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Images shifted by up to 2 pixels, mirrored where that changes no label, with a little noise."""
    size = x.shape[2]
    padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
    down, across = torch.randint(0, 5, (2, len(x)), generator=generator)
    rows = down[:, None] + torch.arange(size)
    columns = across[:, None] + torch.arange(size)
    x = padded[torch.arange(len(x))[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        turned = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        x = torch.where(turned, x.flip(3), x)
    strength = 0.06 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return (x + strength * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[low : low + size] for low in range(0, count - size + 1, size))


def accuracies(classifier: Classifier, dataset: ImageDataset) -> dict[str, float]:
    images, labels = dataset.__getitems__(range(len(dataset)))
    truth = targets(classifier.config.heads, dataset, labels)
    found = classifier.decide(to_float(images))
    return {name: (found[name] == values).double().mean().item() for name, values in truth.items()}


def train(options: argparse.Namespace) -> Classifier:
    name = options.dataset
    size, channels = DatasetName.parse(name).native_shape or USUAL_SHAPE
    data = training_set(name, size, channels)
    config = ClassifierConfig(name, channels, size, options.width, heads_of(data), {}, options.architecture)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    network = ClassifierNetwork(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    sizes = [len(head.values) for head in config.heads]
    began, steps = time.process_time(), 0
    for rows in batches(len(data), options.batch, generator):
        done = max((time.process_time() - began) / options.seconds, steps / options.steps)
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (steps + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * done))
        images, labels = data.__getitems__(rows)
        logits = network(varied(to_float(images), name in MIRRORED, generator)).split(sizes, 1)
        truth = targets(config.heads, data, labels)
        loss = sum(F.cross_entropy(part, truth[h.name]) for part, h in zip(logits, config.heads, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 100 == 0:
            print(f"step {steps}  loss {loss.item():.4f}  {100 * done:.0f} %", flush=True)
    provenance = {
        "ebmctl": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": command(options, steps),
        "seed": options.seed,
        "steps": steps,
        "seconds": round(time.process_time() - began, 1),
        "train_images": len(data),
        "train_indices_from": APART if name in ("faces", "objects") else 0,
    }
    made = Classifier(config, network.eval())
    right = accuracies(made, opened(name, "test", size, channels))
    provenance["test_accuracy"] = {key: round(value, 4) for key, value in right.items()}
    return Classifier(replace(config, provenance=provenance), network)


def command(options: argparse.Namespace, steps: int) -> str:
    """What trains the same classifier again."""
    form = f"--width {options.width}" if options.architecture == PLAIN else f"--architecture {options.architecture}"
    how = f"--steps {steps} --seed {options.seed} --batch {options.batch}"
    return f"python -m bench.classifier {options.dataset} {form} {how}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--architecture", choices=[PLAIN, RESNET18], default=PLAIN)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    made = train(options)
    right = made.config.provenance["test_accuracy"]
    text = ", ".join(f"{key} {value:.4f}" for key, value in right.items())
    save_classifier(
        options.out,
        made,
        CARD.format(dataset=options.dataset, accuracy=text, command=made.config.provenance["command"]),
    )
    print(json.dumps({"accuracy": right, "sha256": sha256(options.out / "model.safetensors")}))


if __name__ == "__main__":
    main()
