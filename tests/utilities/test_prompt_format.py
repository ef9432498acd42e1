"""Items as prompts: templates, chats, system prompts and answered examples."""

import pickle

import pytest

from utilities.core import Chat, Item
from utilities.errors import UserError
from utilities.prompt_format import Example, draw_examples, prompt_format
from utilities.prompts import prompt_hash
from utilities.scorers import Abstain, ExactMatch, GoldLogprob, MultipleChoice, MultipleChoiceGenerated, YesNo

CHOICES = {"A": "red", "B": "blue"}


def asked(number, **more):
    return Item(**{"id": str(number), "question": f"What is {number}?", "answer": f"it {number}", **more})


def test_a_text_has_the_system_prompt_the_examples_and_the_question_between_empty_lines():
    scorer = ExactMatch(prompt="Q: {{ question }}\nA:", system_prompt="Be brief.", few_shot=2)
    scorer.show_examples([asked(1), asked(2), asked(3)])
    assert scorer.prompt.render(asked(9)) == (
        "Be brief.\n\nQ: What is 1?\nA: it 1\n\nQ: What is 2?\nA: it 2\n\nQ: What is 9?\nA:"
    )
    assert scorer.stop == ("\nQ:", "\n\n")


def test_a_chat_has_the_same_as_messages():
    scorer = ExactMatch(prompt="bare", system_prompt="Be brief.", few_shot=1, chat=True)
    scorer.show_examples([asked(1)])
    prompt = scorer.prompt.render(asked(9))
    assert isinstance(prompt, Chat)
    assert [(m["role"], m["content"]) for m in prompt.messages] == [
        ("system", "Be brief."), ("user", "What is 1?"), ("assistant", "it 1"), ("user", "What is 9?"),
    ]  # fmt: skip
    assert scorer.stop == ()
    assert pickle.loads(pickle.dumps(prompt)).messages == prompt.messages  # noqa: S301 - its own
    assert prompt_hash(prompt) != prompt_hash(Chat.of([("user", "What is 9?")]))


def test_columns_of_the_data_are_in_examples_questions_and_chats():
    template = "{{ row.land }}: {{ question }}\nA:"
    scorer = ExactMatch(prompt=template, few_shot=1)
    scorer.show_examples([asked(1, row={"land": "Peru"})])
    assert scorer.columns == ("land",)
    assert scorer.prompt.render(asked(2, row={"land": "Chad"})) == ("Peru: What is 1?\nA: it 1\n\nChad: What is 2?\nA:")
    assert draw_examples(1, [asked(1, row={"land": "Peru"})], [asked(1, row={"land": "Chad"})]) is not None
    assert Abstain(check_prompt="{{ row.note }}{{ question }}{{ proposal }}").columns == ("note",)


def test_an_item_is_never_shown_its_own_answer_or_one_of_its_source():
    scorer = ExactMatch(few_shot=1)
    scorer.show_examples([asked(1, source="fact"), asked(2), asked(3)])
    assert "it 1" in scorer.prompt.render(asked(9))
    assert "it 1" not in scorer.prompt.render(asked(8, source="fact"))
    assert "it 1" not in scorer.prompt.render(asked("again", question=" What is\n1?"))


def test_examples_are_drawn_the_same_each_time_and_enough_for_every_item():
    items = [asked(k, source=f"fact {k // 4}") for k in range(40)]
    drawn = draw_examples(3, items, items)
    assert drawn == draw_examples(3, list(items), items)
    rest = [item for item in items if item not in drawn]
    assert all(sum(one.source != item.source for one in drawn) >= 3 for item in rest)
    assert draw_examples(3, items[:3], items) is None  # all of one source
    assert draw_examples(3, items[:2], []) is None


def test_the_preamble_of_the_data_stands_once_before_the_examples():
    scorer = MultipleChoice("one_shot", few_shot=1)
    scorer.show_examples([asked(1, choices=CHOICES, answer="A", preamble="Look:")])
    text = scorer.prompt.render(asked(9, choices=CHOICES, answer="B", preamble="Look:"))
    assert text.count("Look:") == 1 and text.startswith("Look:\n\nQuestion: What is 1?")
    assert "The answer is A\n\nQuestion: What is 9?" in text


@pytest.mark.parametrize(
    ("scorer", "shown"),
    [
        (MultipleChoice(), "B"),
        (MultipleChoice("plain", "text"), "blue"),
        (GoldLogprob("plain", "text"), "blue"),
        (MultipleChoiceGenerated(), "B"),
        (MultipleChoiceGenerated("plain"), "blue"),
        (Abstain(), "B"),
        (YesNo(), "blue"),
    ],
)
def test_an_example_is_answered_as_the_scorer_reads_answers(scorer, shown):
    assert scorer.gold_text(asked(1, choices=CHOICES, answer="B")) == shown


def test_options_in_a_chat_begin_without_a_blank():
    item = asked(1, choices=CHOICES, answer="B")
    assert MultipleChoice(chat=True).options(item) == ["A", "B"]
    assert MultipleChoice("plain", "text").options(item) == [" red", " blue"]
    assert GoldLogprob(chat=True).options(asked(1)) == ["it 1"]


@pytest.mark.parametrize(
    ("option", "message"),
    [({"few_shot": -1}, "whole number from 0"), ({"few_shot": True}, "whole number"), ({"chat": 1}, "true and false"),
     ({"system_prompt": {"Be": "brief"}}, "a text is accepted")],
)  # fmt: skip
def test_a_value_that_is_none_of_an_option_is_refused(option, message):
    with pytest.raises(UserError, match=message):
        MultipleChoice(**option)


def test_the_fingerprint_changes_with_the_template_and_the_examples():
    plain = prompt_format("{{ question }}")
    more = ExactMatch(prompt="{{ question }}", few_shot=1)
    more.show_examples([asked(1)])
    prints = {one.fingerprint for one in (plain, prompt_format("{{ question }}?"), more.prompt)}
    assert len(prints) == 3
    assert more.prompt.examples == (Example(asked(1), "it 1"),)
    assert more.prompt.describe() == "inline, 1 examples"


@pytest.mark.parametrize(
    ("template", "stop"),
    [("Q: {{ question }}\nA:", "\nQ:"), ("Read this.\nFrage: {{question}}", "\nFrage:"), ("{{ question }}\nA:", None),
     ("\u95ee\u9898\uff1a{{ question }}", "\n\u95ee\u9898\uff1a"), ("{{ question }}", None)],
)  # fmt: skip
def test_the_default_stop_is_how_the_template_begins_a_question(template, stop):
    assert ExactMatch(prompt=template).stop == ((stop,) if stop else ())
    assert ExactMatch(prompt=template, stop=["END"]).stop == ("END",)
