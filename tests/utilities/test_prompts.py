import pytest

from utilities.errors import UserError
from utilities.prompts import Prompt, load_prompt, prompt_hash


def test_the_lettered_prompt_is_exactly_this():
    prompt = load_prompt("lettered").render(question="Which?\nSecond line.", choices={"A": "an ant", "B": "a bee"})
    assert prompt == "Question: Which?\nSecond line.\nA. an ant\nB. a bee\nAnswer:"


def test_the_plain_prompt_is_exactly_this():
    assert load_prompt("plain").render(question="Question: Which?") == "Question: Which?\nAnswer:"


@pytest.mark.parametrize(
    "text", ["{{ 7*7 }}", "{% for %}", "{# gone #}", "{{ ''.__class__ }}", "{% endfor %}", "<b>&amp;</b>", "{s} %s {}"]
)
def test_template_syntax_in_a_question_or_an_option_stays_data(text):
    prompt = load_prompt("lettered").render(question=text, choices={"A": text, "B": "b"})
    assert prompt == f"Question: {text}\nA. {text}\nB. b\nAnswer:"


def test_a_missing_variable_is_an_error_and_not_an_empty_text():
    with pytest.raises(Exception, match="'choices' is undefined"):
        load_prompt("lettered").render(question="Which?")


def test_a_template_cannot_reach_python_internals():
    with pytest.raises(Exception, match="unsafe"):
        Prompt("{{ question.__class__.__mro__ }}").render(question="x")


def test_an_unknown_prompt_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown prompt 'leterred'. Did you mean 'lettered'\? Known: .*plain"):
        load_prompt("leterred")


def test_the_hash_names_the_exact_text():
    assert prompt_hash("a") == "ca978112ca1bbdca"  # sha256 of "a", first 16 digits
    assert prompt_hash("a ") != prompt_hash("a")
