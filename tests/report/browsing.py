"""What tests do in a browser: open pages, press keys, point, look."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Tests take what they use of selenium from here, so that a module of theirs is skipped where it is not installed.
pytest.importorskip("selenium", reason="needs selenium: pip install -e '.[dev]'")

from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

__all__ = [
    "ActionChains",
    "Chrome",
    "Keys",
    "ScrollOrigin",
    "WebDriverWait",
    "case",
    "column",
    "find",
    "index",
    "listed",
    "phone",
    "point",
    "press",
    "ready",
    "shot",
    "sideways",
    "titled",
]


def phone(browser: Chrome) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def index(browser: Chrome, site: Path) -> None:
    browser.get((site / "index.html").as_uri())


def case(browser: Chrome, site: Path, name: str = "sub-1-2") -> None:
    browser.get("about:blank")  # a change of the part after # alone would not load the page anew
    browser.get((site / "cases" / f"{name}.html").as_uri())
    ready(browser)


def ready(browser: Chrome, focus: bool = True) -> None:
    """Images are unpacked, and the viewer has the focus."""
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#viewer[data-ready]"))
    if focus:
        browser.execute_script("document.getElementById('viewer').focus({preventScroll: true})")


def find(browser: Chrome, selector: str) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def press(browser: Chrome, *keys: str) -> None:
    """To whatever has the focus."""
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def listed(browser: Chrome) -> list[str]:
    return [row.get_attribute("title") for row in find(browser, "#list tbody th") if row.is_displayed()]


def column(browser: Chrome, number: int) -> list[float]:
    cells = browser.execute_script(
        "return Array.from(document.querySelectorAll('#list tbody tr'), row => row.cells[arguments[0]].dataset.value)",
        number,
    )
    return [float(cell) if cell else np.nan for cell in cells]


def titled(browser: Chrome, title: str) -> int:
    """Which pane has this title, the first of them."""
    return [caption.text for caption in find(browser, ".pane figcaption")].index(title)


def point(browser: Chrome, pane: int, across: float, down: float) -> list[str]:
    """Put the pointer on a picture, at shares of its width and height; what all panes then say."""
    slice_ = find(browser, ".slice")[pane]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slice_)
    width, height = slice_.size["width"], slice_.size["height"]
    x, y = round((across - 0.5) * width), round((down - 0.5) * height)
    ActionChains(browser).move_to_element_with_offset(slice_, x, y).perform()
    return [value.text for value in find(browser, ".value")]


def shot(browser: Chrome) -> list[np.ndarray]:
    """What each pane looks like."""
    pictures = []
    for pane in find(browser, ".slice"):
        clip = {key: float(round(value)) for key, value in pane.rect.items()}
        settings = {"captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", settings)["data"]
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB")).astype(int))
    return pictures


def sideways(browser: Chrome) -> int:
    """px that the page is wider than the screen."""
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(browser.execute_script(script))
