"""Drawing and augmenting 128 images of 32x32 from a full buffer, against one image at a time through PIL."""

from __future__ import annotations

import torch
from torchvision import transforms

from bench.timing import best
from ebmctl.core import augment
from ebmctl.core.buffer import ReplayBuffer
from ebmctl.core.config import AugmentConfig


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    buffer = ReplayBuffer(10_000, (3, 32, 32), "reservoir", torch.device("cpu"))
    buffer.add(torch.rand(10_000, 3, 32, 32), generator)
    jitter = transforms.ColorJitter(0.8, 0.8, 0.8, 0.4)
    one_by_one = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomResizedCrop(32, (0.02, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
    )

    def through_pil() -> None:
        index = torch.randint(10_000, (128,), generator=generator)
        torch.stack([one_by_one(image) for image in buffer.images[index]])

    augmentation = augment.augmentation(AugmentConfig(crop=0.02), generator)
    ours, theirs = best(lambda: augmentation(buffer.draw(128, generator)), through_pil, rounds=20)
    print(f"batched                  {ours * 1e3:8.2f} ms")
    print(f"through PIL              {theirs * 1e3:8.2f} ms")
    print(f"ratio                    {theirs / ours:8.1f}    (target: 8, hope: 15)")
