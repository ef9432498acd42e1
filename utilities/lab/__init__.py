"""The lab: is this utility fit to be the objective of a search? Every check is a function of stored scores.

Higher is better, nan is unscored, every interval is a 95 % interval over clusters of items unless it says otherwise,
and a check that cannot be made is a `Finding` with the verdict `not applicable` and the reason. None raises for bad
data.

    Scores.of(evaluations: Mapping[str, Evaluation]) -> Scores

    agreement(labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str] = {}, seed: int = 0)
        -> list[Finding]                                                # six statistics, and agreement between raters
    noise_floor(first: Scores, second: Scores) -> Finding               # same adapters, evaluated twice
    retest(replicates: Sequence[Scores], seed: int = 0) -> Finding      # same answers, judged twice
    separation(scores: Scores) -> Finding
    signal_to_noise(scores: Scores) -> Finding
    items_needed(scores: Scores, points: float | None = None) -> Finding
    dev_for_test(dev: Scores, test: Scores) -> Finding                  # over the expert pool
    dev_for_test_cloud(dev: Scores, test: Scores, seed: int = 0) -> Finding   # over interpolated particles
    optimism(scores: Scores, candidates: int) -> Finding
    ladder(rungs: Scores, seed: int = 0) -> Finding                     # models = rungs, the best first
    length_slope(scores: Scores, seed: int = 0) -> Finding
    prefers_longer(scores: Scores, seed: int = 0) -> Finding
    padding(honest: Scores, padded: Scores, seed: int = 0) -> Finding   # same models, answers made longer
    position(verdicts: Positions, seed: int = 0) -> Finding
    paraphrases(variants: Mapping[str, Scores], seed: int = 0) -> Finding   # prompt to scores of the same answers
    attacks(honest: Scores, attacked: Scores, seed: int = 0) -> Finding     # models of `attacked` = canaries
    saturation(scores: Scores, seed: int = 0) -> Finding
    failures(scores: Scores) -> Finding
    timeouts(scores: Scores) -> Finding
    cost(scores: Scores, plan: SearchPlan) -> Finding

Texts to be scored:

    corruptions(items: Sequence[Item], seed: int = 0) -> dict[str, list[str]]   # rung to texts, the best first
    canary_answers(items: Sequence[Item], folder: Path | None = None) -> dict[str, list[str]]   # canary to texts
    padded_answer(text: str) -> str
    read_labels(path: Path) -> Labels
    positions(evaluations: Mapping[str, Evaluation]) -> Positions | None   # from the records of `pairwise`

All checks, and several utilities side by side:

    examine(material: Material, seed: int = 0) -> list[Finding]
    overall(findings: Sequence[Finding]) -> Conclusion
    compare_designs(designs: Mapping[str, Scores], seed: int = 0) -> Designs
"""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from utilities.lab.checks.agreement import agreement, human_human
    from utilities.lab.checks.attacks import attacks
    from utilities.lab.checks.cost import cost
    from utilities.lab.checks.dev_for_test import dev_for_test, dev_for_test_cloud, optimism
    from utilities.lab.checks.failures import failures, timeouts
    from utilities.lab.checks.ladder import ladder
    from utilities.lab.checks.length import length_slope, padding, prefers_longer
    from utilities.lab.checks.noise import noise_floor, retest
    from utilities.lab.checks.paraphrases import paraphrases
    from utilities.lab.checks.position import position, positions
    from utilities.lab.checks.power import items_needed, separation, signal_to_noise
    from utilities.lab.checks.saturation import saturation
    from utilities.lab.corruption import canary_answers, corruptions, padded_answer
    from utilities.lab.designs import Design, Designs, compare_designs
    from utilities.lab.examination import examine
    from utilities.lab.finding import CHECKS, Conclusion, Finding, Fitness, Verdict, inapplicable, overall
    from utilities.lab.labels import Label, Labels, read_labels
    from utilities.lab.material import Material, Positions, SearchPlan
    from utilities.lab.scores import Answer, Scores

__all__ = [
    "Answer",
    "CHECKS",
    "Conclusion",
    "Design",
    "Designs",
    "Finding",
    "Fitness",
    "Label",
    "Labels",
    "Material",
    "Positions",
    "Scores",
    "SearchPlan",
    "Verdict",
    "agreement",
    "attacks",
    "canary_answers",
    "compare_designs",
    "corruptions",
    "cost",
    "dev_for_test",
    "dev_for_test_cloud",
    "examine",
    "failures",
    "human_human",
    "inapplicable",
    "items_needed",
    "ladder",
    "length_slope",
    "noise_floor",
    "optimism",
    "overall",
    "padded_answer",
    "padding",
    "paraphrases",
    "position",
    "positions",
    "prefers_longer",
    "read_labels",
    "retest",
    "saturation",
    "separation",
    "signal_to_noise",
    "timeouts",
]


__getattr__ = lazy(__name__)
