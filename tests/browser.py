"""Headless Chromium of the distribution for tests of pages: opens them at a width and a scheme, and runs axe-core."""

import shutil
from pathlib import Path

import pytest

AXE = """const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.map((one) => one.id + ": " + one.nodes[0].failureSummary)),
  (error) => done([String(error)]));"""


def start_browser(*flags, **preferences):
    """A browser; the test is skipped if it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (the extra dev)")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver of the distribution are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", *flags):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    return driver


def opened(browser, url, width, height=900, scheme="light"):
    """Opens a page and returns what the console says."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)
    return browser.get_log("browser")


def violations(browser):
    """What axe-core finds in the page that is open, and a page that is wider than the window."""
    axe = Path(pytest.importorskip("axe_core_python").__file__).with_name("axe.min.js")
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(AXE)
    wide = browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
    return [*found, *(["the page scrolls sideways"] if wide else [])]
