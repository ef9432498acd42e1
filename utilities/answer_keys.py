"""Options as letters and answers as the letter of the right one, by one convention for a whole data set.

Data name the right option by its key, its index from 0, its number from 1, its letter or its own text. Which of these
it is cannot be seen from one row ("1" is an index, a number, and perhaps an option's text), so all rows are read in
the same way, or the data are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from string import ascii_uppercase
from typing import Any, Literal, get_args

from utilities.core import MAX_OPTIONS
from utilities.errors import UserError

__all__ = ["Answers", "lettered"]

Answers = Literal["key", "letter", "index", "number", "text"]
"""How a data set names the right option: the option's key in the data, its letter from A, its index from 0, its number
from 1, or its text."""


def lettered(entries: Sequence[Any], where: Callable[[int], str], answers: Answers | None = None) -> list[Any]:
    """Items whose options have the keys A, B, C ... and whose answer is one of them; other entries unchanged.

    Options may be a list, a mapping of any keys to texts, or `{"text": [...], "label": [...]}`.

    Args:
        entries: Items as they were parsed, of all splits of a data set.
        where: Names the place of an entry; only called for a message.
        answers: The convention, if the data set's author declares it.

    Raises:
        UserError: Options or answers that cannot be read, or that fit no convention or several.
    """
    options = {k: _options(entry["choices"], partial(where, k)) for k, entry in enumerate(entries) if _asked(entry)}
    if not options:
        return list(entries)
    gold = {k: _gold(entries[k].get("answer"), where, k) for k in options}
    read = {way: {k: _position(way, gold[k], options[k]) for k in options} for way in get_args(Answers)}
    if answers is not None:
        chosen: Mapping[int, int | None] = read[answers]
        if (bad := next((k for k, place in chosen.items() if place is None), None)) is not None:
            raise UserError(
                f"{where(bad)}: the answer {gold[bad]!r:.60} is no {answers} of an option"
                f" ({', '.join(f'{key}: {text}' for key, text in options[bad])[:200]}), as `answers: {answers}` says"
            )
    else:
        explicit = all(isinstance(entries[k]["choices"], Mapping) for k in options)
        named = explicit and None not in read["key"].values()  # the data themselves say what the keys are
        chosen = read["key"] if named else _agreed(read, gold, options, where)
    found = list(entries)
    for k, pairs in options.items():
        keys = [key for key, _ in pairs]
        kept = keys if all(key in ascii_uppercase and len(key) == 1 for key in keys) else list(ascii_uppercase)
        choices = dict(zip(kept, (text for _, text in pairs), strict=False))
        found[k] = {**entries[k], "choices": choices, "answer": kept[chosen[k] or 0]}
    return found


def _asked(entry: Any) -> bool:
    """Whether an entry has options that are to be read here; what is malformed is refused as an item."""
    return isinstance(entry, Mapping) and isinstance(entry.get("choices"), list | tuple | Mapping)


def _options(choices: Any, where: Callable[[], str]) -> list[tuple[str, Any]]:
    """Keys and texts; the keys of a list are its letters."""
    if isinstance(choices, Mapping) and set(choices) in ({"text", "label"}, {"text", "key"}, {"texts", "labels"}):
        labels = next(choices[key] for key in choices if not key.startswith("text"))
        texts = next(choices[key] for key in choices if key.startswith("text"))
        if not isinstance(texts, list | tuple) or not isinstance(labels, list | tuple) or len(texts) != len(labels):
            raise UserError(f"{where()}: choices: expected as many labels as texts, found {choices!r:.100}")
        pairs = list(zip(map(str, labels), texts, strict=True))
    elif isinstance(choices, Mapping):
        pairs = [(str(key), text) for key, text in choices.items()]
    else:
        pairs = list(zip(ascii_uppercase, choices, strict=False))
    if not 2 <= max(len(pairs), len(choices) if isinstance(choices, list | tuple) else 0) <= MAX_OPTIONS:
        raise UserError(f"{where()}: {max(len(pairs), len(choices))} options; 2 to {MAX_OPTIONS} are accepted")
    if len({key for key, _ in pairs}) < len(pairs):
        raise UserError(f"{where()}: choices: a label is repeated: {', '.join(key for key, _ in pairs)}")
    numbers = (str(text) if isinstance(text, int | float) and not isinstance(text, bool) else text for _, text in pairs)
    return list(zip((key for key, _ in pairs), numbers, strict=True))


def _gold(answer: Any, where: Callable[[int], str], k: int) -> str | int:
    if isinstance(answer, str) or (isinstance(answer, int) and not isinstance(answer, bool)):
        return answer
    if answer is None:
        raise UserError(f"{where(k)}: the item has options and no answer; the key, index or text of one is accepted")
    raise UserError(
        f"{where(k)}: the answer {answer!r:.60} names no single option; its key, its index (a whole number) or its text"
        " is accepted"
    )


def _position(way: str, answer: str | int, options: Sequence[tuple[str, Any]]) -> int | None:
    """The position of the right option if the answer is read in one way; None if it cannot be."""
    text = str(answer).strip()
    keys = [key for key, _ in options]
    if way == "key":
        folded = [key.casefold() for key in keys]
        matches = [k for k, key in enumerate(keys) if key == text] or (
            [k for k, key in enumerate(folded) if key == text.casefold()] if len({*folded}) == len(keys) else []
        )
    elif way == "text":
        matches = [k for k, (_, option) in enumerate(options) if isinstance(option, str) and option.strip() == text]
    elif way == "letter":
        matches = [k for k in range(len(keys)) if ascii_uppercase[k : k + 1] == text.upper()]
    else:
        start = 1 if way == "number" else 0
        matches = [k for k in range(len(keys)) if str(k + start) == text]
    return matches[0] if len(matches) == 1 else None


def _agreed(
    read: Mapping[str, Mapping[int, int | None]],
    gold: Mapping[int, str | int],
    options: Mapping[int, Sequence[tuple[str, Any]]],
    where: Callable[[int], str],
) -> Mapping[int, int | None]:
    """The reading by the convention that fits all rows; several may if they agree on every row."""
    fitting = {way: places for way, places in read.items() if None not in places.values()}
    readings = {tuple(places.values()): way for way, places in reversed(fitting.items())}
    if len(readings) == 1:
        return next(iter(fitting.values()))
    if readings:
        first, *others = fitting
        other = next(way for way in others if read[way] != read[first])
        k = next(k for k in gold if read[first][k] != read[other][k])
        raise UserError(
            f"{where(k)}: the answer {gold[k]!r:.60} is the {first} of one option and the {other} of another, and all"
            f" {len(gold)} answers fit both; add `answers: {first}` or `answers: {other}` to the item set"
        )
    most = max(read, key=lambda way: sum(place is not None for place in read[way].values()))
    k = next(k for k, place in read[most].items() if place is None)
    raise UserError(
        f"{where(k)}: the answer {gold[k]!r:.60} is none of the options {[key for key, _ in options[k]]!r:.120}; all"
        f" answers of a data set must be keys, letters, indices from 0, numbers from 1, or texts of options"
    )
