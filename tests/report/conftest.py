"""A report, and a browser to read it in."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctp_ldm.report import write_report
from report.tested import PATIENTS, make_run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SWITCHES = (
    "headless=new",
    "no-sandbox",  # root, as in a container, has none
    "disable-gpu",
    "window-size=1280,900",
    # It should not look for anything outside.
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
MORE = {f"sub-{i:02d}": i % 5 for i in range(12)}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    patients = {**PATIENTS, **MORE}
    runs = [
        make_run(folder / "control", patients, error=0.3, without_volumes=["sub-03"]),
        make_run(folder / "ours", patients, seed=1, samples=3, without_volumes=["sub-03", "sub-04"]),
    ]
    return write_report(runs, folder / "out").parent


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    pytest.importorskip("selenium", reason="needs selenium: pip install -e '.[dev]'")
    from selenium import webdriver

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver, such as Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in [*SWITCHES, f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def browser(chromium: "Chrome") -> Iterator["Chrome"]:
    """At a laptop's size; a fault in the console fails the test."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    yield chromium
    faults = chromium.get_log("browser")
    assert faults == []
