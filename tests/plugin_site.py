"""Installed packages that hold plugins."""

from __future__ import annotations

from pathlib import Path

from ebmctl.config import plugins, registry

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
