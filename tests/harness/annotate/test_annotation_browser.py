"""A rater in a real browser: clicks, types, undoes, reloads, closes the browser, and loses nothing."""

import json
from threading import Thread

import pytest
from browser import opened, start_browser, violations
from text_run import make_text_run

from harness.annotate.page import page
from harness.annotate.pairs import make_key
from harness.annotate.results import evaluate_verdicts
from harness.annotate.server import AnnotationServer
from harness.annotate.verdicts import latest, read_verdicts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HOSTILE = '</script><script>document.title="gone"</script><img src=x onerror=\'document.title="gone"\'>\x1b[31m\u202e'


@pytest.fixture
def browse(tmp_path):
    """Starts Chromium with one profile, so that a second start sees what the first one stored."""
    started = []

    def start():
        flags = ("window-size=1280,900", f"user-data-dir={tmp_path / 'profile'}")
        driver = start_browser(*flags, **{"download.default_directory": str(tmp_path / "downloads")})
        started.append(driver)
        return Rater(driver)

    yield start
    for driver in started:
        driver.quit()


class Rater:
    """What a person does with the page."""

    def __init__(self, driver):
        self.driver = driver

    def text(self, element):
        return self.driver.find_element("id", element).text

    def wait(self, condition, seconds=120):
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.02).until(lambda _: condition())

    def open(self, url, name=None):
        self.driver.get(url)
        if name:
            self.driver.find_element("id", "rater").send_keys(name + "\n")
        self.wait(lambda: self.text("progress"))

    def at(self):
        return int(self.text("progress").split()[0])

    def press(self, key, then):
        """Presses a key and waits until so many pairs are done."""
        self.driver.find_element("tag name", "body").send_keys(key)
        self.wait(lambda: self.at() == then)

    def click(self, selector, then):
        self.driver.find_element("css selector", selector).click()
        self.wait(lambda: self.at() == then)

    def comment(self, text):
        self.driver.find_element("id", "comment").send_keys(text)

    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def work(rater, url, restart):
    """50 verdicts: keys, clicks, comments, two undone ones, a reload and a closed browser in the middle."""
    rater.open(url, "ann")
    assert rater.driver.title == "Which answer is better?" and "\\u{1b}[31m\\u{202e}" in rater.text("a")
    rater.press("9", 0)  # certain
    rater.comment("the first")
    rater.driver.refresh()  # what was typed is there again
    rater.wait(lambda: rater.text("progress"))
    assert rater.driver.find_element("id", "comment").get_property("value") == "the first"
    rater.click("[data-verdict=a]", 1)
    for k in range(1, 20):
        rater.press("1234"[k % 4], k + 1)
    rater.click("#undo", 19)
    rater.press("u", 18)
    rater.driver.refresh()
    rater.wait(lambda: rater.text("progress"))
    assert rater.at() == 18
    rater.press("1", 19)
    rater.press("2", 20)
    assert rater.errors() == []
    rater.driver.quit()
    rater = restart()
    rater.open(url)
    assert rater.at() == 20  # without a name again
    for k in range(20, 50):
        rater.press("1234"[k % 4], k + 1)
    rater.wait(lambda: "Finished" in rater.text("end"))
    assert rater.errors() == []
    return rater


def check(verdicts):
    assert [one.pair for one in sorted(verdicts, key=lambda one: one.pair)] == list(range(50))
    by_pair = {one.pair: one for one in verdicts}
    words = ["a", "b", "both good", "both bad"]
    assert by_pair[0].verdict == "a" and (by_pair[0].confidence, by_pair[0].comment) == (3, "the first")
    assert [by_pair[k].verdict for k in (18, 19)] == ["a", "b"]  # what was said after the undoing
    assert all(by_pair[k].verdict == words[k % 4] for k in range(1, 50) if k not in (18, 19))


@pytest.fixture
def key(tmp_path):
    run = make_text_run(tmp_path / "run", 46, lambda label, k: f"{HOSTILE} {k} {'xy'[label == 'winner']}")
    key = make_key(run, "best-initial", 46, 4, 0)
    key.save()
    return key


@pytest.mark.parametrize("served", [False, True])
def test_the_page_has_no_violations_or_errors_at_two_widths_in_both_schemes(served, browse, tmp_path):
    run = make_text_run(tmp_path / "run", 2, lambda label, k: f"{HOSTILE} {'a_long_word' * 20} {label} {k}")
    key = make_key(run, "best-initial", 2, 0, 0)
    key.save()
    (tmp_path / "task.html").write_text(page(key, served=False))
    rater = browse()
    with AnnotationServer(key, 0) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = server.url if served else (tmp_path / "task.html").as_uri()
        for done, (width, scheme) in enumerate(((400, "light"), (1280, "dark"), (400, "dark"), (1280, "light"))):
            assert opened(rater.driver, url, width, scheme=scheme) == []
            if done == 0:
                assert violations(rater.driver) == []
                rater.driver.find_element("id", "rater").send_keys("ann\n")
            # A page that is opened within milliseconds of a new profile's first write may not see it yet.
            rater.wait(lambda: rater.text("progress") or rater.driver.refresh())
            assert violations(rater.driver) == []  # a pair, or the end
            if done < 2:
                rater.press("1", done + 1)
        assert rater.at() == 2 and rater.errors() == []
        server.shutdown()


def test_50_verdicts_in_one_file_survive_a_closed_browser_and_come_back_as_a_file(key, browse, tmp_path):
    (tmp_path / "task.html").write_text(page(key, served=False))
    rater = work(browse(), (tmp_path / "task.html").as_uri(), browse)
    rater.driver.find_element("id", "download").click()
    sent = tmp_path / "downloads" / f"{key.id}-ann.jsonl"
    rater.wait(sent.exists)
    check(read_verdicts([sent]))
    assert json.loads(sent.read_text().splitlines()[0])["a"] == key.pairs[0].a  # the exact text
    assert evaluate_verdicts([sent], [key.folder]).verdicts == 46


def test_50_verdicts_on_the_local_server_survive_a_closed_browser_and_a_server_that_is_gone(key, browse):
    with AnnotationServer(key, 0) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = server.url
        rater = work(browse(), url, browse)
        check(latest(read_verdicts([key.verdicts])))
        server.shutdown()
    rater.driver.find_element("id", "undo").click()
    rater.wait(lambda: rater.text("problem").startswith("Not saved"))
    assert rater.at() == 50
    check(latest(read_verdicts([key.verdicts])))
