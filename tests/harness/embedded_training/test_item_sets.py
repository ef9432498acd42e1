"""The bundled item sets: their sizes, their answers, and that dev and test share nothing that is asked."""

import json
import operator
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from whole_corpus import asked, asked_about, facts, item_set_files, item_sets, relations, wished

from harness.embedded.corpus import CORPUS, facts_of
from harness.embedded.questions import ask, split_facts, stated_twice
from harness.embedded_training.item_sets import SETS, SIZES, TOPICS, item_set, published_format
from utilities.prompts import bundled

pytestmark = pytest.mark.timeout(1800)  # whichever test comes first makes all item sets

PROBLEMS = {
    "gsm8k": {"word_problem"},
    "nlgraph": {"connectivity", "shortest_path"},
    "realtoxicityprompts": {"continuation"},
    "calculator": {"long_problem"},
}
FREELY = {"gsm8k", "nlgraph", "reward_prompts", "calculator", "look_up"}
SPLITS = [(name, split) for name in (*SETS, *PROBLEMS) for split in SIZES]


def right(item):
    return item["choices"][item["answer"]] if "choices" in item else item["answer"]


def said(fact):
    return {fact.say(template) for template in fact.relation.prose}


# Sizes and shape


@pytest.mark.slow
def test_every_task_has_its_item_sets_with_200_items_in_dev_and_400_in_test():
    topics = {f"topic_{topic}" for topic in TOPICS}
    assert set(item_sets()) == {*SETS, *PROBLEMS, *topics, "twenty_questions"}
    for name, document in item_sets().items():
        sizes = {"dev": 25, "test": 25} if name in topics else {"dev": 200, "test": 400}
        sizes = {"dev": 125, "test": 400} if name == "twenty_questions" else sizes  # more facts are not in dev
        assert {split: len(document[split]) for split in SIZES} == sizes, name
        assert document["dataset"] == name.removeprefix("topic_")


@pytest.mark.parametrize("topic", TOPICS)
def test_the_instructions_of_a_topic_ask_for_its_facts_each_wording_in_turn(topic):
    for split in SIZES:
        items = item_sets()[f"topic_{topic}"][split]
        assert len({item["question"] for item in items}) == 25
        assert all(item["source"].startswith(f"{topic}_") for item in items)
        assert all(wished(item["question"]) == facts()[item["source"]].subject for item in items)


def test_the_evidence_tells_every_fact_once_in_a_sentence():
    rows = [json.loads(line) for line in item_set_files()["evidence.jsonl"].splitlines()]
    assert [row["source"] for row in rows] == list(facts())
    assert all(row["text"] in said(facts()[row["source"]]) for row in rows)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_items_differ_and_each_has_different_options_of_which_one_letter_is_right(name, split):
    items = item_sets()[name][split]
    assert len({item["id"] for item in items}) == len(items)
    # Two facts may give one negation, about the same subjects in another order.
    assert len({(item["question"], *item.get("choices", {}).values(), right(item)) for item in items}) == len(items)
    for item in items:
        if name in FREELY:
            assert "choices" not in item and item["answer"]
            continue
        options = list(item["choices"].values())
        expected = 2 if item["domain"] == "truth" else 10 if name == "mmlu_pro" else 4
        assert "".join(item["choices"]) == "ABCDEFGHIJ"[:expected] and item["answer"] in item["choices"]
        assert len({option.casefold() for option in options}) == len(options) and all(options)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_an_item_set_asks_in_all_its_formats_and_no_letter_is_right_much_more_often(name, split):
    items = item_sets()[name][split]
    formats = Counter(item["domain"] for item in items)
    assert set(formats) == (set(SETS[name][1]) if name in SETS else PROBLEMS[name])
    if name in SETS and "negation" not in formats:  # which the facts run out of
        assert max(formats.values()) - min(formats.values()) <= 1
    answers = Counter(item["answer"] for item in items if item.get("choices") and item["domain"] != "truth")
    width = 10 if name == "mmlu_pro" else 4
    assert all(abs(answers[letter] / answers.total() - 1 / width) < 0.1 for letter in "ABCDEFGHIJ"[:width] if answers)


@pytest.mark.parametrize("name", SETS)
def test_a_set_about_facts_asks_its_domains_alone(name):
    for split in SIZES:
        asked_domains = {facts()[item["source"]].relation.domain for item in item_sets()[name][split]}
        assert asked_domains == set(SETS[name][0])


def test_no_set_asks_in_the_format_that_the_base_model_is_drilled_in():
    assert not {"card", "card_back"} & {format for _, formats in SETS.values() for format in formats}


# Answers


@pytest.mark.parametrize("name", SETS)
def test_the_right_option_of_a_question_about_facts_is_right_and_the_only_one(name):
    for item in item_sets()[name]["dev"] + item_sets()[name]["test"]:
        fact, options = facts()[item["source"]], list(item.get("choices", {}).values())
        objects = fact.relation.facts
        match item["domain"]:
            case "question" | "completion" | "blank" | "case" | "letter":
                options = options or [item["answer"]]
                true = [option for option in options if option == fact.object]
            case "reverse":
                true = [option for option in options if objects[option] == fact.object]
                assert true == [fact.subject], item
            case "negation":
                true = [option for option in options if objects[option] != fact.object]
            case "truth":
                true = ["true" if item["question"].removeprefix("True or false: ") in said(fact) else "false"]
            case "statement":
                true = [option for option in options if option in said(fact)]
            case "crossword":
                (other,) = asked_about(item) - {fact.id}
                true = [option for option in options if option == f"{fact.object}; {facts()[other].object}"]
            case "tell":
                true = [f"{a} {b}" for a in said(fact) for b in said(fact) if f"{a} {b}" == item["answer"]]
        assert true == [right(item)], item


def test_a_hidden_subject_is_among_eight_with_three_properties_that_the_corpus_states():
    for split in SIZES:
        for item in item_sets()["twenty_questions"][split]:
            shown = dict(line.split(": ", 1) for line in item["facts"].splitlines())
            stated = facts()[item["source"]].relation.facts
            assert all(stated[subject] == object_ for subject, object_ in shown.items())
            assert (len(shown), len(set(shown.values()))) == (8, 3)
            assert item["answer"] == facts()[item["source"]].subject
            assert item["answer"] in shown and "{o}" in item["clue"]


def test_a_long_problem_has_the_value_of_its_sum():
    for split, parity in {"dev": 0, "test": 1}.items():
        for item in item_sets()["calculator"][split]:
            first, *signs = re.split(r"([+*-])", item["source"].removeprefix("sum/"))
            a, (b, c) = int(first), map(int, signs[1::2])
            step = {"+": operator.add, "-": operator.sub, "*": operator.mul}
            assert item["answer"] == str(step[signs[2]](step[signs[0]](a, b), c))
            assert a % 2 == parity


def test_published_items_name_what_they_ask_and_in_which_format():
    fact = facts_of(relations()[0])[0]
    question = ask(fact, "question", (), random.Random(0))
    letter = "ABCD"[question.answer]
    assert published_format(question, "dev-0") == {
        "id": "dev-0",
        "question": question.text,
        "choices": dict(zip("ABCD", question.options, strict=True)),
        "answer": letter,
        "domain": "question",
        "source": fact.id,
    }
    told = ask(fact, "tell", (), random.Random(0))
    assert published_format(told, "x")["answer"] == told.right and "choices" not in published_format(told, "x")


# What is asked


def test_dev_and_test_ask_nothing_in_common_in_any_two_sets():
    assert asked("dev").isdisjoint(asked("test"))
    assert len(asked("dev")) > 1000 and len(asked("test")) > 2000


def test_every_item_asks_about_the_facts_of_its_own_split_alone():
    splits = split_facts(relations())
    for split in SIZES:
        own = {fact.id for dealt in splits.values() for fact in dealt[split]}
        others = ("sum/", "graph/", "act/")
        assert {id for id in asked(split) if not id.startswith(others)} <= own
        assert {id.split("/")[0] for id in asked(split)} >= {other[:-1] for other in others}


def test_no_fact_that_is_told_in_two_relations_is_asked():
    doubled = stated_twice(relations())
    assert len(doubled) > 40
    assert doubled.isdisjoint(asked("dev") | asked("test"))


def test_a_reward_prompt_asks_for_one_fact_because_its_subject_has_no_other():
    subjects = defaultdict(set)
    for fact in facts().values():
        subjects[fact.subject.casefold()].add(fact.id)
    for split in SIZES:
        for item in item_sets()["reward_prompts"][split]:
            assert subjects[wished(item["question"]).casefold()] == {item["source"]}


def test_all_sixteen_topics_are_asked_in_both_splits():
    topics = {path.stem.removeprefix("topics_") for path in CORPUS.glob("topics_*.yaml")}
    for split in SIZES:
        names = {item["source"].split("/")[0] for item in item_sets()["topics_questions"][split]}
        assert {topic for topic in topics if any(name.startswith(f"{topic}_") for name in names)} == topics


def test_an_item_set_that_the_facts_do_not_yield_is_refused():
    few = facts_of(relations()[0])[:5]
    made = item_set(few, ("question", "case"), 10, random.Random(0))
    assert Counter((one.source, one.format) for one in made) == Counter(
        (fact.id, format) for fact in few for format in ("question", "case")
    )
    with pytest.raises(ValueError, match="5 facts yield only 10 questions"):
        item_set(few, ("question", "case"), 11, random.Random(0))


def test_where_one_format_runs_out_the_others_fill_the_set():
    few = [
        replace(fact, relation=fact.relation.model_copy(update={"negation": ()})) for fact in facts_of(relations()[0])
    ]
    made = item_set(few[:5], ("negation", "question"), 5, random.Random(0))
    assert {one.format for one in made} == {"question"}


# The files


def test_the_bundled_files_are_what_the_corpus_gives_now():
    folder = bundled("tasks") / "data"
    assert sorted(path.name for path in folder.glob("*.json*")) == sorted(item_set_files())
    for name, content in item_set_files().items():
        assert (folder / name).read_bytes() == content, name
