"""Plugins that work, plugins that do not, and what the rest of the program does then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ebmctl
from ebmctl import plugins, recipe, registry
from ebmctl.checkpoint import ModelConfig, build_network, save_model
from ebmctl.errors import EbmctlError, UsageError
from tests.test_cli import call
from tests.test_run import recipe as tiny_recipe

GOOD = """
from ebmctl import hookimpl

@hookimpl
def register_samplers(register):
    register("{name}", "ebmctl.core.langevin:Langevin", "a copy", options="ebmctl.core.config:LangevinConfig")

@hookimpl
def register_datasets(register):
    register("{name}-images", "ebmctl.data.synthetic:make_noise", "noise", shape=(8, 1))
"""
HOOK = "from ebmctl import hookimpl\n\n@hookimpl\ndef {signature}:\n    {body}\n"


def write(folder: Path, package: str, code: str, version: str = "1.2") -> None:
    """An installed package with one module, as pip leaves it."""
    module = package.replace("-", "_")
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(code)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[ebmctl]\n{package.removeprefix('ebmctl-')} = {module}\n")


def forget() -> None:
    plugins.installed.cache_clear()
    registry.entries.cache_clear()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; all that are found are loaded."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("EBMCTL_PLUGINS")
    monkeypatch.delenv("EBMCTL_STRICT_PLUGINS", raising=False)
    before = set(sys.modules)
    forget()
    yield folder
    forget()
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def only(monkeypatch):
    """Names the plugins to load, so that others that are installed where the tests run do not matter."""

    def choose(*names: str) -> None:
        monkeypatch.setenv("EBMCTL_PLUGINS", ",".join(names))
        forget()

    return choose


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
    assert registry.native_shape("good-images") == (8, 1)
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


BROKEN = {
    "import": ("import nothing_of_this_name", "ModuleNotFoundError"),
    "raises": ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "syntax": ("def (:", "SyntaxError"),
    "argument": (HOOK.format(signature="register_samplers(registry)", body="pass"), "registry"),
    "unknown": (HOOK.format(signature="register_smaplers(register)", body="pass"), "register_smaplers"),
    "hook": (HOOK.format(signature="register_samplers(register)", body="1 / 0"), "ZeroDivisionError"),
    "shape": (HOOK.format(signature="register_samplers(register)", body="register('x')"), "TypeError"),
    "name": (HOOK.format(signature="register_samplers(register)", body="register(3, print, '')"), "name is a text"),
    "target": (HOOK.format(signature="register_samplers(register)", body="register('x', 'a.b', '')"), "module:name"),
    "object": (HOOK.format(signature="register_samplers(register)", body="register('x', 3, '')"), "can be called"),
    "folder": (HOOK.format(signature="register_recipes(register)", body="register('ebmctl:x')"), "register_recipes"),
    "nothing": ("", "registers nothing"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_plugin_is_one_line_and_the_rest_works(site, only, caplog, monkeypatch, how):
    code, message = BROKEN[how]
    write(site, "ebmctl-bad", code)
    write(site, "ebmctl-good", GOOD.format(name="good"))
    only("bad", "good")
    assert "good" in registry.entries("sampler")
    assert recipe.resolve("noise", None, [], {})
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the plugin bad of ebmctl-bad 1.2 is broken: ")
    assert message in line
    assert "\n" not in line
    status, out, _ = call("plugins", "--json")
    assert status == 0
    found = {plugin["name"]: plugin for plugin in json.loads(out)["plugins"]}
    assert message in found["bad"]["problem"]
    assert found["good"]["problem"] is None
    assert [entry["name"] for entry in found["good"]["entries"]] == ["good", "good-images"]
    monkeypatch.setenv("EBMCTL_STRICT_PLUGINS", "1")
    forget()
    with pytest.raises(EbmctlError, match="the plugin bad of ebmctl-bad"):
        registry.entries("sampler")


def test_of_a_plugin_with_one_bad_hook_the_others_stay(site, only):
    bad = HOOK.format(signature="register_samplers(register)", body="register('x', print, 'x'); 1 / 0")
    write(
        site,
        "ebmctl-half",
        bad + HOOK.format(signature="register_datasets(register)", body="register('d', print, 'd')"),
    )
    only("half")
    (_, half) = plugins.installed()
    assert [entry.name for entry in half.entries] == ["d"]
    assert half.problem == "register_samplers: ZeroDivisionError: division by zero"


LATE = """
from ebmctl import hookimpl

def fails(*_):
    raise KeyError("a bug")

def refuses(*_):
    raise ValueError("step_size is too large")

@hookimpl
def register_samplers(register):
    register("missing", "nothing_of_this_name:X", "can't be imported")
    register("fails", fails, "raises")
    register("refuses", refuses, "does not want its settings")
    register("options", fails, "has odd options", options="builtins:int")
"""


def test_entries_that_fail_when_they_are_used(site, only, monkeypatch):
    write(site, "ebmctl-late", LATE)
    only("late")

    def find(name):
        return registry.find("sampler", name)

    with pytest.raises(EbmctlError, match=r"the sampler 'missing' of ebmctl-late 1\.2 can't be loaded: ModuleNotFound"):
        find("missing").make()
    with pytest.raises(EbmctlError, match=r"the sampler 'fails' of ebmctl-late 1\.2 failed: KeyError: 'a bug'"):
        find("fails").make()
    with pytest.raises(UsageError, match="step_size is too large"):
        find("refuses").make()
    with pytest.raises(EbmctlError, match="are no dataclass"):
        find("options").load_options()
    status, out, _ = call("plugins", "--json")
    assert status == 0
    problem = json.loads(out)["plugins"][-1]["problem"]
    assert "can't be loaded" in problem
    assert "no dataclass" in problem
    status, out, _ = call("plugins")
    assert (status, "  broken: " in out, "  sampler  fails    raises\n" in out) == (0, True, True)
    monkeypatch.setenv("EBMCTL_STRICT_PLUGINS", "1")
    status, _, err = call("plugins")
    assert (status, err.startswith("error: the plugin late")) == (1, True)


def test_a_factory_that_raises_fails_its_command_in_one_line(here, site, only):
    write(site, "ebmctl-late", LATE)
    only("late")
    for name, status in (("fails", 1), ("missing", 1), ("options", 1), ("refuses", 2)):
        found, out, err = call("train", "noise", "--recipe", "tiny.toml", "--set", f'sampler={{name="{name}"}}')
        assert (found, out) == (status, "")
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
        assert "Traceback" not in err
    assert call("train", "noise", "--recipe", "tiny.toml")[0] == 0


def test_a_run_that_lacks_its_plugin_names_the_package(here, site, only):
    write(site, "ebmctl-good", GOOD.format(name="good"))
    only("good")
    begin = ("train", "noise", "--recipe", "tiny.toml", "--out", "run", "--set", 'sampler={name="good"}')
    assert call(*begin)[0] == 0
    only()
    status, _, err = call("train", "noise", "--resume", "run")
    assert status == 1
    assert "was trained with the sampler 'good' of ebmctl-good 1.2" in err


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
    with pytest.raises(EbmctlError, match=r"the sampler 'good' of ebmctl-good 1\.2, which is installed, but which EBM"):
        ebmctl.load(folder)
    code = site / "ebmctl_good" / "__init__.py"
    good = code.read_text()
    code.write_text("import nothing_of_this_name")
    del sys.modules["ebmctl_good"]
    only("good")
    with pytest.raises(EbmctlError, match=r"the 1\.2 that is installed does not give it: ModuleNotFoundError"):
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


def program(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "EBMCTL_PLUGINS": "bad", "COLUMNS": "40"}
    command = [sys.executable, "-m", "ebmctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=site)


def test_the_program_says_it_on_standard_error(tmp_path):
    """--help loads no plugin; another command has one line, however narrow the terminal, and goes on."""
    write(tmp_path, "ebmctl-bad", "import nothing_of_this_name")
    for command in (["--help"], ["train", "--help"], ["plugins", "--help"]):
        done = program(tmp_path, *command)
        assert (done.returncode, done.stderr) == (0, "")
    done = program(tmp_path, "plugins", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["plugins"]) == 2
    line = "the plugin bad of ebmctl-bad 1.2 is broken: ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert done.stderr.splitlines() == [line]
    done = program(tmp_path, "train", "digts")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line, "error: unknown dataset 'digts': did you mean 'digits'?"]


@pytest.mark.parametrize("name", ["Big", "a b", "-x", "x-", "x--y", "../x", "x_y", "3d", ""])
def test_names_that_no_new_plugin_can_have(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, err = call("plugins", "new", "--", name)
    assert status == 2
    assert "small letters" in err
    assert not list(tmp_path.iterdir())


def test_a_new_plugin_does_not_overwrite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ebmctl-mine").mkdir()
    status, _, err = call("plugins", "new", "mine")
    assert status == 1
    assert "exists already" in err
    status, out, _ = call("plugins", "new", "two-words", "--out", "here", "--json")
    assert status == 0
    assert json.loads(out)["files"][0] == "here/ebmctl_two_words/sampler.py"
    assert "class TwoWords:" in (tmp_path / "here" / "ebmctl_two_words" / "sampler.py").read_text()
    for file in (tmp_path / "here").rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
        assert "$" not in file.read_text()
