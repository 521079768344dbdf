from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmctl.core.buffer import ReplayBuffer, last_of_each, quantize
from tests.device import DEVICE, seeded


def make(capacity, policy, shape=(1, 1, 1)):
    return ReplayBuffer(capacity, shape, policy, DEVICE)


def test_round_trip_is_bit_exact_for_every_grey_level(generator):
    levels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
    buffer = make(256, "fifo")
    buffer.add(levels.float() / 255, generator)
    assert torch.equal(buffer.images, levels)
    again = make(256, "fifo")
    again.add(buffer.images.float().div(255), generator)
    assert torch.equal(again.images, levels)
    drawn = buffer.draw(1000, generator)
    assert torch.equal(quantize(drawn).float() / 255, drawn)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20))
def test_quantize_never_wraps_around(values):
    x = torch.tensor(values)
    restored = quantize(x).float() / 255
    assert ((restored - x.clamp(0, 1)).abs() <= 0.5 / 255 + 1e-6).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 12))
@settings(deadline=None)
def test_fifo_keeps_the_latest(batches, capacity):
    buffer, draw, history = make(capacity, "fifo"), seeded(), []
    for size in batches:
        new = [len(history) + i for i in range(size)]
        history += new
        buffer.add(torch.tensor(new).view(-1, 1, 1, 1) / 255, draw)
    assert len(buffer) == min(capacity, len(history))
    assert sorted(buffer.images[: len(buffer)].flatten().tolist()) == history[-capacity:]


def test_reservoir_is_a_uniform_sample_of_everything_added(generator):
    counts = torch.zeros(20)
    for _ in range(3000):
        buffer = make(5, "reservoir")
        for start in (0, 7, 14):  # batches that are larger than the buffer, too
            values = torch.arange(start, min(start + 7, 20)).view(-1, 1, 1, 1) / 255
            buffer.add(values, generator)
        kept = buffer.images.flatten().long()
        assert len(kept.unique()) == 5
        counts[kept] += 1
    frequency = counts / 3000
    assert (frequency - 0.25).abs().max() < 0.04  # 5 standard deviations


def test_draws_are_uniform_over_what_the_buffer_holds(generator):
    for policy in ("fifo", "reservoir"):
        buffer = make(100, policy)
        buffer.add(torch.tensor([10, 20, 30, 40]).view(-1, 1, 1, 1) / 255, generator)
        values, counts = quantize(buffer.draw(4000, generator)).unique(return_counts=True)
        assert values.tolist() == [10, 20, 30, 40]  # no image of the part that is still empty
        assert (counts / 4000 - 0.25).abs().max() < 0.04  # 5 standard deviations


@pytest.mark.parametrize("capacity", [1, 2])
def test_an_image_enters_a_full_reservoir_with_probability_capacity_by_arrivals(capacity, generator):
    entered, tries = 0, 2000
    for _ in range(tries):
        buffer = make(capacity, "reservoir")
        buffer.add(torch.zeros(capacity, 1, 1, 1), generator)
        buffer.add(torch.ones(1, 1, 1, 1), generator)
        entered += bool(buffer.images.any())
    assert abs(entered / tries - capacity / (capacity + 1)) < 0.05


def test_a_resumed_reservoir_knows_how_many_images_it_has_seen(generator):
    """It goes on as if it had not been stopped: with what it holds alone, new images would come in too often."""
    buffers = [make(3, "reservoir"), make(3, "reservoir")]
    buffers[0].add(torch.zeros(3000, 1, 1, 1), generator)
    buffers[1].load_state_dict({name: part.clone() for name, part in buffers[0].state_dict().items()})
    for buffer in buffers:
        buffer.add(torch.linspace(0, 1, 30).view(-1, 1, 1, 1), seeded(5))
    assert torch.equal(buffers[0].images, buffers[1].images)


def test_last_of_each():
    slot = torch.tensor([3, 0, 3, 4, 0, 1, 4])
    assert last_of_each(slot, 5).tolist() == [2, 4, 2, 6, 4, 5, 6]


@pytest.mark.parametrize("policy", ["reservoir", "fifo"])
def test_of_images_for_one_place_the_last_is_kept(policy, generator):
    """As if images were added one by one, also where a batch is larger than the buffer."""
    buffer, expected, seen = make(7, policy), [0] * 7, 0
    for size in (5, 20, 3, 9):
        values = torch.randint(1, 256, (size,), generator=generator)
        again = seeded()
        again.set_state(generator.get_state())
        buffer.add(values.view(-1, 1, 1, 1) / 255, generator)
        uniform = torch.rand(size, generator=again, dtype=torch.float64).tolist()
        for share, value in zip(uniform, values.tolist(), strict=True):
            place = seen % 7 if policy == "fifo" or seen < 7 else int(share * (seen + 1))
            if place < 7:
                expected[place] = value
            seen += 1
        assert buffer.images.flatten().tolist() == expected
    assert len(buffer.state_dict()["images"]) == 7


def test_state_round_trip(generator):
    buffer = make(6, "reservoir", (3, 2, 2))
    buffer.add(torch.rand(4, 3, 2, 2), generator)
    other = make(6, "reservoir", (3, 2, 2))
    other.load_state_dict({k: v.clone() for k, v in buffer.state_dict().items()})
    assert torch.equal(other.images, buffer.images)
    assert len(other) == 4
    with pytest.raises(ValueError, match="does not fit"):
        make(6, "fifo").load_state_dict(buffer.state_dict())
    with pytest.raises(ValueError, match="does not fit"):
        make(3, "fifo", (3, 2, 2)).load_state_dict(buffer.state_dict())
