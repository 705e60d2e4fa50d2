"""A real browser: Debian's Chromium, driven by Playwright; what its pages did wrong is collected, and asserted on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import absent

CHROMIUM: Final = Path("/usr/bin/chromium")
PATIENCE_MS: Final = 40_000
PHONE: Final = {"width": 390, "height": 844}
DESKTOP: Final = {"width": 1280, "height": 900}
_ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_WATCH: Final = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.violatedDirective} ${event.blockedURI}`));
"""


def need_chromium() -> None:
    """Skip, or in CI fail, where there is no Chromium."""
    if not CHROMIUM.exists():
        absent(str(CHROMIUM))


class Watched:
    """A browser with a profile of its own on disk; `faults` are console errors, CSP violations and page errors."""

    def __init__(self, context: BrowserContext, pictures: Path) -> None:
        self.context = context
        self.faults: list[str] = []
        self._pictures = pictures
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        context.add_init_script(_WATCH)
        context.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        context.on("weberror", lambda fault: self.faults.append(str(fault.error)))
        self.page: Page = context.pages[0] if context.pages else context.new_page()

    def picture(self, name: str, *, whole: bool = True) -> None:
        """A screenshot for whoever reads a test run: ``build/screenshots/``."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        size = self.page.viewport_size or PHONE
        if whole:  # a window as tall as the page: what sticks to its edge covers nothing
            height = int(self.page.evaluate("document.documentElement.scrollHeight"))
            self.page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
        self.page.screenshot(path=self._pictures / f"{name}.png")
        self.page.set_viewport_size({"width": size["width"], "height": size["height"]})

    def wide(self) -> bool:
        """Whether the page is wider than its window: on a phone that is a fault."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium that keeps nothing on disk, for pages and contexts of one's own."""
    need_chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def browser(profile: Path, pictures: Path, **options: Any) -> Iterator[Watched]:
    """Chromium with the profile in this folder: what it keeps outlives the block."""
    need_chromium()
    home = {"HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_ARGUMENTS, accept_downloads=True,
            env={**os.environ, **home}, **{"viewport": PHONE, "locale": "zh-CN", "device_scale_factor": 2, **options},
        )  # fmt: skip
        try:
            yield Watched(context, pictures)
        finally:
            context.close()
