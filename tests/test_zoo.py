"""zoo.toml, and what a model reference names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebmctl import zoo
from ebmctl.errors import EbmctlError
from ebmctl.files import sha256

GOOD = """
[models."residual.toy"]
aliases = ["toy"]
kind = "generator"
bundled = "toy"
dataset = "digits"
shape = [1, 16, 16]
recipe = "digits"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "zoo.toml"
    path.write_text(text)
    return path


def test_an_entry_is_read(tmp_path: Path) -> None:
    figure = '[[models."residual.toy".figures]]\nname = "AUROC"\nvalue = 0.5\ncommand = "ebmctl ood"\n'
    entry = zoo.read_zoo(written(tmp_path, GOOD + figure))["residual.toy"]
    assert (entry.aliases, entry.shape, entry.figures) == (
        ("toy",),
        (1, 16, 16),
        (zoo.Figure("AUROC", 0.5, "ebmctl ood"),),
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('sha256 = "abc"', "64 hexadecimal digits"),
        ('repo = "a/b"', "revision of 40"),
        ('family = "../faces"', "not a name"),
        ("colour = 3", "unknown key"),
    ],
)
def test_a_bad_entry_is_one_line_that_names_it(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(EbmctlError, match=complaint) as caught:
        zoo.read_zoo(written(tmp_path, GOOD + line + "\n"))
    assert "residual.toy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bundled_folder_cannot_leave_the_package(tmp_path: Path) -> None:
    with pytest.raises(EbmctlError, match="not a name"):
        zoo.read_zoo(written(tmp_path, GOOD.replace('bundled = "toy"', 'bundled = "../../etc"')))


def test_what_ships_is_whole() -> None:
    for entry in zoo.zoo().values():
        if folder := entry.folder:
            weights = folder / "model.safetensors"
            assert sha256(weights) == entry.sha256, entry.name
            assert weights.stat().st_size <= 1.5e6, entry.name


def test_an_altered_bundled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"altered")
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path)
    (tmp_path / "zoo.toml").write_text(GOOD + f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(EbmctlError, match="altered"):
        zoo.find_model("toy")
    assert zoo.default_model("digits") is None  # its alias is another
