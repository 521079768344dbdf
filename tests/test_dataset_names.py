"""A dataset's name, taken apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmctl.config.dataset import DatasetName
from ebmctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "source", "public", "slug"),
    [
        ("digits", "registered", "digits", "digits", "digits"),
        ("flipped:digits", "registered", "digits", "flipped:digits", "digits"),
        ("folder:pictures/my cats", "folder", "pictures/my cats", "folder", "my-cats"),
        ("folder:C:/x", "folder", "C:/x", "folder", "x"),
        ("flipped:folder:/home/ada/x", "folder", "/home/ada/x", "flipped:folder", "x"),
        ("shards:out/", "shards", "out/", "shards", "out"),
        ("folder:..", "folder", "..", "folder", "run"),
        ("folders:x", "registered", "folders:x", "folders:x", "folders-x"),
    ],
)
def test_taken_apart(text, kind, source, public, slug):
    name = DatasetName.parse(text)
    assert (name.kind, name.source, name.flipped) == (kind, source, text.startswith("flipped:"))
    assert (name.public, name.slug, str(name)) == (public, slug, text)


@given(st.text(max_size=40))
def test_any_text_has_a_name_that_says_it_again(text):
    name = DatasetName.parse(text)
    assert str(name) == text
    assert DatasetName.parse(str(name)) == name
    assert name.slug
    assert not set(name.slug) & set("/\\. :")
    assert name.kind == "registered" or name.source not in name.public or name.source in "flipped:foldershards"


def test_what_is_known_of_it(tmp_path):
    objects = DatasetName.parse("flipped:objects")
    assert (objects.native_shape, objects.recipe, objects.offline) == ((32, 3), "faces", True)
    assert (DatasetName.parse("digits").recipe, DatasetName.parse("noise").native_shape) == ("digits", None)
    cifar = DatasetName.parse("cifar100")
    assert (cifar.recipe, cifar.offline) == ("cifar10", False)
    (tmp_path / "index.json").write_text(json.dumps({"shape": [1, 20, 20]}))
    shards = DatasetName.parse(f"shards:{tmp_path}")
    assert (shards.native_shape, shards.recipe, shards.offline) == ((20, 1), "default", False)
    (tmp_path / "index.json").write_text("[")
    assert shards.native_shape is None
    assert DatasetName.parse("folder:cifar10").recipe == "default"  # a folder of that name is no dataset of ours


def test_only_registered_names_can_be_unknown():
    for text in ("folder:nowhere", "shards:nowhere", "flipped:digits"):
        assert DatasetName.parse(text).checked() == DatasetName.parse(text)
    with pytest.raises(UsageError, match="unknown dataset 'digit': did you mean 'digits'"):
        DatasetName.parse("flipped:digit").checked()
