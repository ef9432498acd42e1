"""All checks of a utility; those that cannot be made give the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from utilities.lab.checks.agreement import AGREEMENT, agreement
from utilities.lab.checks.attacks import attacks
from utilities.lab.checks.cost import cost
from utilities.lab.checks.dev_for_test import dev_for_test, dev_for_test_cloud, optimism
from utilities.lab.checks.failures import failures, timeouts
from utilities.lab.checks.ladder import ladder
from utilities.lab.checks.length import length_slope, padding, prefers_longer
from utilities.lab.checks.noise import noise_floor, retest
from utilities.lab.checks.paraphrases import paraphrases
from utilities.lab.checks.position import position
from utilities.lab.checks.power import items_needed, separation, signal_to_noise
from utilities.lab.checks.saturation import saturation
from utilities.lab.finding import CHECKS, Finding, inapplicable
from utilities.lab.material import Material
from utilities.lab.scores import Scores

__all__ = ["examine"]


def examine(material: Material, seed: int = 0) -> list[Finding]:
    """A finding of every check, in the order of `CHECKS`.

    Args:
        material: The collected scores.
        seed: Seed of the intervals.
    """
    m, dev, plan = material, material.dev, material.plan
    others = list(m.paraphrased.values())
    no_experts = "no expert was evaluated on dev"

    def on_dev(check: str, make: Callable[[Scores], Finding]) -> Finding:
        return inapplicable(check, no_experts) if dev is None else make(dev)

    findings: list[Finding] = [
        on_dev("failures", failures),
        on_dev("timeouts", timeouts),
        *_agreement(m, seed),
        inapplicable("ladder", "there are no gold answers to corrupt") if m.rungs is None else ladder(m.rungs, seed),
        _with("noise_floor", dev, m.again, noise_floor, "the experts were evaluated only once"),
        on_dev("retest", lambda one: retest([_of_same_items(one, m.replicates), *m.replicates], seed)),
        on_dev("separation", separation),
        on_dev("signal_to_noise", signal_to_noise),
        on_dev("items_needed", items_needed),
        _with("dev_for_test", dev, m.test, dev_for_test, "no expert was evaluated on test"),
        _with(
            "dev_for_test_cloud",
            m.cloud_dev,
            m.cloud_test,
            lambda one, other: dev_for_test_cloud(one, other, seed),
            "no mixtures were evaluated",
        ),
        inapplicable("optimism", "the number of evaluations of a search is unknown")
        if plan is None
        else on_dev("optimism", lambda one: optimism(one, plan.evaluations)),
        on_dev("length_slope", lambda one: length_slope(one, seed)),
        on_dev("prefers_longer", lambda one: prefers_longer(one, seed)),
        _with(
            "padding",
            dev,
            m.padded,
            lambda a, b: padding(_of_same_items(a, [b]), b, seed),
            "the answers were not padded",
        ),
        inapplicable("position", "it does not compare answers") if m.positions is None else position(m.positions, seed),
        on_dev("paraphrases", lambda one: paraphrases({"": _of_same_items(one, others), **m.paraphrased}, seed)),
        _with("attacks", dev, m.attacked, lambda a, b: attacks(a, b, seed), "no canary was scored"),
        on_dev("saturation", lambda one: saturation(one, seed)),
        inapplicable("cost", "no search is planned") if plan is None else on_dev("cost", lambda one: cost(one, plan)),
    ]
    return _in_order([_with_reason(one, m) for one in findings])


def _with(
    check: str, first: Scores | None, second: Scores | None, make: Callable[[Scores, Scores], Finding], why: str
) -> Finding:
    return inapplicable(check, why) if first is None or second is None else make(first, second)


def _of_same_items(dev: Scores, others: Sequence[Scores]) -> Scores:
    """The scores of the items that were scored again: with judges, a part of the dev items."""
    if not others or not set(others[0].items) <= set(dev.items):
        return dev
    return dev.take([dev.items.index(name) for name in others[0].items])


def _agreement(material: Material, seed: int) -> Sequence[Finding]:
    if material.labels is None:
        return [inapplicable(check, "there are no labels") for check in (*AGREEMENT, "human_human")]
    return agreement(material.labels, material.scored, material.clusters, seed)


def _with_reason(one: Finding, material: Material) -> Finding:
    """The finding with the given reason if the check was left out."""
    why = material.absent.get(one.check)
    return inapplicable(one.check, why) if why is not None and one.verdict == "not applicable" else one


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    by_check = {one.check: one for one in findings}
    return [by_check[check] for check in CHECKS]
