"""The packages as users have them: built wheels, each with ebmctl in a fresh environment."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.fresh import ROOT, Fresh

PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """The wheel of ebmctl, built from a copy: builds write into the sources' folder."""
    source = tmp_path_factory.mktemp("core") / "ebmctl"
    source.mkdir()
    for path in ROOT.iterdir():  # what else is in the folder is of no use, and may be large
        if path.name == "ebmctl":
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file():
            shutil.copy(path, source)
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
    """No two of them register the same name, and a usage error, for which they are loaded, imports no torch."""
    fresh = Fresh(tmp_path / "env")
    fresh.install(core, *(shutil.copytree(plugin, tmp_path / plugin.name) for plugin in PLUGINS))
    done = fresh.run("ebmctl", "plugins", "--json")
    result = json.loads(done.stdout)
    assert (result["conflicts"], done.stderr) == ([], "")
    assert len(result["plugins"]) == 1 + len(PLUGINS)
    program = (
        "import sys; from ebmctl.cli import app; from typer.testing import CliRunner; "
        "done = CliRunner().invoke(app, ['train', 'digits', '--recipe', 'jem-digits', '--set', 'objective.stepz=1']); "
        "print(done.stderr); sys.exit(3 if 'torch' in sys.modules else done.exit_code)"
    )
    done = fresh.run("python", "-c", program, check=False)
    assert (done.returncode, "did you mean 'objective.steps'?" in done.stdout) == (2, True)


BY_HAND = ("twine upload",)  # to a server
BLOCK = re.compile(r"^(?:```console\n|`(?P<file>\S+)`:\n\n```(?:python|toml)\n)(?P<text>.*?)^```", re.M | re.S)


@pytest.mark.slow
def test_the_page_about_plugins(core, tmp_path):
    """docs/plugins.md from its first command to its last; a block with a file's name is written to that file."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    fresh = Fresh(tmp_path / "env")
    fresh.install(core)
    where, commands, files = tmp_path, 0, 0
    for block in BLOCK.finditer(page):
        if block["file"]:
            path = where / block["file"]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block["text"], encoding="utf-8")
            files += 1
            continue
        for line in block["text"].splitlines():
            command = line.removeprefix("$ ")
            if command.startswith("cd "):
                where = where / command.removeprefix("cd ")
            elif not command.startswith(BY_HAND):
                done = fresh.run(*shlex.split(command), where=where)
                assert "broken" not in done.stdout + done.stderr
                commands += 1
    assert len(re.findall("^```(python|toml)$", page, re.M)) == files > 5
    assert commands > 8
    config = json.loads((where / "runs" / "stripes" / "model" / "config.json").read_text())
    assert config["plugins"][0]["package"] == "ebmctl-warm"
    assert len(config["plugins"][0]["entries"]) == 5
    (wheel,) = Path(where, "dist").iterdir()
    assert "ebmctl_warm/recipes/stripes.toml" in zipfile.ZipFile(wheel).namelist()
