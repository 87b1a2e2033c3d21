"""Write each page of docs/reference/ whose generated parts are out of date, and name it."""

from __future__ import annotations

import sys

from . import PAGES, render

for page in PAGES:
    old = page.read_text(encoding="utf-8")
    new = render(old)
    if new != old:
        page.write_text(new, encoding="utf-8")
        sys.stdout.write(f"{page.name} written\n")
