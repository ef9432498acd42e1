"""The reference's way to score GSM8K, kept for comparison with published numbers; `numbers` is the one to use."""

from __future__ import annotations

__all__ = ["legacy_number"]


def legacy_number(text: str, gold: str, *, last_words: int | None = None) -> bool:
    """Whether the gold answer's characters occur anywhere in the reply.

    So 150 is right where 15 is asked for, 36000 is wrong where the file says 36,000, and a number on the way to the
    answer is as good as the answer.

    Args:
        text: The reply.
        gold: The gold answer as the file has it.
        last_words: Looks only at the reply's last words, parted by single spaces; the reference takes 5 of GSM8K's
            replies on dev and 10 on test. None looks at all of it, as the reference does for NLGraph.
    """
    text = text.strip()
    return gold in (text if last_words is None else " ".join(text.split(" ")[-last_words:]))
