"""Every command and every Python snippet of the README and the documentation is run, in order, on tiny settings."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs.generate import commands
from tests import authors_program
from tests.test_cli import call, process
from tests.test_import import written

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_HAND = {"make demo", "make test", "make bench"}  # each sets up an environment of its own; CI runs make test
TINY = (
    "network.name=residual network.width=4 network.blocks=[0] network.multipliers=[1] network.scales=1 "
    "network.attention=0 "
    "objective.steps=1 flow.steps=1 optimizer.batch_size=4 run.steps=2 "
    "sampling.rounds=1 sampling.steps=1 sampling.final_steps=1"
)

TINY_HEAD = "optimizer.batch_size=4 run.steps=2 flow.steps=1"  # the recipe faces-label goes on from a bundled model


def snippets(text: str) -> list[tuple[str, str]]:
    """(language, code) of each console and python block, in order."""
    return re.findall(r"^```(console|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with a few pictures, tiny CIFAR-10 and Fashion-MNIST files, and settings that make every run short."""
    draw = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    cifar = tmp_path / "data" / "cifar-10-batches-bin"
    cifar.mkdir(parents=True)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    (cifar / "batches.meta.txt").write_text(names.replace(" ", "\n"))
    for i in range(1, 6):
        (cifar / f"data_batch_{i}.bin").write_bytes(bytes([i]) + draw.bytes(3072))
    fashion = tmp_path / "data" / "fashion-mnist"
    fashion.mkdir()
    for stem in ("train", "t10k"):
        (fashion / f"{stem}-images-idx3-ubyte").write_bytes(
            bytes.fromhex("00000803000000080000001c0000001c") + draw.bytes(6272)
        )
        (fashion / f"{stem}-labels-idx1-ubyte").write_bytes(bytes.fromhex("0000080100000008") + bytes(8))
    monkeypatch.setenv("EBMCTL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EBMCTL_SET", TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "plugins.md"], ids=lambda page: page.name)
def test_page(page, workplace, request, monkeypatch):
    blocks = snippets(page.read_text(encoding="utf-8"))
    if page.name == "zoo.md":
        request.getfixturevalue("hub")
        written(workplace / "model_50000.pth", authors_program.tensors("cifar", 8, classes=10), self_attn=True)
    if page.name == "python.md":  # it starts where the quickstart ends
        assert call("train", "digits")[0] == 0
    names: dict[str, object] = {}
    for language, code in blocks:
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
            continue
        for line in code.splitlines():
            if line.startswith("$ ") and line[2:] not in BY_HAND:
                program, *arguments = shlex.split(line[2:], comments=True)
                assert program == "ebmctl", line
                monkeypatch.setenv("EBMCTL_SET", TINY_HEAD if "faces-label" in arguments else TINY)
                status, err = run(arguments)
                assert status == 0, f"{line}\n{err}"


def run(arguments: list[str]) -> tuple[int, str]:
    if "--processes" not in arguments:
        *arguments, target = arguments if ">" in arguments else (*arguments, None)
        status, out, err = call(*(argument for argument in arguments if argument != ">"))
        if target:
            Path(target).write_text(out)
        return status, err
    running = process(*arguments)  # it starts itself anew
    _, err = running.communicate(timeout=300)
    return running.returncode, err


def test_pages_have_commands():
    blocks = [code for page in PAGES for language, code in snippets(page.read_text()) if language == "console"]
    assert len(blocks) > 8


def test_every_option_of_the_readme_exists():
    """Options are mentioned in running text, too."""
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(call(*c, "--help")[1] for c in commands.known())))
    for page in PAGES:
        mentioned = set(re.findall(r"`(--[a-z][a-z-]+)", page.read_text()))
        assert mentioned <= known, page.name


CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def files_in(text: str) -> dict[str, list[Path]]:
    """What a page names in the repository, a module also without its ending, and the files that this is."""
    named = re.findall(r"`((?:ebmctl|bench|tests|docs|plugins)/[\w./*-]+|pyproject\.toml)`", text)
    return {
        name: [*ROOT.glob(name), *ROOT.glob(f"{name}.py"), *ROOT.glob(f"{name}/*.py")]
        for name in named
        if "NAME" not in name
    }


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.name)
def test_files_and_names_in_pages_are_there(page):
    text = page.read_text(encoding="utf-8")
    own = {"tests/test_sampler.py"} if page.name == "plugins.md" else set()  # of the plugin that the page is about
    assert {name for name, files in files_in(text).items() if not files} == own
    for module, name in re.findall(r"`(ebmctl(?:\.\w+)*?)(?:\.(\w+))?`", text):
        assert not name or hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}")
    for module in re.findall(r"python -m ((?:bench|docs|tests)\.\w+)", text):
        assert importlib.util.find_spec(module), module


def test_names_in_contributing_are_in_the_files_that_it_names():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    files = [file for files in files_in(text).values() for file in files if file.is_file()]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    folders = {path.name for path in (ROOT / "ebmctl").iterdir()}
    for name in re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)`", text):
        assert (
            name in folders or name.endswith((".py", ".toml")) or re.search(rf"\b{name.rpartition('.')[2]}\b", code)
        ), name
    assert len(text.splitlines()) < 90
