"""Deterministic companions of a judged objective: what can be counted in the answers, whatever a judge says of them.

A search finds what a judge pays for, and a judge pays for length (Dubois et al. 2024, "Length-Controlled AlpacaEval"),
for repeated claims, and even for one constant reply to everything (Zheng et al. 2024, "Cheating Automatic LLM
Benchmarks"). These numbers cost nothing, cannot be argued with, and move when one of that happens. They are no
objectives themselves: each is easily raised by text that nobody wants.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from utilities.core import Item, Response
from utilities.judges.evidence import terms

__all__ = ["Companion", "companion", "content_words", "topic_vocabulary", "words"]

# Kana and Chinese characters: they set no spaces, and each is counted as a word, as in `token_f1`.
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
"""English words without a subject of their own. Other languages' are not known and count as content: so `on_topic`
compares answers in the same language with each other, and says nothing across languages."""


@dataclass(frozen=True, slots=True)
class Companion:
    """What can be counted in the answers to an item set."""

    words: float
    """Mean length of an answer, in words."""
    repetition: float
    """Mean share of an answer's word trigrams that stood in it before: 0 nothing, towards 1 the same over and over."""
    on_topic: float
    """Mean share of an answer's content words, those of its question left out, that belong to the topic."""
    distinct: float
    """Share of different answers: 1 where every item has its own, 1/n where all have the same."""


def companion(items: Sequence[Item], responses: Sequence[Response], vocabulary: Set[str]) -> Companion:
    """The companions of a model's answers; answers that never came are left out, and no answers give zeros.

    Args:
        items: What was asked.
        responses: What was answered, one an item.
        vocabulary: The content words of the topic, as `topic_vocabulary` makes them.
    """
    pairs = [
        (item.question, response.text)
        for item, response in zip(items, responses, strict=True)
        if response.finish_reason != "unanswered"
    ]
    said = [words(text) for _, text in pairs]
    return Companion(
        words=_mean([len(answer) for answer in said]),
        repetition=_mean([_repetition(answer) for answer in said]),
        on_topic=_mean([_on_topic(question, text, vocabulary) for question, text in pairs]),
        distinct=len(set(map(tuple, said))) / max(len(said), 1),
    )


def topic_vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """The content words of a topic's texts: its instructions, the passages that are its evidence.

    Every content word counts, however rare. A contrast with other topics' texts would leave out what is common to all
    of them, but would need such texts in every language, and a topic of one's own comes with none.
    """
    return frozenset(word for text in texts for word in content_words(text))


def content_words(text: str) -> list[str]:
    """The words of a text that may tell its subject, as often as they occur.

    They are the terms by which evidence is searched, without English function words and without single characters and
    pairs of ASCII letters; numbers stay. Scripts without spaces enter as pairs of neighbouring characters.
    """
    return [term for term in terms(text.translate(_NO_APOSTROPHES)) if _tells(term)]


def _tells(term: str) -> bool:
    if term in FUNCTION_WORDS:
        return False
    return len(term) > 2 or term.isdigit() or (len(term) > 1 and not term.isascii())


class _Plain(dict[int, "int | str | None"]):
    """What becomes of each character: letters, marks and digits stay, apostrophes vanish, all else parts words.

    Filled as characters are met. Combining marks are part of their word: without them Hindi vowels would be lost.
    """

    def __missing__(self, point: int) -> int | str | None:
        character, kind = chr(point), unicodedata.category(chr(point))
        value: int | str | None = point if kind[0] in "LMN" else " "
        if character in _APOSTROPHES or kind == "Cf":  # Cf: joiners and marks that nobody sees
            value = None
        elif _UNSPACED.match(character):
            value = f" {character} "
        self[point] = value
        return value


_PLAIN = _Plain()


def words(text: str) -> list[str]:
    """The words of a text of any script, case-folded and without punctuation; a Chinese character is a word.

    In Thai and the like, which set spaces between phrases only, a phrase is a word.
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN).split()


def _repetition(answer: Sequence[str]) -> float:
    trigrams = list(zip(answer, answer[1:], answer[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def _on_topic(question: str, answer: str, vocabulary: Set[str]) -> float:
    # The question's own words count neither way: whoever repeats the question has not yet answered it.
    asked = set(content_words(question))
    return _mean([word in vocabulary for word in content_words(answer) if word not in asked])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
