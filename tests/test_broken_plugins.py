"""Plugins that do not work, and what the rest of the program does then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ebmctl.config import plugins, recipe, registry
from ebmctl.errors import EbmctlError, UsageError
from tests.plugin_site import GOOD, HOOK, forget, write
from tests.test_cli import call

BROKEN = {
    "import": ("import nothing_of_this_name", "ModuleNotFoundError"),
    "raises": ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "syntax": ("def (:", "SyntaxError"),
    "argument": (HOOK.format(signature="register_samplers(registry)", body="pass"), "registry"),
    "unknown": (HOOK.format(signature="register_smaplers(register)", body="pass"), "register_smaplers"),
    "hook": (HOOK.format(signature="register_samplers(register)", body="1 / 0"), "ZeroDivisionError"),
    "shape": (HOOK.format(signature="register_samplers(register)", body="register('x')"), "TypeError"),
    "name": (
        HOOK.format(signature="register_samplers(register)", body="register(3, print, '')"),
        "name must be a string",
    ),
    "target": (HOOK.format(signature="register_samplers(register)", body="register('x', 'a.b', '')"), "module:name"),
    "object": (HOOK.format(signature="register_samplers(register)", body="register('x', 3, '')"), "callable"),
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
    with pytest.raises(EbmctlError, match="are not a dataclass"):
        find("options").load_options()
    status, out, _ = call("plugins", "--json")
    assert status == 0
    problem = json.loads(out)["plugins"][-1]["problem"]
    assert "can't be loaded" in problem
    assert "not a dataclass" in problem
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
