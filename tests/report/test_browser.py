"""The pages in a browser, from disk: they run without a fault, and do what they say."""

from pathlib import Path

import numpy as np
import pytest

from report.browsing import Chrome, column, find, index, listed, phone, sideways


def test_the_list_is_sorted_by_any_column(browser: Chrome, site: Path) -> None:
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


def test_worst_median_and_best_come_first(browser: Chrome, site: Path) -> None:
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


def test_the_list_is_filtered(browser: Chrome, site: Path) -> None:
    index(browser, site)
    find(browser, "#filter")[0].send_keys("söhne")
    assert listed(browser) == ["Ünal & <b>Söhne</b>"]
    assert find(browser, "#shown")[0].text == "1 of 16"


def test_a_case_opens_from_the_list_and_from_a_figure(browser: Chrome, site: Path) -> None:
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


@pytest.mark.parametrize("page", ["index.html", "cases/sub-1-2.html", "cases/sub-04.html"])
def test_on_a_phone_the_page_does_not_scroll_sideways(browser: Chrome, site: Path, page: str) -> None:
    phone(browser)
    browser.get((site / page).as_uri())
    assert sideways(browser) == 0
    if page != "index.html":
        assert find(browser, "#slider")[0].size["width"] > 150
        assert find(browser, "#slider")[0].is_displayed()


def test_the_summary_names_its_sections(browser: Chrome, site: Path) -> None:
    index(browser, site)
    assert sideways(browser) == 0
    assert [h.text for h in find(browser, "h2")][:3] == ["In short", "Primary results", "Comparison with control"]
    assert all(figure.get_attribute("aria-label") for figure in find(browser, ".plots svg.plot"))
