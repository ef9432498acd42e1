"""Reports and the verbs that look into run folders: content, escaping, size, and nothing that is loaded."""

import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from conftest import refused
from run_folders import HOSTILE, choice_items, evaluation, judge_notes, make_run, make_studies

from harness.cli.main import app  # noqa: F401 - the verbs register when they are named
from harness.report.page import MOST_ITEMS, write_report
from harness.run_folder.read import open_run
from harness.run_folder.result import Difference
from harness.run_folder.store import Store
from utilities.core import Item
from utilities.foreign_text import printable

ANSWERS = {"base": "ABBB", "expert_ant": "AABB", "expert_bee": "ABBB", "winner": "BAAB"}
SCORES = {"base": [1, 0, 0, None], "expert_ant": [1, 1, 0, 0], "expert_bee": [1, 0, 0, 0], "winner": [0, 1, 1, 0]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    return make_run(folder, items=choice_items(4), answers=ANSWERS, scores=SCORES, warning="the objective rises alone")


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return write_report([run], tmp_path_factory.mktemp("page") / "report.html").read_text("utf-8")


def article(page, item):
    return re.search(rf'<article[^>]*aria-label="item {item}".*?</article>', page, re.DOTALL)[0]


def test_the_report_says_first_what_was_found(page):
    text = re.sub(r"<[^>]+>", " ", page[page.index("<main>") :])
    assert "The winner is better than the best initial expert, ant: +0.2500 on test, 95 % interval" in text
    for part in ("Values", "What the winner is made of", "The search over time", "Where dev and test differ"):
        assert f">{part}" in page
    assert "The objective rises alone." in text
    assert text.index("The winner is better") < text.index("The objective rises alone") < text.index("Values")
    assert page.count('class="row"') == 16, "every row of the search"
    assert "1:01" in text


def test_answers_carry_their_tags(page):
    tags = {k: re.search('data-tags="([^"]*)"', article(page, f"q{k}"))[1].split() for k in range(4)}
    assert tags == {
        0: ["broken", "disagreement"],
        1: ["disagreement"],
        2: ["fixed", "disagreement"],
        3: ["both-wrong", "unscored"],
    }
    fixed = article(page, "q2")
    assert "Question 2?" in fixed
    assert fixed.index("base model") < fixed.index(">ant ") < fixed.index(">winner ")
    assert '<li class="gold"><b>A</b> red' in fixed
    assert "truncated: too long" in article(page, "q3")


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["'](?!data:,)""", page)
    assert not re.search(r"url\(|@import|https?:|//cdn", page)
    assert "default-src 'none'" in unescape(page)


class Elements(HTMLParser):
    """The names of the elements and of the attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.update(name for name, _ in attrs)


def check_escaped(page):
    """Nothing foreign in a page acts; all of it is there to read."""
    elements = Elements(page)
    assert elements.names.count("script") == page.count("</script>") == 1, "the page's own"
    assert "img" not in elements.names and not [name for name in elements.attributes if name.startswith("on")]
    assert not re.search(r"[\x00\x1b\u202e]", page)
    assert "\\x1b[31m\\u202e\\x00" in page
    assert "&lt;svg onload=document.title" in page
    assert "{{ 7 * 7 }}" in page


def test_foreign_text_is_shown_and_never_acts(tmp_path):
    items = [Item(id=HOSTILE, question=HOSTILE, answer=HOSTILE)]
    one = {name: [HOSTILE] for name in ("base", f"expert_{'ant'}", "winner")}
    scores = {"base": [3.0], "expert_ant": [5.0], "winner": [7.0]}
    folder = make_run(
        *(tmp_path / "run",),
        **{"items": items, "answers": one, "scores": scores, "notes": judge_notes(HOSTILE), "task": HOSTILE},
        warning=HOSTILE,
    )
    page = write_report([folder], tmp_path / "page.html").read_text("utf-8")
    check_escaped(page)
    assert "a judge <b>7</b>" in page


def test_foreign_text_never_acts_in_a_comparison_and_a_lab(tmp_path):
    for folder in make_studies(tmp_path, HOSTILE):
        page = write_report([folder]).read_text("utf-8")
        check_escaped(page)
        assert page.count("<article") == 1, "its item is shown"
        shown = printable(HOSTILE)
        assert unescape(page).count(shown) > 15
        text = article(page, "&lt;/script.*?")
        for part in ("question", "text", "model", "judge", "words"):
            assert any(shown in unescape(one) for one in re.findall(rf'class="{part}">(.*?)</', text, re.DOTALL)), part


def test_only_the_most_telling_items_are_inline_unless_all_are_wanted(tmp_path):
    count = 400
    answers = {name: ["word " * 400] * count for name in ("base", "expert_ant", "winner")}
    scores = {"base": [0] * count, "expert_ant": [0] * count, "winner": [0] * (count - 50) + [1] * 50}
    folder = make_run(tmp_path / "run", items=choice_items(count), answers=answers, scores=scores)
    short, whole = (
        write_report([folder], tmp_path / f"{k}.html", every_item=k).read_text("utf-8") for k in (False, True)
    )
    assert len(short) < 1_000_000
    assert 50 < short.count("<article") <= MOST_ITEMS
    assert 'data-tags="fixed"' in short
    assert "more characters]" in short
    assert whole.count("<article") == count


def test_other_scores_of_an_answer_are_shown_and_far_ones_are_disagreements(run, here, tmp_path):
    folder = shutil.copytree(run, tmp_path / "rated")
    for label, scores in (("base", [9.0, 1.0, 1.0, 1.0]), ("winner", [9.0, 9.0, 8.0, 1.0])):
        rated = evaluation(scores, ANSWERS[label])
        Store(folder).save_records(f"beside_kindness_{label}", [(label, rated)])
        Store(folder).save_records(f"rescored-length-test_{label}", [(label, evaluation([2.0] * 4, "ABCD"))])
    page = write_report([folder]).read_text("utf-8")
    assert "kindness 8" in article(page, "q2") and "length" not in article(page, "q2"), "answers of other texts"
    assert article(page, "q0").count("length 2") == 1, "the base model's A; the winner answers B"
    tags = {k: re.search('data-tags="([^"]*)"', article(page, f"q{k}"))[1].split() for k in range(4)}
    assert ["disagreement" in tags[k] for k in range(4)] == [True, False, False, False], "a wrong answer rated 9"
    assert "winner  0  kindness 9" in here("show", folder, "--item", "q0").stdout


def test_several_runs_are_side_by_side(run, tmp_path):
    better = {**SCORES, "winner": [1, 1, 1, 0]}
    other = make_run(tmp_path / "two", items=choice_items(4), answers={**ANSWERS, "winner": "AAAB"}, scores=better)
    page = write_report([run, other], tmp_path / "page.html").read_text("utf-8")
    assert page.count('<section class="run"') == 2
    assert re.search(r"\+0\.2500 \[-?\+?\d", page), "the second winner is right on one more of four items"


def test_a_run_without_stored_texts_says_so(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    shutil.rmtree(old / "items")
    page = write_report([old]).read_text("utf-8")
    assert (old / "report.html").is_file()
    assert "The questions are not shown" in page
    assert "Question 2?" not in page


def test_an_unfinished_run_has_a_report(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "half")
    (folder / "result.json").unlink()
    page = write_report([folder]).read_text("utf-8")
    assert "The search is not finished: it is interrupted after iteration 3" in page
    assert "The search over time" in page


def test_stored_texts_are_read_before_the_data(run):
    answers = open_run(run).answers
    assert set(answers["question"]) == {f"Question {k}?" for k in range(4)}
    assert open_run(run).models("test")["winner"].value == 0.5


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference(value=0.1, low=-0.1, high=0.3), "is not certainly better than"),
        (Difference(value=-0.1, low=-0.3, high=0.1), "is not certainly worse than"),
        (Difference(value=-0.1, low=-0.2, high=-0.05), "is worse than"),
        (Difference(value=0.0, low=0.0, high=0.0), "have the same score on every item"),
        (Difference(value=None, low=None, high=None, problem="no item"), "It is not known whether"),
    ],
)
def test_a_conclusion_says_how_sure_it_is(difference, words):
    from harness.display.conclusion import compared

    assert words in compared("the winner", "ant", difference)


# -- the verbs ---------------------------------------------------------------------------------------------------------


def test_report_writes_into_the_run_folder(run, here, tmp_path):
    done = here("report", run, "--out", tmp_path / "new" / "page.html", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written["report"] == str(tmp_path / "new" / "page.html")
    assert 20_000 < written["bytes"] < 200_000


def test_show_prints_what_was_fixed(run, here):
    done = here("show", run, "--fixed")
    assert done.returncode == 0, done.stderr
    assert "Question 2?" in done.stdout
    assert "Question 1?" not in done.stdout
    assert "A  red  (gold)" in done.stdout
    one = here("show", run, "--item", "q3", "--model", "winner", "--json")
    (item,) = json.loads(one.stdout)
    assert [answer["model"] for answer in item["answers"]] == ["winner"]
    assert item["answers"][0]["score"] == 0
    wrong = json.loads(here("show", run, "--wrong", "--json").stdout)
    assert sorted(one["item"] for one in wrong) == ["q0", "q3"]


def test_runs_lists_folders_with_their_state(run, here, tmp_path):
    shutil.copytree(run, tmp_path / "done")
    (shutil.copytree(run, tmp_path / "half") / "result.json").unlink()
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / "result.json").write_text("{")
    done = here("runs", tmp_path, "--json")
    states = {one["folder"].rpartition("/")[2]: one["state"] for one in json.loads(done.stdout)}
    assert states["done"] == "finished"
    assert states["half"] == "interrupted, 3/3"
    assert "result.json is corrupt" in states["broken"]
    assert "colours" in here("runs", tmp_path).stdout


def test_diff_names_settings_coefficients_and_items(run, here, tmp_path):
    scores = {**SCORES, "winner": [1, 1, 1, 0]}
    answers = {**ANSWERS, "winner": "AAAB"}
    other = make_run(
        *(tmp_path / "two",),
        **{"items": choice_items(4), "answers": answers, "scores": scores, "coefficients": {"ant": 0.9, "bee": 0.1}},
    )
    document = yaml.safe_load((other / "settings.yaml").read_text())
    document["settings"]["seed"] = 5
    (other / "settings.yaml").write_text(yaml.safe_dump(document))
    found = json.loads(here("diff", run, other, "--json").stdout)
    assert found["settings"] == {"seed": [0, 5]}
    assert found["coefficients"] == {"ant": [0.5, 0.9], "bee": [0.5, 0.1]}
    assert found["difference"]["value"] == 0.25
    assert [(one["item"], one["before"], one["after"]) for one in found["changed"]] == [("q0", 0.0, 1.0)]
    assert "1 of 4 items have another score: 1 higher, 0 lower" in here("diff", run, other).stdout


def test_mistakes_are_one_sentence(run, here, tmp_path):
    refused(here("report", tmp_path), "is not a run folder")
    refused(here("report", run, "--out", tmp_path), "is a folder")
    refused(here("show", run, "--item", "q99"), "has no item 'q99'")
    refused(here("show", run, "--model", "wasp"), "has no answers of 'wasp'", "winner")
    refused(here("runs", tmp_path), "has no run folders")
    (shutil.copytree(run, tmp_path / "half") / "result.json").unlink()
    refused(here("diff", run, tmp_path / "half"), "not finished")
