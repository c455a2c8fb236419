"""The page of a run in headless Chromium: accessible, and no wider than the screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # pyright: ignore[reportMissingTypeStubs] - it has none
from playwright.sync_api import Browser, Page, sync_playwright
from whole_run import whole_run

from qefleet.reports.html import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH: install the system's package chromium"
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
WIDTHS = (390, 1280)
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(html(whole_run()))
    return path.as_uri()


def _opened(browser: Browser, address: str, *, width: int, scheme: Scheme) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    # The page itself runs no script; what looks at it does, and its policy would forbid that.
    page.goto(address)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_inaccessible(browser: Browser, address: str, width: int, scheme: Scheme) -> None:
    """axe-core finds no violation, with all that folds unfolded."""
    page = _opened(browser, address, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    found: Any = Axe().run(page)  # pyright: ignore[reportUnknownMemberType] - it has no types

    assert found.violations_count == 0, found.generate_report()
    assert "color-contrast" in [rule["id"] for rule in found.response["passes"]]
    page.close()


@pytest.mark.parametrize("width", [320, *WIDTHS])
def test_page_is_no_wider_than_the_screen(browser: Browser, address: str, width: int) -> None:
    """No scrolling sideways, folded or unfolded, however long a name is."""
    page = _opened(browser, address, width=width, scheme="light")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, address: str) -> None:
    """One request, for the page itself; the console stays empty."""
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))

    page.goto(address)

    assert asked == [address]
    assert said == []
    page.close()


def test_page_is_used_by_keyboard(browser: Browser, address: str) -> None:
    """The first stop skips to the report; what folds opens by a key, and focus is seen."""
    page = _opened(browser, address, width=1280, scheme="light")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    after = page.evaluate("document.activeElement.id")
    page.focus("#step-1 > summary")
    page.keyboard.press("Enter")

    assert first == "Skip to the report"
    assert after == "main"
    assert page.evaluate("document.querySelector('#step-1').open") is True
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.close()


def test_citation_unfolds_what_it_cites(browser: Browser, address: str) -> None:
    """A link to a finding in a closed group opens the group."""
    page = _opened(browser, address, width=1280, scheme="light")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")

    page.click("#judged a[href='#critical-1']")

    assert page.is_visible("#critical-1")
    page.close()
