"""Any number of images: in batches with fixed random numbers, as many at a time as fit the memory."""

from __future__ import annotations

import json
import time

import pytest
import torch
from PIL import Image

import ebmctl
from ebmctl.core.buffer import quantize
from ebmctl.core.noise import seeded
from ebmctl.errors import UsageError
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.quality import check_memory
from ebmctl.models import memory, pictures, sampling
from ebmctl.models.model import sample_batches, samples
from tests.test_cli import call


@pytest.fixture
def small(monkeypatch):
    """Batches of eight."""
    monkeypatch.setattr(sampling, "BATCH", 8)


@pytest.fixture
def loaded(model):
    return ebmctl.load(model, "cpu")


def together(loaded, n, generator):
    """One batch, by the network on all of it."""
    energy, plan = loaded.fixed(), loaded.recipe.sampling_plan()
    *_, last = sampling.moments(energy, plan, n, generator)
    return last.images


def test_up_to_a_batch_images_are_drawn_together_as_they_always_were(loaded):
    for n in (1, 20, 40):
        assert torch.equal(ebmctl.sample(loaded, n, seed=3), together(loaded, n, seeded(3)))
    assert sampling.BATCH == 512  # changing it changes what seeds draw
    assert list(sampling.batches(1100)) == [512, 512, 76]


def test_more_than_a_batch_follow_by_the_same_generator(loaded, small):
    generator = seeded(3)
    wanted = [together(loaded, n, generator) for n in (8, 8, 4)]
    assert torch.equal(ebmctl.sample(loaded, 20, seed=3), torch.cat(wanted))
    plan = loaded.recipe.sampling_plan()
    assert [len(part) for part in sample_batches(loaded, plan, 20, 3)] == [8, 8, 4]
    (pixels,) = Generation(plan, 20, batch=20).pixels(loaded, None, lambda _done, _n: None)
    assert (pixels.dtype, len(pixels)) == (torch.uint8, 20)


def test_how_many_fit_the_memory_changes_next_to_nothing(loaded, monkeypatch):
    x = ebmctl.sample(loaded, 20, seed=3)
    energies, terms = loaded.energy(x), loaded.terms(x)
    given: list[int] = []
    inner = type(loaded.network).terms
    monkeypatch.setattr(
        type(loaded.network), "terms", lambda self, x, label=None: given.append(len(x)) or inner(self, x, label)
    )
    monkeypatch.setattr(memory, "rows_that_fit", lambda _free, _each: 3)
    torch.testing.assert_close(ebmctl.sample(loaded, 20, seed=3), x)
    torch.testing.assert_close(loaded.energy(x), energies)
    torch.testing.assert_close(loaded.terms(x), terms)
    assert max(given) == 3


def test_rows_are_what_fits_four_times_and_one_at_least():
    assert memory.rows_that_fit(4_000, 10) == 100
    assert memory.rows_that_fit(4_039, 10) == 100
    assert memory.rows_that_fit(0, 10) == memory.rows_that_fit(39, 10) == 1


def test_the_free_memory_is_the_least_of_the_machines_and_the_containers(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert memory.free_bytes(cpu) > 1 << 20  # of a system that has neither file
    (tmp_path / "meminfo").write_text("MemTotal: 16 kB\nMemAvailable:   8 kB\n")
    assert memory.free_bytes(cpu) == 8192
    for name, text in {"memory.max": "5000", "memory.current": "4000", "memory.stat": "inactive_file 1500"}.items():
        (tmp_path / name).write_text(text + "\n")
    assert memory.free_bytes(cpu) == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(cpu) == 8192


def test_free_memory_of_a_gpu_counts_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 20)
    assert memory.free_bytes(torch.device("cuda")) == 130


HUGE = ["100000000", "1000000000000", "1" + 40 * "0"]


@pytest.mark.parametrize("n", HUGE)
@pytest.mark.parametrize("command", [["sample", "digits"], ["compose", "smiling"]])
def test_more_images_than_a_picture_holds_is_said_at_once(command, n, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sampling, "start_noise", lambda *_: pytest.fail("something was drawn"))
    began = time.process_time()
    status, out, err = call(*command, "-n", n, "-o", "made.png", "--device", "cpu")
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"error: -n {n}: a picture holds at most ")
    assert "; for more" in line
    assert time.process_time() - began < 10  # on a slow machine, with imports
    assert not list(tmp_path.iterdir())


def test_an_animation_holds_fewer(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FRAMES_PIXELS", 4 * (9 * 8 * 2 + 8) ** 2)
    arguments = ["sample", str(model), "-o", str(tmp_path / "a.png"), "--chain", str(tmp_path / "a.gif")]
    status, _, err = call(*arguments, "-n", "5")
    assert status == 2
    assert "an animation of 4 frames holds at most 4 images of 8 x 8" in err
    assert call(*arguments, "-n", "4")[0] == 0
    assert call(*arguments[:4], "-n", "5")[0] == 0


@pytest.mark.parametrize(("height", "width", "frames"), [(8, 8, 1), (16, 12, 1), (128, 128, 1), (16, 16, 61)])
def test_the_most_images_fill_a_picture_and_no_more(height, width, frames):
    most = pictures.most_images(height, width, frames)
    limit = min(pictures.MOST_PIXELS, pictures.FRAMES_PIXELS // frames)
    cell, zoom = max(height, width) + 1, max(1, 64 // max(height, width))
    side = round(most**0.5)
    assert side**2 == most
    assert (zoom * (side * cell + 1)) ** 2 <= limit < (zoom * ((side + 1) * cell + 1)) ** 2
    assert pictures.MOST_PIXELS == Image.MAX_IMAGE_PIXELS


def test_commands_write_what_python_draws_in_batches(model, loaded, small, tmp_path):
    png, gif = tmp_path / "a.png", tmp_path / "a.gif"
    status, out, err = call("sample", str(model), "-n", "20", "-o", str(png), "--chain", str(gif), "--json")
    assert status == 0, err
    x = ebmctl.sample(loaded, 20)
    assert json.loads(out)["energies"] == pytest.approx(loaded.energy(x).tolist(), abs=1e-5)
    assert Image.open(png).tobytes() == pictures.grid(x).convert("RGB").tobytes()
    assert Image.open(gif).n_frames == loaded.recipe.sampling_plan().frames
    assert call("sample", str(model), "-n", "20", "-o", str(tmp_path / "b.png"))[0] == 0
    assert Image.open(tmp_path / "b.png").tobytes() == Image.open(png).tobytes()


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_grid_of_bytes_is_that_of_floats(count, generator):
    for channels in (1, 3):
        x = torch.rand(count, channels, 5, 5, generator=generator)
        assert pictures.grid(quantize(x)).tobytes() == pictures.grid(x).tobytes()
        edge = pictures.grid(torch.zeros(4, channels, 5, 5)).getpixel((0, 0))
        assert edge == (128, 128, 128)  # grey, as 0.5 is rounded


def test_python_says_when_images_do_not_fit(loaded):
    with pytest.raises(UsageError, match=r"1,000,000,000,000 images would take .* GB are free; draw them in several"):
        samples(loaded, loaded.recipe.sampling_plan(), 10**12, 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-n", "1000000000000"], "-n 1000000000000: the features of so many images would take"),
        (["-n", "1000000000000", "--batch", "1000000000000"], "--batch 1000000000000: the images would take"),
        (["--metrics", "bits", "--chains", "1000000000000"], "--chains 1000000000000: so many chains would take"),
        (["--metrics", "bits", "--levels", "1000000000000"], "--levels must be at most 1000000, not 1000000000000"),
    ],
)
def test_evaluate_says_what_does_not_fit(arguments, line, monkeypatch):
    monkeypatch.setattr(sampling, "start_noise", lambda *_: pytest.fail("something was drawn"))
    status, out, err = call("evaluate", "digits", *arguments, "--device", "cpu")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {line}")


def test_features_are_counted_in_parts_and_joined():
    class Seen:
        def __call__(self, pixels):
            from ebmctl.evaluation.extractors import Features

            return Features(torch.zeros(len(pixels), 64), torch.zeros(len(pixels), 10))

    check_memory(Seen(), (1, 8, 8), 1000, 100, 2 * 1000 * 4 * 74)
    with pytest.raises(UsageError, match="features"):
        check_memory(Seen(), (1, 8, 8), 1000, 100, 2 * 1000 * 4 * 74 - 1)
    with pytest.raises(UsageError, match="--batch"):
        check_memory(Seen(), (1, 8, 8), 1000, 100, 6399)


def test_outlier_scores_in_rows_are_those_of_all(monkeypatch):
    arguments = ["ood", "--in", "digits", "--out", "noise", "--n", "30", "--score", "gradient", "--json"]
    _, whole, err = call(*arguments, "--device", "cpu")
    assert whole, err
    monkeypatch.setattr(memory, "rows_that_fit", lambda _free, _each: 7)
    _, parts, _ = call(*arguments, "--device", "cpu")
    assert json.loads(parts)["results"] == json.loads(whole)["results"]
