"""Evidence: passages of documents, retrieved by BM25 for a claim."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from utilities.bounded_input import read_json
from utilities.errors import UserError
from utilities.judges.sentences import sentences
from utilities.prompts import WORD, bundled

if TYPE_CHECKING:
    from bm25s import BM25  # type: ignore[import-untyped]

__all__ = ["Evidence", "Passage", "bundled_evidence", "read_evidence", "terms"]

WORDS = 120
"""Maximum words of a passage: several fit into a judge's prompt, and each is mostly about one subject."""
ACCEPTED = "UTF-8 text as .txt, .md or .jsonl (one object a line with a field 'text' and, if wanted, 'source')"

# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_UNSPACED_TERM = re.compile(rf"[{_UNSPACED}]")
_TERM = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}_])\w)+")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)[\s#]*$")


class Passage(NamedTuple):
    """A passage of a document."""

    source: str
    """Source as shown to readers: a file, or the field `source` of a JSON Lines row."""
    text: str


class Evidence:
    """A searchable set of distinct passages.

    Ranking: BM25 (Robertson and Zaragoza 2009), Lucene variant, k1 = 1.5 and b = 0.75, computed by `bm25s` (Lù 2024).
    The term scores are computed once, at the first query.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        by_text: dict[str, Passage] = {}
        for source, text in passages:
            if line := " ".join(text.split()):
                by_text.setdefault(line.casefold(), Passage(source, line))
        self.passages = tuple(by_text.values())

    @cached_property
    def _index(self) -> BM25:
        from bm25s import BM25  # lazy import: numpy and scipy are slow to load

        index = BM25()
        # A passage without terms (only symbols) gets the empty term, which no query contains.
        index.index([terms(passage.text) or [""] for passage in self.passages], show_progress=False)
        return index

    def search(self, query: str, k: int) -> list[Passage]:
        """The top `k` passages for `query`, best first; ties in the order of the passages.

        Only passages that share a term with the query are returned, so there may be fewer than `k`.
        """
        token_ids = self._index.get_tokens_ids(list(dict.fromkeys(terms(query)))) if self.passages else []
        if not token_ids or k < 1:
            return []
        scores = self._index.get_scores_from_ids(token_ids)
        k = min(k, len(scores))
        ordered = scores.copy()
        ordered.partition(len(scores) - k)
        (near,) = ((scores >= ordered[len(scores) - k]) & (scores > 0)).nonzero()
        # `near` contains all ties at rank k, so the result does not depend on the sorting algorithm.
        return [self.passages[place] for place in sorted(near.tolist(), key=lambda place: (-scores[place], place))[:k]]


def terms(text: str) -> list[str]:
    """The index terms of a text: case-folded words without accents and vowel signs.

    Accents, Arabic vowel signs and the hamza on an alef are often omitted in writing; removing them in queries and
    passages can only merge words. Scripts without spaces give all character unigrams and bigrams, which in Chinese
    retrieve as well as words do (Nie et al. 2000).
    """
    if not text.isascii():
        nfkd = unicodedata.normalize("NFKD", text)
        bare = "".join(char for char in nfkd if unicodedata.category(char) not in {"Mn", "Mc", "Cf"} and char != "ـ")
        text = unicodedata.normalize("NFC", bare)
    result: list[str] = []
    for term in _TERM.findall(text.casefold()):
        result += _characters(term) if _UNSPACED_TERM.match(term) else [term]
    return result


def _characters(run: str) -> list[str]:
    return [*run, *(run[k : k + 2] for k in range(len(run) - 1))]


@cache
def bundled_evidence() -> Evidence:
    """The sentences of the bundled corpus of facts."""
    return Evidence(_rows(bundled("tasks") / "data" / "evidence.jsonl", ""))


def read_evidence(folder: Path) -> Evidence:
    """The passages of all documents in `folder` and its subfolders; hidden files are ignored.

    Text and markdown are split at blank lines and headings, and a heading is repeated before each of its passages.
    Blocks longer than `WORDS` are split at sentences.

    Raises:
        UserError: The folder does not exist, a file is not UTF-8 text of an accepted type, or there are no passages. No
            file is skipped silently, because missing evidence would make true claims unsupported.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UserError(f"evidence {folder} {what}; accepted is a folder with {ACCEPTED}")
    passages: list[Passage] = []
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if not any(part.startswith(".") for part in within.parts) and path.is_file():
            passages += _passages(path, within.as_posix())
    evidence = Evidence(passages)
    if not evidence.passages:
        raise UserError(f"evidence {folder} holds no passage; accepted is a folder with {ACCEPTED}")
    return evidence


def _passages(path: Path, source: str) -> list[Passage]:
    if path.suffix.lower() == ".jsonl":
        return _rows(path, source)
    if path.suffix.lower() not in {".txt", ".md"}:
        raise UserError(f"evidence {path}: no file of this kind is read; accepted is {ACCEPTED}")
    passages, heading = [], ""
    for block in _blocks(_read(path)):
        if path.suffix.lower() == ".md" and (match := _HEADING.match(block)):
            heading = match.group(1)
        else:
            passages += [Passage(source, f"{heading}: {piece}" if heading else piece) for piece in _pieces(block)]
    return passages


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"evidence {path} is not UTF-8 text (byte {error.start}); accepted is {ACCEPTED}") from error
    except OSError as error:
        raise UserError(f"evidence {path} cannot be read ({error.strerror}); accepted is {ACCEPTED}") from error
    if "\0" in text:
        raise UserError(f"evidence {path} is a binary file; accepted is {ACCEPTED}")
    return text


def _rows(path: Path, source: str) -> list[Passage]:
    passages = []
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError:
            row = None
        row_source = row.get("source", f"{source}:{number}") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not isinstance(row_source, str):
            raise UserError(
                f"evidence {path}, line {number}: expected a JSON object with a text in 'text' and, if wanted, one in"
                f" 'source', and found {line[:60]!r}"
            )
        passages += [Passage(row_source, piece) for piece in _pieces(row["text"])]
    return passages


def _blocks(text: str) -> list[str]:
    """Blocks between blank lines; a heading line is a separate block."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if not line.strip() or _HEADING.match(line):
            blocks += [[line], []]
        else:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks if "".join(block).strip()]


def _pieces(block: str) -> list[str]:
    """The block itself if it is short enough, else groups of its sentences of at most `WORDS` words."""
    if _length(block) <= WORDS:
        return [block]
    runs: list[str] = []
    room = 0
    for sentence in sentences(" ".join(block.split()), WORDS):
        length = _length(sentence)
        if length > room:
            runs.append(sentence)
            room = WORDS
        else:
            runs[-1] += f" {sentence}"
        room -= length
    return runs


def _length(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))
