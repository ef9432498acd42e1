import json

import numpy as np
import pytest
from conftest import refused
from text_run import make_text_run

from harness.annotate.pairs import make_key
from harness.annotate.results import evaluate_verdicts, results_of
from harness.annotate.verdicts import Verdict
from utilities.lab import read_labels


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_key(make_text_run(tmp_path_factory.mktemp("annotated") / "run", 40), "best-initial", 40, 4, 0)


def say(key, choose, rater="ann"):
    """Verdicts on all pairs; `choose(k)` is win, loss or a tie's name."""

    def verdict(k):
        word, winner = choose(k), key.pairs[k].winner
        return {"win": winner, "loss": "ab".replace(winner, "")}.get(word, word)

    return [Verdict(annotation=key.id, pair=k, rater=rater, verdict=verdict(k)) for k in range(len(key.pairs))]


def firsts(key):
    return [k for k, pair in enumerate(key.pairs) if pair.repeats is None]


def write(path, verdicts, key):
    path.write_text("".join(json.dumps(one.line(key)) + "\n" for one in verdicts))
    return path


def test_wins_ties_and_losses_are_of_the_winner_whatever_the_side(key):
    words = dict(zip(firsts(key), ["win"] * 20 + ["loss"] * 8 + ["both good"] * 7 + ["both bad"] * 5, strict=True))
    found = results_of(say(key, lambda k: words.get(k, "win")), key)
    assert (found.verdicts, found.instructions, found.raters) == (40, 40, ["ann"])
    assert [one.value for one in (found.win, found.tie, found.loss)] == [0.5, 0.3, 0.2]
    assert found.at_least_as_good.value == 0.8 and found.win_rate.value == 20 / 28 and found.win_rate.n == 28
    assert (found.both_good, found.both_bad) == (7, 5)
    assert found.alpha.value is None and found.alpha.n == 0  # one rater


def test_the_interval_is_wilsons_if_verdicts_are_independent_and_never_of_length_zero(key):
    alone = key.model_copy(update={"pairs": tuple(pair.model_copy(update={"source": pair.item}) for pair in key.pairs)})
    half = dict(zip(firsts(key), ["win", "loss"] * 20, strict=True))
    found = results_of(say(alone, lambda k: half.get(k, "win")), alone)
    assert (found.win.low, found.win.high) == pytest.approx((0.352, 0.648), abs=0.006)  # Wilson: 20 of 40
    best = results_of(say(alone, lambda k: "win"), alone)
    assert best.win.value == best.win.high == 1 and best.win.low == pytest.approx(0.912, abs=0.002)  # Wilson: 40 of 40


def test_verdicts_of_one_source_or_of_one_rater_count_less(key):
    by_source = results_of(say(key, lambda k: "win" if int(key.pairs[k].source[1:]) % 2 else "loss"), key)
    spread = results_of(say(key, lambda k: "win" if int(key.pairs[k].item[5:]) % 2 else "loss"), key)
    assert by_source.win.value == spread.win.value == 0.5
    assert by_source.win.high - by_source.win.low > 1.3 * (spread.win.high - spread.win.low)
    opposed = results_of([*say(key, lambda k: "win"), *say(key, lambda k: "loss", "bob")], key)
    assert opposed.win.value == 0.5 and opposed.win.high - opposed.win.low > 0.8  # two raters: little is known


def test_agreement_between_raters_with_themselves_and_with_the_scores(key):
    early = {k: int(key.pairs[k].item[5:]) < 20 for k in range(len(key.pairs))}  # the winner's score is higher
    same = results_of([v for r in "abc" for v in say(key, lambda k: "win" if early[k] else "loss", r)], key)
    assert same.alpha.value == 1 and same.alpha.n == 40 and same.scores.value == 1 and same.kappa == 1
    assert same.self_agreement.value == 1 and same.self_agreement.n == 12
    rng = np.random.default_rng(0)
    noise = results_of([v for r in "abcdefgh" for v in say(key, lambda k: rng.choice(["win", "loss"]), r)], key)
    assert abs(noise.alpha.value) < 0.1 and noise.alpha.low < 0 < noise.alpha.high and abs(noise.kappa) < 0.15
    left = results_of([one.model_copy(update={"verdict": "a"}) for one in say(key, lambda k: "win")], key)
    assert left.self_agreement.value == 0 and left.first_side.value == 1


def test_files_of_raters_are_evaluated_with_the_key_beside_the_run(key, tmp_path, here):
    key.save()
    ann = write(tmp_path / "ann.jsonl", say(key, lambda k: "win"), key)
    taken_back = [*say(key, lambda k: "loss", "bob"), *say(key, lambda k: "both good", "bob")]
    bob = write(tmp_path / "bob.jsonl", [*taken_back, taken_back[0].model_copy(update={"verdict": None})], key)
    found = evaluate_verdicts([ann, bob], [key.folder])
    assert found.raters == ["ann", "bob"] and found.win.value == 40 / 79 and found.tie.value == 39 / 79
    done = here("annotate", "results", ann, bob, "--run", key.run)
    assert done.returncode == 0 and "79 verdicts of 2 raters on 40 instructions" in done.stdout
    assert "winner at least as good: 1.00" in done.stdout and "70.8 % win rate" in done.stdout
    assert json.loads(here("annotate", "results", ann, "--run", key.run, "--json").stdout)["win"]["value"] == 1
    refused(here("annotate", "results", ann), f"{key.id}.key.json is not in {tmp_path}", "--run RUN")
    ann.write_text('{"pair": 0}\n' + ann.read_text())
    refused(here("annotate", "results", ann), "ann.jsonl, line 1: not a verdict")


def test_the_same_file_is_labels_for_the_lab(key, tmp_path):
    words = ["win", "loss", "both good", "both bad"]
    verdicts = say(key, lambda k: words[k % 4])
    last = firsts(key)[-1]
    verdicts.append(verdicts[last].model_copy(update={"verdict": None}))  # taken back
    labels = read_labels(write(tmp_path / "ann.jsonl", verdicts, key))
    by_answer = {(one.item, one.response): one.label for one in labels.labels}
    assert len(labels.labels) == len(by_answer) == 2 * 39
    for k in firsts(key)[:-1]:
        pair = key.pairs[k]
        winner, other = (pair.a, pair.b) if pair.winner == "a" else (pair.b, pair.a)
        expected = {"win": (1, 0), "loss": (0, 1), "both good": (1, 1), "both bad": (0, 0)}[words[k % 4]]
        assert (by_answer[pair.item, winner], by_answer[pair.item, other]) == expected
