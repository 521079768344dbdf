"""The keys of every command's JSON, as the documentation's reference has them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from docs import generate
from tests import authors_program
from tests.test_cli import call
from tests.test_import import written


def told() -> dict[str, set[str]]:
    """The keys that the table names in code font, by command."""
    text = (generate.DOCS / "reference.md").read_text(encoding="utf-8")
    table = text.partition("## JSON results")[2].partition("## Commands")[0]
    rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.M)
    return {name: {code for code in re.findall("`(.*?)`", keys) if code.isidentifier()} for name, keys in rows}


def given(*words: str) -> dict[str, object]:
    """The JSON of a command."""
    status, out, err = call(*words, "--json")
    assert status == 0, err
    return json.loads(out)


@pytest.fixture
def run(here) -> str:
    """A run folder."""
    return str(given("train", "noise", "--recipe", "tiny.toml")["run"])


def test_train_and_sample(here, run):
    keys = told()
    assert given("train", "noise", "--recipe", "tiny.toml").keys() == keys["train"]
    assert given("train", "noise", "--recipe", "tiny.toml", "--dry-run").keys() == keys["train --dry-run"]
    assert given("sample", run, "-n", "1").keys() == keys["sample"]


def test_outliers(here, run):
    keys = told()
    (here / "pictures").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("pictures/a.png")
    known = ["ood", "--in", "noise", "--model", run, "-n", "8"]
    assert given(*known, "--out", "constant").keys() == keys["ood"]
    assert given(*known, "--images", "pictures", "--csv", "a.csv").keys() == keys["ood --images"]


def test_compose(here):
    keys = told()
    words = ["compose", "young", "-n", "2", "--flow-steps", "1"]
    assert given(*words).keys() == keys["compose"]
    assert given(*words, "--check").keys() == keys["compose"] | keys["compose --check"]


def test_evaluate(here, run):
    keys = told()
    found = given("evaluate", run, "--metrics", "bits", "-n", "10", "--levels", "2", "--chains", "2")
    assert found.keys() == keys["evaluate"] - {"figures", "report"}
    assert keys["evaluate"] >= {"figures", "report"}
    (here / "a.json").write_text(json.dumps(found))
    compared = given("evaluate", "--compare", "a.json", "a.json")
    assert compared["bits_per_dimension"].keys() == keys["evaluate --compare"]


def test_publishing(here, run):
    keys = told()
    pushed = given("push", run, "ada/noise", "--samples", "1", "--dry-run")
    assert pushed.keys() == keys["push"] - {"revision", "url", "zoo"}
    assert given("zoo", "list").keys() == keys["zoo list"]
    shown = given("zoo", "show", "digits").keys() | given("zoo", "show", "residual.cifar10").keys()
    entry = (generate.DOCS / "zoo.md").read_text(encoding="utf-8").partition("| key of ")[2].partition("\n\n")[0]
    of_entry = {key for row in re.findall(r"^\| (`.*?) \|", entry, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert keys["zoo show"] <= shown <= keys["zoo show"] | of_entry


def test_zoo(here):
    keys = told()
    assert given("zoo", "pull", "digits").keys() == keys["zoo pull"]
    verified = given("zoo", "verify")
    assert {"models"} | verified["models"][0].keys() == keys["zoo verify"]
    written(here / "a.pth", authors_program.tensors("mnist", 8, classes=0), self_attn=True)
    assert given("zoo", "import", "a.pth", "--recipe", "mnist").keys() == keys["zoo import"]


def test_data_and_plugins(here):
    keys = told()
    assert given("data", "prepare", "noise", "--size", "8", "--out", "shards").keys() == keys["data prepare"]
    found = given("plugins")
    assert found.keys() | found["plugins"][0].keys() == keys["plugins"]
    assert given("plugins", "new", "warm").keys() == keys["plugins new"]
