"""Objects in place of names, and the names that then describe them."""

from pathlib import Path

import pytest

from harness.session.objects import with_names
from harness.session.settings import run_settings
from harness.swarm.optimisers import make_optimiser
from harness.swarm.random_search import RandomSearch
from utilities.core import Item, Response, scorer_registry
from utilities.errors import UserError
from utilities.scorer_by_name import make_scorer
from utilities.scorers import ExactMatch, Numeric, utility
from utilities.tasks import load_task

ITEMS = [Item(id=str(k), question=f"What is {k}?", answer=str(k)) for k in range(5)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(scorer_registry, "_entries", dict(scorer_registry._entries))


def one(item, response):
    return 1.0


@utility(max_tokens=7)
def brief(item, response):
    return 0.5


def test_names_and_values_stay_as_they_are():
    settings = {"task": "medical", "utility": "exact_match", "seed": 3, "experts": ("a", "b"), "limit": None}
    assert with_names(settings) == settings


def test_paths_become_texts():
    named = with_names({"task": Path("my.yaml"), "experts": [Path("a"), "b"], "base_model": Path("base")})
    assert named == {"task": "my.yaml", "experts": ("a", "b"), "base_model": "base"}
    assert with_names({"experts": Path("a")}) == {"experts": ("a",)}
    assert with_names({"option": {"pattern": "x", "max_tokens": 3}}) == {"option": ('pattern="x"', "max_tokens=3")}


@pytest.mark.parametrize(
    ("thing", "kind"),
    [(one, "FunctionScorer"), (brief, "FunctionScorer"), (Numeric, "Numeric"), (ExactMatch("number"), "ExactMatch")],
)
def test_a_utility_is_registered_once_and_scores(thing, kind):
    name = with_names({"utility": thing})["utility"]
    assert with_names({"utility": thing})["utility"] == name
    scorer = make_scorer(name, {})
    assert type(scorer).__name__ == kind
    if thing is brief:
        assert (scorer.max_tokens, scorer.score_one(ITEMS[0], Response("x")).value) == (7, 0.5)


def test_two_utilities_of_one_name_are_told_apart():
    def one(item, response):
        return 0.0

    names = [with_names({"utility": function})["utility"] for function in (globals()["one"], one)]
    assert names == ["one", "one-2"]
    values = [make_scorer(name, {}).score_one(ITEMS[0], Response("x")).value for name in names]
    assert values == [1.0, 0.0]


def test_items_become_a_task_file():
    path = with_names({"task": ITEMS})["task"]
    task = load_task(path)
    assert [item.id for item in task.item_sets["items"].dev] == ["0", "1"]
    assert [item.id for item in task.item_sets["items"].test] == ["2", "3", "4"]
    assert isinstance(task.item_sets["items"].scorer, ExactMatch)
    assert with_names({"task": ITEMS})["task"] == path, "the same items have the same file"
    splits = {"dev": ITEMS[:1], "test": ITEMS[1:2]}
    named = with_names({"task": splits, "utility": one})
    assert load_task(named["task"]).item_sets["items"].scorer.score_one(ITEMS[0], Response("x")).value == 1.0


def test_a_task_keeps_its_item_sets_scorers_and_combination():
    task = load_task("medical", edition="mini", limit=3, combine="minimum")
    again = load_task(with_names({"task": task})["task"])
    assert (again.name, again.combination, again.size("dev")) == ("medical", "minimum", 6)
    for name, s in task.item_sets.items():
        assert again.item_sets[name].scorer is s.scorer
        assert again.item_sets[name].test == s.test


def test_an_optimiser_is_registered():
    def my_search(columns, settings, seed, groups):
        return RandomSearch(columns, seed, settings.particles)

    settings = run_settings(with_names({"task": "medical", "optimiser": my_search}))
    assert settings.swarm.optimiser == "my_search"
    assert make_optimiser(3, 3, settings.swarm, 0).ask().shape == (3, 3)


@pytest.mark.parametrize("task", [3, [], ITEMS[:1], {"dev": ITEMS}, ["a", "b"]])
def test_what_is_no_task_is_refused(task):
    with pytest.raises(UserError, match="task: expected a name, a task file, a Task, at least two Items"):
        with_names({"task": task})


def test_what_is_no_utility_is_refused():
    with pytest.raises(UserError, match="must take two arguments"):
        with_names({"utility": lambda text: 1.0})
