"""Factuality: F1@K of the claims in a response that evidence supports."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack, get_args

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
from utilities.prompt_format import PromptOptions
from utilities.prompts import Prompt, cut, load_prompt, one_line
from utilities.registry import unknown_name
from utilities.reply_text import answer_alone
from utilities.user_code import file_of

if TYPE_CHECKING:
    from utilities.judges.agent import FactAgent
    from utilities.judges.client import JudgeClient
    from utilities.judges.panel import Panel

__all__ = ["F1AtK", "Factuality", "distinct", "f1_at_k"]

Mode = Literal["auto", "sentences", "claims", "agent"]

NEAR = 0.9
"""Minimum word overlap (Jaccard) of two claims that count as one."""
TURNING = frozenset(
    {"no", "not", "never", "none", "neither", "nor", "without", "cannot", "t", "不", "没", "沒", "无", "無", "非"}
    | {"لا", "لم", "لن", "ليس", "غير"}
)
"""Negations: claims that differ in one of them, or in a number, are different."""
BEYOND_THE_TEXT = frozenset({Reason.BUDGET, Reason.TRANSPORT, Reason.TIME})
"""Failures unrelated to the claim, such as an unreachable server; they must not lower a response's score."""
PASSAGE_TOKENS = 100
"""Approximate tokens of a passage, for cost estimates."""
PROMPTS = {
    "sentences": ("verify_claim_brief",),
    "claims": ("factuality_claims", "factuality_selfcontained", "factuality_verdict"),
    "agent": ("factuality_claims", "factuality_selfcontained", "factuality_agent"),
}
"""Prompts of each mode; the last one is for verdicts."""
VERDICT_TOKENS = 512
WORD_TOKENS = 16
SENTENCE_WORDS = 40
"""Maximum words of a sentence that is one claim; the embedded judge reads 2,048 tokens, mostly evidence."""


class F1AtK(NamedTuple):
    """SAFE's F1@K of a response, with its precision and recall."""

    value: float
    precision: float
    recall: float


def f1_at_k(supported: int, claims: int, k: int) -> F1AtK:
    """The harmonic mean of precision, supported / claims, and recall up to K, min(1, supported / K).

    Wei et al. 2024 (arXiv 2403.18802), section 5. K is the number of supported facts that a reader wants; precision
    alone would be highest for one trivial claim. Without a supported claim all three are 0.
    """
    if supported == 0:
        return F1AtK(0.0, 0.0, 0.0)
    precision, recall = supported / claims, min(1.0, supported / k)
    return F1AtK(2 * precision * recall / (precision + recall), precision, recall)


def distinct(claims: Sequence[str]) -> list[str]:
    """The claims without duplicates: the first of each group of equal or nearly equal claims.

    Nearly equal: the Jaccard overlap of their words is at least `NEAR`, and they differ in no number and no negation.
    """
    words_of_claim: dict[str, frozenset[str]] = {}
    for claim in claims:
        words = frozenset(terms(claim))
        if words and not any(_say_the_same(words, other) for other in words_of_claim.values()):
            words_of_claim.setdefault(claim, words)
    return list(words_of_claim)


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
    """A claim with its evidence and its votes."""

    claim: str
    passages: Sequence[Passage]
    votes: Sequence[Vote] = ()

    @property
    def verdict(self) -> str:
        """The majority of the votes; `inconclusive` without any vote (no evidence was retrieved)."""
        return majority(self.votes) if self.votes else "inconclusive"

    @property
    def failure(self) -> Unscored | None:
        """The failure if no judge reached a verdict, else None; failures unrelated to the text take precedence."""
        if self.verdict != FAILED:
            return None
        failures = [vote.found for vote in self.votes if isinstance(vote.found, Unscored)]
        return next((one for one in failures if one.reason in BEYOND_THE_TEXT), failures[0])

    def told(self) -> dict[str, Any]:
        """The claim as stored in the records."""
        evidence = dict.fromkeys([*self.passages, *(passage for vote in self.votes for passage in vote.read)])
        return {
            "claim": self.claim,
            "verdict": self.verdict,
            "evidence": [passage._asdict() for passage in evidence],
            "votes": [vote.told() for vote in self.votes],
        }


@scorer_registry.register("factuality")
class Factuality(PanelScorer):
    """Mean F1@K of the responses (SAFE, Wei et al. 2024; atomic claims after FActScore, Min et al. 2023).

    A response is decomposed into claims, which are made self-contained and deduplicated. Evidence is retrieved for each
    claim. A claim is supported, contradicted or inconclusive given its evidence, or failed if no judge reached a
    verdict. All claims count in the denominator, so failed claims do not improve the value.

    - A response without claims scores 0, as in SAFE; `claims` is then 0.
    - An item is unscored if its claims could not be parsed from the judge's replies, if every verdict failed, or if one
      failed for reasons unrelated to the text (transport, budget).

    Args:
        mode: Extraction and verification of claims. `claims`: by a judge, one prompt to extract the claims, one to make
            them self-contained, one for each verdict. `sentences`: every sentence is a claim, and a verdict is one
            word, for small judges. `agent`: like `claims`, with judges that search the evidence themselves. `auto`:
            `sentences` if the embedded judge is on the panel, else `claims`.
        k: Number of supported facts that a reader wants, the K of F1@K. SAFE's 64 and 178 are for long answers of large
            models; 8 corresponds to about 200 tokens.
        top: Number of passages shown with a claim, or returned by a search.
        evidence: Folder of documents (`read_evidence`), or a user-defined search, FILE.py:NAME (`SearchTool`); by
            default the bundled corpus.
        words: Maximum words of a response that are evaluated; the rest is ignored.
        searches: Maximum number of searches of an agent for one claim.
        prompt: As in `GenerationScorer`.
        max_tokens: As in `GenerationScorer`; the paper's 200.
        stop: As in `GenerationScorer`.
        options: As in `GenerationScorer`.
        judge: The panel.

    Raises:
        UserError: An option is out of range, or the evidence cannot be read.
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
        judge: Panel | None = None,
        **options: Unpack[PromptOptions],
    ) -> None:
        super().__init__(judge, prompt, max_tokens, stop, **options)
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
        """Estimated numbers of judgements and of judge tokens for responses of `k` claims to `items`."""
        inquiry = _Inquiry(self, self._panel())
        *extraction, verdict = (estimate_tokens(prompt.source) for prompt in inquiry.prompts)
        verdicts = self.k * len(inquiry.rounds)
        each = verdicts * (verdict + self.top * PASSAGE_TOKENS) + sum(extraction)
        return len(items) * (verdicts + len(extraction)), len(items) * each

    async def score(self, items: Sequence[Item], responses: Sequence[Response]) -> list[Outcome]:
        """F1@K of each response, with its counts as measures, and every claim with its evidence and votes as notes.

        Raises:
            UserError: There is no judge, or it cannot answer.
        """
        inquiry = _Inquiry(self, self._panel())
        pairs = zip(items, responses, strict=True)
        return await asyncio.gather(*(inquiry.outcome(item.question, response) for item, response in pairs))

    @property
    def evidence(self) -> Evidence | SearchTool:
        """The source of passages: the configured one, or the bundled corpus."""
        return self._given if self._given is not None else bundled_evidence()

    async def search(self, query: str) -> list[Passage]:
        """The passages for a claim or an agent's query.

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
    """One evaluation: a scorer's prompts for a panel of judges."""

    def __init__(self, scorer: Factuality, panel: Panel) -> None:
        automatic = "sentences" if panel.embedded else "claims"
        self.scorer, self.panel = scorer, panel
        self.mode = automatic if scorer.mode == "auto" else scorer.mode
        self.prompts = [load_prompt(name) for name in PROMPTS[self.mode]]
        self.rounds = [(judge, replicate) for judge in panel.judges for replicate in range(panel.repeats)]
        self.agents = self._agents() if self.mode == "agent" else []

    def _agents(self) -> list[FactAgent]:
        from utilities.judges.agent import FactAgent  # lazy import of langchain

        return [
            FactAgent(judge, self.scorer.search, self.scorer.searches, replicate) for judge, replicate in self.rounds
        ]

    async def outcome(self, question: str, response: Response) -> Outcome:
        """The score of one response."""
        answer = answer_alone(response.text)
        if isinstance(answer, Unscored):
            return answer
        response = replace(response, text=answer)
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
            complete = text if text == response.text else text.rpartition("\n")[0]  # without the truncation mark
            return _statements(complete, finished=complete == response.text and response.finish_reason != "length")
        data = {"question": question, "response": text}
        # Claims repeat names, so together they are longer than the text.
        ask = partial(self._ask_for_claims, max_tokens=VERDICT_TOKENS + 3 * estimate_tokens(text))
        extracted = await ask(self.prompts[0], data, None)
        if isinstance(extracted, Unscored) or not extracted:
            return extracted
        numbered = "\n".join(f"{number}. {one_line(claim)}" for number, claim in enumerate(extracted, 1))
        return await ask(self.prompts[1], {**data, "claims": numbered}, len(extracted))

    async def _ask_for_claims(
        self, prompt: Prompt, data: dict[str, str], number: int | None, *, max_tokens: int
    ) -> list[str] | Unscored:
        """Claims extracted by the panel's first judge; the other judges only give verdicts."""

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
        """The votes of all judges on a claim, including the panel's repeats."""
        if self.mode == "agent":
            return Checked(claim, (), await asyncio.gather(*(agent.vote(claim) for agent in self.agents)))
        try:
            passages = await self.scorer.search(claim)
        except SearchFailed as failed:
            return Checked(claim, (), [Vote("search", failed.why)])
        # Without a passage no vote is requested.
        votes = await asyncio.gather(*(self._vote(judge, claim, passages, k) for judge, k in self.rounds if passages))
        return Checked(claim, passages, votes)

    async def _vote(self, judge: JudgeClient, claim: str, passages: Sequence[Passage], replicate: int) -> Vote:
        texts = [passage.text for passage in passages]
        if self.mode == "sentences":
            passage, missing = nearest(claim, texts)
            rendered = self.prompts[-1].render(claim=claim, evidence=passage, missing=missing)
            ask = partial(judge.ask_for, read=as_word, max_tokens=WORD_TOKENS)
        else:
            numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
            rendered = self.prompts[-1].render(claim=claim, evidence=numbered)
            ask = partial(
                judge.ask_for, read=as_verdict, max_tokens=VERDICT_TOKENS, schema=JudgedClaim.model_json_schema()
            )
        answer = await ask([Message("user", rendered)], replicate=replicate)
        return Vote(judge.name, answer if isinstance(answer, Unscored) else answer.value)


def _statements(text: str, *, finished: bool) -> list[str]:
    """The sentences that may be claims: no questions, no single words, no unfinished last sentence."""
    candidates = sentences(text, SENTENCE_WORDS)
    if not finished and not is_finished(text):
        candidates = candidates[:-1]
    return [one for one in candidates if not is_question(one) and len(terms(one)) > 1]
