"""Finished run folders with any texts, written by the classes that verbs write them with; no model is loaded."""

import json
from types import SimpleNamespace

from harness.compare.result import Absent, Compared, Outcome, Ranking, Versus
from harness.lab.result import Examination, Examined, Found, Model, Searched
from harness.run_folder.events import Finished, IterationDone, Note, Started, Watched
from harness.run_folder.result import Difference, Measured, Result, Row, TimeShare, Watch, Winner
from harness.run_folder.store import Store
from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored
from utilities.lab.finding import Conclusion, Finding

EXPERTS = ("ant", "bee")
MODELS = {"base": 0.25, "expert_ant": 0.5, "expert_bee": 0.25, "winner": 0.75}


def evaluation(scores, answers, notes=""):
    """One item a score; None is unscored."""
    outcomes = [Unscored(Reason.TRUNCATED, "too long") if s is None else Score(s, {}, notes) for s in scores]
    results = [
        ItemResult(f"q{k}", f"q{k}", "0", Response(answer, 3), outcome)
        for k, (answer, outcome) in enumerate(zip(answers, outcomes, strict=True))
    ]
    return Evaluation.of(results)


HOSTILE = (
    '</script></title></textarea><script>document.title="gone"</script><svg onload=document.title="gone">'
    '<img src=x onerror=\'document.title="gone"\'>" onfocus="document.title=1" \x1b[31m\u202e\x00&"\'{{ 7 * 7 }}'
)
"""Script, markup, attributes, templates and control characters; a page that obeys it has another title."""


def make_run(folder, *, items, answers, scores, task="colours", experts=EXPERTS, particles=4, iterations=3, **more):
    """Writes a run folder.

    Args:
        folder: A new folder.
        items: The test items.
        answers: Model (base, expert_NAME, winner) to its answers.
        scores: The same keys to their scores; None is unscored.
        task: Name of the task.
        experts: Names of the experts.
        particles: Rows of each iteration.
        iterations: Iterations after the first.
        more: `warning` of the monitor, `notes` of the scores, `difference` of winner and best initial.
    """
    settings = {"task": task, "base_model": "embedded", "seed": 0, "experts": list(experts), "swarm": {"top_k": 1}}
    store = Store.create(folder, {"settings": settings, "versions": {"model-swarms": "0.2.0"}})
    item_set = SimpleNamespace(split=lambda split: items if split == "test" else [])
    store.save_items(SimpleNamespace(name="colours", item_sets={"": item_set}))
    about = {"task": task, "edition": "mini", "engine": "local", "device": "cpu", "experts": list(experts)}
    counts = {"particles": particles, "iterations": iterations, "dev_items": 4, "test_items": len(items)}
    store.log(Started(**about, **counts))
    store.log(Note(text="a note"))
    for k in range(iterations + 1):
        values = [0.3 + 0.05 * k + 0.02 * j for j in range(particles)]
        shared = {"restarted": [], "skipped": [], "coefficients": dict.fromkeys(experts, 0.5), "step_length": None}
        done = {
            "iteration": k,
            "scores": values,
            "best": [],
            "global_best": max(values),
            "evaluations": particles * (k + 1),
        }
        store.log(IterationDone(**shared, **done))
    rows = []
    for name, given in answers.items():
        e = evaluation(scores[name], given, more.get("notes", ""))
        store.save_records(f"test_{name}", [(name, e)])
        kind = "expert" if name.startswith("expert_") else name
        shown = "base model" if kind == "base" else name.removeprefix("expert_")
        values = {"dev": MODELS.get(name, 0.4), "dev_se": 0.1, "test": e.value, "test_se": e.se}
        rows.append(Row(name=shown, kind=kind, **values, n=e.n, unscored=e.n_unscored, problem=e.problem))
    difference = more.get("difference", Difference(value=0.25, low=0.1, high=0.4))
    look = {
        "objective": 0.5,
        "hold_out": 0.4,
        "initial_hold_out": 0.4,
        "text_features": {"words": 12.0},
        "canaries": {},
    }
    watched = [Watch(iteration=1, **look, warning=more.get("warning"))] if "warning" in more else []
    for one in watched:
        store.log(Watched(**one.model_dump()))
    result = Result(
        **{
            "task": task,
            "edition": "mini",
            "seed": 0,
            "engine": "local",
            "model": "embedded",
            "iterations": iterations,
        },
        **{"stopped": f"{iterations} iterations done", "evaluations": 12, "seconds": 61.0, "experts": list(experts)},
        time_share=TimeShare(forward=1.0, mixing=0.0, scoring=0.0, other=0.0),
        best_initial=experts[0],
        winner=Winner(
            coefficients=more.get("coefficients", dict.fromkeys(experts, 0.5)),
            **{"dev": 0.8, "test": 0.75, "test_se": 0.05, "adapter": str(folder / "best")},
        ),
        rows=rows,
        difference={"winner_minus_best_initial": difference, "winner_minus_base": difference},
        overlap={"": 0},
        watched=watched,
        run=str(folder),
    )
    store.save_result(result.model_dump_json())
    store.log(Finished(reason="done", seconds=61.0))
    store.close()
    return folder


def choice_items(count):
    """Multiple-choice items; the right option is A."""
    options = {"A": "red", "B": "blue"}
    return [Item(id=f"q{k}", question=f"Question {k}?", choices=options, answer="A") for k in range(count)]


def judge_notes(words, rating=7.0, judge="a judge"):
    """Notes as judged scorers write them."""
    return json.dumps({"prompt": "p", "judgements": [{"judge": judge, "value": rating, "reasoning": words}]})


def make_studies(folder, words):
    """A folder of `compare` and one of `lab` in which every text is `words`: tasks, methods, experts, utilities, item
    ids, questions, answers and what judges say.
    """
    items = [Item(id=words, question=words, answer=words)]
    item_set = SimpleNamespace(split=lambda split: items if split == "test" else [])
    task = SimpleNamespace(name="colours", item_sets={"": item_set})
    outcome = Score(7.0, {}, judge_notes(words, judge=words))
    rated = Evaluation.of([ItemResult(words, words, "0", Response(words, 3), outcome)])
    value = Measured(value=0.5, se=0.1, n=4, unscored=0)

    compared, methods = Store.create(folder / "compare", {"settings": {"task": words}, "compare": {words: words}}), []
    for k, method in enumerate(("base", words, "best_single")):
        compared.save_records(f"test_{k}", [(method, rated)])
        test = value.model_copy(update={"value": 0.9 if method == words else 0.5})
        measured = {"dev": value, "test": test, "evaluations": 1, "items": 4, "tokens": 8, "seconds": 1.0}
        more = {"coefficients": {words: 1.0}, "adapter": None, "records": f"records/test_{k}.parquet", "note": words}
        methods.append(Outcome(method=method, task="colours", seed=None, **measured, **more))
    compared.save_items(task)
    difference = {"difference": 0.1, "low": -0.1, "high": 0.2, "p": 0.5, "p_holm": 0.5, "verdict": "tie"}
    pairs = [Versus(method=words, reference="best_single", task="colours", **difference)]
    ranking = Ranking(mean_rank={words: 1.0}, critical_difference=None, cliques=[], friedman_p=None, note=words)
    about = {"tasks": ["colours", words], "methods": [words], "seeds": [0], "budget": 9, "engine": words}
    lists = {"outcomes": methods, "absent": [Absent(method=words, task=words, reason=words)], "noise_floor": {}}
    found = Compared(**about, **lists, model=words, versus=pairs, ranking=ranking, seconds=1.0)
    (folder / "compare" / "compare.json").write_text(found.model_dump_json())
    compared.close()

    lab = Store.create(folder / "lab", {"settings": {"task": words}, "lab": {words: words}})
    lab.save_items(task)
    (folder / "lab" / "designs" / "01" / "records").mkdir(parents=True)
    lab.save_records("all-test", [(name, rated) for name in ("base", f"expert-{words}")])
    (folder / "lab" / "records" / "all-test.parquet").rename(
        folder / "lab" / "designs" / "01" / "records" / "all-test.parquet"
    )
    models = [Model(name=name, dev=value, test=value) for name in ("base model", words)]
    kept = {"title": words, "value": 0.5, "low": 0.1, "high": 0.9, "yardstick": words, "advice": words}
    findings = [Finding(check="failures", verdict=v, **kept) for v in ("pass", "fail", "not applicable")]
    design = Examined(
        **{"design": words, "utility": words, "options": [words], "findings": findings, "models": models},
        **{"conclusion": Conclusion(fitness="not fit", reasons=(words,)), "mixtures": []},
    )
    trial = {"seed": 0, "objective": 0.5, "test": value, "coefficients": {words: 1.0}, "evaluations": 1, "seconds": 1.0}
    searched = Searched(design=words, trials=[Found(**trial)], test=0.5, behind=0.0, low=None, high=None)
    examination = Examination(
        **{"task": words, "edition": words, "dev_items": 1, "test_items": 1, "model": words, "engine": words},
        **{"experts": [words], "judges": [words], "labels": words, "seed": 0, "version": words, "made": words},
        **{"designs": [design], "compared": None, "searched": [searched], "cost": None, "seconds": 1.0},
    )
    (folder / "lab" / "lab.json").write_text(examination.model_dump_json())
    lab.close()
    return folder / "compare", folder / "lab"
