"""A real browser for tests and pictures: Chromium of the system, driven through WebDriver. It reaches what runs on this
machine alone.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.machine import machine_load, patient
from tests.support.process import ServiceMissing

WIDE, PHONE = (1280, 900), (390, 844)
CHROMIUM = Path(__file__).with_name("secluded-chromium")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--no-first-run"),
    # Whatever is not this machine does not resolve: what a page loads from elsewhere fails, and is in the log.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--force-color-profile=srgb",
)


class Browser:
    """One browser with one page. Leaving the context ends it."""

    def __init__(self) -> None:
        """:raises ServiceMissing: if Chromium or its driver is not installed."""
        driver = shutil.which("chromedriver")
        if driver is None or shutil.which("chromium") is None:
            raise ServiceMissing("chromium and chromedriver (Debian: chromium chromium-driver)")
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(executable_path=driver))
        self.driver.set_page_load_timeout(patient(60))
        self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()

    def look(self, *, size: tuple[int, int] = WIDE, dark: bool = False, script: bool = True) -> None:
        """How the next pages are looked at."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._command("Emulation.setScriptExecutionDisabled", {"value": not script})

    def open(self, url: str) -> None:
        """Go to a page."""
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> WebElement:
        """The first such element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return str(self.one(selector).text)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, as its `return` says."""
        return self.driver.execute_script(script, *arguments)

    def type(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = 60) -> Any:
        """Wait until something is so; what changes under its hands, it looks at again.

        :param timeout: as for `process.wait_until`.
        """
        began = time.monotonic()
        while True:
            try:
                if found := condition():
                    return found
            except WebDriverException:
                if time.monotonic() - began > patient(timeout):
                    raise
            if (waited := time.monotonic() - began) > patient(timeout):
                shown = self.text("body")[:3000]
                raise TimeoutError(f"waited {waited:.0f} s for {what} ({machine_load()}); the page shows:\n{shown}")
            time.sleep(0.1)

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors of scripts, refused by the policy, not found."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    def picture(self, path: Path, *, whole: bool = True, most: int = 1600) -> None:
        """Write what is shown as a PNG.

        :param whole: the page as high as it is, but not higher than `most`.
        """
        width = int(self.run("return innerWidth"))
        height = int(self.run("return innerHeight"))
        if whole:
            height = min(most, max(200, int(self.run("return document.documentElement.scrollHeight"))))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self._command("Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def _command(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)
