import pytest
from pydantic import ValidationError

from utilities.lab.finding import CHECKS, Conclusion, Finding, finding, inapplicable, overall
from utilities.statistics import Estimate


def made(check, verdict="pass", advice="a reason"):
    return finding(check, verdict, advice, 0.5)


def all_made(**verdicts):
    return [made(check, verdicts.get(check, "pass")) for check in CHECKS]


def test_what_passes_everything_is_fit_as_objective():
    assert overall(all_made()) == Conclusion(fitness="fit as objective", reasons=())


@pytest.mark.parametrize(("check", "weight"), CHECKS.items(), ids=CHECKS)
def test_each_check_bars_what_its_weight_says(check, weight):
    found = overall(all_made(**{check: "fail"}))
    expected = {"everything": "not fit", "objective": "fit as report only", "nothing": "fit as objective"}
    assert found.fitness == expected[weight.bars]
    assert found.reasons == (() if weight.bars == "nothing" else (f"{weight.title}: a reason",))


def test_warnings_bar_nothing():
    assert overall([made(check, "warn") for check in CHECKS]).fitness == "fit as objective"


def test_the_worst_word_counts_and_all_reasons_are_given_the_gravest_first():
    found = overall(all_made(attacks="fail", failures="fail", cost="fail"))
    assert found.fitness == "not fit"
    assert found.reasons == ("unscored items: a reason", "canaries against honest answers: a reason")


@pytest.mark.parametrize("check", ["failures", "separation"])
def test_without_the_checks_that_are_needed_nothing_is_an_objective(check):
    findings = [inapplicable(c, "no reason") if c == check else made(c) for c in CHECKS]
    found = overall(findings)
    assert found.fitness == "fit as report only"
    assert found.reasons == (f"{CHECKS[check].title}: not measured, which an objective needs",)
    assert overall([one for one in findings if one.check != check]) == found


def test_checks_that_do_not_apply_bar_nothing():
    findings = [made(c) if w.needed else inapplicable(c, "no labels") for c, w in CHECKS.items()]
    assert overall(findings).fitness == "fit as objective"


def test_what_is_not_finite_is_none_in_json_and_whole_numbers_stay_whole():
    found = finding(
        "cost", "pass", "so", Estimate(float("nan"), None, float("inf")), numbers={"a": float("inf"), "b": 3}
    )
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.numbers == {"a": None, "b": 3}
    assert isinstance(found.numbers["b"], int)
    assert Finding.model_validate_json(found.model_dump_json()) == found


def test_a_finding_is_closed_and_every_field_is_documented_in_the_schema():
    with pytest.raises(ValidationError):
        Finding(check="cost", title="", verdict="pass", advice="", note="?")
    for model in (Finding, Conclusion):
        properties = model.model_json_schema()["properties"]
        assert [name for name, about in properties.items() if not about.get("description")] == []
