"""Firefox driven by WebDriver BiDi, the W3C's protocol, which Firefox speaks itself: no driver is installed beside it.

    with firefox(folder) as browser:
        page = browser.page(1280, 720)
        page.goto(url)
        page.click("button.primary")

Playwright's own Firefox comes from no distribution, and its BiDi asks for commands that Firefox ESR does not know.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

SECONDS = 60.0  # of patience; the machine may be busy
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Space": " ", "Home": "\ue011", "End": "\ue010",
        "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015"}  # fmt: skip
_PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.newtabpage.enabled": False,
    "toolkit.telemetry.enabled": False,
    "ui.prefersReducedMotion": 1,
    "layout.css.prefers-color-scheme.content-override": 1,  # light, until the page's own button is pressed
}


class Refused(Exception):
    """What Firefox answers instead of a result, or what a script of the page threw."""


class Tab:
    """One page. wrong: what its console said that should not be said, and what its scripts threw."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser, self._context = browser, context
        self.wrong: list[str] = []

    def _send(self, method: str, **parameters: Any) -> Any:
        return self._browser.send(method, context=self._context, **parameters)

    def resize(self, width: int, height: int) -> None:
        self._send("browsingContext.setViewport", viewport={"width": width, "height": height})

    def goto(self, url: str) -> None:
        self._send("browsingContext.navigate", url=url, wait="complete")

    def evaluate(self, function: str, argument: Any = None) -> Any:
        """What a function of JavaScript returns of an argument; both are what JSON can hold. Raises Refused."""
        body = f"async text => JSON.stringify(await ({function})(JSON.parse(text))) ?? 'null'"
        answer = self._browser.send(
            "script.callFunction", functionDeclaration=body, awaitPromise=True, target={"context": self._context},
            arguments=[{"type": "string", "value": json.dumps(argument)}], userActivation=True,
        )  # fmt: skip
        if answer["type"] == "exception":
            raise Refused(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def run(self, script: str) -> None:
        """Statements, in the page."""
        answer = self._browser.send(
            "script.evaluate", expression=script, awaitPromise=False, target={"context": self._context}
        )
        if answer["type"] == "exception":
            raise Refused(answer["exceptionDetails"]["text"])

    def until(self, function: str, argument: Any = None) -> Any:
        """What a function returns once that is true of something. Fails after `SECONDS`."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                found = self.evaluate(function, argument)
            except Refused as refused:  # the page is being left for another one
                found = None
                if time.monotonic() > deadline:
                    pytest.fail(f"{refused}")
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"this did not come true: {function}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        return str(self.until("s => document.querySelector(s)?.innerText", selector))

    def count(self, selector: str) -> int:
        return int(self.evaluate("s => document.querySelectorAll(s).length", selector))

    def arrives(self, pattern: str) -> str:
        """The address once it ends so, and its page is there."""
        found = self.until(
            "p => document.readyState === 'complete' && new RegExp(p).test(location.href) && location.href", pattern
        )
        return str(found)

    def click(self, selector: str) -> None:
        """With the pointer, in the middle of what is first in the page and seen."""
        x, y = self.until(
            """s => {
                const one = [...document.querySelectorAll(s)].find(found => found.checkVisibility());
                if (!one) return null;
                one.scrollIntoView({ block: "center", behavior: "instant" });
                const box = one.getBoundingClientRect();
                return [Math.floor(box.x + box.width / 2), Math.floor(box.y + box.height / 2)];
            }""",
            selector,
        )
        moves = [{"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0},
                 {"type": "pointerUp", "button": 0}]  # fmt: skip
        self._send("input.performActions", actions=[{"type": "pointer", "id": "mouse", "actions": moves}])

    def press(self, *keys: str) -> None:
        pressed = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("input.performActions", actions=[{"type": "key", "id": "keys", "actions": pressed}])

    def fill(self, selector: str, text: str) -> None:
        self.click(selector)
        self.evaluate("s => document.querySelector(s).select?.()", selector)
        self.press(*text)

    def close(self) -> None:
        self._send("browsingContext.close")
        self._browser.tabs.pop(self._context)


class Firefox:
    """One running Firefox; each of its pages has cookies of its own."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._numbers = line, itertools.count(1)
        self.tabs: dict[str, Tab] = {}
        self.version = self.send("session.new", capabilities={})["capabilities"]["browserVersion"]
        self.send("session.subscribe", events=["log.entryAdded"])

    def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._line.recv(timeout=SECONDS))
            if said["type"] == "event":
                self._heard(said["params"])
            elif said.get("id") == number:
                if said["type"] == "error":
                    raise Refused(f"{method}: {said['message']}")
                return said["result"]

    def _heard(self, entry: dict[str, Any]) -> None:
        tab = self.tabs.get(entry["source"].get("context", ""))
        if tab is not None and entry["level"] in ("error", "warn"):
            tab.wrong.append(entry["text"])

    def page(self, width: int = 1280, height: int = 720) -> Tab:
        user = self.send("browser.createUserContext")["userContext"]
        context = self.send("browsingContext.create", type="tab", userContext=user)["context"]
        tab = self.tabs[context] = Tab(self, context)
        tab.resize(width, height)
        return tab


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A Firefox without windows, with a profile in the folder."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.fail("Firefox is not installed: sudo apt-get install firefox-esr")
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items())
    (folder / "user.js").write_text("".join(lines), encoding="utf-8")
    command = [program, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next(
            (found[1] for line in process.stderr if (found := re.search(r"BiDi listening on (ws://\S+)", line))), None
        )
        if address is None:
            pytest.fail("Firefox ended before it could be spoken to")
        with connect(f"{address}/session", max_size=None) as line:
            yield Firefox(line)
    finally:
        process.kill()
        process.wait()
