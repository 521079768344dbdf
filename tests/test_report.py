"""The page of a model: what is on it, that nothing from a file gets into its markup, and how a browser shows it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmctl import card
from ebmctl.checkpoint import ModelConfig
from ebmctl.errors import EbmctlError
from ebmctl.evaluation import paper_figures
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.report.curves import BOTTOM, LEFT, POINTS, RIGHT, TOP, charts, round_numbers
from ebmctl.evaluation.report.page import Report
from ebmctl.evaluation.report.pictures import chains_shown, some
from ebmctl.evaluation.report.results import read_results
from ebmctl.evaluation.report.results import quality as quality_result
from ebmctl.model import Model
from ebmctl.recipe import resolve
from tests.core.quadratic import Quadratic
from tests.test_cli import call

FEW = ["-n", "12", "--flow-steps", "2"]
VOID = {"meta", "link", "img", "source", "path", "polyline", "br"}
WIDTHS = (360, 768, 1280)


class Read(HTMLParser):
    """Everything that a page says, and that its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), attrs
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def checked(path: Path | str) -> Read:
    """A page that is well-formed, needs nothing else, and tells of its pictures in words."""
    page = Read(path.read_text(encoding="utf-8") if isinstance(path, Path) else path)
    addresses = [a for _, attrs in page.elements for k in ("src", "srcset", "href") if (a := attrs.get(k)) is not None]
    assert all(re.match(r"data:|#", address) for address in addresses)
    assert not {"script", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    assert not any(key.startswith("on") or key == "style" for _, attrs in page.elements for key in attrs)
    assert all(picture["alt"] for picture in page.all("img"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} == set(ids)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert page.all("html") == [{"lang": "en"}]
    return page


def sections(page: Read) -> list[str]:
    return [attrs["id"] for attrs in page.all("section")]


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


def test_a_bundled_model_alone(workplace):
    status, out, err = call("evaluate", "digits", "--report", "report.html", *FEW, "--seed", "3")
    assert (status, out) == (0, ""), err
    page = checked(Path("report.html"))
    assert sections(page) == ["samples", "chain", "provenance", "commands"]
    assert "12 images of one seed" in page.text
    assert "c3a7d3f4894b0a4a2b366e1dddb229552b5153746b4a5dc872f869175653446e" in page.text
    assert "Trained by ebmctl 0.1.0: 2048 steps" in page.text
    assert 'name = "digits"' in page.text  # the recipe
    first = Path("report.html").read_bytes()
    call("evaluate", "digits", "--report", "report.html", *FEW, "--seed", "3")
    assert Path("report.html").read_bytes() == first
    assert os.listdir() == ["report.html"]


def test_its_samples_are_those_of_its_first_command(workplace):
    from PIL import Image

    call("evaluate", "digits", "--report", "report.html", *FEW)
    command = re.findall(r"<code>ebmctl (sample.*?)</code>", Path("report.html").read_text())[0]
    assert call(*command.split())[0] == 0
    source = checked(Path("report.html")).all("img")[0]["src"]
    import base64
    import io

    mine = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")
    theirs = Image.open("samples.png")
    assert mine.resize(theirs.size, Image.Resampling.NEAREST).tobytes() == theirs.tobytes()


def test_all_there_is_of_a_run(here, monkeypatch):
    """A run's curves, figures and results, and that the page's commands give its figures again."""
    monkeypatch.setattr(paper_figures, "DESCENT_STEPS", 2)
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "runs/mine")[0] == 0
    lines = Path("runs/mine/metrics.jsonl").read_text().splitlines()
    scored = [json.dumps({**json.loads(line), "eval_score": 1 / n}) for n, line in enumerate(lines, 1)]
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
    assert "score, evaluated while training" in page.text
    assert "energy difference, E(data) - E(samples)" in page.text
    assert len(page.all("img")) == 2 + len(json.loads(out)["figures"])
    commands = re.findall(r"<code>(ebmctl .*?)</code>", Path("deep/page.html").read_text())
    assert [c.replace("&gt;", ">") for c in commands[1:]] == [
        "ebmctl evaluate mine --metrics bits -n 10 --levels 3 --chains 2 --json > bits.json",
        "ebmctl ood --in noise --out constant --model mine -n 20 --json > out.json",
        "ebmctl train DATASET --recipe recipe.toml",
        "ebmctl evaluate mine --metrics bits --figures figs --report page.html --results out.json -n 10 "
        "--levels 3 --chains 2 --json",
    ] or commands


def test_composition(workplace):
    short = ["-n", "10", "--flow-steps", "1"]
    found = result("compose", "young AND smiling".split()[0], *short, "--check", to="c.json")
    status, _, err = call("evaluate", "faces-young", "--label", "young", *short, "--results", found, "--report", "p.html")
    assert status == 0, err
    page = checked(Path("p.html"))
    assert sections(page) == ["samples", "chain", "composition", "provenance", "commands"]
    assert "histogram distance" in page.text
    assert "ebmctl compose young -n 10 --flow-steps 1 --check --json > c.json" in page.text


def test_results_of_something_else(workplace):
    found = json.loads(Path(result("ood", "--in", "digits", "--out", "noise", "-n", "20", to="ood.json")).read_text())
    for file, changed, words in (
        ("other.json", {**found, "model_sha256": "0" * 64}, "of a model with other weights"),
        ("half.json", {**found, "average": {}}, "is not the whole JSON of a result: KeyError('auroc')"),
        ("text.json", {**found, "results": "none"}, "is not the whole JSON of a result"),
        ("list.json", {"metrics": {"fid": 3}, "model_sha256": found["model_sha256"], "n": 1, "seed": 0}, "not the whole"),
        ("any.json", {"a": 1}, "is not the JSON of `ebmctl ood`, `evaluate` or `compose --check`"),
        ("models.json", {"attributes": {}, "models": []}, "is not the whole JSON of a result"),
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
        (["digits", "--results", "x.json"], 2, "--results goes with --report"),
        (["digits", "--report", "page.pdf"], 2, "the page's name ends in .html"),
        (["digits", "--report", "file/page.html"], 1, "can't write file/page.html"),
        (["digits", "--report", "folder.html"], 1, "it is a folder"),
        (["digits", "--report", "a.html", "--results", "none.json"], 1, "can't read none.json"),
        (["digits", "--report", "a.html", "--label", "7"], 2, "this model is unconditional"),
        (["--compare", "a.json", "b.json", "--report", "a.html"], 2, "not with --compare"),
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
    assert os.listdir() == ["page.html"]


def points(line) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.points.split()]


def test_a_curve_is_where_its_values_are():
    (chart,) = charts([{"step": 10 * k, "loss_x": 5.0 - k, "phase": 0, "note": "a", "on": True} for k in range(11)])
    (line,) = chart.lines
    assert points(line) == [
        (pytest.approx(LEFT + (RIGHT - LEFT) * k / 10, abs=0.06), pytest.approx(TOP + (BOTTOM - TOP) * k / 10, abs=0.06))
        for k in range(11)
    ]
    assert [tick.text for tick in chart.across] == ["0", "20", "40", "60", "80", "100"]
    assert {tick.text: tick.at for tick in chart.up}["0"] == pytest.approx((TOP + BOTTOM) / 2, abs=0.06)
    assert chart.about == "loss x from step 0 to 100: loss_x ends at -5"


def test_many_steps_are_averaged():
    noisy = [{"step": k, "loss_x": k % 2} for k in range(1, 100_001)]
    (chart,) = charts([*noisy, {"step": 5, "event": "rollback", "loss_x": 1e9}, {"step": 7, "loss_x": math.nan}])
    (line,) = chart.lines
    assert len(points(line)) == POINTS
    (gradients,) = charts({"step": k, "gradient": 10.0**-k, "gradient_cd": 1.0} for k in range(1, 9))
    assert [line.name for line in gradients.lines] == ["all", "cd"]
    assert gradients.title.endswith("(logarithmic)")
    assert [tick.text for tick in gradients.up] == ["1e-08", "1e-06", "0.0001", "0.01", "1"]
    steps = [x for x, _ in points(gradients.lines[0])]
    heights = [y for _, y in points(gradients.lines[0])]
    assert heights == pytest.approx([TOP + (BOTTOM - TOP) * k / 8 for k in range(1, 9)], abs=0.06)
    assert steps == sorted(steps)


VALUES = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=2), st.none(), st.lists(st.floats()))


@given(st.lists(st.fixed_dictionaries({"step": VALUES, "energy_x": VALUES, "gradient": VALUES}), max_size=9))
@settings(max_examples=150, deadline=None)
def test_any_metrics_give_charts_or_none(lines):
    for chart in charts(lines):
        for line in chart.lines:
            assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points(line))
        assert len(chart.up) < 20
        assert len(chart.across) < 20


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_round_numbers(low, width):
    found = round_numbers(low, low + width, 4)
    assert all(low - 1e-3 * width <= number <= low + 1.001 * width for number in found)
    assert 1 <= len(found) <= 9


def test_some_of_the_frames():
    assert some(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert some([1, 2, 3], 6) == [1, 2, 3]
    assert some([1], 6) == [1]
    assert [chains_shown(size, size) for size in (16, 32, 64, 128, 256)] == [16, 16, 4, 1, 1]


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
    }.items():
        assert card.public_reference(reference) == shown


HOSTILE = st.text(max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=//x onerror=a>', "'';!--\"<X>=&{()}", "</style></code></title>", "{{ 7 }}"]
)


@pytest.fixture(scope="module")
def pictures():
    made = quadratic("about", ())
    return Report(made, "x", Generation(10), [], None).page({}, [], "ebmctl")


def quadratic(about: str, labels: tuple[str, ...], provenance: dict[str, str] | None = None) -> Model:
    recipe = resolve("noise", None, ["data.size=4", "data.channels=1", "sampling.rounds=1", "sampling.steps=1"], {})
    from dataclasses import replace

    config = ModelConfig(replace(recipe, about=about), labels, provenance or {})
    return Model(config, Quadratic(1.0, torch.full((1, 4, 4), 0.5)))


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@settings(max_examples=60, deadline=None)
def test_what_comes_from_files_is_text(pictures, name, about, label, key):
    from dataclasses import replace

    shown = replace(
        pictures,
        name=name,
        model=quadratic(about, (label,), {key: label}),
        curves=charts({"step": k, f"{key}x": k} for k in range(3)),
        results=[quality_result({key: {"value": 1.0, "extractor": label, "n": 3, "data": about, "split": name}}, name)],
        commands=[f"ebmctl sample {name}"],
    )
    page, plain = checked(shown.html()), checked(pictures.html())
    extra = [tag for tag, _ in page.elements]
    for tag, _ in plain.elements:
        extra.remove(tag)
    assert set(extra) <= {
        "a", "section", "h2", "h3", "div", "table", "thead", "tbody", "tr", "th", "td", "small", "dt", "dd",
        "figure", "figcaption", "svg", "path", "text", "polyline", "p",
    }  # fmt: skip
    for text in (name, about, label):
        assert " ".join(text.replace("\0", "\ufffd").split()) in page.text


@pytest.fixture(scope="module")
def browser():
    """Chromium by Playwright: the machine's own, or the one that `playwright install chromium` brought."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright, of the dev extra, is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-gpu", "--no-first-run"]
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has no sandbox
    with api.sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=path, args=[*quiet, *root])
        except api.Error as error:
            if path or os.environ.get("CI"):
                raise
            pytest.skip(f"no Chromium: install one, or run `playwright install chromium` ({error.message[:60]})")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory) -> Path:
    """A page with every section, whose names and tables are as wide as they come."""
    folder = tmp_path_factory.mktemp("page")
    made = quadratic("a" * 200, tuple(f"a label that is long {k}" for k in range(30)), {"note": "n" * 300})
    report = Report(made, "a-model-whose-name-goes-on-" * 6, Generation(12), [], None)
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    rows = [{"out": f"set-{k}" * 6, "auroc": interval, "aupr_in": interval, "aupr_out": interval, "fpr95": interval,
             "n_in": 10_000, "n_out": 26_032} for k in range(3)]  # fmt: skip
    average = {"auroc": 0.5, "aupr_in": 0.5, "aupr_out": 0.5, "fpr95": 0.5}
    ood = {"in": "cifar10", "score": "energy", "results": rows, "average": average, "model_sha256": None}
    ood["command"] = "ebmctl ood --in cifar10 " + "--out svhn " * 12 + "--json"
    compose = {"models": {"a": None}, "expression": "a & ~(b | c) & " * 9 + "a", "seed": 0, "n": 64, "held_out": 9,
               "attributes": {"a": {"accuracy": interval}}, "joint": interval, "diversity": None,
               "classifier": {"dataset": "faces"}, "look": {"sharpness": {"composed": 1.0, "data": 1.0}}}  # fmt: skip
    for name, document in {"ood": ood, "compose": compose}.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    report.results = read_results([folder / "ood.json", folder / "compose.json"], None)
    (folder / "metrics.jsonl").write_text(
        "\n".join(json.dumps({"step": k, "energy_data": k, "energy_samples": -k, "gradient": 1 / k, "x" * 90: k})
                  for k in range(1, 500))
    )  # fmt: skip
    report.run_metrics = folder / "metrics.jsonl"
    values = {"value": 3.0, "extractor": "inception", "n": 9, "n_real": 9, "data": "cifar10", "split": "train"}
    from PIL import Image

    Image.new("RGB", (1500, 600), "white").save(folder / "chains.png")
    page = report.page({"fid" * 30: values}, [str(folder / "chains.png")], "ebmctl evaluate " + "x" * 400)
    report.write(folder / "page.html", page)
    assert len(sections(checked(folder / "page.html"))) == 9
    return folder / "page.html"


@pytest.mark.slow
def test_in_chromium(browser, whole_page):
    """Nothing is fetched or complained of, nothing overflows, and light and dark differ and are readable."""
    seen = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        asked, said = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(whole_page.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll *') && "
            wide += "e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"
            assert page.evaluate(wide) == [], width
            assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), width
            loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 1)"
            assert page.evaluate(loaded)
        assert {url.partition(":")[0] for url in asked if url != whole_page.as_uri()} <= {"data"}
        assert said == []
        colour = "(([e, p]) => getComputedStyle(document.querySelector(e))[p])"
        seen[scheme] = [
            page.evaluate(f"{colour}({json.dumps(what)})")
            for what in (["body", "backgroundColor"], ["body", "color"], [".note", "color"], ["polyline", "stroke"])
        ]
        context.close()
    assert not set(seen["light"]) & set(seen["dark"])
    for paper, *inks in seen.values():
        assert all(contrast(paper, ink) >= 4.5 for ink in inks)  # WCAG's AA


@pytest.mark.slow
def test_chains_rest_where_motion_is_unwanted(browser, whole_page):
    for motion, kind in {"no-preference": "data:image/gif", "reduce": "data:image/png"}.items():
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto(whole_page.as_uri())
        assert page.evaluate("document.querySelector('picture img').currentSrc").startswith(kind)
        context.close()


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, "rgb(r, g, b)", as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast():
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)


def test_a_label_that_is_missing(tmp_path):
    with pytest.raises(EbmctlError, match="this model is conditional"):
        Report(quadratic("a", ("x", "y")), "x", Generation(10), [], None)
