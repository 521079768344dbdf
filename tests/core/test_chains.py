"""The chains of contrastive divergence: where they start, and which energy they follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ebmctl.core.config import ResidualConfig
from ebmctl.core.nets.residual import ResidualEnergy
from tests.core.quadratic import Quadratic
from tests.core.test_cd import CONFIG, SHAPE, objective


def test_chain_starts(generator):
    made, like = objective(replace(CONFIG, noise_probability=0.25)), torch.zeros(4000, *SHAPE)
    assert made.chain_starts(like).std() > 0.25  # an empty buffer: all noise
    made.buffer.add(torch.full((16, *SHAPE), 1.0), generator)
    fresh = (made.chain_starts(like) != 1).flatten(1).any(1).float().mean()
    assert abs(float(fresh) - 0.25) < 0.03
    made.config = replace(made.config, start="noise")
    assert (made.chain_starts(like) != 1).float().mean() > 0.99


def test_chains_start_at_augmented_images():
    """With samplers that don't move, the samples are the augmented starts: of the buffer's images, and of noise."""
    network, data = Quadratic(1.0, torch.zeros(SHAPE)), torch.rand(8, *SHAPE)
    for start in ("buffer", "noise"):
        config = replace(CONFIG, start=start, noise_probability=0.0)
        made = objective(config, step_size=0.0, noise=0.0, fill=64, augmentation=lambda x: x / 8 + 0.75)
        before = made.buffer.images[:64].float() / 255
        list(made.losses(network, data, None))
        samples = made.preview(8)
        assert 0.75 <= samples.min() + 1 / 255 < samples.max() <= 0.875
        if start == "buffer":
            among = torch.cdist(samples.flatten(1), (before / 8 + 0.75).flatten(1)).amin(1)
            assert among.max() < 2 * 0.6 / 255  # of 2x2 pixels, stored in steps of 1/255


def test_chains_follow_the_energy_of_their_label():
    network = ResidualEnergy(ResidualConfig(4, (0,), (1,), attention=0, scales=1), 1, labels=3)
    data, label = torch.rand(6, 1, 8, 8), torch.eye(3).repeat(2, 1)
    config = replace(CONFIG, kl_loss=False)  # with samples the same, the loss would tell the labels apart
    newest = []
    for given in (label, label.flip(0)):
        made = objective(config, shape=(1, 8, 8), step_size=20.0, fill=32)
        list(made.losses(network, data, given))
        newest.append(made.preview(6))
    same = (newest[0] == newest[1]).flatten(1).all(1)
    assert same.tolist() == (label == label.flip(0)).all(1).tolist()


def test_each_chunk_of_a_batch_has_the_labels_of_its_rows():
    """Without noise, chunks are only a matter of memory: the KL loss and the samples are those of one chunk."""
    network = ResidualEnergy(ResidualConfig(4, (0,), (1,), attention=0, scales=1), 1, labels=3)
    data, label = torch.rand(6, 1, 8, 8), torch.eye(3).repeat(2, 1)
    losses, samples = [], []
    for chunk in (6, 2):
        config = replace(CONFIG, kl_chunk=chunk, kl_samples=4, kl_entropy=0.3, entropy_after=1)
        made = objective(config, shape=(1, 8, 8), step_size=20.0, noise=0.0, fill=32)
        losses.append(sum(float(t.loss.detach()) for t in made.losses(network, data, label) if t.group == "kl"))
        samples.append(made.preview(6))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert (samples[0] - samples[1]).abs().max() < 1.5 / 255
