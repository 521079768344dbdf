"""zoo.toml, and what a model reference names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebmctl.errors import EbmctlError
from ebmctl.files import sha256
from ebmctl.models import zoo
from tests.test_cli import call, process

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
    metric = '[[models."residual.toy".metrics]]\nname = "AUROC"\nvalue = 0.5\ncommand = "ebmctl ood"\n'
    entry = zoo.read_zoo(written(tmp_path, GOOD + metric))["residual.toy"]
    assert (entry.aliases, entry.shape, entry.metrics) == (
        ("toy",),
        (1, 16, 16),
        (zoo.ReportedMetric("AUROC", 0.5, "ebmctl ood"),),
    )


def test_an_entry_with_the_old_key_of_its_metrics_is_read(tmp_path: Path) -> None:
    old = '[[models."residual.toy".figures]]\nname = "AUROC"\nvalue = 0.5\ncommand = "ebmctl ood"\n'
    entry = zoo.read_zoo(written(tmp_path, GOOD + old))["residual.toy"]
    assert entry.metrics == (zoo.ReportedMetric("AUROC", 0.5, "ebmctl ood"),)
    with pytest.raises(EbmctlError, match=r"unknown key.*figures"):
        zoo.read_zoo(written(tmp_path, GOOD + old + old.replace("figures", "metrics")))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('sha256 = "abc"', "64 hexadecimal digits"),
        ('repo = "a/b"', "revision of 40"),
        ('family = "../faces"', "not a valid name"),
        ("colour = 3", "unknown key"),
    ],
)
def test_a_bad_entry_is_one_line_that_names_it(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(EbmctlError, match=complaint) as caught:
        zoo.read_zoo(written(tmp_path, GOOD + line + "\n"))
    assert "residual.toy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bundled_folder_cannot_leave_the_package(tmp_path: Path) -> None:
    with pytest.raises(EbmctlError, match="not a valid name"):
        zoo.read_zoo(written(tmp_path, GOOD.replace('bundled = "toy"', 'bundled = "../../etc"')))


def test_what_ships_is_whole() -> None:
    for entry in zoo.zoo().values():
        if folder := entry.folder:
            weights = folder / "model.safetensors"
            assert sha256(weights) == entry.sha256, entry.name
            assert weights.stat().st_size <= 1.5e6, entry.name


def test_an_altered_bundled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights" / "toy"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"altered")
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path)
    (tmp_path / "zoo.toml").write_text(GOOD + f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(EbmctlError, match="altered"):
        zoo.find_model("toy")
    assert zoo.default_model("digits") is None  # its alias is another


# a zoo of one's own

OWN = """
[models."residual.mine"]
aliases = ["mine"]
kind = "generator"
repo = "ada/mine"
revision = "1111111111111111111111111111111111111111"
dataset = "digits"
shape = [1, 16, 16]
recipe = "digits"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "zoo.toml"


def test_a_zoo_of_the_working_folder_adds_to_what_ships(own: Path) -> None:
    shipped = set(zoo.zoo())
    own.write_text(OWN)
    assert set(zoo.zoo()) == {*shipped, "residual.mine"}
    entry = zoo.find_entry("mine")
    assert entry
    assert (entry.origin, entry.availability) == ("zoo.toml", "remote")


def test_a_zoo_that_a_variable_names(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.write_text(OWN)
    (tmp_path / "other.toml").write_text(OWN.replace("mine", "other"))
    monkeypatch.setenv("EBMCTL_ZOO", str(tmp_path / "other.toml"))
    assert zoo.find_entry("residual.other")
    assert not zoo.find_entry("residual.mine")
    monkeypatch.setenv("EBMCTL_ZOO", str(tmp_path / "none.toml"))
    with pytest.raises(EbmctlError, match=r"can't read .*none\.toml"):
        zoo.zoo()


@pytest.mark.parametrize("name", ["residual.cifar10", "cifar10"])
def test_ones_own_entry_wins_and_that_is_said(own: Path, name: str) -> None:
    """In a process: pytest takes the log for itself."""
    own.write_text(OWN.replace("residual.mine", "residual.cifar10").replace('"mine"', '"cifar10"'))
    assert [entry.repo for entry in zoo.zoo().values() if entry.name == "residual.cifar10"] == ["ada/mine"]
    shown = process("zoo", "show", name, "--json", cwd=own.parent)
    out, err = shown.communicate(timeout=60)
    assert (shown.returncode, json.loads(out)["repo"]) == (0, "ada/mine")
    assert f"'{name}' is taken from your zoo.toml, not from the zoo that ships" in err
    assert "(your own)" in call("zoo", "list")[1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('repo = "ada/mine"', 'bundled = "../../etc"'), "can only name models on the Hub"),
        (('repo = "ada/mine"', 'bundled = "digits"'), "can only name models on the Hub"),
        (('repo = "ada/mine"', 'repo = "https://example.org/x"'), "repo must be user/repo"),
        (('repo = "ada/mine"', 'repo = "../../x"'), "repo must be user/repo"),
        (("1111111111111111111111111111111111111111", "main"), "revision of 40"),
        (('recipe = "digits"', 'recipe = "digits; rm -rf ~"'), "not a valid name"),
        (('recipe = "digits"', 'recipe = "digits"\nlabel = "$(reboot)"'), "not a valid label"),
        (('recipe = "digits"', 'recipe = "digits"\norigin = "x"'), "can only name models on the Hub"),
        (('recipe = "digits"', ""), "recipe"),
        (("[1, 16, 16]", "[1, 16]"), "shape must be a list of 3"),
        (("[1, 16, 16]", "[[1]]"), "shape must be"),
        (("kind", "kind = 3 #"), "kind"),
        (('[models."residual.mine"]', '[models]\n"residual.mine" = 3\n[x]'), "residual.mine"),
        (('[models."residual.mine"]', "models = 3\n[x]"), "models"),
        (("[models", "[[["), "not a TOML file"),
    ],
)
def test_fields_of_ones_own_zoo_are_checked(own: Path, change: tuple[str, str], complaint: str) -> None:
    own.write_text(OWN.replace(*change))
    for command in (["zoo", "list"], ["zoo", "show", "mine"], ["sample", "mine"]):
        status, out, err = call(*command)
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert (status in (1, 2), out, complaint in line) == (True, "", True), err
        assert "zoo.toml" in line


@pytest.mark.parametrize(
    ("name", "train", "options"),
    [
        ("cifar10", "ebmctl train cifar10", "--recipe cifar10"),
        ("residual.imagenet32", "ebmctl train imagenet32", "--recipe imagenet32"),
        ("celebahq128", "ebmctl train celebahq", "--recipe celebahq128"),
        ("lsun-bedroom128", "ebmctl train lsun-bedroom", "--recipe lsun-bedroom128"),
        ("celebahq-smiling", "ebmctl train celebahq --label Smiling", "--recipe celebahq128 --label Smiling"),
        ("celebahq-female", "ebmctl train celebahq --label Male", "--recipe celebahq128 --label Male"),
        ("celebahq-wavy_hair", "ebmctl train celebahq --label Wavy_Hair", "--recipe celebahq128 --label Wavy_Hair"),
        ("celebahq-young", "ebmctl train celebahq --label Young", "--recipe celebahq128 --label Young"),
    ],
)
def test_unpublished_models_tell_what_to_do(here: Path, name: str, train: str, options: str) -> None:
    for command in (["sample", name], ["zoo", "pull", name], ["push", name, "ada/x"]):
        status, out, err = call(*command)
        (line,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert (status, out) == (1, "")
        assert "is unpublished" in line
        assert f"{train} --" in line
        assert line.endswith(f"ebmctl zoo import CHECKPOINT.pth {options}")
    shown = json.loads(call("zoo", "show", name, "--json")[1])
    assert (shown["where"], shown["train"]) == ("unpublished", train)


def test_unpublished_models_are_nobodys_default() -> None:
    assert zoo.default_model("cifar10") is None


def test_the_command_line(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package" / "weights" / "toy"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 2000)
    metric = '[[models."residual.toy".metrics]]\nname = "AUROC"\nvalue = 0.5\ncommand = "ebmctl ood"\n'
    good = GOOD + f'sha256 = "{sha256(folder / "model.safetensors")}"\n' + metric
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "zoo.toml").write_text(good)
    (row,) = json.loads(call("zoo", "list", "--json")[1])["models"]
    assert (row["where"], row["bytes"], row["metrics"][0]["command"]) == ("bundled", 2000, "ebmctl ood")
    assert "AUROC 0.5" in call("zoo", "list")[1]
    assert "ebmctl ood" in call("zoo", "show", "toy")[1]
    assert call("zoo", "verify")[0] == 0
    assert json.loads(call("zoo", "pull", "toy", "--json")[1])["folder"] == str(folder)
    (folder / "model.safetensors").write_bytes(b"y" * 2000)
    status, out, err = call("zoo", "verify", "--json")
    assert (status, json.loads(out)["models"][0]["ok"]) == (1, False)
    assert "1 of 1 models have a wrong checksum: residual.toy" in err
    assert call("zoo", "pull", "toy")[0] == 1
    status, _, err = call("zoo", "show", "toi")
    assert (status, "did you mean 'toy'?" in err) == (2, True)
