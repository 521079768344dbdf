"""Outlier scores: images a second, against the bare network's forward pass."""

from __future__ import annotations

from pathlib import Path

import torch

from bench import cifar
from bench.timing import best
from ebmctl.config.dataset import DatasetName
from ebmctl.config.recipe import resolve
from ebmctl.core.energy import Conditioned, frozen
from ebmctl.data.base import TensorImages
from ebmctl.evaluation import scores
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.ood import Detector, Settings
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import Model

COUNT = 512


def main() -> None:
    network = cifar.network().eval()
    images = torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8)
    model = Model(ModelConfig(resolve("cifar10", None, [], {}), (), {}), network)
    detector = Detector(model, DatasetName.parse("noise"), Settings(Path()))
    bare = Conditioned(frozen(network), None)
    floats = images.float() / 255

    def forward() -> None:
        with torch.no_grad():
            for batch in floats.split(256):
                bare(batch)

    def scored() -> None:
        scores.scored(detector.score, detector.energy, EvaluationImages(TensorImages(images), "noise", None, 0))

    network_time, score_time = best(forward, scored, rounds=3)
    print(f"bare network             {COUNT / network_time:8.0f} images a second")
    print(f"scores over it           {network_time / score_time:8.2f}    (target: at least 0.9)")


if __name__ == "__main__":
    main()
