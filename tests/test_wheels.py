"""The packages as users have them: built wheels, each with ebmctl in a fresh environment."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from tests.fresh import ROOT, Fresh

PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """The wheel of ebmctl, built from a copy: builds write into the sources' folder."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "runs", "docs", "plugins", "tests")
    source = tmp_path_factory.mktemp("core") / "ebmctl"
    shutil.copytree(ROOT, source, ignore=left_out)
    return source


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_alone(plugin, core, tmp_path):
    """Installed with ebmctl alone, it is listed without a problem and passes its tests."""
    source = shutil.copytree(plugin, tmp_path / plugin.name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    fresh = Fresh(tmp_path / "env")
    fresh.install(core, source)
    where = fresh.run("python", "-c", "import ebmctl; print(ebmctl.__file__)").stdout
    assert str(tmp_path) in where  # not the repository's
    found = json.loads(fresh.run("ebmctl", "plugins", "--json").stdout)["plugins"]
    assert [(p["package"], p["problem"]) for p in found] == [("ebmctl", None), (plugin.name, None)]
    fresh.run("pytest", str(shutil.copytree(source / "tests", tmp_path / "own-tests")))
    (wheel,) = fresh.wheels.glob(f"{plugin.name.replace('-', '_')}-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("py.typed") for name in names)
    assert not any("test" in name for name in names)


@pytest.mark.slow
def test_a_new_plugin(core, tmp_path):
    """What `ebmctl plugins new` writes installs, registers its sampler and passes its test."""
    fresh = Fresh(tmp_path / "env")
    fresh.install(core)
    fresh.run("ebmctl", "plugins", "new", "two-words")
    fresh.install(tmp_path / "ebmctl-two-words")
    found = json.loads(fresh.run("ebmctl", "plugins", "--json").stdout)["plugins"]
    assert found[1]["package"] == "ebmctl-two-words"
    assert found[1]["entries"] == [
        {"kind": "sampler", "name": "two-words", "about": "Langevin dynamics at a temperature"}
    ]
    assert found[1]["problem"] is None
    assert "1 passed" in fresh.run("pytest", "tests", where=tmp_path / "ebmctl-two-words").stdout


@pytest.mark.slow
def test_all_plugins_together(core, tmp_path):
    """No two of them register the same name."""
    fresh = Fresh(tmp_path / "env")
    fresh.install(core, *(shutil.copytree(plugin, tmp_path / plugin.name) for plugin in PLUGINS))
    done = fresh.run("ebmctl", "plugins", "--json")
    result = json.loads(done.stdout)
    assert (result["conflicts"], done.stderr) == ([], "")
    assert len(result["plugins"]) == 1 + len(PLUGINS)
