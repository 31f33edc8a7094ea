"""The page in a browser of its own: a server in a process, and Chromium that drives it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Debian's, and what others call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium():
    """Where Chromium is.

    Raises:
        AssertionError: nowhere; a browser test that does not run must not look as if it had.
    """
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    assert found, "these tests need Chromium: apt-get install chromium (leave them out: pytest -m 'not browser')"
    return found


@contextmanager
def server(folder: Path, *arguments: object):
    """`muybridge studio` on a free port; gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "MUYBRIDGE_JOBS": str(folder / "jobs"), "MUYBRIDGE_CACHE": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "muybridge.cli.main", "studio", "--port", "0", *map(str, arguments)],
        cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", (folder / "server.log").read_text())):
            assert process.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@contextmanager
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield opened
        finally:
            opened.close()


class Reader:
    """Someone in a browser of their own (cookies, files), and everything that their page asked for.

    Attributes:
        page: Playwright's.
        asked: every address.
        faults: of the page's scripts.
    """

    def __init__(self, opened, address: str):
        self.address, self.asked, self.faults = address, [], []
        self.context = opened.new_context(viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector(".make-generate", timeout=60_000)

    def tab(self, *names: str):
        for name in names:
            self.page.get_by_role("tab", name=name, exact=True).click()

    def fill(self, field: str, text: object):
        """The visible box of a setting."""
        box = self.page.locator(f".field-{field} input, .field-{field} textarea").locator("visible=true").first
        box.fill(str(text))
        box.press("Tab")
        assert box.input_value() == str(text), f"{field}: {text!r} was typed, {box.input_value()!r} stands there"

    def choose(self, which: str, text: str):
        """Open a list and take one of what it offers."""
        self.page.locator(f".{which} input").locator("visible=true").first.click()
        self.page.get_by_role("option", name=text, exact=True).click()

    def unfold(self):
        """Show the settings that are folded away. Gradio draws them when they are first shown, and empties them once
        more in the next moment: what a program types there at once is lost, which no reader is quick enough for."""
        before = self.page.evaluate(SHOWN)
        self.page.get_by_role("button", name="More settings").locator("visible=true").first.click()
        self.page.wait_for_function(f"before => ({SHOWN})() > before", arg=before)
        time.sleep(0.5)

    def press(self, which: str):
        self.page.locator(f"button.{which}").locator("visible=true").first.click()

    def text(self, which: str) -> str:
        return self.page.locator(f".{which}").first.inner_text()

    def until(self, which: str, words: str, seconds: float = 60):
        """Wait for words.

        Raises:
            AssertionError: with what the page says instead, what its fields hold and what it asked for last.
        """
        from playwright.sync_api import TimeoutError as Late

        try:
            self.page.wait_for_function(
                "([which, words]) => document.querySelector(which)?.innerText.includes(words)",
                arg=[f".{which}", words], timeout=1000 * seconds,
            )  # fmt: skip
        except Late:
            asked = [url.removeprefix(self.address) for url in self.asked[-8:]]
            raise AssertionError(
                f"no {words!r} in .{which} after {seconds:g} s but {self.text(which)!r}; faults of the page: "
                f"{self.faults}; fields: {self.page.evaluate(FILLED)}; asked for last: {asked}"
            ) from None

    def elsewhere(self) -> list[str]:
        """What was asked for of other machines."""
        return [url for url in self.asked if not url.startswith((self.address, "data:", "blob:"))]


#: How many fields are visible.
SHOWN = "() => [...document.querySelectorAll('[class*=field-]')].filter(field => field.offsetParent).length"
#: What the visible fields hold that are not empty.
FILLED = """() => [...document.querySelectorAll('[class*=field-] input, [class*=field-] textarea')]
  .filter(box => box.offsetParent && box.value)
  .map(box => box.closest('[class*=field-]').className.match(/field-\\w+/)[0] + ' = ' + box.value)"""
#: Draws each shown moment of a video and gives back its mean colour and size.
PLAYED = """async (video) => {
  const seen = [];
  for (const share of [0, 0.5]) {
    video.pause(); video.currentTime = share * video.duration;
    await new Promise(done => video.onseeked = done);
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    const drawn = canvas.getContext('2d'); drawn.drawImage(video, 0, 0);
    const data = drawn.getImageData(0, 0, canvas.width, canvas.height).data;
    seen.push([canvas.height, canvas.width, Array.from(data)]);
  }
  const before = video.currentTime; await video.play();
  await new Promise(done => setTimeout(done, 400));
  return [seen, video.currentTime != before];
}"""
