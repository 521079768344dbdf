"""`ebmctl push` by the real client, to a Hub on loopback: cards, tokens, and what can break."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import ebmctl
from ebmctl.errors import EbmctlError
from ebmctl.evaluation.curves import png
from ebmctl.files import sha256
from ebmctl.models import hub as hubs
from ebmctl.models.metrics import Metrics
from ebmctl.publish.curves import in_markdown
from tests.hub_models import error_of, put, saved
from tests.hub_server import READER, STRANGER, Fault
from tests.test_cli import call


def test_the_picture_and_the_paper(hub, here):
    folder = saved(here / "colour", 3, "data.size=128", "data.channels=3")
    assert call("push", str(folder), "ada/toy", "--samples", "16")[0] == 0
    card = hub.files("ada/toy")["README.md"].decode()
    match = re.search(r"!\[16 samples\]\(data:image/(\w+);base64,([^)]+)\)", card)
    picture = Image.open(io.BytesIO(base64.b64decode(match[2])))
    assert (match[1], picture.format, max(picture.size)) == ("jpeg", "JPEG", 512)
    assert len(card) < 400_000
    assert "arXiv:2504.10612" in card


def test_push_then_use_by_name(hub, here, model):
    status, out, err = call("push", str(model), "ada/toy", "--samples", "4", "--json")
    assert status == 0, err
    result = json.loads(out)
    sent = hub.files("ada/toy")
    assert set(sent) == {".gitattributes", "config.json", "model.safetensors", "README.md"}
    assert (result["revision"], result["sha256"]) == (hub.repos["ada/toy"].head, sha256(model / "model.safetensors"))
    assert sent["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert not hub.repos["ada/toy"].private
    status, _, err = call("sample", "ada/toy", "-n", "4", "-o", "hub.png")
    assert status == 0, err
    assert call("sample", str(model), "-n", "4", "-o", "local.png")[0] == 0
    assert Image.open("hub.png").tobytes() == Image.open("local.png").tobytes()
    assert ebmctl.load(f"ada/toy@{result['revision']}").sha256() == result["sha256"]


def test_dry_run_sends_nothing(hub, here, model):
    status, out, err = call("push", str(model), "ada/toy", "--dry-run", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert (result["sent"], list(result["files"])) == (False, ["config.json", "model.safetensors", "README.md"])
    assert hub.requests == []


def test_the_entry_for_a_zoo(hub, here, model):
    status, out, err = call("push", str(model), "ada/toy", "--zoo", "--samples", "0")
    assert status == 0, err
    Path("zoo.toml").write_text(out + "\n" + out.replace("residual.noise", "residual.other"))  # pasted twice
    status, out, err = call("zoo", "list", "--json")
    assert status == 0, err
    (entry, *_) = json.loads(out)["models"]
    assert (entry["name"], entry["where"], entry["origin"]) == ("residual.noise", "remote", "zoo.toml")
    assert call("zoo", "pull", "residual.noise")[0] == 0
    rows = json.loads(call("zoo", "list", "--json")[1])["models"]
    assert (rows[0]["where"], rows[0]["bytes"]) == ("cached", (model / "model.safetensors").stat().st_size)
    status, out, _ = call("zoo", "verify", "--json")
    assert (status, json.loads(out)["models"][0]["ok"]) == (0, True)


def test_the_card(hub, here):
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run")[0] == 0
    checksum = sha256(here / "run" / "model" / "model.safetensors")
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    row = {"out": "constant", **dict.fromkeys(("auroc", "aupr_in", "aupr_out", "fpr95"), figure)}
    outliers = {"in": "noise", "model_sha256": checksum, "score": "energy", "results": [row]}
    (here / "run" / "evaluation").mkdir()
    (here / "run" / "evaluation" / "ood.json").write_text(json.dumps(outliers))
    figures = {"fid": {"value": 12.5, "extractor": "toy"}}
    drawn = {"model": "run", "model_sha256": checksum, "n": 100, "split": "test", "metrics": figures}
    composed = {
        **{"expression": "glad & ~old", "models": {"glad": checksum, "old": "0"}, "n": 50, "joint": figure},
        **{
            "attributes": {"glad": {"accuracy": figure}, "old | \nnew": {"accuracy": figure}},
            "classifier": {"dataset": "toys"},
        },
    }
    (here / "run" / "evaluation" / "composed.json").write_text(json.dumps(composed))
    Path("drawn.json").write_text(json.dumps(drawn))
    status, _, err = call("push", "run", "ada/toy", "--samples", "4", "--results", "drawn.json")
    assert status == 0, err
    card = hub.files("ada/toy")["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert (head["library_name"], head["license"]) == ("ebmctl", "apache-2.0")
    (index,) = head["model-index"]
    assert {r["task"]["type"]: r["metrics"][0]["value"] for r in index["results"]} == {
        "outlier-detection": 0.9,
        "unconditional-image-generation": 12.5,
        "conditional-image-generation": 0.9,
    }
    for part in (
        "![4 samples](data:image/png;base64,",
        "ebmctl sample ada/toy -n 64 -o samples.png",
        "| energy difference |",
        "| step | 6 |",
        "| noise (test) | AUROC | 0.9 | against constant",
        "| toys (test) | Accuracy | 0.9 | old \\| new in glad & ~old, 95 % 0.800 to 0.950, 50 samples |",
        "| toys (test) | Accuracy | 0.9 | glad in glad & ~old, 95 % 0.800 to 0.950, 50 samples |",
        "## Recipe",
        "## Limits",
        "## Licence",
        "@inproceedings{du2021improved,",
    ):
        assert part in body
    (here / "other.json").write_text(json.dumps({**outliers, "model_sha256": "0" * 64}))
    assert "other weights" in error_of("push", "run", "ada/toy", "--samples", "0", "--results", "other.json")


def pictures(card: str) -> dict[str, bytes]:
    """The pictures of a card by what they are said to show."""
    found = re.findall(r"^!\[(.*)\]\(data:image/png;base64,(\S+)\)$", card, re.MULTILINE)
    return {alt: base64.b64decode(data, validate=True) for alt, data in found}


def test_the_curves(hub, here):
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run")[0] == 0
    assert call("push", "run", "ada/toy", "--samples", "0")[0] == 0
    card = hub.files("ada/toy")["README.md"].decode()
    groups = Metrics.read(Path("run/metrics.jsonl")).groups()
    assert list(pictures(card).values()) == [png(group) for group in groups[:3]]
    (first, *_) = pictures(card)
    assert first.startswith("energy difference, E(data) - E(samples) from step 1 to 6: energy\\_difference ends at ")


def test_curves_of_any_run_are_few_and_small():
    noise = np.random.default_rng(0).normal(size=(3000, 8))
    names = ["energy_difference", *(f"energy_{n}" for n in range(6)), "loss"]
    loud = Metrics([{"step": k, **dict(zip(names, map(float, row), strict=True))} for k, row in enumerate(noise)])
    assert sum(len(png(group)) * 4 / 3 for group in loud.groups()) > 60_000  # more than there is room for
    shown = in_markdown(loud)
    assert 30_000 < len(shown) <= 60_000
    shown = in_markdown(Metrics([{"step": k, "](x)<b>`*": k, **dict.fromkeys("bcde", k)} for k in range(3)]))
    assert len(shown.split("\n\n")) == 3
    assert shown.startswith(r"![\](x)\<b\>\`\* from step 0 to 2: \](x)\<b\>\`\* ends at 2](data:image/png;base64,")
    assert in_markdown(Metrics()) == ""


def test_without_matplotlib_the_card_has_the_figures_alone(hub, here, monkeypatch):
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run")[0] == 0
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out, err = call("push", "run", "ada/toy", "--samples", "0", "--json")
    assert (status, json.loads(out)["sent"]) == (0, True)
    (line,) = [line for line in err.splitlines() if "curves" in line]
    assert line.endswith("the card shows no curves of the training: figures are drawn by matplotlib: "
                         "pip install 'ebmctl[evaluate]'")  # fmt: skip
    card = hub.files("ada/toy")["README.md"].decode()
    assert "| energy difference |" in card
    assert pictures(card) == {}
    Path("run/metrics.jsonl").unlink()  # nothing to draw, nothing to say
    assert "curves" not in call("push", "run", "ada/toy", "--samples", "0", "--dry-run")[2]


def test_paths_stay_at_home(hub, tmp_path, here):
    folder = saved(
        tmp_path / "mine",
        1,
        "data.name=folder:/home/ada/secret",
        "run.init=/home/ada/first",
        "eval.extractor=/home/ada/judge",
    )
    assert call("push", str(folder), "ada/toy", "--samples", "0")[0] == 0
    for data in hub.files("ada/toy").values():
        assert b"secret" not in data
        assert b"/home/ada" not in data
    assert ebmctl.load("ada/toy").recipe.data.name == "folder"


def test_only_three_kinds_of_files_are_sent(hub, here, model):
    (model / "notes.txt").write_text("private")
    (model / "old.pkl").write_bytes(b"\x80\x04.")
    assert call("push", str(model), "ada/toy", "--samples", "0")[0] == 0
    assert not {"notes.txt", "old.pkl"} & set(hub.files("ada/toy"))
    with pytest.raises(EbmctlError, match="only safetensors, JSON and Markdown"):
        hubs.push({"old.pkl": model / "old.pkl"}, "ada/toy", private=False)


def test_private(hub, here, model, monkeypatch):
    assert call("push", str(model), "ada/toy", "--private", "--samples", "0")[0] == 0
    assert hub.repos["ada/toy"].private
    assert ebmctl.load("ada/toy").shape == (1, 8, 8)
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "another"))
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    assert "no repository ada/toy, or it is private" in error_of("sample", "ada/toy")
    monkeypatch.delenv("HF_TOKEN")
    assert "no repository ada/toy, or it is private" in error_of("sample", "ada/toy")


def test_an_open_repository_does_not_become_private(hub, here, model):
    put(hub, "ada/toy", model)
    assert "is public" in error_of("push", str(model), "ada/toy", "--private", "--samples", "0")


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        (None, "ada/toy", "not logged in to the Hub"),
        ("hf_wrong", "ada/toy", "the Hub refused the token for ada/toy (401)"),
        (READER, "ada/toy", "the token has no write access to ada/toy (403)"),
        (STRANGER, "ada/toy", "the token has no write access to ada/toy (403)"),
    ],
)
def test_tokens(hub, here, model, monkeypatch, token, repo, message):
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    assert message in error_of("push", str(model), repo, "--samples", "0")
    assert hub.repos == {}


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"x"},
        {"app.py": b"x"},
        {"config.json": b"[]"},
    ],
)
def test_a_repository_of_another_kind_is_left_alone(hub, here, model, files):
    before = hub.commit("ada/toy", files)
    assert "contains something else" in error_of("push", str(model), "ada/toy", "--samples", "0")
    assert hub.repos["ada/toy"].head == before


def test_a_new_version_and_the_same_again(hub, here, model):
    assert call("push", str(model), "ada/toy", "--samples", "0")[0] == 0
    first = hub.repos["ada/toy"].head
    status, out, _ = call("push", str(model), "ada/toy", "--samples", "0", "--json")
    assert (status, json.loads(out)["sent"], json.loads(out)["revision"]) == (0, False, first)  # nothing has changed
    assert hub.repos["ada/toy"].head == first
    newer = saved(here / "newer", 1)
    assert call("push", str(newer), "ada/toy", "--samples", "0")[0] == 0
    assert ebmctl.load("ada/toy").sha256() == sha256(newer / "model.safetensors")
    assert ebmctl.load(f"ada/toy@{first}").sha256() == sha256(model / "model.safetensors")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "/large/", "cut", 99, 500),
        Fault("PUT", "/large/", 500, 99),
        Fault("POST", "/commit/", 503, 99),
        Fault("POST", "/commit/", "cut", 99),
        Fault("POST", "/batch", 500, 99),
        Fault("POST", "/preupload/", 500, 99),
        Fault("POST", "/repos/create", 500, 99),
    ],
    ids=lambda fault: f"{fault.path}-{fault.what}",
)
def test_a_push_that_breaks_off_ends_whole_the_next_time(hub, here, model, fault):
    hub.faults = [fault]
    line = error_of("push", str(model), "ada/toy", "--samples", "0")
    assert "nothing is lost, try again" in line
    assert "model.safetensors" not in (hub.files("ada/toy") if hub.repos else {})
    hub.faults = []
    status, _, err = call("push", str(model), "ada/toy", "--samples", "0")
    assert status == 0, err
    assert ebmctl.load("ada/toy").sha256() == sha256(model / "model.safetensors")


def test_an_upload_that_is_cut_once_goes_on_by_itself(hub, here, model):
    hub.faults = [Fault("PUT", "/large/", "cut", 1, 500)]
    assert call("push", str(model), "ada/toy", "--samples", "0")[0] == 0
    assert "model.safetensors" in hub.files("ada/toy")


def test_wrong_uses_of_push(hub, here, model):
    for arguments, status, message in (
        ([str(model), "toy"], 2, "give USER/REPO"),
        ([str(model), "../toy"], 2, "give USER/REPO"),
        ([str(model), "ada/toy", "--samples", "-1"], 2, "--samples must be 0 or more"),
        (["nothing", "ada/toy"], 1, "there is no model 'nothing'"),
    ):
        found, out, err = call("push", *arguments)
        assert (found, out, message in err) == (status, "", True), err
    assert hub.requests == []
