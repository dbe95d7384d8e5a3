"""Chromium, the one that PALM_CHROMIUM names or else Playwright's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, closed afterwards."""
    with sync_playwright() as playwright:
        path = os.environ.get("PALM_CHROMIUM") or None
        found = playwright.chromium.launch(executable_path=path)
        try:
            yield found
        finally:
            found.close()
