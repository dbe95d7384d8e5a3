"""The site as it was built: its links, what it asks of other hosts, who can read it."""

from __future__ import annotations

import os
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

EXTERNAL = os.environ.get("PALM_EXTERNAL_LINKS") == "1"
LONGEST = "reference/palm_core/"
PAGES = (
    "",
    "tutorials/select-from-a-table/",
    "explanation/algorithm/",
    LONGEST,
    "reference/command-line/",
)


class Links(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.to: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.ids.append(value)
            elif name == "href":
                self.to.append(value)
                if tag == "link" and dict(attrs).get("rel") in ("stylesheet", "icon", "preload"):
                    self.loaded.append(value)
            elif name in ("src", "srcset", "data"):
                self.to.append(value)
                self.loaded.append(value)


@pytest.fixture(scope="module")
def links(site: Path) -> dict[str, Links]:
    """Every page of the site, by its path in it."""
    found = {}
    for page in site.rglob("*.html"):
        found[page.relative_to(site).as_posix()] = Links()
        found[page.relative_to(site).as_posix()].feed(page.read_text(encoding="utf-8"))
    assert len(found) > 20
    return found


def test_every_link_and_anchor_and_picture_is_there(site: Path, links: dict[str, Links]) -> None:
    wrong = []
    for page, inside in links.items():
        # the page of errors stands anywhere, so its links begin at the root
        for link in inside.to if page != "404.html" else ():
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|//", link):
                continue
            name = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path)))
            if not path:
                name = page
            elif (site / name).is_dir():
                name = posixpath.normpath(posixpath.join(name, "index.html"))
            there = (site / name).is_file()
            if not there or (anchor and name in links and unquote(anchor) not in links[name].ids):
                wrong.append(f"{page}: {link}")
    assert wrong == []


def test_ids_are_unique(links: dict[str, Links]) -> None:
    for page, inside in links.items():
        twice = {one for one in inside.ids if inside.ids.count(one) > 1}
        assert not twice, page


def test_nothing_is_loaded_from_elsewhere(site: Path, links: dict[str, Links]) -> None:
    for page, inside in links.items():
        assert [url for url in inside.loaded if re.match(r"https?:|//", url)] == [], page
    for file in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        assert not re.search(r"url\([\"']?(https?:)?//", file.read_text(encoding="utf-8")), file


def test_links_to_elsewhere_are_safe(links: dict[str, Links]) -> None:
    outside = {url for one in links.values() for url in one.to if re.match(r"[a-z]+:|//", url)}
    outside -= {url for url in outside if url.startswith("mailto:")}
    assert outside
    for url in sorted(outside):
        parts = urlsplit(url)
        assert parts.scheme == "https", url
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or ""), url
        if EXTERNAL:
            answer = requests.get(url, timeout=30, headers={"User-Agent": "Mozilla/5.0"})
            assert answer.ok, f"{url}: {answer.status_code}"


@pytest.fixture
def show(browser: Browser, address: str):
    """Open a page; a message, an error, or a request to another host makes the test fail."""
    wrong: list[str] = []
    contexts = []

    def show(path: str, **options: object) -> Page:
        contexts.append(browser.new_context(reduced_motion="reduce", **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))

        def watch(route) -> None:
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                wrong.append(f"request: {route.request.url}")
                route.abort()

        page.route("**/*", watch)
        answer = page.goto(address + path, wait_until="networkidle")
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


# What differs in the dark is colours, and all pages have those of one style sheet; the longest
# page of the reference takes most of a minute, and is made as the shortest.
QUICK = [*(("light", path) for path in PAGES if path != LONGEST), ("dark", "")]
QUICK += [("light", "reference/palm_trl/")]
LONG = [(scheme, path) for scheme in ("light", "dark") for path in PAGES]


@pytest.mark.parametrize(
    ("scheme", "path"),
    [
        *QUICK,
        *(pytest.param(*two, marks=pytest.mark.scheduled) for two in LONG if two not in QUICK),
    ],
)
def test_a_page_is_quiet_and_accessible(show, scheme: str, path: str) -> None:
    # The theme's script puts each button that copies code into a landmark without a name.
    rules = {"rules": {"landmark-unique": {"enabled": False}}}
    found = Axe().run(show(path, color_scheme=scheme), options=rules)
    assert found.violations_count == 0, found.generate_report()


def test_a_phone_needs_no_sideways_scrolling(show) -> None:
    for path in PAGES:
        page = show(path, viewport={"width": 360, "height": 740})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{path} is {wide} wide"


def test_search_finds_a_function(show) -> None:
    page = show("")
    page.get_by_role("textbox", name="Search").first.click()
    page.keyboard.type("gap_frontier")
    page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    assert "reference/palm_core/" in (
        page.locator(".md-search-result__link").first.get_attribute("href") or ""
    )


def test_pictures_of_the_build_are_shown(site: Path) -> None:
    shown = set()
    for page in site.rglob("*.html"):
        shown.update(re.findall(r"made/[\w/-]+\.(?:svg|png)", page.read_text(encoding="utf-8")))
    assert "made/select.svg" in shown
