"""Somebody in front of a browser: where they go, what they see, and whether they can read it."""

import base64
import os
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

SECONDS = 20.0
KEPT = "CONSOLE_PICTURES"  # set: pictures that are there already are made anew
PHONE = {"width": 390, "height": 780}
DESK = {"width": 1100, "height": 720}

# WCAG 2.2, 1.4.3: every text that is shown, its colour against what lies behind it, as a list of those too faint.
FAINT = """
() => {
  const parse = (text) => {
    const numbers = (text.match(/-?[\\d.]+(e-?\\d+)?/g) || []).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    const [r, g, b, a = 1] = numbers;
    return [r * scale, g * scale, b * scale, a];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const faint = [];
  let seen = 0;
  const judge = (element, colour, text) => {
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const behind = ground(element);
    const found = ratio(over(parse(colour), behind), behind);
    seen += 1;
    if (found < (large ? 3 : 4.5)) faint.push(`${text.trim().slice(0, 40)}: ${found.toFixed(2)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const shown = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!shown || !node.textContent.trim() || element.closest("title, option, noscript, :disabled")) continue;
    const style = getComputedStyle(element);
    judge(element, element.closest("svg") ? style.fill : style.color, node.textContent);
  }
  for (const field of document.querySelectorAll("input[placeholder]:not(:disabled)")) {
    judge(field, getComputedStyle(field, "::placeholder").color, field.placeholder);
  }
  return {faint, seen};
}
"""


PRESS = """
async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", 0.7);
}
"""
OTHERS = {
    *("registries-dark", "registry-dark", "tag-dark", "compare-dark", "layer-dark", "activity-dark", "sign-in-dark"),
    *("registry-phone", "image-phone", "tag-phone", "layer-phone", "credentials-phone"),
}


class Looking:
    """One browser with cookies of its own. ``complaints``: what a page did that no page of ours may do."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self._url = url
        self.kind = ""  # of screen, for the names of pictures
        self.expected: set[str] = set()  # parts of messages that a test provokes
        self._messages: list[str] = []
        self._context = browser.new_context(**{"viewport": DESK, "color_scheme": "light", **context})
        self._context.set_default_timeout(SECONDS * 1000)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self._messages.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self._messages.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._messages.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._url + "/", "data:")):
            self._messages.append(f"elsewhere: {request.url}")

    @property
    def complaints(self) -> list[str]:
        return [text for text in self._messages if not any(part in text for part in self.expected)]

    def close(self) -> None:
        self._context.close()

    def go(self, path: str) -> None:
        self.page.goto(self._url + path)

    def sign_in(self, token: str) -> None:
        self.go("/console/")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/console/")

    def press(self, name: str) -> None:
        """The button of that name, exactly."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def sees(self, text: str) -> None:
        """Waits until the text is shown; fails where it does not come."""
        self.page.get_by_text(text).first.wait_for(state="visible")

    def row(self, text: str) -> Locator:
        return self.page.locator("tbody tr", has_text=text)

    def allow_copying(self) -> None:
        self._context.grant_permissions(["clipboard-read", "clipboard-write"])

    @property
    def copied(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def judge(self) -> None:
        """What everybody must be able to do with the page: read all of it, and without scrolling sideways."""
        found = self.page.evaluate(FAINT)
        assert found["seen"] > 5, "the page shows nothing to read"
        assert found["faint"] == [], f"{self.page.url}: {found['faint']}"
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels too wide"
        assert self.page.locator("h1").count() == 1, self.page.url
        assert self.page.title() and "owned" not in self.page.title()


class Shots:
    """Pictures of pages, kept with the documents: those that are missing, or all if CONSOLE_PICTURES is set.

    Every page in light, and a few of the others. The browser itself makes them small: WebP is a fifth of PNG.
    """

    def __init__(self, folder: Path, browser: Browser) -> None:
        self._folder = folder
        self._folder.mkdir(exist_ok=True)
        self._press = browser.new_page()

    def take(self, somebody: Looking, name: str) -> None:
        somebody.judge()
        picture = somebody.page.screenshot(full_page=True, animations="disabled", caret="hide")
        file = self._folder / f"{name}.webp"
        kept = name.endswith("-light") or name in OTHERS
        if kept and (KEPT in os.environ or not file.exists()):
            file.write_bytes(self._pressed(picture))

    def _pressed(self, png: bytes) -> bytes:
        url = "data:image/png;base64," + base64.b64encode(png).decode()
        return base64.b64decode(str(self._press.evaluate(PRESS, url)).partition(",")[2])
