import numpy as np
import pytest

from utilities.core import Evaluation, ItemResult, Reason, Response, Score, Unscored, Usage
from utilities.lab.scores import Scores

NAN = float("nan")


def evaluation(outcomes, text="one two", clusters=None, seconds=1.0):
    results = [
        ItemResult(f"i{k}", clusters[k] if clusters else f"i{k}", "", Response(text, tokens=3), outcome)
        for k, outcome in enumerate(outcomes)
    ]
    return Evaluation.of(results, Usage(requests=len(results), seconds=seconds))


def some(values, items=None, **more):
    values = np.atleast_2d(np.array(values, dtype=float))
    names = items or [f"i{k}" for k in range(values.shape[1])]
    return Scores(tuple(f"m{k}" for k in range(len(values))), tuple(names), values, **more)


def test_scores_of_evaluations_keep_what_is_missing_and_why():
    late = Unscored(Reason.TIME)
    found = Scores.of(
        {
            "a": evaluation([Score(1.0), Score(0.0), late]),
            "b": evaluation([Score(0.5), Unscored(Reason.MALFORMED), late], text="one"),
        }
    )
    assert found.models == ("a", "b")
    assert found.items == found.clusters == ("i0", "i1", "i2")
    np.testing.assert_equal(found.values, [[1, 0, NAN], [0.5, NAN, NAN]])
    np.testing.assert_equal(found.words, [[2, 2, 2], [1, 1, 1]])
    assert found.reasons == {"time": 2, "malformed": 1}
    assert found.usage == Usage(6, 2.0)
    assert found.tokens == 18
    np.testing.assert_allclose(found.means, [0.5, 0.5])
    assert found.shared.tolist() == [0]
    assert found.answers() == {("i0", "a"): 1.0, ("i1", "a"): 0.0, ("i0", "b"): 0.5}


def test_the_order_of_items_may_differ_between_models():
    one = evaluation([Score(1.0), Score(2.0)])
    turned = Evaluation.of(tuple(reversed(evaluation([Score(3.0), Score(4.0)]).results)))
    np.testing.assert_array_equal(Scores.of({"a": one, "b": turned}).values, [[1, 2], [3, 4]])


def test_item_sets_are_looked_at_together_and_share_their_sources():
    parts = {
        "x": evaluation([Score(1.0), Score(0.0)], clusters=["i0", "page"]),
        "y": evaluation([Score(0.5)], clusters=["page"]),
    }
    whole = Evaluation(0.5, None, 3, 0, parts=parts, usage=Usage(3, 2.0))
    together = Scores.of({"m": whole})
    assert together.items == ("x/i0", "x/i1", "y/i0")
    assert together.clusters == ("x/i0", "page", "page")


def test_an_answer_that_never_came_has_no_length():
    result = ItemResult("i", "i", "", Response("", finish_reason="unanswered"), Unscored(Reason.TRUNCATED))
    assert np.isnan(Scores.of({"m": Evaluation.of([result])}).words).all()


def test_evaluations_of_other_items_are_refused():
    with pytest.raises(ValueError, match="other items"):
        Scores.of({"a": evaluation([Score(1.0)]), "b": evaluation([Score(1.0), Score(1.0)])})
    with pytest.raises(ValueError, match="no evaluation"):
        Scores.of({})


def test_nan_never_enters_a_mean_and_a_model_without_scores_has_none():
    found = some([[1.0, NAN, 3.0], [NAN, NAN, NAN]])
    np.testing.assert_equal(found.means, [2.0, NAN])


def test_a_part_of_the_items():
    part = some([[1, 2, 3], [4, 5, 6]], clusters=("a", "a", "b")).take([2, 0])
    assert (part.items, part.clusters) == (("i2", "i0"), ("b", "a"))
    np.testing.assert_array_equal(part.values, [[3, 1], [6, 4]])


@pytest.mark.parametrize(
    ("values", "models", "told"),
    [
        (np.full((1, 30), NAN), 1, "no answer was scored (malformed 30 times)"),
        (np.ones((1, 30)), 2, "one model with a score, and at least 2 are needed"),
        (np.ones((2, 30)), 3, "2 models with a score, and at least 3 are needed"),
        (np.ones((2, 19)), 1, "19 scored items, and below 20 an interval is not informative"),
        (np.ones((2, 19)), 2, "19 items with a score of every model"),
        (np.ones((2, 20)), 2, None),
    ],
)
def test_what_is_lacking_is_said_in_words(values, models, told):
    found = some(values, reasons={"malformed": 30}).lacking(models)
    assert found == told if told is None else found.startswith(told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"values": np.ones((2, 2))}, "1 models and 2 items"),
        ({"clusters": ("a",)}, "1 clusters"),
        ({"items": ("i", "i")}, "twice"),
        ({"values": np.array([[1, np.inf]])}, "infinite"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        Scores(**{"models": ("m",), "items": ("i", "j"), "values": np.ones((1, 2)), **arguments})
