"""Factuality: how much of what a response states is supported by evidence, and whether it states enough."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from utilities.core import Item, Outcome, Reason, Response, Score, Unscored, scorer_registry
from utilities.errors import UserError
from utilities.judges.budget import estimate_tokens
from utilities.judges.claim_verdicts import FAILED, VERDICTS, JudgedClaim, Vote, as_verdict, as_word, majority
from utilities.judges.evidence import Evidence, Passage, bundled_evidence, read_evidence, terms
from utilities.judges.panel_scorer import PanelScorer
from utilities.judges.parsing import Message, Reply, as_object
from utilities.judges.search_tool import SearchFailed, SearchTool
from utilities.judges.sentences import is_finished, is_question, sentences
from utilities.judges.word_overlap import nearest
from utilities.prompts import Prompt, cut, load_prompt, one_line
from utilities.registry import unknown_name
from utilities.user_code import file_of

if TYPE_CHECKING:
    from utilities.judges.agent import FactAgent
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["F1AtK", "Factuality", "distinct", "f1_at_k"]

Mode = Literal["auto", "sentences", "claims", "agent"]

NEAR = 0.9
"""Claims that share this much of the words of both count as one."""
TURNING = frozenset(
    {"no", "not", "never", "none", "neither", "nor", "without", "cannot", "t", "不", "没", "沒", "无", "無", "非"}
    | {"لا", "لم", "لن", "ليس", "غير"}
)
"""Words that turn a claim around: claims that differ in one of them, or in a number, are two."""
BEYOND_THE_TEXT = frozenset({Reason.BUDGET, Reason.TRANSPORT, Reason.TIME})
"""Failures that say nothing of a claim: no response may look worse because a server was away or the money spent."""
PASSAGE_TOKENS = 100
"""About what a passage of evidence is; for an estimate beforehand."""
PROMPTS = {
    "sentences": ("verify_claim_brief",),
    "claims": ("factuality_claims", "factuality_selfcontained", "factuality_verdict"),
    "agent": ("factuality_claims", "factuality_selfcontained", "factuality_agent"),
}
"""What each mode asks; the last one is for verdicts."""
VERDICT_TOKENS = 512
WORD_TOKENS = 16
SENTENCE_WORDS = 40
"""Words of a sentence that is one claim; the embedded judge reads 2,048 tokens, most of which are for the evidence."""


class F1AtK(NamedTuple):
    """SAFE's measure of a response."""

    value: float
    precision: float
    recall: float


def f1_at_k(supported: int, claims: int, k: int) -> F1AtK:
    """The harmonic mean of precision, supported / claims, and recall up to K, min(1, supported / K).

    Wei et al. 2024 (arXiv 2403.18802), section 5. K is how many supported facts a reader wants; precision alone would
    be highest for one trivial claim. Without a supported claim all is 0, also where nothing was claimed.
    """
    if supported == 0:
        return F1AtK(0.0, 0.0, 0.0)
    precision, recall = supported / claims, min(1.0, supported / k)
    return F1AtK(2 * precision * recall / (precision + recall), precision, recall)


def distinct(claims: Sequence[str]) -> list[str]:
    """The claims without their repetitions: the first of those that are equal but for writing, or nearly so.

    Nearly: at least `NEAR` of the words of both are shared, in any order, and neither a number nor a negation is among
    the others.
    """
    kept: dict[str, frozenset[str]] = {}
    for claim in claims:
        words = frozenset(terms(claim))
        if words and not any(_say_the_same(words, other) for other in kept.values()):
            kept.setdefault(claim, words)
    return list(kept)


def _say_the_same(one: frozenset[str], other: frozenset[str]) -> bool:
    if len(one & other) < NEAR * len(one | other):
        return False
    return not any(word in TURNING or any(map(str.isdigit, word)) for word in one ^ other)


class Claims(BaseModel):
    """A judge's reply: claims."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    claims: list[str]


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim and what became of it."""

    claim: str
    passages: Sequence[Passage]
    votes: Sequence[Vote] = ()

    @property
    def verdict(self) -> str:
        """The votes' majority; a claim for which no evidence was found is inconclusive without asking anybody."""
        return majority(self.votes) if self.votes else "inconclusive"

    @property
    def failure(self) -> Unscored | None:
        """Why no judge came to a verdict, where none did; of several reasons one that lies beyond the text."""
        if self.verdict != FAILED:
            return None
        why = [vote.found for vote in self.votes if isinstance(vote.found, Unscored)]
        return next((one for one in why if one.reason in BEYOND_THE_TEXT), why[0])

    def told(self) -> dict[str, Any]:
        """The claim as it stands in the records."""
        read = dict.fromkeys([*self.passages, *(passage for vote in self.votes for passage in vote.read)])
        return {
            "claim": self.claim,
            "verdict": self.verdict,
            "evidence": [passage._asdict() for passage in read],
            "votes": [vote.told() for vote in self.votes],
        }


@scorer_registry.register("factuality")
class Factuality(PanelScorer):
    """Mean F1@K of the responses (SAFE, Wei et al. 2024; atomic claims after FActScore, Min et al. 2023).

    A response is taken apart into claims, these are made to stand alone and repetitions are dropped; evidence is
    retrieved for each, and each is supported, contradicted or inconclusive by it, or failed where no judge came to a
    verdict. All of them count, and only supported ones count as such, so that a claim which no judge can judge is no
    way to a better value.

    - A response that claims nothing is worth 0, as in SAFE: it tells the reader no fact. `claims` is 0 then.
    - An item is unscored where its claims could not be read from the judge's replies, where every verdict failed, or
      where one failed for reasons that lie outside the text (transport, budget).

    Args:
        mode: How claims are found and judged. `claims`: by a judge, one prompt to take the response apart, one to make
            its claims stand alone, one for each verdict. `sentences`: every sentence is a claim and a verdict one word,
            for judges too small for more. `agent`: like claims, with judges that search the evidence themselves.
            `auto`: sentences where the embedded judge is on the panel, else claims.
        k: Supported facts that a reader wants, the K of F1@K. SAFE's 64 and 178 are for long answers of large models;
            8 is about what 200 tokens hold.
        top: Passages of evidence shown with a claim, or returned by a search.
        evidence: Folder of documents (`read_evidence`), or a search of one's own, FILE.py:NAME (`SearchTool`); by
            default the bundled corpus.
        words: Words of a response that are read; what is beyond costs nothing and counts for nothing.
        searches: Searches that an agent may do for one claim.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`; the paper's 200.
        stop: As in `GenerationScorer`.
        chat: As in `GenerationScorer`.
        judge: Who judges.

    Raises:
        UserError: An option out of its range, or evidence that cannot be read.
    """

    name = "factuality"

    def __init__(
        self,
        mode: Mode = "auto",
        k: int = 8,
        top: int = 3,
        evidence: str | None = None,
        words: int = 2000,
        searches: int = 3,
        prompt: str = "bare",
        max_tokens: int = 200,
        stop: Sequence[str] = (),
        chat: bool = False,
        judge: Panel | None = None,
    ) -> None:
        super().__init__(judge, prompt, max_tokens, stop, chat)
        if mode not in get_args(Mode):
            raise unknown_name("mode", str(mode), get_args(Mode))
        for name, number in {"k": k, "top": top, "words": words, "searches": searches}.items():
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise UserError(f"{name} is {number!r}; a whole number from 1 is accepted")
        self.mode, self.k, self.top, self.words, self.searches = mode, k, top, words, searches
        self._given: Evidence | SearchTool | None = None
        if evidence is not None:
            self._given = read_evidence(Path(evidence)) if file_of(evidence) is None else SearchTool(evidence)
        if judge is not None and judge.embedded and mode in {"claims", "agent"}:
            raise UserError(f"mode={mode} is beyond the embedded judge; use mode=sentences, or another --judge")

    def cost(self, items: Sequence[Item]) -> tuple[int, int]:
        """About how many judgements, and tokens of judges in all, responses of `k` claims to `items` take."""
        inquiry = _Inquiry(self, self._panel())
        *extraction, verdict = (estimate_tokens(prompt.source) for prompt in inquiry.prompts)
        verdicts = self.k * len(inquiry.rounds)
        each = verdicts * (verdict + self.top * PASSAGE_TOKENS) + sum(extraction)
        return len(items) * (verdicts + len(extraction)), len(items) * each

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """F1@K of each response, with its counts as measures, and every claim with its evidence and votes as notes.

        Raises:
            UserError: There is no judge, or one that will never answer.
        """
        inquiry = _Inquiry(self, self._panel())
        pairs = zip(items, responses, strict=True)
        return await asyncio.gather(*(inquiry.outcome(item.question, response) for item, response in pairs))

    @property
    def evidence(self) -> Evidence | SearchTool:
        """Where the passages come from that claims are held against."""
        return self._given if self._given is not None else bundled_evidence()

    async def search(self, query: str) -> list[Passage]:
        """The passages for a claim, or for what an agent asks.

        Raises:
            SearchFailed: The user's own search tool raised.
        """
        evidence = self.evidence
        return (
            evidence.search(query, self.top)
            if isinstance(evidence, Evidence)
            else await evidence.search(query, self.top)
        )


class _Inquiry:
    """The questions that a scorer asks a panel."""

    def __init__(self, scorer: Factuality, panel: Panel) -> None:
        automatic = "sentences" if panel.embedded else "claims"
        self.scorer, self.panel = scorer, panel
        self.mode = automatic if scorer.mode == "auto" else scorer.mode
        self.prompts = [load_prompt(name) for name in PROMPTS[self.mode]]
        self.rounds = [(judge, replicate) for judge in panel.judges for replicate in range(panel.repeats)]
        self.agents = self._agents() if self.mode == "agent" else []

    def _agents(self) -> list[FactAgent]:
        from utilities.judges.agent import FactAgent  # not at import: it brings langchain

        return [
            FactAgent(judge, self.scorer.search, self.scorer.searches, replicate) for judge, replicate in self.rounds
        ]

    async def outcome(self, question: str, response: Response) -> Outcome:
        """The score of one response."""
        claims = await self._claims(question, response)
        if isinstance(claims, Unscored):
            return claims
        checked = await asyncio.gather(*(self._check(claim) for claim in distinct(claims)))
        failures = [failure for one in checked if (failure := one.failure) is not None]
        for failure in failures:
            if len(failures) == len(checked) or failure.reason in BEYOND_THE_TEXT:
                return failure
        counts = Counter(one.verdict for one in checked)
        value, precision, recall = f1_at_k(counts["supported"], len(checked), self.scorer.k)
        measures = {"precision": precision, "recall": recall, "claims": float(len(checked))}
        measures["cut"] = float(cut(response.text, self.scorer.words) != response.text)
        measures |= {verdict: float(counts[verdict]) for verdict in (*VERDICTS, FAILED)}
        notes = {
            "mode": self.mode,
            "k": self.scorer.k,
            "prompts": {p.name: {"version": p.version, "hash": p.hash} for p in self.prompts},
            "claims": [one.told() for one in checked],
        }
        return Score(value, measures, json.dumps(notes))

    async def _claims(self, question: str, response: Response) -> list[str] | Unscored:
        text = cut(response.text, self.scorer.words)
        if not text.strip():
            return []
        if self.mode == "sentences":
            shown = text if text == response.text else text.rpartition("\n")[0]  # without the mark of the cut
            return _statements(shown, finished=shown == response.text and response.finish_reason != "length")
        data = {"question": question, "response": text}
        # Claims say the names again that a text says once, and so are longer than it is.
        ask = partial(self._ask_for_claims, max_tokens=VERDICT_TOKENS + 3 * estimate_tokens(text))
        found = await ask(self.prompts[0], data, None)
        if isinstance(found, Unscored) or not found:
            return found
        numbered = "\n".join(f"{number}. {one_line(claim)}" for number, claim in enumerate(found, 1))
        return await ask(self.prompts[1], {**data, "claims": numbered}, len(found))

    async def _ask_for_claims(
        self, prompt: Prompt, data: dict[str, str], number: int | None, *, max_tokens: int
    ) -> list[str] | Unscored:
        """What the panel's first judge replies; the others are for verdicts."""

        def read(reply: Reply) -> list[str] | Unscored:
            found = as_object(reply, Claims)
            if isinstance(found, Unscored):
                return found
            if number is not None and len(found.claims) != number:
                what = f"expected {number} claims, as many as were given, and found {len(found.claims)}"
                return Unscored(Reason.MALFORMED, what, raw=reply.text)
            return found.claims

        answer = await self.panel.judges[0].ask_for(
            [Message("user", prompt.render(**data))], read, max_tokens=max_tokens, schema=Claims.model_json_schema()
        )
        return answer if isinstance(answer, Unscored) else answer.value

    async def _check(self, claim: str) -> Checked:
        """The votes of all judges on a claim, each asked as often as the panel repeats."""
        if self.mode == "agent":
            return Checked(claim, (), await asyncio.gather(*(agent.vote(claim) for agent in self.agents)))
        try:
            passages = await self.scorer.search(claim)
        except SearchFailed as failed:
            return Checked(claim, (), [Vote("search", failed.why)])
        # Where no passage shares a word with the claim there is nothing to ask about.
        votes = await asyncio.gather(*(self._vote(judge, claim, passages, k) for judge, k in self.rounds if passages))
        return Checked(claim, passages, votes)

    async def _vote(self, judge: JudgeClient, claim: str, passages: Sequence[Passage], replicate: int) -> Vote:
        texts = [passage.text for passage in passages]
        if self.mode == "sentences":
            passage, missing = nearest(claim, texts)
            asked = self.prompts[-1].render(claim=claim, evidence=passage, missing=missing)
            ask = partial(judge.ask_for, read=as_word, max_tokens=WORD_TOKENS)
        else:
            numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
            asked = self.prompts[-1].render(claim=claim, evidence=numbered)
            ask = partial(
                judge.ask_for, read=as_verdict, max_tokens=VERDICT_TOKENS, schema=JudgedClaim.model_json_schema()
            )
        answer = await ask([Message("user", asked)], replicate=replicate)
        return Vote(judge.name, answer if isinstance(answer, Unscored) else answer.value)


def _statements(text: str, *, finished: bool) -> list[str]:
    """The sentences that may be claims: no questions, no single words; an unfinished last one is none."""
    found = sentences(text, SENTENCE_WORDS)
    if not finished and not is_finished(text):
        found = found[:-1]
    return [one for one in found if not is_question(one) and len(terms(one)) > 1]
