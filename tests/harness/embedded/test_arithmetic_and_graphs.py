"""Sums and graphs: answers are right by another reckoning, and no problem is in two splits."""

import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

from harness.embedded.arithmetic_and_graphs import (
    GRAPHS,
    NAMES,
    STORIES,
    THINGS,
    Graph,
    Sum,
    graph_question,
    split_graphs,
    split_sums,
    sum_sentences,
    word_problem,
)
from harness.embedded.questions import SHARES

SUMS = split_sums()
SPLIT_GRAPHS = split_graphs()

# Sums


def answer_of(story):
    """What a story asks for, read without the code that told it."""
    first, second = (int(number) for number in re.findall(r"\d+", story))
    if " in each" in story or "Each of" in story:
        return first * second
    if " more" in story or "evening" in story:
        return first + second
    assert re.search("gives|lost|takes", story), story
    return first - second


@pytest.mark.parametrize("split", SHARES)
def test_a_word_problem_is_answered_by_the_number_that_it_asks_for(split):
    rng = random.Random(split)
    for one in SUMS[split]:
        question = word_problem(one, rng)
        assert (question.format, question.source) == ("word_problem", one.id)
        assert question.text.startswith("Problem: ") and "{" not in question.text
        assert question.options == (str(answer_of(question.text)),) and answer_of(question.text) > 0


def test_every_story_is_told_with_every_kind_of_sum_and_in_other_words_each_time():
    rng = random.Random(0)
    for sign, templates in STORIES.items():
        told = [word_problem(Sum(5, sign, 3), rng).text for _ in range(200)]
        plain = {re.sub("|".join(THINGS), "X", re.sub("|".join(NAMES), "N", text)) for text in told}
        assert plain == {f"Problem: {one.format(n='N', a=5, b=3, x='X')}" for one in templates}
        assert len(set(told)) > 80


def test_a_sum_is_told_to_the_base_model_rightly_in_two_sentences():
    told = sum_sentences()
    assert len(told) == len(set(told)) == 2 * sum(len(split) for split in SUMS.values())
    for sentence in told:
        a, b, c = (int(number) for number in re.findall(r"\d+", sentence))
        if "plus" in sentence or "Adding" in sentence:
            assert a + b == c, sentence
        elif "minus" in sentence:
            assert a - b == c, sentence
        elif "Taking" in sentence:
            assert b - a == c, sentence
        else:
            assert a * b == c and re.search("times|groups", sentence), sentence


def test_no_sum_is_in_two_splits_and_each_kind_is_dealt_out_by_the_shares():
    owners = defaultdict(set)
    for name, split in SUMS.items():
        for one in split:
            owners[one.id].add(name)
    assert max(map(len, owners.values())) == 1 and len(owners) > 500
    assert Sum(3, "+", 4).id == Sum(4, "+", 3).id and Sum(9, "-", 4).id != Sum(4, "-", 9).id
    assert split_sums() == SUMS
    for sign in STORIES:
        sizes = {name: sum(one.sign == sign for one in split) for name, split in SUMS.items()}
        for name, share in SHARES.items():
            # a sum and its mirror image go together, and squares have none
            assert abs(sizes[name] - share * sum(sizes.values())) <= 0.03 * sum(sizes.values()), (sign, name)


# Graphs


def distance_by_scipy(graph):
    matrix = np.zeros((6, 6))
    for one, other in graph.edges:
        matrix["ABCDEF".index(one), "ABCDEF".index(other)] = 1
    found = shortest_path(matrix, directed=False, unweighted=True)
    length = found["ABCDEF".index(graph.start), "ABCDEF".index(graph.goal)]
    return None if np.isinf(length) else int(length)


def what_is_asked(graph):
    """The graph and the two nodes, whatever the order in which they are told."""
    return frozenset(frozenset(edge) for edge in graph.edges), frozenset((graph.start, graph.goal))


@pytest.mark.parametrize("split", GRAPHS)
def test_the_distance_is_the_one_that_scipy_finds(split):
    for graph in SPLIT_GRAPHS[split]:
        assert graph.distance() == distance_by_scipy(graph), graph


def test_a_graph_whose_start_is_its_goal_and_one_without_a_path_are_measured():
    assert Graph((("A", "B"),), "A", "A").distance() == 0
    assert Graph((("A", "B"), ("C", "D")), "A", "D").distance() is None
    assert Graph((("B", "A"), ("C", "B"), ("A", "D"), ("D", "C"), ("C", "E")), "E", "A").distance() == 3


def test_a_graph_has_one_name_in_whatever_order_its_edges_are_told():
    graph = Graph((("A", "B"), ("C", "B"), ("E", "F")), "A", "C")
    assert Graph((("F", "E"), ("B", "C"), ("B", "A")), "A", "C").id == graph.id
    assert Graph(graph.edges, "A", "E").id != graph.id
    assert Graph((("A", "B"), ("C", "B"), ("E", "D")), "A", "C").id != graph.id


def test_no_graph_is_asked_about_in_two_splits_not_even_from_its_other_end():
    asked = [what_is_asked(graph) for split in SPLIT_GRAPHS.values() for graph in split]
    assert len(set(asked)) == len(asked) == sum(GRAPHS.values())
    assert {name: len(split) for name, split in SPLIT_GRAPHS.items()} == GRAPHS
    assert split_graphs() == SPLIT_GRAPHS
    for split in SPLIT_GRAPHS.values():
        for graph in split:
            edges, pair = what_is_asked(graph)
            assert len(pair) == 2 and 4 <= len(edges) == len(graph.edges) <= 6


@pytest.mark.parametrize("split", GRAPHS)
def test_a_third_of_the_questions_is_answered_yes_a_third_no_and_a_third_with_a_number(split):
    rng = random.Random(split)
    questions = [graph_question(graph, rng) for graph in SPLIT_GRAPHS[split]]
    answers = Counter(one.right if one.format == "connectivity" else "number" for one in questions)
    assert set(answers) == {"Yes", "No", "number"}
    for kind, count in answers.items():
        assert abs(count / len(questions) - 1 / 3) < 0.06, (kind, answers)


def test_a_graph_question_tells_the_whole_graph_and_its_answer_is_right():
    rng = random.Random(0)
    for graph in SPLIT_GRAPHS["dev"]:
        question = graph_question(graph, rng)
        told, asked = question.text.removeprefix("Graph: ").split(". ")
        start, goal = re.search(r"between (\w) and (\w)\?$", asked).groups()
        read = Graph(tuple(tuple(edge.split("-")) for edge in told.split(", ")), start, goal)
        assert what_is_asked(read) == what_is_asked(graph) and question.source == graph.id
        length = distance_by_scipy(read)
        right = str(length) if question.format == "shortest_path" else ("No" if length is None else "Yes")
        assert question.options == (right,) and ("shortest" in asked) == (question.format == "shortest_path")
