"""The page of a model: what is on it, and that nothing from a file gets into its markup."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import ebmctl
from ebmctl.config.recipe import resolve
from ebmctl.errors import EbmctlError
from ebmctl.evaluation import paper_figures
from ebmctl.evaluation.curves import DARK, about, png
from ebmctl.evaluation.report.page import UNFIT, Page
from ebmctl.evaluation.report.pictures import Chart, Picture, chains_shown, some
from ebmctl.evaluation.results import Metric, QualityResult
from ebmctl.models import card
from ebmctl.models.metrics import Metrics
from ebmctl.models.zoo import PACKAGE
from tests.html_page import checked, quadratic, report_of, sections
from tests.test_cli import call

FEW = ["-n", "12", "--flow-steps", "2"]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBMCTL_DATA", str(tmp_path / "data"))
    return tmp_path


def result(*arguments: str, to: str) -> str:
    status, out, err = call(*arguments, "--json")
    assert status == 0, err
    Path(to).write_text(out)
    return to


def data_address(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def test_a_bundled_model_alone(workplace):
    status, out, err = call("evaluate", "digits", "--report", "report.html", *FEW, "--seed", "3")
    assert (status, out) == (0, ""), err
    page = checked(Path("report.html"))
    assert sections(page) == ["samples", "chain", "provenance", "commands"]
    assert "12 samples from one seed" in page.text
    assert "c3a7d3f4894b0a4a2b366e1dddb229552b5153746b4a5dc872f869175653446e" in page.text
    assert "Trained with ebmctl 0.1.0: 2048 steps" in page.text
    recipe = re.findall(r"<pre><code>(about = .*?)</code>", Path("report.html").read_text(), re.DOTALL)[0]
    Path("recipe.toml").write_text(html.unescape(recipe))
    assert resolve("digits", "recipe.toml", [], {}) == ebmctl.load("digits").recipe
    Path("recipe.toml").unlink()
    first = Path("report.html").read_bytes()
    call("evaluate", "digits", "--report", "report.html", *FEW, "--seed", "3")
    assert Path("report.html").read_bytes() == first
    assert [path.name for path in Path().iterdir()] == ["report.html"]


def test_its_samples_are_those_of_its_first_command(workplace):
    call("evaluate", "digits", "--report", "report.html", *FEW)
    command = re.findall(r"<pre><code>ebmctl (sample.*?)</code>", Path("report.html").read_text())[0]
    assert call(*command.split())[0] == 0
    source = checked(Path("report.html")).all("img")[0]["src"]
    mine = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
    theirs = Image.open("samples.png")
    assert mine.resize(theirs.size, Image.Resampling.NEAREST).tobytes() == theirs.tobytes()


def test_all_there_is_of_a_run(here, monkeypatch):
    """A run's curves, figures and results, and that the page's commands give its figures again."""
    monkeypatch.setattr(paper_figures, "DESCENT_STEPS", 2)
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "runs/mine")[0] == 0
    lines = Path("runs/mine/metrics.jsonl").read_text().splitlines()
    scored = [json.dumps({**json.loads(line), "eval_score": 1 / n, "extra": 1 / n}) for n, line in enumerate(lines, 1)]
    Path("runs/mine/metrics.jsonl").write_text("\n".join(scored))
    outliers = result("ood", "--in", "noise", "--out", "constant", "--model", "runs/mine", "-n", "20", to="out.json")
    Path("runs/mine/evaluation").mkdir()
    bits = ["--metrics", "bits", "-n", "10", "--levels", "3", "--chains", "2"]
    result("evaluate", str(here / "runs/mine/model"), *bits, to="runs/mine/evaluation/bits.json")
    arguments = ["runs/mine", *bits, "--figures", "figs", "--results", outliers, "--report", "deep/page.html"]
    status, out, err = call("evaluate", *arguments, "--json")
    assert status == 0, err
    assert json.loads(out)["report"] == "deep/page.html"
    page = checked(Path("deep/page.html"))
    assert sections(page) == [
        "samples", "chain", "training", "quality", "outliers", "figures", "provenance", "commands",
    ]  # fmt: skip
    assert str(here) not in Path("deep/page.html").read_text()
    assert page.text.count("bits_per_dimension") == 2
    assert "noise / constant" in page.text
    assert "Inception score, by the run's extractor" in page.text
    groups = Metrics.read(Path("runs/mine/metrics.jsonl")).groups()
    assert [image["alt"] for image in page.all("img") if " from step " in image["alt"]] == list(map(about, groups))
    assert "extra from step 1 to 6: extra ends at 0.1667" in map(about, groups)
    assert "energy difference, E(data) - E(samples)" in page.text
    assert len(page.all("img")) == 2 + len(groups) + len(json.loads(out)["figures"])
    dark = [source for source in page.all("source") if source["media"] == "(prefers-color-scheme: dark)"]
    assert [source["srcset"] for source in dark] == [data_address(png(g, DARK, titled=False)) for g in groups]
    first = Path("deep/page.html").read_bytes()
    assert call("evaluate", *arguments, "--json")[0] == 0
    assert Path("deep/page.html").read_bytes() == first
    commands = re.findall(r"<pre><code>(ebmctl .*?)</code>", Path("deep/page.html").read_text())
    assert [command.replace("&gt;", ">") for command in commands] == [
        "ebmctl sample mine -n 10 --seed 0 -o samples.png --chain chain.gif",
        "ebmctl evaluate mine --metrics bits -n 10 --levels 3 --chains 2 --json > bits.json",
        "ebmctl ood --in noise --out constant --model mine --n 20 --json > out.json",
        "ebmctl evaluate mine --metrics bits --figures figs --report page.html --results out.json -n 10 "
        "--levels 3 --chains 2 --json",
    ]


def test_composition(workplace):
    short = ["-n", "10", "--flow-steps", "1"]
    found = result("compose", "young", *short, "--check", to="c.json")
    status, _, err = call(
        "evaluate", "faces-young", "--label", "young", *short, "--results", found, "--report", "p.html"
    )
    assert status == 0, err
    page = checked(Path("p.html"))
    assert sections(page) == ["samples", "chain", "composition", "provenance", "commands"]
    assert "histogram distance" in page.text
    assert "ebmctl compose young -n 10 --flow-steps 1 --check --json > c.json" in page.text


def test_the_command_of_a_result(workplace):
    """Flags, repeated options, options of several forms, and where something is on this machine."""
    young = str(PACKAGE / "weights" / "faces-young")
    few = ["--flow-steps", "1", "-n", "1", "--set", "noise=0.5", "--set", "step_size=1"]
    given = ["not:mine", "--model", f"mine={young}", "--no-shared", "--out", str(workplace / "a b.png"), *few]
    status, out, err = call("compose", *given, "--debug", "--json")
    assert status == 0, err
    assert json.loads(out)["command"] == (
        "ebmctl compose not:mine -o 'a b.png' -n 1 --model mine=faces-young --no-shared --flow-steps 1 "
        "--set noise=0.5 --set step_size=1 --json"
    )


def test_results_of_something_else(workplace):
    found = json.loads(Path(result("ood", "--in", "digits", "--out", "noise", "-n", "20", to="ood.json")).read_text())
    for file, changed, words in (
        ("other.json", {**found, "model_sha256": "0" * 64}, "of a model with other weights"),
        ("half.json", {**found, "results": [{"out": "noise"}]}, "is not a complete result: results.auroc is"),
        ("text.json", {**found, "results": "none"}, "is not a complete result: results must be a list"),
        (
            "list.json",
            {"metrics": {"fid": 3}, "model_sha256": found["model_sha256"], "n": 1, "seed": 0},
            "not a complete",
        ),
        ("any.json", {"a": 1}, "is not the JSON of `ebmctl ood`, `evaluate` or `compose --check`"),
        ("models.json", {"attributes": {}, "models": []}, "is not a complete result"),
    ):
        Path(file).write_text(json.dumps(changed))
        status, out, err = call("evaluate", "digits", "--report", "report.html", *FEW, "--results", file)
        assert (status, out) == (1, ""), file
        assert words in err
        assert err.count("\n") == 1
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["digits", "--results", "x.json"], 2, "--results requires --report"),
        (["digits", "--report", "page.pdf"], 2, "the page's file name must end in .html"),
        (["digits", "--report", "file/page.html"], 1, "can't write file/page.html"),
        (["digits", "--report", "folder.html"], 1, "it is a folder"),
        (["digits", "--report", "a.html", "--results", "none.json"], 1, "can't read none.json"),
        (["digits", "--report", "a.html", "--label", "7"], 2, "this model is unconditional"),
        (["--compare", "a.json", "b.json", "--report", "a.html"], 2, "does not work with --compare"),
    ],
)
def test_errors_come_before_the_work(workplace, monkeypatch, arguments, status, words):
    monkeypatch.setattr("ebmctl.evaluation.evaluate.Evaluation.run", None)
    Path("file").write_text("")
    Path("folder.html").mkdir()
    found = call("evaluate", *arguments)
    assert (found[0], found[1]) == (status, ""), found[2]
    assert words in found[2]
    assert not Path("a.html").exists()


def test_half_a_page_is_none(workplace, monkeypatch):
    Path("page.html").write_text("the old one")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    status, _, err = call("evaluate", "digits", "--report", "page.html", *FEW)
    assert status == 1
    assert "can't write page.html: No space left on device" in err
    assert Path("page.html").read_text() == "the old one"
    assert [path.name for path in Path().iterdir()] == ["page.html"]


def test_some_of_the_frames():
    assert some(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert some([1, 2, 3], 6) == [1, 2, 3]
    assert some([1], 6) == [1]
    assert [chains_shown(size, size) for size in (16, 32, 64, 128, 256)] == [16, 16, 4, 1, 1]


def test_large_images_are_fewer():
    page = report_of(quadratic("", (), size=128), 100).page(QualityResult({}, command="ebmctl"))
    assert page.commands[0].startswith("ebmctl sample x -n 16 ")
    assert (page.samples.width, page.chain.width) == (4 * 129 + 1, 128)
    assert page.chain.alt == "1 chain from noise to images"
    assert "pixels" not in checked(page.html()).all("img")[0]["class"]


def test_paths_are_nobodys_business(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/00003-faces/model", "faces"):
        Path(folder).mkdir(parents=True)
    for reference, shown in {
        "digits": "digits",
        "faces": "faces",
        "": "",
        "ada/faces@v1": "ada/faces@v1",
        "runs/00003-faces": "00003-faces",
        "runs/00003-faces/model": "00003-faces",
        str(tmp_path / "runs/00003-faces/"): "00003-faces",
        "/nowhere/else": "else",
        "folder:/home/ada/pictures": "folder:DIR",
        "shards:x": "shards:DIR",
        "~smiling": "~smiling",  # NOT, no user's home folder
        "~nobody-of-this-name/x": "~nobody-of-this-name/x",
        "/no\0file": "no\0file",
        f"runs/file{'x' * 300}": f"file{'x' * 300}",
    }.items():
        assert card.public_reference(reference) == shown


SCRIPT, ATTRIBUTE = "<script>alert(1)</script>", '"><img src=//x onerror=a>'
HOSTILE = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    [SCRIPT, ATTRIBUTE, "'';!--\"<X>=&{()}", "</style></code></title>", "{{ 7 }}"]
)


@pytest.fixture(scope="module")
def pictures() -> Page:
    """A page without what comes from files."""
    made = quadratic("about", ())
    return report_of(made, 10).page(QualityResult({}, command="ebmctl"))


def charts(key: str) -> list[Chart]:
    """Charts of a key; what is drawn of it is tested elsewhere."""
    pictures = [Picture("data:,", 1, 1, about(g)) for g in Metrics([{"step": k, key: k} for k in range(3)]).groups()]
    return [Chart(picture.alt, picture, picture) for picture in pictures]


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@example(SCRIPT, ATTRIBUTE, SCRIPT, ATTRIBUTE)
@example(ATTRIBUTE, SCRIPT, ATTRIBUTE, SCRIPT)
@example("", "", "\0\ud800\x0b", "\x1b")
@settings(max_examples=60, deadline=None)
def test_what_comes_from_files_is_text(pictures, name, about, label, key):
    shown = replace(
        pictures,
        name=name,
        model=quadratic(about, (label,), {key: label}),
        curves=charts(f"{key}x"),
        results=[QualityResult({key: Metric(1.0, extractor=label, n=3, data=about, split=name)}, n=3)],
        commands=[f"ebmctl sample {name}"],
    )
    tame = replace(
        pictures,
        curves=charts("gradient"),
        results=[QualityResult({"a": Metric(1.0, low=0.5, high=2.0)}, n=3)],
    )
    page, plain = checked(shown.html()), checked(tame.html())
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    for text in (name, about, label):
        assert " ".join(UNFIT.sub("\ufffd", text).split()) in page.text


def test_a_label_that_is_missing(tmp_path):
    with pytest.raises(EbmctlError, match="this model is conditional"):
        report_of(quadratic("a", ("x", "y")), 10)
