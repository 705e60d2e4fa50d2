"""A real browser: Debian's Chromium, driven by Playwright; what its pages did wrong is collected, and asserted on.

Its build without a desktop's windows is taken where it is installed: the same engine, at two thirds of the processor
time. To start it, and Playwright before it, costs more than most tests in it: both run for a module. While they do, no
event loop can be started on the same thread, so what needs one is done before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, ViewportSize, expect, sync_playwright

from tests.conftest import absent

_BUILDS: Final = (Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium"))
CHROMIUM: Final = next((path for path in _BUILDS if path.exists()), _BUILDS[-1])
PATIENCE_MS: Final = 40_000
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 900}
_ASKED: Final = "ZHIFU_PICTURES"
_ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # A process for each page would be another tenth of the time.
    "--renderer-process-limit=1", "--disable-site-isolation-trials", "--disable-extensions",
    "--disable-features=IsolateOrigins,site-per-process,Translate,MediaRouter",
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
    """A page of a browser; `faults` are its console errors, CSP violations and page errors."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page = page
        self.context = page.context
        self.faults: list[str] = []
        self._pictures = pictures
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def picture(self, name: str, *, whole: bool = True) -> None:
        """A screenshot in ``build/screenshots/``, where somebody asks for them: a third of what the browser does."""
        if _ASKED not in os.environ:
            return
        self._pictures.mkdir(parents=True, exist_ok=True)
        size = self.page.viewport_size or PHONE
        if whole:  # a window as tall as the page: what sticks to its edge covers nothing
            height = int(self.page.evaluate("document.documentElement.scrollHeight"))
            self.page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
        self.page.screenshot(path=self._pictures / f"{name}.png")
        if whole:
            self.page.set_viewport_size(size)

    def check_fit(self, name: str) -> None:
        """Nothing is wider than the window, on a phone and on a desktop; pictures of both."""
        for device, size in (("phone", PHONE), ("desktop", DESKTOP)):
            self.page.set_viewport_size(size)
            assert not self._is_wide(), (name, device)
            kind, _, language = name.rpartition("-")
            self.picture(f"{kind}-{device}-{language}")

    def _is_wide(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


class Device:
    """A browser with a profile on disk, which outlives `restart`; it runs for as long as its player does."""

    def __init__(self, player: Playwright, profile: Path, pictures: Path) -> None:
        self._player = player
        self._profile = profile
        self._pictures = pictures
        self._context = self._start()

    def _start(self) -> BrowserContext:
        home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(self._profile))
        context = self._player.chromium.launch_persistent_context(
            self._profile, executable_path=CHROMIUM, args=_ARGUMENTS, accept_downloads=True, env={**os.environ, **home},
            viewport=PHONE, locale="zh-CN",
        )  # fmt: skip
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        context.add_init_script(_WATCH)
        return context

    def restart(self) -> None:
        """The process ends, and another one opens the profile."""
        self.close()
        self._context = self._start()

    def close(self) -> None:
        self._context.close()

    @contextmanager
    def open(self, *, scripts: bool = True) -> Iterator[Watched]:
        """A page, which is closed after the block, and with it what stood between it and the network."""
        page = self._context.new_page()
        if not scripts:
            session = self._context.new_cdp_session(page)
            session.send("Emulation.setScriptExecutionDisabled", {"value": True})
        try:
            yield Watched(page, self._pictures)
        finally:
            page.close()
            self._context.unroute_all()


@contextmanager
def playing() -> Iterator[Playwright]:
    """What starts browsers, until the end of the block; they end with it."""
    need_chromium()
    with sync_playwright() as player:
        yield player


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium that keeps nothing on disk, for pages and contexts of one's own."""
    with playing() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()
