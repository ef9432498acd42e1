"""A report in a real browser: no console error, nothing requested, no accessibility violation, at two widths.

With `SCREENSHOTS=docs python -m pytest -m slow tests/harness/report/test_report_browser.py` after
`python run.py --task medical` it draws the picture of the documentation.
"""

import os
from pathlib import Path

import pytest
from browser import opened, start_browser, violations
from run_folders import HOSTILE, choice_items, judge_notes, make_run, make_studies

from harness.report.page import write_report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def browser():
    driver = start_browser("hide-scrollbars")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    scores = {"base": [1, 0, 0, None] * 3, "expert_ant": [1, 1, 0, 0] * 3, "winner": [0, 1, 1, 0] * 3}
    answers = {"base": "ABBB" * 3, "expert_ant": "AABB" * 3, "winner": "BAAB" * 3}
    more = {"warning": "the objective rises alone", "notes": judge_notes("<img src=x onerror=alert(1)>")}
    run = make_run(folder / "one", items=choice_items(12), answers=answers, scores=scores, **more)
    return write_report([run], folder / "report.html")


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_errors_and_is_accessible(browser, page, width, scheme):
    assert opened(browser, page.as_uri(), width, scheme=scheme) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert violations(browser) == []


def test_filters_search_keys_sorting_and_schemes_work(browser, page):
    opened(browser, page.as_uri(), 1280)

    def shown():
        return [one.get_attribute("aria-label") for one in browser.find_elements("css selector", ".item:not([hidden])")]

    assert len(shown()) == 12
    browser.find_element("css selector", "[data-tag='fixed']").click()
    assert shown() == ["item q2", "item q6", "item q10"]
    browser.find_element("css selector", "input").send_keys("question 6")
    assert shown() == ["item q6"]
    assert "1 of 12" in browser.find_element("css selector", ".status").text
    browser.find_element("css selector", "input").clear()
    browser.find_element("css selector", "input").send_keys(" ")
    browser.find_element("css selector", "[data-tag='']").click()
    browser.find_element("css selector", "body").send_keys("jj")
    assert browser.switch_to.active_element.get_attribute("aria-label") == "item q2"
    heading = browser.find_elements("css selector", "table.sortable thead button")[2]
    heading.click()
    rows = browser.find_elements("css selector", "table.sortable tbody th")
    assert browser.find_element("css selector", "[aria-sort='descending']")
    assert rows[0].text == "winner" or "ant" in rows[0].text
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    button = browser.find_element("id", "theme")
    button.click()
    button.click()
    assert button.text == "dark"
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    assert browser.get_log("browser") == []


def test_foreign_text_never_acts_in_a_comparison_and_a_lab(browser, tmp_path):
    folders = make_studies(tmp_path, HOSTILE)
    for page in [*map(write_report, [[folder] for folder in folders]), write_report(folders, tmp_path / "both.html")]:
        assert opened(browser, page.as_uri(), 400) == []
        assert browser.title.endswith("Model Swarms report")
        browser.execute_script("for (const one of document.querySelectorAll('*')) { one.focus(); one.click?.(); }")
        assert browser.title.endswith("Model Swarms report")
        assert (
            browser.execute_script("return document.querySelectorAll('body script, img, [onload], [onfocus]').length")
            == 1
        )
        assert violations(browser) == []
        assert browser.get_log("browser") == []


def test_a_report_of_the_main_job_is_drawn(browser, page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    medical = Path("runs") / "medical-seed0"
    if (medical / "result.json").is_file():
        page = write_report([medical], tmp_path / "report.html")
        assert page.stat().st_size < 1_000_000
    target = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for width, height in ((1280, 1500), (400, 1500)):
        opened(browser, page.as_uri(), width, height)
        picture = target / f"report-{width}.png"
        assert browser.save_screenshot(str(picture))
        assert picture.stat().st_size > 30_000
