# ruff: noqa: RUF001  (characters that look alike are meant)
"""The part of a reply that is its answer: without thoughts, and without further questions that a model asks itself.

Also the plain form of a text that the readers of letters, verdicts and numbers search, and where words begin and end in
scripts that set no spaces.
"""

from __future__ import annotations

import re
import unicodedata

from utilities.core import Reason, Unscored

__all__ = [
    "OPENS_WORD",
    "SPACELESS",
    "WORD",
    "answer_alone",
    "is_unended_thought",
    "own_answer",
    "plain_text",
    "without_thoughts",
    "word_pattern",
]

# Thoughts

_THOUGHT = (
    r"(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|inner_?monologue)"
    r"(?: [^<>\n]{0,60})?"
)
_THOUGHT_MARK = re.compile(
    rf"(?P<open><{_THOUGHT}>|\[{_THOUGHT}\]|◁{_THOUGHT}▷|<\|(?:begin_of_|start_)?{_THOUGHT}\|>"
    rf"|<\|channel\|>(?:analysis|commentary)[^<>]{{0,60}}<\|message\|>|<unused94>)"
    rf"|</{_THOUGHT}>|\[/{_THOUGHT}\]|◁/{_THOUGHT}▷|<\|(?:/|end_of_|end_){_THOUGHT}\|>"
    rf"|(?:<\|start\|>assistant)?<\|channel\|>final[^<>]{{0,60}}<\|message\|>|<unused95>",
    re.IGNORECASE,
)
"""The marks around the thoughts of reasoning models; servers that know a model's own marks remove them."""


def without_thoughts(text: str) -> str:
    """The text with its thoughts as blanks, everything else at its own place.

    A thought without a beginning is everything before its end (chat templates often write the beginning), unless the
    text begins as JSON or the end is quoted. One without an end is all of a text that begins with it.
    """
    if not any(mark in text for mark in "<[◁"):
        return text
    pieces: list[str] = []
    done, begins = 0, None
    for mark in _THOUGHT_MARK.finditer(text):
        if mark["open"]:
            begins = mark.start() if begins is None else begins
            continue
        if begins is None:  # whatever was written so far was thought
            line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
            if text.lstrip().startswith("{") or line.count('"') % 2:
                continue
            pieces, done, begins = [], 0, 0
        pieces += [text[done:begins], " " * (mark.end() - begins)]
        done, begins = mark.end(), None
    cut = begins is not None and not "".join([*pieces, text[done:begins]]).strip()
    return "".join([*pieces, " " * (len(text) - done) if cut else text[done:]])


def is_unended_thought(text: str) -> bool:
    """Whether a text is the beginning of a thought, and no more."""
    marks = [mark["open"] for mark in _THOUGHT_MARK.finditer(text)]
    return bool(marks) and all(marks) and not without_thoughts(text).strip()


def answer_alone(text: str) -> str | Unscored:
    """The text without its thoughts, unchanged if it has none; unscored if it is only the beginning of a thought."""
    if is_unended_thought(text):
        return Unscored(Reason.TRUNCATED, "the answer ends inside its thoughts; raise max_tokens")
    answer = without_thoughts(text)
    return text if answer == text else answer.strip()


# Further questions

_QUESTION = (
    r"(?:questions?|problems?|exercises?|quiz|riddle|task|passage|input|instructions?|user|human|"
    r"frage|aufgabe|pregunta|problema|exercice|domanda|pergunta|vraag|soru|pytanie|câu hỏi|вопрос|задача|"
    r"سؤال|السؤال|प्रश्न|คำถาม|问题|問題|题目|題目|提问|提問|質問|次の質問|문제|질문)"
)
_NEXT_QUESTION = re.compile(
    rf"(?:\n[\s#*>\"'_-]{{0,8}}(?:(?:next|new|another|second|follow-up|下一个|下一個|다음)[ ]?)?"
    rf"(?i:{_QUESTION}|q)[ ]?(?:(?:no\.|number|\#)[ ]?)?"
    rf"(?:[\d一二三四五六七八九十]{{1,3}}[ *_]{{0,3}}[:：.)\n]|[ *_]{{0,3}}[:：])"
    rf"|(?<=[\s.!?。])(?:Question|Problem|QUESTION)(?: \d{{1,3}})?[ ]?:[ ]"
    rf"|<\|(?:im_start|im_end|eot_id|end|endoftext|user|start_header_id|end_of_text|eom_id)\|>|</s>|<eos>|<end_of_turn>"
    rf"|<start_of_turn>|<｜(?:User|end▁of▁sentence)｜>|\[/?INST\])"
)
"""What begins a question after an answer, and the tokens that end a turn."""


def own_answer(text: str) -> str:
    """The first answer of a reply: its thoughts and what follows the first answer are removed.

    A base model continues its prompt: after its answer it writes a next question and answers that too. A question that
    the reply begins with is a repetition, and stays.
    """
    text = without_thoughts(text)
    start = len(text) - len(text.lstrip())
    for found in _NEXT_QUESTION.finditer(text, start):
        if text[start : found.start()].strip(" \n#*_>\"'"):
            return text[start : found.start()].rstrip()
    return text[start:].rstrip()


# Words

SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, Kana, Chinese characters and Hangul (whose particles follow a word without a space)."""
_MARKS = "".join(chr(c) for c in range(0x300, 0x1900) if unicodedata.category(chr(c)).startswith("M"))
WORD = rf"[\w{_MARKS}]"
"""A character of a word: `\\w` lacks the vowel signs and accents of many scripts."""
_SINGLE_SCRIPTS = (r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", r"\u3040-\u30ff", SPACELESS)
"""Between Chinese characters and Kana a word begins."""
_DENYING = "不没沒非无無未別别勿"

# Where a text in another script touches a letter or a Latin word, and does not make one word with it ("维生素C").
_BEFORE_LETTER = "肢是为為選选择擇案答項项填即乃はがをのも은는이가：:ือออบอก"
_AFTER_LETTER = "选選项項是为為对對正错錯不和或、与及，。でがはをになと"
_TOUCHING = re.compile(
    rf"(?<=[{SPACELESS}])(?=[A-Za-z]{{2}}|\d)|(?<=[A-Za-z][A-Za-z])(?=[{SPACELESS}])|(?<=\d)(?=[{SPACELESS}])"
    rf"|(?<=[{_BEFORE_LETTER}])(?=[A-Za-z](?![A-Za-z]))"
    rf"|(?:(?<=^[A-Za-z])|(?<=[^A-Za-z][A-Za-z]))(?=[{_AFTER_LETTER}\u0e00-\u0eff]|[\uac00-\ud7af](?<!형)(?<!급)(?<!세))",
    re.MULTILINE,
)
_DROPPED = dict.fromkeys(map(ord, "*_`{}$\\")) | {0x2018: "'", 0x2019: "'", 0x2212: "-"}
_DROPPED |= dict.fromkeys(range(0xE000, 0xE100))  # private characters, which the readers use
_LATEX_FONT = re.compile(r"\\(?:text|math)[a-z]*")
_OTHER_DIGIT = re.compile(r"[^\x00-\x7f]")
# Cyrillic and Greek capitals that look like Latin ones, where they stand alone.
_LOOKALIKE = str.maketrans("АВЕКМНОРСТУХІЈЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEKMHOPCTYXIJSABEZHIKMNOPTYX")
_ALONE = re.compile(r"(?<!\w)[АВЕКМНОРСТУХІЈЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧ](?!\w|[ ]\w)")


def plain_text(text: str, keep: frozenset[str] = frozenset()) -> str:
    r"""Text without markdown and LaTeX marks, runs of blanks and empty lines; `\boxed` becomes "answer:".

    Compatibility forms become plain ones (NFKC), digits of any script 0 to 9, lone Cyrillic and Greek capitals the
    Latin letters that they look like, and a blank separates a word from a script without blanks.

    Args:
        text: Any text.
        keep: Characters that are not replaced by what they look like.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = _OTHER_DIGIT.sub(lambda c: str(unicodedata.decimal(c[0], c[0])), text)
        text = _ALONE.sub(lambda c: c[0] if c[0] in keep else c[0].translate(_LOOKALIKE), text)
        text = _TOUCHING.sub(" ", text)
    if "\\" in text:
        text = _LATEX_FONT.sub(" ", text.replace("\\boxed", " answer: "))
    lines = (" ".join(line.split()) for line in text.translate(_DROPPED).splitlines())
    return "\n".join(filter(None, lines))


OPENS_WORD = r"(?<!\w)(?<!\w['/-])"


def word_pattern(word: str) -> str:
    """A pattern of `word` as a whole word, in the sense of its script.

    In a script without spaces a word may stand anywhere, but not after a negation; a single character needs a boundary
    on one side, because it is a part of most longer words.
    """
    escaped = re.escape(word)
    if not re.match(rf"[{SPACELESS}]", word):
        left, right = OPENS_WORD, "" if re.match(rf"[{SPACELESS}]", word[-1:]) else rf"(?!{WORD})(?!['/-]\w)"
        return f"{left}{escaped}{right}"
    if len(word) == 1:
        same = next(script for script in _SINGLE_SCRIPTS if re.match(rf"[{script}]", word))
        inside = rf"a-zA-Z\d{same}"
        return rf"(?<![{_DENYING}])(?:(?<![{inside}]){escaped}(?![{_DENYING}否])|{escaped}(?=的|[^{inside}]|$))"
    return rf"(?<![{_DENYING}]){escaped}"
