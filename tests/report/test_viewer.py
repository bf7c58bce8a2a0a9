"""The viewer of one patient's images, in a browser."""

from pathlib import Path

import numpy as np
import pytest

from report.browsing import (
    ActionChains,
    Chrome,
    Keys,
    ScrollOrigin,
    WebDriverWait,
    case,
    find,
    index,
    phone,
    point,
    press,
    ready,
    shot,
    titled,
)


def test_the_slider_moves_all_panes_alike(browser: Chrome, site: Path) -> None:
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


def test_all_panes_are_drawn(browser: Chrome, site: Path) -> None:
    case(browser, site)
    pictures = shot(browser)
    assert len(pictures) == 1 + 2 * (1 + 2 + 3)  # source; real, two of the control, three of ours
    assert all(picture.std() > 5 for picture in pictures)
    errors = [p for p, title in zip(pictures, find(browser, ".pane figcaption"), strict=True) if "error" in title.text]
    assert all(np.abs(picture[..., 0] - picture[..., 2]).max() > 60 for picture in errors)  # blue and red


def test_keys_move_slices_and_stop_at_the_ends(browser: Chrome, site: Path) -> None:
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


def test_presets_change_the_picture_but_not_the_error(browser: Chrome, site: Path) -> None:
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


def test_outlines_are_switched(browser: Chrome, site: Path) -> None:
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


def test_n_and_p_go_through_the_cases_and_keep_the_view(browser: Chrome, site: Path) -> None:
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


def test_a_missing_image_is_told_in_its_place(browser: Chrome, site: Path) -> None:
    case(browser, site, "sub-04")
    assert "ours" in find(browser, "ul.notices")[0].text
    assert [m.text for m in find(browser, ".message")] == ["no image of this run, see below"] * 2
    press(browser, Keys.ARROW_UP)
    assert find(browser, "#slider")[0].get_attribute("value") == "2"


def test_help_opens_and_closes_and_size_changes(browser: Chrome, site: Path) -> None:
    case(browser, site)
    press(browser, "?")
    assert find(browser, "#keys")[0].is_displayed()
    press(browser, Keys.ESCAPE)
    assert not find(browser, "#keys")[0].is_displayed()
    width = find(browser, ".slice")[0].size["width"]
    press(browser, "+", "+")
    assert find(browser, ".slice")[0].size["width"] > 1.2 * width


def test_the_pointer_reads_the_value_of_every_pane(browser: Chrome, site: Path) -> None:
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


def test_the_wheel_moves_slices_over_a_picture(browser: Chrome, site: Path) -> None:
    case(browser, site)
    slider = find(browser, "#slider")[0]
    picture = ScrollOrigin.from_element(find(browser, ".slice")[0])
    top = browser.execute_script("return scrollY")
    for delta, value in ((-100, "2"), (-100, "3"), (100, "2")):
        ActionChains(browser).scroll_from_origin(picture, 0, delta).perform()
        WebDriverWait(browser, 5).until(lambda _, value=value: slider.get_attribute("value") == value)
    assert browser.execute_script("return scrollY") == top


def test_keys_are_the_viewers_only_while_it_has_the_focus(browser: Chrome, site: Path) -> None:
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


def test_a_free_window_is_set_by_two_sliders(browser: Chrome, site: Path) -> None:
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


def test_coronal_and_sagittal_views_have_the_right_aspect_and_place(browser: Chrome, site: Path) -> None:
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


def test_on_a_phone_the_image_comes_first(browser: Chrome, site: Path) -> None:
    phone(browser)
    case(browser, site, "sub-04")  # which has something missing to tell
    bottom = find(browser, ".slice")[0].rect["y"] + find(browser, ".slice")[0].rect["height"]
    assert bottom < 844  # on the first screen
    for later in (".notices li", "table"):
        assert all(element.rect["y"] > bottom for element in find(browser, later) if element.is_displayed())
