"""A page as its reader meets it, with the checks that every page passes."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import torch

from ebmctl.config.recipe import resolve
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.report.page import Report
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import Model
from tests.core.quadratic import Quadratic

VOID = {"meta", "link", "img", "source", "br"}


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


def quadratic(about: str, labels: tuple[str, ...], provenance: dict[str, str] | None = None, size: int = 4) -> Model:
    """A model of small grey images whose recipe and provenance say what is given."""
    recipe = resolve(
        "noise", None, [f"data.size={size}", "data.channels=1", "sampling.rounds=1", "sampling.steps=1"], {}
    )
    config = ModelConfig(replace(recipe, about=about), labels, provenance or {})
    return Model(config, Quadratic(1.0, torch.full((1, size, size), 0.5)))


def report_of(model: Model, n: int) -> Report:
    """A page of a model in the making, of n samples by its own recipe and no results."""
    return Report(model, "x", Generation(model.recipe.sampling_plan(), n), [], None)
