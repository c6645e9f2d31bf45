"""A headless Chromium by its chromedriver (Debian: chromium chromium-driver), over the WebDriver
protocol with the standard library alone."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

TIMEOUT_S = 60
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Control": "\ue009", "Space": " "}


def missing():
    """What is not installed, or None."""
    names = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{', '.join(names)} (apt-get install chromium chromium-driver)" if names else None


class Browser:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="splitee_browser_")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True)  # fmt: skip
        port = None
        while port is None:
            line = self.driver.stdout.readline()
            assert line, "chromedriver ended"
            port = re.search(r"started successfully on port (\d+)", line)
        self.base = f"http://127.0.0.1:{port[1]}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--hide-scrollbars", f"--user-data-dir={self.folder.name}"]  # fmt: skip
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                   "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.base += f"/session/{session['sessionId']}"

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            return json.load(reply)["value"]

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def script(self, code, *arguments):
        return self._ask("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height, scale=1):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                      mobile=width < 600)  # fmt: skip

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, *keys):
        """Keys one after the other; a tuple of them together."""
        actions = []
        for key in keys:
            together = key if isinstance(key, tuple) else (key,)
            codes = [KEYS.get(name, name) for name in together]
            actions += [{"type": "keyDown", "value": code} for code in codes]
            actions += [{"type": "keyUp", "value": code} for code in reversed(codes)]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def _element(self, selector):
        return self._ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def choose_file(self, selector, path):
        self._ask("POST", f"/element/{self._element(selector)}/value", {"text": path})

    def text(self, selector):
        return self.script("return document.querySelector(arguments[0]).innerText", selector)

    def until(self, code, *arguments):
        """The value of a script once it is true."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            value = self.script(code, *arguments)
            if value:
                return value
            assert time.monotonic() < end, f"waited in vain: {code} {arguments}\n{self.text('body')}"
            time.sleep(0.05)

    def errors(self):
        """What the page's console holds of errors since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})
                if entry["level"] == "SEVERE"]  # fmt: skip

    def screenshot(self, path, whole=False):
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def close(self):
        try:
            self._ask("DELETE", "")
        finally:
            self.driver.kill()
            self.driver.communicate()
            self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
