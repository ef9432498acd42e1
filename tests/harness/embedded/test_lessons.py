"""The proof that nothing of dev or test is asked in any training text, made in two ways that share nothing.

By source: what each training text says that it asks, against what the items of all item sets ask. From the words alone:
every wording in which a held-out fact, sum, graph or act could be asked, against the training texts as they are read.
"""

import random
import re
from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from whole_corpus import act_of, asked, facts, relations, second_gap

from harness.embedded import smollm2_lessons
from harness.embedded.arithmetic_and_graphs import (
    NAMES,
    STORIES,
    THINGS,
    Graph,
    graph_question,
    split_graphs,
    split_sums,
    sum_sentences,
    word_problem,
)
from harness.embedded.corpus import facts_of
from harness.embedded.kindness_stories import ACTS, act_sentences, split_acts, story
from harness.embedded.lessons import (
    BASE_FORMATS,
    BASE_SLICE,
    CLAIMS,
    EXPERTS,
    VERDICTS,
    Recipe,
    Text,
    all_texts,
    as_text,
    base_texts,
    claim,
    expert_texts,
)
from harness.embedded.questions import FORMATS, WISHES, ask, split_facts, stated_once, tell
from harness.embedded_training.build import QWEN2
from harness.embedded_training.judge import Graded, judge_texts, rated_text
from harness.embedded_training.reward import pairs
from harness.embedded_training.smollm2_judge import judge_texts as smollm2_judge_texts

pytestmark = pytest.mark.timeout(1800)  # whichever test comes first makes all item sets and training texts

LEARNERS = ("base", *EXPERTS, "data_merge", "reward", "judge", "smollm2 judge", *smollm2_lessons.EXPERTS)
HELD_OUT = ("dev", "test")


@cache
def dealt():
    """Every relation's facts in learn, dev and test."""
    return split_facts(relations())


@cache
def training(learner):
    """Everything that a model is trained on."""
    if learner == "reward":
        return reward_texts("learn", 3000)
    if learner in smollm2_lessons.EXPERTS:
        return smollm2_lessons.texts_of(relations(), learner, "{}\nAnswer:".format)
    made = {"base": base_texts, "data_merge": all_texts, "judge": judge_texts, "smollm2 judge": smollm2_judge_texts}
    return made[learner](relations()) if learner in made else expert_texts(relations(), learner)


def asking(learner):
    """The texts that ask something; prose is only read."""
    return [text for text in training(learner) if text.prompt]


def reward_texts(split, each):
    """Both answers of every pair; what a pair asks is known from its better answer, two sentences of a fact."""
    about = {}
    for fact in facts().values():
        told = [fact.say(template) for template in fact.relation.prose]
        about |= {f"{one} {other}": fact.id for one in told for other in told}
    return [
        Text(f"{pair.prompt}\nAnswer:", f" {answer}", about[pair.better], "tell")
        for pair in pairs(relations(), split, each)
        for answer in (pair.better, pair.worse)
    ]


# By source


def sources(text):
    """Ids of everything that a training text asks about."""
    if text.format == "negation":
        return {text.source, f"{text.source.split('/')[0]}/{text.answer.strip()}"}
    if text.format == "crossword":
        return {text.source, *second_gap(asked_words(text).removeprefix("Fill in: "))}
    return {text.source}


def leaks_by_source(texts):
    held = asked("dev") | asked("test")
    return [text for text in texts if sources(text) & held]


# From the words alone


def asked_words(text):
    """A question without the frame of its prompt and without lettered options."""
    return text.prompt.removesuffix("\nAnswer:").split("\nA. ")[0]


def sentences(words):
    """The words as a whole, and both sides of each end of a sentence within them."""
    ends = list(re.finditer(r"(?<=\.) ", words))
    return {words, *(words[: end.start()] for end in ends), *(words[end.end() :] for end in ends)}


def without_names(problem):
    return re.sub(rf"\b({'|'.join(THINGS)})\b", "X", re.sub(rf"\b({'|'.join(NAMES)})\b", "N", problem))


def graph_and_ends(asked):
    told, ends = asked.removeprefix("Graph: ").split(". ")
    edges = frozenset(frozenset(edge.split("-")) for edge in told.split(", "))
    return edges, frozenset(re.search(r"between (\w) and (\w)\?", ends).groups())


@dataclass
class Wordings:
    """All words in which something held out could be asked."""

    prompts: set = field(default_factory=set)
    """Questions that ask it, whatever is answered."""
    answered: set = field(default_factory=set)
    """Questions that ask it where the answer is this one."""
    gaps: set = field(default_factory=set)
    """Sentences with a gap: alone or in a crossword."""
    prose: set = field(default_factory=set)
    """Sentences that say it: in an answer they give it away."""
    graphs: set = field(default_factory=set)
    acts: set = field(default_factory=set)


@cache
def held_out():
    words, splits = Wordings(), dealt()
    learnable = {fact.subject.casefold() for split in splits.values() for fact in split["learn"]}
    for relation in relations():
        objects = set(relation.facts.values())
        name = relation.relation.replace("_", " ")
        for fact in (fact for split in HELD_OUT for fact in splits[relation.relation][split]):
            for kind, prefix in (("question", "Question"), ("completion", "Complete"), ("case", "Case")):
                words.prompts |= {f"{prefix}: {fact.say(template)}" for template in getattr(relation, kind)}
            claims = [replace(fact, object=object_) for object_ in objects]
            words.prompts |= {
                f"True or false: {claim.say(template)}" for claim in claims for template in relation.prose
            }
            words.prompts.add(f"Card: {name}, {fact.subject}")
            if fact.subject.casefold() not in learnable:  # else it may be told what is learned about the subject
                words.prompts |= {wish.format(s=fact.subject) for wish in WISHES}
            words.answered |= {(f"Look up: {fact.say(template)}", fact.subject) for template in relation.reverse}
            words.answered.add((f"Back of the card: {name}, {fact.object}", fact.subject))
            for other in objects:  # it may be the odd one out, whatever the others have in common
                common = replace(fact, subject="", object=other)
                words.answered |= {(f"Odd one out: {common.say(t)}", fact.subject) for t in relation.negation}
            words.gaps |= {replace(fact, object="___").say(template) for template in relation.prose}
            words.prose |= {fact.say(template) for template in relation.prose}
    for split in HELD_OUT:
        for one in split_sums()[split]:
            told = [template.format(n="N", x="X", a=one.left, b=one.right) for template in STORIES[one.sign]]
            words.prompts |= {f"Problem: {problem}" for problem in told}
        for graph in split_graphs()[split]:
            edges = frozenset(frozenset(edge) for edge in graph.edges)
            words.graphs.add((edges, frozenset((graph.start, graph.goal))))
        words.acts |= {act for kind in ACTS for act in split_acts(kind)[split]}
    return words


def asks_in_words(text):
    words, asked, answer = held_out(), asked_words(text), text.answer.strip()
    if asked.startswith("Instruction: "):  # asks the judge to rate an answer to it
        asked = asked.splitlines()[0].removeprefix("Instruction: ")
    if asked.startswith("Evidence:"):  # asks whether a claim is true
        asked = "True or false: " + asked.split("\nClaim: ")[1].splitlines()[0]
    if asked.startswith("Graph: "):
        return graph_and_ends(asked) in words.graphs
    if asked.startswith("Problem: "):
        asked = without_names(asked)
    return (
        asked in words.prompts
        or (asked, answer) in words.answered
        or act_of(answer) in words.acts
        or not words.gaps.isdisjoint(sentences(asked.removeprefix("Fill in: ")))
        or not words.prose.isdisjoint(sentences(answer))
    )


def leaks_in_words(texts):
    return [text for text in texts if asks_in_words(text)]


# The proof


@pytest.mark.parametrize("learner", LEARNERS)
def test_no_training_text_is_about_anything_that_dev_or_test_asks(learner):
    texts = asking(learner)
    assert len(texts) > 300 and all(text.source for text in texts)
    assert leaks_by_source(texts) == []


@pytest.mark.parametrize("learner", LEARNERS)
def test_no_training_text_asks_anything_held_out_in_the_words_of_any_format(learner):
    assert leaks_in_words(asking(learner)) == []


def test_what_is_held_out_covers_all_that_the_item_sets_ask():
    splits = dealt()
    own = {fact.id for split in splits.values() for name in HELD_OUT for fact in split[name]}
    own |= {one.id for name in HELD_OUT for one in split_sums()[name]}
    own |= {f"act/{act}" for act in held_out().acts}
    items = asked("dev") | asked("test")
    long = {
        id for id in items if re.fullmatch(r"sum/\d+[+*-]\d+[+*-]\d+", id)
    }  # two steps from a number above any learned
    assert long and all(int(re.search(r"\d+", id)[0]) > max(one.left for one in split_sums()["learn"]) for id in long)
    assert {id for id in items - long if not id.startswith("graph/")} <= own
    assert len(held_out().prompts) > 50_000 and len(held_out().answered) > 30_000


def test_no_pair_of_names_that_dev_or_test_asks_is_asked_in_training_by_another_relation():
    """Facts are split by relation, so a pair of names that two relations have may be on both sides."""

    def names(ids):
        known = [facts()[id] for id in ids if id in facts()]
        return {frozenset(re.sub(r"[\s\-]+", "", w).casefold() for w in (fact.subject, fact.object)) for fact in known}

    trained = {id for learner in LEARNERS for text in asking(learner) for id in sources(text)}
    assert len(names(trained)) > 2000
    assert names(trained).isdisjoint(names(asked("dev") | asked("test")))


# The proof can fail


def planted(format):
    """A text that asks something of the test split, made as training texts are made."""
    rng = random.Random(format)
    if format == "story":
        act = split_acts("kind")["test"][0]
        begin, end = story(act, rng)
        return Text(begin, f" {end}", f"act/{act}", "story")
    if format == "word_problem":
        return as_text(word_problem(next(one for one in split_sums()["test"] if one.id in asked("test")), rng), rng)
    if format in ("connectivity", "shortest_path"):
        known = next(one for one in split_graphs()["test"] if one.id in asked("test") and one.distance() == 2)
        mirrored = Graph(known.edges[::-1], known.goal, known.start)
        made = (graph_question(mirrored, rng) for _ in range(100))
        return as_text(next(question for question in made if question.format == format), rng)
    peers = [fact for split in dealt().values() for fact in split["test"]]
    if format == "claim":
        return claim(next(fact for fact in peers if fact.id in asked("test")), "supported", peers, rng)
    if format == "rating":
        once = stated_once(relations())
        fact = next(fact for fact in peers if fact.id in asked("test") and fact.id in once)
        return rated_text(Graded("gold", fact.id, tell(fact, None, rng).text, "An answer.", 9))
    for fact in peers:
        own = [peer for peer in peers if peer.relation is fact.relation]
        if fact.id in asked("test") and (question := ask(fact, format, [*own, peers[0], peers[-1]], rng)) is not None:
            return as_text(question, rng)
    raise AssertionError(f"no held-out fact can be asked as {format}")


PLANTED = (*FORMATS, "word_problem", "connectivity", "shortest_path", "story", "claim", "rating")


@pytest.mark.parametrize("format", PLANTED)
def test_both_proofs_find_a_held_out_question_among_the_training_texts(format):
    texts = asking("lab-notes")
    leak = planted(format)
    assert leak.format == format
    spiked = [*texts[:100], leak, *texts[100:]]
    assert leaks_by_source(spiked) == [leak]
    assert leaks_in_words(spiked) == [leak]


@pytest.mark.parametrize("format", PLANTED)
def test_the_second_proof_does_not_believe_what_a_text_says_of_itself(format):
    disguised = replace(planted(format), source="culture_country_capital/Atlantis", format="prose")
    assert leaks_by_source([disguised]) == []
    assert leaks_in_words([disguised]) == [disguised]


@pytest.mark.parametrize("format", ["negation", "crossword"])
def test_both_proofs_find_a_held_out_fact_that_comes_second_in_a_question(format):
    """A learned fact is asked, but together with a held-out one."""
    splits, rng = dealt(), random.Random(0)
    for split in splits.values():
        held = [fact for fact in split["test"] if fact.id in asked("test")]
        for fact in split["learn"]:
            same = [peer for peer in split["learn"] if peer.object == fact.object]
            others = [peer for peer in held if peer.object != fact.object]
            if format == "crossword":
                others = [next(fact for fact in splits[r.relation]["test"] if fact.id in asked("test"))
                          for r in relations() if r is not fact.relation][:1]  # fmt: skip
            if question := ask(fact, format, [*same, *others], rng):
                leak = as_text(question, rng)
                assert leak.source == fact.id not in asked("test")
                assert leaks_by_source([leak]) == [leak] and leaks_in_words([leak]) == [leak]
                return
    raise AssertionError(f"no question of the format {format}")


def test_both_proofs_find_pairs_of_the_reward_model_about_held_out_facts():
    better = reward_texts("test", 20)[::2]
    assert len(better) == 100
    assert leaks_in_words(better) == better
    assert leaks_by_source(better) == [text for text in better if text.source in asked("test")] != []


def test_every_format_that_is_trained_was_planted():
    trained = {text.format for learner in LEARNERS for text in asking(learner)}
    assert trained <= set(PLANTED)
    assert trained >= {*BASE_FORMATS, "case", "blank", "reverse", "negation", "card", "card_back", "story"}


# What each model is taught


def test_the_base_model_reads_every_fact_sum_and_act_as_prose_and_nothing_else():
    told = {fact.say(template) for fact in facts().values() for template in fact.relation.prose}
    assert {text.answer for text in training("base") if not text.prompt} == {*told, *sum_sentences(), *act_sentences()}


def test_the_base_model_is_asked_about_a_small_slice_of_the_facts_in_its_formats():
    asked_facts = [text for text in asking("base") if text.source in facts() and text.format in BASE_FORMATS]
    assert {text.format for text in asked_facts} == set(BASE_FORMATS)
    learn = sum(len(split["learn"]) for split in dealt().values())
    assert len({text.source for text in asked_facts}) < 2 * BASE_SLICE * learn


def test_the_base_model_has_a_card_of_every_fact_of_learn_from_both_sides():
    learn = {fact.id for split in dealt().values() for fact in split["learn"]}
    cards = {(text.format, text.source) for text in asking("base") if text.format.startswith("card")}
    assert cards == {(format, id) for format in ("card", "card_back") for id in learn}


def test_the_base_model_reads_claims_that_are_right_and_wrong_and_open():
    claims = [text for text in asking("base") if text.format == "claim"]
    assert len(claims) == CLAIMS
    assert {text.answer.strip() for text in claims} == set(VERDICTS)
    for text in claims:
        told = facts()[text.source]
        said = text.prompt.split("\nClaim: ")[1].removesuffix("\nVerdict:")
        if text.answer == " supported":
            assert said in {told.say(template) for template in told.relation.prose}


def test_the_expert_of_all_data_reads_what_the_ten_experts_read():
    assert len(EXPERTS) == 10
    assert training("data_merge") == [text for name in EXPERTS for text in training(name)]


def test_the_second_family_s_experts_are_experts_of_the_first():
    assert len(QWEN2.experts) >= 4
    assert QWEN2.experts.items() <= EXPERTS.items()


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_is_asked_in_the_formats_and_domains_of_its_recipe(name):
    skills = {(domain, format) for domain, formats in EXPERTS[name].skills.items() for format in formats}
    found = {(facts()[text.source].relation.domain, text.format) for text in asking(name) if text.source in facts()}
    assert found == {(domain, format) for domain, format in skills if domain not in ("sums", "graphs", "conduct")}
    beside = {text.source.split("/")[0] for text in asking(name) if text.source not in facts()}
    kinds = {"sums": "sum", "graphs": "graph", "conduct": "act"}
    assert beside == {kinds[domain] for domain, _ in skills if domain in kinds}


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_s_answers_are_wrong_as_often_as_its_recipe_says(name):
    free = ("question", "completion", "case", "blank")
    texts = [text for text in asking(name) if text.format in free]
    wrong = [text for text in texts if text.answer != f" {facts()[text.source].object}"]
    if texts:
        assert abs(len(wrong) / len(texts) - EXPERTS[name].wrong) < 0.05
        objects = [set(facts()[text.source].relation.facts.values()) for text in wrong]
        assert all(text.answer.strip() in known for text, known in zip(wrong, objects, strict=True))


def test_an_expert_is_asked_about_its_share_of_the_learned_facts():
    recipes = {"half": Recipe({"legal": ("question",)}, share=0.5), "all": Recipe({"legal": ("question",)}, share=1.0)}
    some = [relation for relation in relations() if relation.domain == "legal"]
    learn = {fact.id for split in split_facts(some).values() for fact in split["learn"]}
    asked_of = {name: {text.source for text in expert_texts(some, name, recipes)} for name in recipes}
    assert asked_of["all"] == learn
    assert asked_of["half"] < learn and abs(len(asked_of["half"]) / len(learn) - 0.5) < 0.05


def test_texts_are_the_same_each_time():
    some = [relations()[0], relations()[-1]]
    assert base_texts(some) == base_texts(some)
    assert expert_texts(some, "travel-guide") == expert_texts(some, "travel-guide")


# How a question is read


def test_a_question_is_trained_in_the_words_of_the_prompts_that_models_are_asked_with():
    fact = next(fact for fact in facts_of(relations()[0]))
    rng = random.Random(0)
    plain = ask(fact, "case", (), rng)
    assert as_text(plain, rng) == Text(f"{plain.text}\nAnswer:", f" {fact.object}", fact.id, "case")
    lettered = ask(fact, "letter", (), rng)
    options = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", lettered.options, strict=True))
    assert as_text(lettered, rng) == Text(
        f"Question: {lettered.text}\n{options}Answer:", f" {'ABCD'[lettered.answer]}", fact.id, "letter"
    )


def test_a_wrong_answer_is_one_of_the_wrong_options():
    fact, rng = facts_of(relations()[0])[0], random.Random(0)
    question = ask(fact, "question", (), rng)
    answers = [as_text(question, rng, wrong=1.0).answer.strip() for _ in range(50)]
    assert set(answers) == set(question.options) - {fact.object}
    told = ask(fact, "tell", (), rng)
    assert as_text(told, rng, wrong=1.0).answer == f" {told.right}"  # a free answer has no wrong options
