"""Surface statistics of answers, which are monitored beside a judged objective.

A search exploits the biases of a judge: for length (Dubois et al. 2024, "Length-Controlled AlpacaEval"), for repeated
claims, and even for one constant reply (Zheng et al. 2024, "Cheating Automatic LLM Benchmarks"). These statistics are
free and deterministic, and show such exploitation. They are not objectives: useless text can easily raise each of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from utilities.core import Item, Response
from utilities.judges.evidence import terms

__all__ = ["TextFeatures", "content_words", "text_features", "topic_vocabulary", "words"]

# Kana and Chinese characters: no spaces; each character counts as a word, as in `token_f1`.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

_APOSTROPHES = "'\u2019\u02bc"
_NO_APOSTROPHES = str.maketrans("", "", _APOSTROPHES)

FUNCTION_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before being between both but by can could
    did do does doing down during each few for from further had has have having he her here hers him his how i if in
    into is it its just like may me might more most much must my no nor not now of off on once one only or other our
    out over own same shall she should so some such than that the their them then there these they this those through
    to too under until up upon us very was we were what when where which while who whom whose why will with within
    without would yes yet you your dont cant wont didnt doesnt isnt arent youre theyre thats""".split()  # noqa: SIM905 - a list of so many quoted words is not read
)
"""English function words. Those of other languages count as content words, so `on_topic` is comparable only between
answers in the same language."""


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Surface statistics of the answers to an item set."""

    words: float
    """Mean length of an answer, in words."""
    repetition: float
    """Mean share of repeated word trigrams in an answer, from 0 (none) towards 1."""
    on_topic: float
    """Mean share of an answer's content words, without those of its question, that belong to the topic."""
    distinct: float
    """Share of distinct answers: 1 if all differ, 1/n if all are equal."""


def text_features(items: Sequence[Item], responses: Sequence[Response], vocabulary: Set[str]) -> TextFeatures:
    """The statistics of a model's answers; unanswered items are skipped, and without answers all values are 0.

    Args:
        items: The items.
        responses: One response per item.
        vocabulary: The content words of the topic, from `topic_vocabulary`.
    """
    pairs = [
        (item.question, response.text)
        for item, response in zip(items, responses, strict=True)
        if response.finish_reason != "unanswered"
    ]
    tokenized = [words(text) for _, text in pairs]
    return TextFeatures(
        words=_mean([len(answer) for answer in tokenized]),
        repetition=_mean([_repetition(answer) for answer in tokenized]),
        on_topic=_mean([_on_topic(question, text, vocabulary) for question, text in pairs]),
        distinct=len(set(map(tuple, tokenized))) / max(len(tokenized), 1),
    )


def topic_vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """The content words of a topic's texts: its instructions and its evidence.

    Every content word counts, however rare. Removing words common to all topics would need texts of other topics in
    every language, which a user-defined topic does not have.
    """
    return frozenset(word for text in texts for word in content_words(text))


def content_words(text: str) -> list[str]:
    """The content words of a text, with repetitions.

    These are the index terms of evidence, without English function words, single characters and pairs of ASCII letters;
    numbers are included. Scripts without spaces give character bigrams.
    """
    return [term for term in terms(text.translate(_NO_APOSTROPHES)) if _tells(term)]


def _tells(term: str) -> bool:
    if term in FUNCTION_WORDS:
        return False
    return len(term) > 2 or term.isdigit() or (len(term) > 1 and not term.isascii())


class _Plain(dict[int, "int | str | None"]):
    """Translation table: keeps letters, marks and digits, removes apostrophes, maps all else to a space.

    Filled on demand. Combining marks are part of their word: without them Hindi vowels would be lost.
    """

    def __missing__(self, point: int) -> int | str | None:
        character, kind = chr(point), unicodedata.category(chr(point))
        value: int | str | None = point if kind[0] in "LMN" else " "
        if character in _APOSTROPHES or kind == "Cf":  # Cf: invisible joiners and marks
            value = None
        elif _UNSPACED.match(character):
            value = f" {character} "
        self[point] = value
        return value


_PLAIN = _Plain()


def words(text: str) -> list[str]:
    """The words of a text of any script, case-folded and without punctuation; a Chinese character is a word.

    In scripts with spaces between phrases only, such as Thai, a phrase counts as a word.
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN).split()


def _repetition(answer: Sequence[str]) -> float:
    trigrams = list(zip(answer, answer[1:], answer[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def _on_topic(question: str, answer: str, vocabulary: Set[str]) -> float:
    # Words of the question are ignored: repeating the question is no answer.
    question_words = set(content_words(question))
    return _mean([word in vocabulary for word in content_words(answer) if word not in question_words])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
