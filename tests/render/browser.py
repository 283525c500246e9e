"""A headless Chromium, driven over its own pipe: no driver, no package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe --window-size=1300,1000"
).split()
PATIENCE = 30.0
"""Seconds to wait for anything."""


def installed() -> str | None:
    """The program, or `None`."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab.

    Attributes:
        complaints: errors of the console and exceptions, as text.
        requests: every address that was asked for.
    """

    def __init__(self, folder: Path) -> None:
        program = installed()
        assert program is not None
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        os.set_blocking(self._in, False)
        self._heard, self._number = b"", 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        self._process.kill()
        self._process.wait()
        os.close(self._in)

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        return self._ask(method, arguments, self._session)

    def _ask(self, method: str, arguments: dict[str, Any], session: str | None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        message |= {} if session is None else {"sessionId": session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for heard in self._messages():
                if heard.get("id") == self._number:
                    assert "error" not in heard, heard
                    return heard["result"]
        raise TimeoutError(method)

    def _messages(self) -> list[dict[str, Any]]:
        try:
            self._heard += os.read(self._in, 2**20)
        except BlockingIOError:
            time.sleep(0.005)
        *whole, self._heard = self._heard.split(b"\0")
        found = [json.loads(text) for text in whole]
        for message in found:
            self._note(message.get("method", ""), message.get("params", {}))
        return found

    def _note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])

    def open(self, path: Path, fragment: str = "") -> None:
        """Go to a file, and wait until its script is done."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=path.as_uri() + fragment)
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < until, script
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        codes = {
            "ArrowLeft": 37,
            "ArrowRight": 39,
            "Home": 36,
            "End": 35,
            "PageUp": 33,
            "PageDown": 34,
            " ": 32,
            "p": 80,
            "Tab": 9,
        }
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, x: float, y: float) -> None:
        """Click somewhere."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, x: float, y: float, dx: float, dy: float) -> None:
        """Press somewhere, move, and let go."""
        moves = (("mousePressed", x, y), ("mouseMoved", x + dx, y + dy), ("mouseReleased", x + dx, y + dy))
        for kind, left, top in moves:
            at = {"x": left, "y": top, "button": "left", "buttons": 1, "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, **at)
