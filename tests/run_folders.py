"""A finished run folder with any texts, written by the classes that a search writes it with; no model is loaded."""

import json
from types import SimpleNamespace

from harness.run_folder.events import Finished, IterationDone, Note, Started, Watched
from harness.run_folder.result import Difference, Result, Row, TimeShare, Watch, Winner
from harness.run_folder.store import Store
from utilities.core import Evaluation, Item, ItemResult, Reason, Response, Score, Unscored

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


def judge_notes(words, rating=7.0):
    """Notes as judged scorers write them."""
    return json.dumps({"prompt": "p", "judgements": [{"judge": "a judge", "value": rating, "reasoning": words}]})
