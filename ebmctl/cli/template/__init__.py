"""The package that `ebmctl plugins new` writes; its files are in `files/`, with $name, $module and so on in them."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from ebmctl import __version__
from ebmctl.errors import EbmctlError, UsageError

FILES = (
    "module/sampler.py",
    "module/config.py",
    "module/__init__.py",
    "module/py.typed",
    "tests/test_sampler.py",
    "pyproject.toml",
    "README.md",
)


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package `ebmctl-NAME` into a new folder; returns the files, the one to edit first.

    Raises UsageError for a name that no package can have, EbmctlError where the folder exists or can't be made.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"a plugin's name must be lower-case letters and digits, separated by hyphens, not '{name}'")
    words = name.split("-")
    values = {
        "name": name,
        "module": "ebmctl_" + "_".join(words),
        "cls": "".join(word.capitalize() for word in words),
        "ebmctl": ".".join(__version__.split(".")[:2]),
    }
    source = resources.files("ebmctl.cli.template") / "files"
    try:
        folder.mkdir(parents=True)
        written = []
        for file in FILES:
            path = folder / file.replace("module/", values["module"] + "/")
            path.parent.mkdir(exist_ok=True)
            text = (source / f"{file}.in").read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(values), encoding="utf-8")
            written.append(path)
    except FileExistsError as error:
        raise EbmctlError(f"{folder} already exists; choose another --out") from error
    except OSError as error:
        raise EbmctlError(f"can't write {folder}: {error.strerror}") from error
    return written
