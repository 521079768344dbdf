"""The page of a model in headless Chromium."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ebmctl.evaluation.curves import DARK, LIGHT
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.report.page import Report
from ebmctl.evaluation.results import Metric, QualityResult
from tests.html_page import checked, quadratic, sections

WIDTHS = (360, 768, 1280)


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
    made = quadratic("a" * 200, (), {"note": "n" * 300})
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
    (folder / "metrics.jsonl").write_text(
        "\n".join(json.dumps({"step": k, "energy_data": k, "energy_samples": -k, "gradient": 1 / k, "x" * 90: k})
                  for k in range(1, 500))
    )  # fmt: skip
    results, metrics = [folder / "ood.json", folder / "compose.json"], folder / "metrics.jsonl"
    drawn = Generation(made.recipe.sampling_plan(), 12)
    report = Report(made, "a-model-whose-name-goes-on-" * 6, drawn, results, metrics)
    values = {"value": 3.0, "extractor": "inception", "n": 9, "n_real": 9, "data": "cifar10", "split": "train"}
    Image.new("RGB", (1500, 600), "white").save(folder / "chains.png")
    page = report.page(
        QualityResult(
            {"fid" * 30: Metric(**values)},
            n=12,
            figures=(str(folder / "chains.png"),),
            command="ebmctl evaluate " + "x" * 400,
        )
    )
    report.write(folder / "page.html", page)
    assert len(sections(checked(folder / "page.html"))) == 9
    return folder / "page.html"


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
            for what in (["body", "backgroundColor"], ["body", "color"], [".note", "color"])
        ]
        context.close()
    assert not set(seen["light"]) & set(seen["dark"])
    for paper, *inks in seen.values():
        assert all(contrast(paper, ink) >= 4.5 for ink in inks)  # WCAG's AA


def test_curves_are_those_of_the_scheme_and_readable(browser, whole_page):
    """In light and in dark the text and the lines of a chart stand out from the page that shines through it."""
    for scheme, look in (("light", LIGHT), ("dark", DARK)):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(whole_page.as_uri())
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert all(contrast(paper, rgb(ink)) >= 4.5 for ink in (look.text, *look.lines))
        page.evaluate("document.querySelector('.chart img').style.maxWidth = 'none'")
        chart = np.asarray(Image.open(io.BytesIO(page.locator(".chart img").first.screenshot())).convert("RGB"))
        assert rgb(chart[-8, 8]) == paper  # the corners are round
        near = np.abs(chart.astype(int) - parts(look.lines[0])).max(-1) < 24
        assert near.sum() > 200
        context.close()


def parts(colour: str) -> list[int]:
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


def rgb(colour: str | Sequence[int]) -> str:
    red, green, blue = parts(colour) if isinstance(colour, str) else colour
    return f"rgb({red}, {green}, {blue})"


def test_chains_rest_where_motion_is_unwanted(browser, whole_page):
    for motion, kind in {"no-preference": "data:image/gif", "reduce": "data:image/png"}.items():
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto(whole_page.as_uri())
        assert page.evaluate("document.querySelector('#chain img').currentSrc").startswith(kind)
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
