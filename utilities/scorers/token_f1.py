"""Token F1: overlap of the words of an answer with those of the gold answer."""

from __future__ import annotations

import re
from collections import Counter

from utilities.core import Item, Outcome, Response, Score, scorer_registry
from utilities.reply_text import own_answer
from utilities.scorers.generation import GenerationScorer
from utilities.scorers.normalize import normalize_answer

__all__ = ["TokenF1", "token_f1"]

# Kana, Chinese characters, and their compatibility forms: scripts without spaces, about one syllable per character.
_SINGLE = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")


def token_f1(prediction: str, gold: str) -> float:
    """The harmonic mean of precision and recall of the prediction's words, 0 to 1 (Rajpurkar et al. 2016, section 6.1).

    Words are compared as multisets after `normalize_answer`. Each Chinese or Japanese character is a word, as in MLQA
    for Chinese (Lewis et al. 2020); in scripts such as Thai a phrase is one word. As in SQuAD 2.0, the score is 1 if
    both answers are empty, and 0 if one of them is.
    """
    predicted_words, gold_words = _words(prediction), _words(gold)
    if not predicted_words or not gold_words:
        return float(predicted_words == gold_words)
    shared = (Counter(predicted_words) & Counter(gold_words)).total()
    return 2 * shared / (len(predicted_words) + len(gold_words))


def _words(text: str) -> list[str]:
    normal = normalize_answer(text)
    return (normal if normal.isascii() else _SINGLE.sub(r" \1 ", normal)).split()


@scorer_registry.register("token_f1")
class TokenF1(GenerationScorer):
    """Mean token-level F1 of the responses' first lines. The arguments are those of `GenerationScorer`."""

    accuracy_like = True

    def score_one(self, item: Item, response: Response) -> Outcome:
        """F1 of the response's first line, 0 to 1; base models continue after their answer."""
        first = next(iter(own_answer(response.text).splitlines()), "")
        return Score(token_f1(first, item.answer or ""))
