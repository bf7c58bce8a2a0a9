"""The pages in a browser, from disk: they run without a fault, and do what they say."""

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctp_ldm.report import write_report
from report.tested import PATIENTS, make_run

selenium = pytest.importorskip("selenium", reason="needs selenium: pip install -e '.[dev]'")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    patients = {**PATIENTS, **MORE}
    runs = [
        make_run(folder / "control", patients, error=0.3, without_volumes=["sub-03"]),
        make_run(folder / "ours", patients, seed=1, samples=3, without_volumes=["sub-03", "sub-04"]),
    ]
    return write_report(runs, folder / "out").parent


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
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
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """At a laptop's size; a fault in the console fails the test."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    yield chromium
    faults = chromium.get_log("browser")
    assert faults == []


def phone(browser: webdriver.Chrome) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def index(browser: webdriver.Chrome, site: Path) -> None:
    browser.get((site / "index.html").as_uri())


def case(browser: webdriver.Chrome, site: Path, name: str = "sub-1-2") -> None:
    browser.get("about:blank")  # a change of the part after # alone would not load the page anew
    browser.get((site / "cases" / f"{name}.html").as_uri())
    ready(browser)


def ready(browser: webdriver.Chrome, focus: bool = True) -> None:
    """Images are unpacked, and the viewer has the focus."""
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#viewer[data-ready]"))
    if focus:
        browser.execute_script("document.getElementById('viewer').focus({preventScroll: true})")


def find(browser: webdriver.Chrome, selector: str) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    """To whatever has the focus."""
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def listed(browser: webdriver.Chrome) -> list[str]:
    return [row.get_attribute("title") for row in find(browser, "#list tbody th") if row.is_displayed()]


def column(browser: webdriver.Chrome, number: int) -> list[float]:
    cells = browser.execute_script(
        "return Array.from(document.querySelectorAll('#list tbody tr'), row => row.cells[arguments[0]].dataset.value)",
        number,
    )
    return [float(cell) if cell else np.nan for cell in cells]


def titled(browser: webdriver.Chrome, title: str) -> int:
    """Which pane has this title, the first of them."""
    return [caption.text for caption in find(browser, ".pane figcaption")].index(title)


def point(browser: webdriver.Chrome, pane: int, across: float, down: float) -> list[str]:
    """Put the pointer on a picture, at shares of its width and height; what all panes then say."""
    slice_ = find(browser, ".slice")[pane]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slice_)
    width, height = slice_.size["width"], slice_.size["height"]
    x, y = round((across - 0.5) * width), round((down - 0.5) * height)
    ActionChains(browser).move_to_element_with_offset(slice_, x, y).perform()
    return [value.text for value in find(browser, ".value")]


def shot(browser: webdriver.Chrome) -> list[np.ndarray]:
    """What each pane looks like."""
    pictures = []
    for pane in find(browser, ".slice"):
        clip = {key: float(round(value)) for key, value in pane.rect.items()}
        settings = {"captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", settings)["data"]
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB")).astype(int))
    return pictures


def sideways(browser: webdriver.Chrome) -> int:
    """px that the page is wider than the screen."""
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(browser.execute_script(script))


def test_the_list_is_sorted_by_any_column(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    for header in find(browser, "#list thead button[data-column]")[1:]:
        number = int(header.get_attribute("data-column"))
        header.click()
        upwards = column(browser, number)
        header.click()
        downwards = column(browser, number)
        known = [v for v in upwards if not np.isnan(v)]
        assert known == sorted(known)
        assert [v for v in downwards if not np.isnan(v)] == known[::-1]
        for values in (upwards, downwards):  # what is not known comes last
            assert not np.isnan(values[: len(known)]).any()
    find(browser, "#list thead button[data-column='0']")[0].click()
    assert listed(browser).index("sub-2") < listed(browser).index("sub-10")


def test_worst_median_and_best_come_first(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    number = int(find(browser, "#ranking")[0].get_attribute("value"))
    worst = [v for v in column(browser, number) if not np.isnan(v)]  # Dice, of patients with lesion
    assert worst == sorted(worst)
    find(browser, "[data-order=best]")[0].click()
    assert column(browser, number)[: len(worst)] == sorted(worst, reverse=True)
    find(browser, "[data-order=median]")[0].click()
    middle = sorted(worst)[len(worst) // 2 - 1 : len(worst) // 2 + 1]
    assert sorted(column(browser, number)[:2]) == middle
    for option in find(browser, "#ranking option"):
        option.click()
    assert find(browser, "[data-order=median]")[0].get_attribute("aria-pressed") == "true"


def test_the_list_is_filtered(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    find(browser, "#filter")[0].send_keys("söhne")
    assert listed(browser) == ["Ünal & <b>Söhne</b>"]
    assert find(browser, "#shown")[0].text == "1 of 16"


def test_a_case_opens_from_the_list_and_from_a_figure(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    link = find(browser, "#list tbody a")[0]
    name = link.text
    link.click()
    assert find(browser, "h1")[0].text == name
    assert len(find(browser, ".slice")) >= 6
    find(browser, ".bar a")[0].click()
    point = find(browser, "#agreement a")[0]
    browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", point)
    assert "/cases/" in browser.current_url


def test_the_slider_moves_all_panes_alike(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    slider = find(browser, "#slider")[0]
    assert slider.get_attribute("value") == "1"  # where the lesion is
    seen = []
    for index_of_slice in range(5):
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        browser.execute_script(script, slider, index_of_slice)
        assert find(browser, "#where")[0].text.startswith(f"{index_of_slice + 1} of 5")
        # What is seen is that slice: its grey at the front of the real DWI, window 0–2.5.
        real = shot(browser)[1]
        seen.append(int(real[real.shape[0] // 5, real.shape[1] // 2, 0]))
    assert seen == pytest.approx([255 * (0.8 + 0.1 * i) / 2.5 for i in range(5)], abs=3)


def test_all_panes_are_drawn(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    pictures = shot(browser)
    assert len(pictures) == 1 + 2 * (1 + 2 + 3)  # source; real, two of the control, three of ours
    assert all(picture.std() > 5 for picture in pictures)
    errors = [p for p, title in zip(pictures, find(browser, ".pane figcaption"), strict=True) if "error" in title.text]
    assert all(np.abs(picture[..., 0] - picture[..., 2]).max() > 60 for picture in errors)  # blue and red


def test_keys_move_slices_and_stop_at_the_ends(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    slider = find(browser, "#slider")[0]
    walk = [
        (Keys.ARROW_UP, "2"),
        (Keys.ARROW_RIGHT, "3"),
        (Keys.ARROW_LEFT, "2"),
        (Keys.ARROW_DOWN, "1"),
        (Keys.END, "4"),
        (Keys.ARROW_UP, "4"),
        (Keys.HOME, "0"),
        (Keys.ARROW_DOWN, "0"),
        (Keys.PAGE_UP, "4"),
    ]
    for key, value in walk:
        press(browser, key)
        assert slider.get_attribute("value") == value
    slider.send_keys(Keys.ARROW_LEFT)  # one step, not the slider's own and ours
    assert slider.get_attribute("value") == "3"


def test_presets_change_the_picture_but_not_the_error(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    real, wrong = titled(browser, "real"), titled(browser, "control: error")
    before = shot(browser)
    press(browser, "2")
    narrow = shot(browser)
    front = narrow[real].shape[0] // 5, narrow[real].shape[1] // 2
    # Slice 2 has a DWI of 0.9: in the window 0–2.5, and in 0.5–2.
    assert before[real][front][0] == pytest.approx(255 * 0.9 / 2.5, abs=3)
    assert narrow[real][front][0] == pytest.approx(255 * 0.4 / 1.5, abs=3)
    assert (narrow[wrong] == before[wrong]).all()
    find(browser, "[data-preset='2']")[0].click()
    wide = shot(browser)
    assert wide[real][front][0] == pytest.approx(255 * 0.9 / 4, abs=3)
    assert find(browser, "[data-preset='2']")[0].get_attribute("aria-pressed") == "true"


def test_outlines_are_switched(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)

    def visible() -> set[str]:
        paths = find(browser, ".contour")
        return {p.get_attribute("class").split()[1] for p in paths if p.value_of_css_property("display") != "none"}

    assert visible() == {"reference", "found", "penumbra"}
    assert all(path.get_attribute("d") for path in find(browser, ".contour.reference"))
    find(browser, "[data-kind=found]")[0].click()
    assert visible() == {"reference", "penumbra"}
    press(browser, "c")
    assert visible() == set()
    press(browser, "c")
    assert visible() == {"reference", "found", "penumbra"}
    press(browser, Keys.HOME)  # a slice without lesion
    assert not any(path.get_attribute("d") for path in find(browser, ".contour.reference"))


def test_n_and_p_go_through_the_cases_and_keep_the_view(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    names = [row.text for row in find(browser, "#list tbody a")]
    find(browser, "#list tbody a")[0].click()
    ready(browser)
    press(browser, "3", "c")
    seen = [find(browser, "h1")[0].text]
    for _ in names[1:]:
        press(browser, "n")
        ready(browser, focus=False)  # it travels with the keys
        seen.append(find(browser, "h1")[0].text)
        assert find(browser, "[data-preset='2']")[0].get_attribute("aria-pressed") == "true"
        assert not find(browser, "[data-kind][aria-pressed=true]")
    assert seen == names
    press(browser, "n", "p")  # there is none after the last
    ready(browser)
    assert find(browser, "h1")[0].text == names[-2]


def test_a_missing_image_is_told_in_its_place(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site, "sub-04")
    assert "ours" in find(browser, "ul.notices")[0].text
    assert [m.text for m in find(browser, ".message")] == ["no image of this run, see below"] * 2
    press(browser, Keys.ARROW_UP)
    assert find(browser, "#slider")[0].get_attribute("value") == "2"


def test_help_opens_and_closes_and_size_changes(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    press(browser, "?")
    assert find(browser, "#keys")[0].is_displayed()
    press(browser, Keys.ESCAPE)
    assert not find(browser, "#keys")[0].is_displayed()
    width = find(browser, ".slice")[0].size["width"]
    press(browser, "+", "+")
    assert find(browser, ".slice")[0].size["width"] > 1.2 * width


def test_the_pointer_reads_the_value_of_every_pane(browser: webdriver.Chrome, site: Path) -> None:
    """Slice 2, where normal DWI is 0.9, ADC 720 × 10⁻⁶ mm²/s and CT 35; at the front there is no lesion."""
    case(browser, site)
    said = point(browser, 0, 0.5, 0.2)
    real = [i for i, caption in enumerate(find(browser, ".pane figcaption")) if caption.text == "real"]
    assert said[0].startswith("about 35")
    assert said[real[0]] == "about 0.9 relative DWI"
    level = 3000 / 255
    about = float(said[real[1]].removeprefix("about ").removesuffix(" × 10⁻⁶ mm²/s"))
    assert about == pytest.approx(720, abs=level)
    # An error is the difference of what the other two panes say.
    first = real[0]
    numbers = [float(text.split()[1].replace("−", "-")) for text in said[first : first + 3]]
    assert numbers[1] - numbers[0] == pytest.approx(numbers[2], abs=0.17)  # each is rounded
    assert all(cross.get_attribute("d") for cross in find(browser, ".cross"))
    press(browser, Keys.ARROW_UP)
    assert find(browser, ".value")[first].text == "about 1.0 relative DWI"
    assert set(point(browser, 0, 0.02, 0.02)) == {"outside the brain"}
    ActionChains(browser).move_to_element(find(browser, "h2")[0]).perform()
    assert {value.text for value in find(browser, ".value")} == {""}


def test_the_wheel_moves_slices_over_a_picture(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    slider = find(browser, "#slider")[0]
    picture = ScrollOrigin.from_element(find(browser, ".slice")[0])
    top = browser.execute_script("return scrollY")
    for delta, value in ((-100, "2"), (-100, "3"), (100, "2")):
        ActionChains(browser).scroll_from_origin(picture, 0, delta).perform()
        WebDriverWait(browser, 5).until(lambda _, value=value: slider.get_attribute("value") == value)
    assert browser.execute_script("return scrollY") == top


def test_keys_are_the_viewers_only_while_it_has_the_focus(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    slider, viewer = find(browser, "#slider")[0], find(browser, "#viewer")[0]
    browser.execute_script("document.activeElement.blur()")
    press(browser, Keys.ARROW_RIGHT, "2")
    assert slider.get_attribute("value") == "1"
    assert find(browser, "[data-preset='0']")[0].get_attribute("aria-pressed") == "true"
    assert viewer.value_of_css_property("outline-style") == "none"
    find(browser, ".slice")[0].click()
    assert browser.switch_to.active_element == viewer
    assert (viewer.value_of_css_property("outline-style"), viewer.value_of_css_property("outline-width")) == (
        "solid",
        "3px",
    )
    press(browser, Keys.ARROW_RIGHT)
    assert slider.get_attribute("value") == "2"
    browser.execute_script("document.activeElement.blur()")
    find(browser, "h1")[0].click()
    for _ in range(10):  # Tab reaches it
        press(browser, Keys.TAB)
        if browser.switch_to.active_element == viewer:
            break
    press(browser, Keys.ARROW_RIGHT)
    assert slider.get_attribute("value") == "3"


def test_a_free_window_is_set_by_two_sliders(browser: webdriver.Chrome, site: Path) -> None:
    case(browser, site)
    real = titled(browser, "real")
    source = shot(browser)[0]
    find(browser, ".free summary")[0].click()
    find(browser, "#channel option")[1].click()  # DWI, stored over 0 to 4
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    for name, end in (("low", 0.5), ("high", 1.5)):
        browser.execute_script(script, find(browser, f"#{name}")[0], end)
    assert find(browser, "#ends")[0].text == "0.5 to 1.5 relative DWI"
    after = shot(browser)
    front = after[real].shape[0] // 5, after[real].shape[1] // 2
    assert after[real][front][0] == pytest.approx(255 * 0.4, abs=4)
    assert (after[0] == source).all()  # another channel
    assert not find(browser, "[data-preset][aria-pressed=true]")
    # Its arrows are its own, and the ends never cross.
    find(browser, "#low")[0].send_keys(Keys.ARROW_RIGHT)
    assert find(browser, "#slider")[0].get_attribute("value") == "1"
    browser.execute_script(script, find(browser, "#low")[0], 4)
    low, high = (float(find(browser, f"#{name}")[0].get_attribute("value")) for name in ("low", "high"))
    assert low < high <= 4
    find(browser, "[data-preset='0']")[0].click()
    assert find(browser, "#ends")[0].text == "0.0 to 2.5 relative DWI"


def test_coronal_and_sagittal_views_have_the_right_aspect_and_place(browser: webdriver.Chrome, site: Path) -> None:
    """A frame of 5 × 28 × 24 voxels of 5 × 6 × 6 mm; slices are brighter towards the head."""
    case(browser, site)
    real = titled(browser, "real")
    for plane, count, width in (("coronal", 28, 24), ("sagittal", 24, 28)):
        find(browser, f"[data-plane={plane}]")[0].click()
        box = find(browser, ".slice")[real].size
        assert box["width"] / box["height"] == pytest.approx(width * 6 / (5 * 5), rel=0.05)
        slider = find(browser, "#slider")[0]
        assert slider.get_attribute("max") == str(count - 1)
        assert find(browser, "#where")[0].text.startswith(f"{int(slider.get_attribute('value')) + 1} of {count}")
        assert all(path.get_attribute("d") for path in find(browser, ".contour.reference"))
        browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, count // 2
        )
        picture = shot(browser)[real]
        lines = [picture[round((line + 0.5) * picture.shape[0] / 5), picture.shape[1] // 4, 0] for line in range(5)]
        assert lines == pytest.approx([255 * (1.2 - 0.1 * i) / 2.5 for i in range(5)], abs=3)  # head up
        # The value is that of the voxel, not of the axial slice shown before.
        assert point(browser, real, 0.25, 0.1)[real] == "about 1.2 relative DWI"
    assert find(browser, ".side")[0].text == "A"
    press(browser, "v")
    assert find(browser, "[data-plane=axial]")[0].get_attribute("aria-pressed") == "true"
    assert find(browser, "#slider")[0].get_attribute("value") == "1"


def test_on_a_phone_the_image_comes_first(browser: webdriver.Chrome, site: Path) -> None:
    phone(browser)
    case(browser, site, "sub-04")  # which has something missing to tell
    bottom = find(browser, ".slice")[0].rect["y"] + find(browser, ".slice")[0].rect["height"]
    assert bottom < 844  # on the first screen
    for later in (".notices li", "table"):
        assert all(element.rect["y"] > bottom for element in find(browser, later) if element.is_displayed())


@pytest.mark.parametrize("page", ["index.html", "cases/sub-1-2.html", "cases/sub-04.html"])
def test_on_a_phone_the_page_does_not_scroll_sideways(browser: webdriver.Chrome, site: Path, page: str) -> None:
    phone(browser)
    browser.get((site / page).as_uri())
    assert sideways(browser) == 0
    if page != "index.html":
        assert find(browser, "#slider")[0].size["width"] > 150
        assert find(browser, "#slider")[0].is_displayed()


def test_the_summary_names_its_sections(browser: webdriver.Chrome, site: Path) -> None:
    index(browser, site)
    assert sideways(browser) == 0
    assert [h.text for h in find(browser, "h2")][:3] == ["In short", "Primary results", "Comparison with control"]
    assert all(figure.get_attribute("aria-label") for figure in find(browser, ".plots svg.plot"))
