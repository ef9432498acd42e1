"""The lab: can this utility be trusted as a search objective? Every check is a function on stored scores.

Higher is better, nan is unscored, every interval is a 95 % interval over clusters of items unless it says otherwise,
and a check that cannot be made says why as a `Finding` with the verdict `not applicable`; none raises for bad data.

    Scores.of(evaluations: Mapping[str, Evaluation], item_set: str | None = None) -> Scores

    agreement(labels: Labels, scored: Mapping[Answer, float], clusters: Mapping[str, str] = {}, seed: int = 0)
        -> list[Finding]                                                # six statistics, and humans among themselves
    noise_floor(first: Scores, second: Scores) -> Finding               # same adapters, evaluated anew
    retest(replicates: Sequence[Scores], seed: int = 0) -> Finding      # same answers, judged again
    separation(scores: Scores) -> Finding
    signal_to_noise(scores: Scores, seed: int = 0) -> Finding
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

Texts to be scored, for whoever has the utility:

    corruptions(items: Sequence[Item], seed: int = 0) -> dict[str, list[str]]   # rung to texts, the best first
    canary_answers(items: Sequence[Item], folder: Path | None = None) -> dict[str, list[str]]   # canary to texts
    padded_answer(text: str) -> str
    read_labels(path: Path) -> Labels
    positions(evaluations: Mapping[str, Evaluation]) -> Positions | None   # from the records of `pairwise`

All of them on what there is, and several utilities beside each other:

    examine(material: Material, seed: int = 0) -> list[Finding]
    overall(findings: Sequence[Finding]) -> Conclusion
    compare_designs(designs: Mapping[str, Scores], seed: int = 0) -> Designs
"""

from typing import TYPE_CHECKING

from utilities.lazy import lazy

if TYPE_CHECKING:
    from utilities.lab.finding import CHECKS, Conclusion, Finding, Fitness, Verdict, inapplicable, overall
    from utilities.lab.labels import Label, Labels, read_labels
    from utilities.lab.material import Material, Positions, SearchPlan
    from utilities.lab.scores import Answer, Scores

_HOME = {
    "Answer": "utilities.lab.scores",
    "CHECKS": "utilities.lab.finding",
    "Conclusion": "utilities.lab.finding",
    "Finding": "utilities.lab.finding",
    "Fitness": "utilities.lab.finding",
    "Label": "utilities.lab.labels",
    "Labels": "utilities.lab.labels",
    "Material": "utilities.lab.material",
    "Positions": "utilities.lab.material",
    "Scores": "utilities.lab.scores",
    "SearchPlan": "utilities.lab.material",
    "Verdict": "utilities.lab.finding",
    "inapplicable": "utilities.lab.finding",
    "overall": "utilities.lab.finding",
    "read_labels": "utilities.lab.labels",
}

__all__ = [
    "Answer",
    "CHECKS",
    "Conclusion",
    "Finding",
    "Fitness",
    "Label",
    "Labels",
    "Material",
    "Positions",
    "Scores",
    "SearchPlan",
    "Verdict",
    "inapplicable",
    "overall",
    "read_labels",
]


__getattr__ = lazy(__name__, _HOME)
