"""Plugins that work: which are loaded, what they give, and what a model says of them."""

from __future__ import annotations

import json
import sys

import pytest

import ebmctl
from ebmctl.config import plugins, recipe, registry
from ebmctl.config.dataset import DatasetName
from ebmctl.errors import EbmctlError
from ebmctl.models.folder import ModelConfig, build_network, save_model
from tests.plugin_site import GOOD, HOOK, forget, write
from tests.test_cli import call
from tests.test_run import recipe as tiny_recipe


def test_what_ships_is_a_plugin(only):
    only()
    (own,) = plugins.installed()
    assert (own.package, own.version, own.problem) == ("ebmctl", ebmctl.__version__, None)
    assert {entry.kind for entry in own.entries} == set(plugins.HOOKS)
    assert all(entry.about and callable(entry.load()) for entry in own.entries if entry.kind != "recipe")
    forget()


def test_a_plugin_is_used_as_what_ships(site, only):
    write(site, "ebmctl-good", GOOD.format(name="good"))
    only("good")
    assert registry.find("sampler", "good").load() is registry.find("sampler", "langevin").load()
    assert str(registry.find("sampler", "good")) == "the sampler 'good' of ebmctl-good 1.2"
    assert DatasetName.parse("good-images").native_shape == (8, 1)
    made = recipe.resolve("good-images", None, ["sampler.name=good", "sampler.noise=0.5"], {})
    assert (made.sampler.name, made.sampler.options.noise, made.data.size) == ("good", 0.5, 8)


def test_recipes(site, only):
    write(site, "ebmctl-good", HOOK.format(signature="register_recipes(register)", body="register('ebmctl_good:mine')"))
    (site / "ebmctl_good" / "mine").mkdir()
    (site / "ebmctl_good" / "mine" / "good.toml").write_text('about = "Good"\n[optimizer]\nlr = 0.25\n')
    only("good")
    assert recipe.resolve("noise", "good", [], {}).optimizer.lr == 0.25
    assert "good" in recipe.bundled()
    assert registry.find("recipe", "good").about == "Good"
    assert "did you mean 'good'?" in call("train", "noise", "--recipe", "goood")[2]


def test_choosing(site, only, monkeypatch, caplog):
    for name in ("one", "two"):
        write(site, f"ebmctl-{name}", GOOD.format(name=name))
    for chosen, expected in (("one", {"one"}), ("ebmctl_Two, one", {"one", "two"}), ("", set())):
        only(chosen)
        assert set(registry.entries("sampler")) == {"langevin"} | expected
    assert not caplog.records
    only("one", "tow")
    assert set(registry.entries("sampler")) == {"langevin", "one"}
    assert [r.getMessage() for r in caplog.records] == ["EBMCTL_PLUGINS names 'tow', which is not installed"]
    monkeypatch.delenv("EBMCTL_PLUGINS")
    forget()
    assert {"langevin", "one", "two"} <= set(registry.entries("sampler"))


def test_two_entries_of_one_name(site, only, caplog, monkeypatch):
    write(site, "ebmctl-one", GOOD.format(name="same"))
    write(site, "ebmctl-two", GOOD.format(name="same"), version="2.0")
    write(site, "ebmctl-three", GOOD.format(name="langevin"))
    only("one", "two", "three")
    with pytest.raises(EbmctlError, match=r"the sampler 'same' is registered by ebmctl-one 1\.2 and ebmctl-two 2\.0"):
        registry.find("sampler", "same")
    with pytest.raises(EbmctlError, match=r"registered by ebmctl 0\.1\.0 and ebmctl-three 1\.2"):
        registry.find("sampler", "langevin")
    assert registry.find("objective", "icd")
    assert len(caplog.records) == 3
    assert len(json.loads(call("plugins", "--json")[1])["conflicts"]) == 3
    monkeypatch.setenv("EBMCTL_STRICT_PLUGINS", "1")
    forget()
    with pytest.raises(EbmctlError, match="is registered by"):
        registry.find("objective", "icd")


def test_a_model_names_the_plugins_that_it_was_trained_with(site, only, tmp_path):
    write(site, "ebmctl-good", GOOD.format(name="good"))
    only("good")
    made = recipe.from_mapping(
        {
            **tiny_recipe().to_mapping(),
            "sampler": {"name": "good"},
            "data": {"name": "good-images", "size": 8, "channels": 1},
        }
    )
    folder = tmp_path / "model"
    save_model(folder, ModelConfig(made, (), {}), build_network(made.network, 1, 0).state_dict(), "# card\n")
    document = json.loads((folder / "config.json").read_text())
    entries = ["sampler good", "dataset good-images"]
    assert document["plugins"] == [{"package": "ebmctl-good", "version": "1.2", "entries": entries}]
    assert ebmctl.load(folder).recipe.sampler.name == "good"
    only()
    with pytest.raises(
        EbmctlError, match=r"the sampler 'good' of ebmctl-good 1\.2, which is installed, but excluded by"
    ):
        ebmctl.load(folder)
    code = site / "ebmctl_good" / "__init__.py"
    good = code.read_text()
    code.write_text("import nothing_of_this_name")
    del sys.modules["ebmctl_good"]
    only("good")
    with pytest.raises(EbmctlError, match=r"the installed version 1\.2 lacks it: ModuleNotFoundError"):
        ebmctl.load(folder)
    code.write_text(good)
    (site / "ebmctl_good-1.2.dist-info" / "entry_points.txt").unlink()
    only()
    with pytest.raises(EbmctlError, match=r"not installed: pip install ebmctl-good$"):
        ebmctl.load(folder)
    document["plugins"][0]["entries"] = ["dataset good-images"]
    document["sampling"]["sampler"] = document["recipe"]["sampler"] = {"name": "langevin"}
    (folder / "config.json").write_text(json.dumps(document))
    assert ebmctl.load(folder).recipe.data.name == "good-images"  # samples need no dataset
    for odd in ([{"package": "x; rm", "version": "1", "entries": ["sampler y"]}], [3], 3, [{}], {"a": 1}):
        (folder / "config.json").write_text(json.dumps({**document, "plugins": odd}))
        with pytest.raises(EbmctlError, match="is not a model's configuration"):
            ebmctl.load(folder)


def test_models_without_plugins_name_none(tmp_path):
    made = tiny_recipe()
    save_model(tmp_path / "m", ModelConfig(made, (), {}), build_network(made.network, 1, 0).state_dict(), "# card\n")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["plugins"] == []


@pytest.mark.parametrize("name", ["Big", "a b", "-x", "x-", "x--y", "../x", "x_y", "3d", ""])
def test_names_that_no_new_plugin_can_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, err = call("plugins", "new", "--", name)
    assert status == 2
    assert "lower-case letters" in err
    assert not list(tmp_path.iterdir())


def test_a_new_plugin_does_not_overwrite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ebmctl-mine").mkdir()
    status, _, err = call("plugins", "new", "mine")
    assert status == 1
    assert "already exists" in err
    status, out, _ = call("plugins", "new", "two-words", "--out", "here", "--json")
    assert status == 0
    assert json.loads(out)["files"][0] == "here/ebmctl_two_words/sampler.py"
    assert "class TwoWords:" in (tmp_path / "here" / "ebmctl_two_words" / "sampler.py").read_text()
    for file in (tmp_path / "here").rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
        assert "$" not in file.read_text()
