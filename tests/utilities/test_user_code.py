"""Utilities from a user's own file: `file.py:name`, and every way in which that can be wrong."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from utilities.core import Item, Response, Score
from utilities.errors import UserError
from utilities.scorer_by_name import make_scorer
from utilities.scorers.function import FunctionScorer, scorer_from_file
from utilities.user_code import absolute_spec, file_of

ITEM, RESPONSE = Item(id="1", question="Why?", answer="so"), Response("because")

GOOD = '''
from utilities import Evaluation, Score, utility


def plain(item, response):
    return len(response.text)


@utility(max_tokens=3, prompt="plain")
def decorated(item, response):
    return len(response.text) / 10


class Whole:
    """A scorer of one's own from the bottom up."""

    def __init__(self, bonus=0.0):
        self.bonus = bonus

    async def __call__(self, model, items):
        return Evaluation.of([])

    async def score(self, items, responses):
        return [Score(1.0 + self.bonus) for _ in items]

    def check(self, item):
        return None


LIMIT = 3
'''


@pytest.fixture
def written(tmp_path):
    """Writes a file of the user's and gives the text `path:name`."""

    def write(text, name="score", file="my_file.py"):
        path = tmp_path / file
        path.write_text(text)
        return f"{path}:{name}"

    return write


def score(spec, **options):
    (outcome,) = asyncio.run(make_scorer(spec, options).score([ITEM], [RESPONSE]))
    return outcome


def refused(spec, *words, options=None):
    with pytest.raises(UserError) as told:
        make_scorer(spec, options or {})
    message = str(told.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_plain_function_is_a_utility(written):
    assert score(written(GOOD, "plain")) == Score(7.0)
    assert isinstance(make_scorer(written(GOOD, "plain"), {"max_tokens": 9}), FunctionScorer)
    assert make_scorer(written(GOOD, "plain"), {"max_tokens": 9}).max_tokens == 9


def test_a_decorated_function_keeps_its_options_and_those_given_win(written):
    spec = written(GOOD, "decorated")
    assert score(spec) == Score(0.7)
    assert make_scorer(spec, {}).max_tokens == 3
    assert make_scorer(spec, {"max_tokens": 5}).max_tokens == 5


def test_a_class_is_a_scorer_with_options_of_its_own(written):
    spec = written(GOOD, "Whole")
    assert score(spec) == Score(1.0)
    assert score(spec, bonus=2.0) == Score(3.0)
    refused(spec, "does not take its options", "bonsu", options={"bonsu": 1})


def test_a_path_may_be_relative_and_begin_at_home(written, tmp_path, monkeypatch):
    written(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert score("my_file.py:plain") == score("~/my_file.py:plain") == Score(7.0)


def test_the_names_of_a_file_do_not_meet_those_of_other_modules(written):
    before = set(sys.modules)
    assert score(written("def score(item, response):\n    return 1\n", file="json.py")) == Score(1.0)
    import json

    assert json.loads("1") == 1
    assert all(name.startswith("user_utility_") for name in set(sys.modules) - before)


def test_the_same_file_is_run_once(written, tmp_path):
    spec = written(
        "from pathlib import Path\n"
        "with (Path(__file__).parent / 'ran').open('a') as file:\n    file.write('x')\n"
        "def score(item, response): return 1\n"
        "def other(item, response): return 2\n"
    )
    assert score(spec) == score(spec) == Score(1.0)
    assert score(spec.replace(":score", ":other")) == Score(2.0)
    assert (tmp_path / "ran").read_text() == "xx", "in the child of each function"


def test_a_file_that_changed_is_run_again_even_within_the_same_second(written, tmp_path):
    text = "def score(item, response):\n    return {}\n"
    spec = written(text.format(1))
    assert score(spec) == Score(1.0)
    told = (tmp_path / "my_file.py").stat()
    written(text.format(2))
    os.utime(tmp_path / "my_file.py", ns=(told.st_atime_ns, told.st_mtime_ns))  # same size, same time
    assert score(spec) == Score(2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["my_file.py"], "nothing is left beside a user's file"


def test_two_files_of_the_same_text_are_two_modules(written, tmp_path):
    text = "from pathlib import Path\ndef score(item, response): return float(Path(__file__).stem)\n"
    assert [score(written(text, file=f"{k}.py")) for k in (1, 2)] == [Score(1.0), Score(2.0)]


def test_a_file_in_another_encoding_says_so_and_is_read(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes("# -*- coding: latin-1 -*-\ndef score(item, response):\n    return len('é')\n".encode("latin-1"))
    assert score(f"{path}:score") == Score(1.0)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (GOOD, "decoratd", ["unknown utility", "my_file.py", "'decoratd'", "Did you mean 'decorated'?", "plain"]),
        (GOOD, "plian", ["Did you mean 'plain'?"]),
        (GOOD, "Hole", ["Did you mean 'Whole'?"]),
        (GOOD, "LIMIT", ["my_file.py:LIMIT", "3 is no function"]),
        ("", "score", ["unknown utility", "Known: none"]),
        ("def score(item, response:\n    return 1\n", "score", ["my_file.py, line 1", "SyntaxError"]),
        ("x = 1\n\ndef score(item, response)\n    return 1\n", "score", ["my_file.py, line 3", "SyntaxError"]),
        ("x = 1\nraise ValueError('no luck')\n", "score", ["my_file.py, line 2", "ValueError: no luck"]),
        ("def f():\n    return g()\n\nf()\n", "score", ["my_file.py, line 2", "NameError"]),
        ("import json\n\njson.loads('{')\n", "score", ["my_file.py, line 3", "JSONDecodeError"]),
        ("import no_such_library\n", "score", ["line 1", "ModuleNotFoundError", "no_such_library"]),
        ("import sys\nsys.exit(0)\n", "score", ["line 2", "SystemExit"]),
        ("x = '\0'\n", "score", ["could not be run"]),
        ("def score(response):\n    return 1\n", "score", ["my_file.py:score", "must take two arguments"]),
        ("def score(a, b, c):\n    return 1\n", "score", ["must take two arguments"]),
        ("async def score(item, response):\n    return 1\n", "score", ["my_file.py:score", "score is async"]),
        ("class Score:\n    def check(self, item): ...\n", "Score", ["the class has no __call__, score"]),
        (GOOD.replace("def check", "def chek"), "Whole", ["the class has no check"]),
        (
            "from utilities import utility\n@utility(max_token=3)\ndef score(item, response): ...\n",
            "score",
            ["line 2", "UserError", "max_token"],
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_file_and_line(written, text, name, words):
    refused(written(text, name), *words)


def test_a_file_that_could_not_be_run_is_run_again_when_mended(written):
    refused(written("raise ValueError\n"), "ValueError")
    refused(written("raise ValueError\n"), "ValueError")
    assert score(written("def score(item, response): return 1\n")) == Score(1.0)


def test_a_file_that_is_not_there_is_named(tmp_path):
    refused(f"{tmp_path}/my_file.py:score", "does not exist", f"{tmp_path}/my_file.py")
    (tmp_path / "folder.py").mkdir()
    refused(f"{tmp_path}/folder.py:score", "does not exist")


@pytest.mark.parametrize("spec", ["my_file.py:", "my_file.py", "/some/where.py"])
def test_a_file_without_a_name_says_what_is_expected(spec):
    refused(spec, spec, "expected FILE.py:NAME")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("a.py:f", "a.py"),
        ("/b/a.py:f", "/b/a.py"),
        ("b:c/a.py:f", "b:c/a.py"),
        ("numeric", None),
        ("a.py", None),
        ("a.txt:f", None),
        ("", None),
    ],
)
def test_only_a_python_file_and_a_name_is_a_file(spec, path):
    assert file_of(spec) == (path and Path(path))


def test_a_spec_is_made_absolute_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert absolute_spec("a.py:f", tmp_path / "b") == f"{tmp_path}/b/a.py:f"
    assert absolute_spec("../a.py:f", tmp_path / "b") == f"{tmp_path}/a.py:f"
    assert absolute_spec("a.py:f", Path()) == f"{tmp_path}/a.py:f"
    assert absolute_spec("/c/a.py:f", tmp_path) == "/c/a.py:f"
    assert absolute_spec("~/a.py:f", tmp_path) == f"{tmp_path}/home/a.py:f"
    assert absolute_spec("numeric", tmp_path) == "numeric"


def test_what_is_given_back_makes_scorers(written):
    maker = scorer_from_file(written(GOOD, "decorated"))
    assert maker() is not maker()
    own = make_scorer(written(GOOD, "Whole"), {})
    assert re.fullmatch(r"user_utility_[0-9a-f]{12}", type(own).__module__)
    assert (own.judged, own.objectives, own.smooth_scorer()) == (False, (), None)
