"""Headless Chromium, driven by its DevTools protocol over a pipe: pages clicked as people do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13,
        "Escape": 27, "Tab": 9}


class Browser:
    """A browser with one page. `asked` are the URLs of all requests, `errors` what went wrong in
    scripts; `folder` (a Path) takes its profile and downloads."""

    def __init__(self, folder, width=1400, height=1000):
        assert CHROMIUM is not None
        self.folder = folder
        self.asked, self.errors, self.number, self.rest = [], [], 0, b""
        theirs, mine = os.pipe()
        self.reads, writes = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{writes}', "-", CHROMIUM, "--headless",
             "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
             "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile", "about:blank"],
            pass_fds=(theirs, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(writes)
        self.writes, self.session = mine, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with suppress(OSError, AssertionError):
            self.session = None
            self.call("Browser.close")
        for end in (self.reads, self.writes):
            os.close(end)
        self.process.wait(20)

    def call(self, method, **parameters):
        """What a method of the protocol answers."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._event(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self):
        while b"\0" not in self.rest:
            data = os.read(self.reads, 1 << 20)
            assert data, "the browser has ended"
            self.rest += data
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def _event(self, message):
        what = message.get("params", {})
        if message["method"] == "Network.requestWillBeSent":
            self.asked.append(what["request"]["url"])
        elif message["method"] == "Runtime.exceptionThrown":
            self.errors.append(what["exceptionDetails"])
        elif message["method"] == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.errors.append(what["entry"]["text"])

    def open(self, url):
        """A page of ncc's, ready."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.asked.clear()
        self.call("Page.navigate", url=url)
        self.until("document.documentElement?.dataset.ready !== undefined")

    def value(self, script):
        """What an expression is in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                         awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script, seconds=30):
        end = time.monotonic() + seconds
        while not self.settled(script):
            assert time.monotonic() < end, (script, self.errors)
            time.sleep(0.03)

    def settled(self, script):
        """The value of an expression; None where the page goes elsewhere meanwhile."""
        try:
            return self.value(script)
        except AssertionError as error:
            if "navigated" in str(error):
                return None
            raise

    def click(self, selector, across=0.5, down=0.5):
        """Press the mouse on an element, by default its middle, which is scrolled into sight."""
        x, y = self.value(f"""(async () => {{
            const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center", inline: "center"}});
            // What is pressed is what was painted last.
            for (let k = 0; k < 2; k++)
                await new Promise(requestAnimationFrame);
            const b = e.getBoundingClientRect();
            return [b.x + b.width * {across}, b.y + b.height * {down}];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, *keys):
        """Keys by name, or characters, pressed one after another."""
        for key in keys:
            how = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
            if len(key) == 1:
                how["text"] = key
            elif key == "Enter":
                how["text"] = "\r"
            self.call("Input.dispatchKeyEvent", type="keyDown", **how)
            self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def resize(self, width, height=1000):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)

    def media(self, **features):
        """media(scheme="dark"), media(media="print")."""
        self.call("Emulation.setEmulatedMedia", media=features.get("media", ""), features=[
            {"name": "prefers-color-scheme", "value": features.get("scheme", "light")}])

    def picture(self, path, whole=False):
        """A PNG of the window, or of the whole page."""
        made = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(b64decode(made["data"]))

    def printed(self, path):
        """The page as a PDF."""
        made = self.call("Page.printToPDF", printBackground=True)
        Path(path).write_bytes(b64decode(made["data"]))
