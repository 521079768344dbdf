"""`python -m docs.generate`: brings the pages up to date, and says which have changed."""

from __future__ import annotations

import os

os.environ["EBMCTL_PLUGINS"] = ""  # what ships, whatever is installed here

from docs.generate import pages, remade

for path in pages():
    before = path.read_text(encoding="utf-8")
    after = remade(before)
    if after != before:
        path.write_text(after, encoding="utf-8")
        print(f"changed: {path.relative_to(path.parents[1])}")
