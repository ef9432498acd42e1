import json
import re

import pytest
from conftest import refused
from text_run import make_text_run

from harness.annotate.page import page
from harness.annotate.pairs import make_key, read_key
from utilities.errors import UserError

HOSTILE = '</script><script>document.title="gone"</script><img src=x onerror=alert(1)>\x1b[31m\u202e{{ 7*7 }}'


@pytest.fixture
def run(tmp_path):
    return make_text_run(tmp_path / "run")


def test_pairs_hold_both_answers_and_sides_depend_on_the_seed(run):
    key = make_key(run, "best-initial", 50, 0, 0)
    assert key.other == "ant" and len(key.pairs) == 12 and key.identical == 0
    for pair in key.pairs:
        number = pair.item.removeprefix("all/i")
        winner, other = (pair.a, pair.b) if pair.winner == "a" else (pair.b, pair.a)
        assert (winner, other) == (f"winner says {number}", f"expert_ant says {number}")
        assert pair.instruction == f"Advise on {number}." and pair.source == f"s{int(number) // 2}"
        assert pair.score == (2 if int(number) < 6 else 1) and pair.score + pair.other_score == 3
    assert {pair.winner for pair in key.pairs} == {"a", "b"}
    assert make_key(run, "best-initial", 50, 0, 0) == key != make_key(run, "best-initial", 50, 0, 1)
    assert read_key(key.save()) == key


def test_repeated_pairs_come_later_with_swapped_sides(run):
    key = make_key(run, "base", 50, 4, 3)
    again = [(k, pair) for k, pair in enumerate(key.pairs) if pair.repeats is not None]
    assert len(again) == 4 and len(key.pairs) == 16
    for k, pair in again:
        before = key.pairs[pair.repeats]
        assert k > pair.repeats and (before.a, before.b, before.item) == (pair.b, pair.a, pair.item)
        assert before.winner != pair.winner and before.repeats is None
    assert sum(one.repeats is not None for one in make_key(run, "base", 10, None, 0).pairs) == 1
    with pytest.raises(UserError, match=r"--repeats 5: at most a third of the 12 pairs"):
        make_key(run, "base", 50, 5, 0)


def test_another_run_is_joined_by_its_instructions(run, tmp_path):
    other = make_text_run(tmp_path / "other", 8, lambda label, k: f"other {label} says {k}")
    key = make_key(run, str(other), 50, 0, 0)
    assert {pair.a if pair.winner == "b" else pair.b for pair in key.pairs} == {
        f"other winner says {k}" for k in range(8)
    }
    with pytest.raises(UserError, match="expected best-initial, base, or the folder"):
        make_key(run, "bee", 50, 0, 0)


def test_identical_answers_are_left_out_and_names_of_models_are_marked(tmp_path):
    texts = {0: "same", 1: "I am ChatGPT.", 2: "as bee-7b says"}
    run = make_text_run(tmp_path / "run", answer=lambda label, k: texts.get(k, label) + label * (k in (1, 2)))
    key = make_key(run, "base", 50, 0, 0)
    assert key.identical == 1 and len(key.pairs) == 11
    named = {pair.item: pair.names_model for pair in key.pairs if pair.names_model}
    assert named == {"all/i1": "ChatGPT", "all/i2": "bee-7b"}
    equal = make_text_run(tmp_path / "equal", answer=lambda label, k: "same")
    with pytest.raises(UserError, match="identical answers to all 12 test items"):
        make_key(equal, "base", 50, 0, 0)


def test_what_cannot_be_annotated_is_refused_in_one_sentence(run, here):
    refused(here("annotate", run.parent), "is not a run folder")
    refused(here("annotate", run, "--json"), "--run and --json are options of `annotate results FILE...`")
    refused(here("annotate", "results"), "needs at least one file")
    (run / "records" / "test_base.parquet").unlink()
    refused(here("annotate", run, "--against", "base"), "has no test answers of base")
    (run / "result.json").unlink()
    refused(here("annotate", run), "the run is not finished")


@pytest.mark.parametrize("served", [True, False])
def test_the_page_holds_texts_as_data_and_no_names_of_models(tmp_path, served):
    run = make_text_run(tmp_path / "run", answer=lambda label, k: f"{HOSTILE} {k} {'xy'[label == 'winner']}")
    key = make_key(run, "best-initial", 50, 2, 0)
    text = page(key, served=served)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [one["pair"] for one in data["pairs"]] == list(range(14))
    assert [(one["a"], one["b"]) for one in data["pairs"]] == [(one.a, one.b) for one in key.pairs]
    assert set(data["pairs"][0]) == {"pair", "item", "instruction", "a", "b", "names"}
    assert text.count("<script") == 2 and "onerror=alert(1)>" not in text and "\x1b" not in text
    assert "winner" not in text and "ant" not in re.findall(r"\w+", text) and str(run) not in text
    assert not re.search(r"https?://", text)


def test_one_html_file_is_written_and_not_overwritten(run, tmp_path, here):
    done = here("annotate", run, "--html", tmp_path / "a.html")
    assert done.returncode == 0 and "which side is which" in done.stdout
    (key,) = (run / "annotation").glob("*.key.json")
    assert page(read_key(key), served=False) == (tmp_path / "a.html").read_text()
    refused(here("annotate", run, "--html", tmp_path / "a.html"), "already exists")
