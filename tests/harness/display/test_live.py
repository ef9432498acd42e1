"""The screens, fed with events as a run sends them."""

import re
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.display import live as screens
from harness.display.live import LiveScreen, PlainLines, make_screen
from harness.run_folder import events
from harness.run_folder.events import Evaluated, Finished, IterationDone, Note, Started

EXPERTS = [
    "science",
    "cot",
    "sharegpt",
    "code",
    "wizard",
    "lima",
    "flan",
    "gemini",
    "oasst",
    "a-very-long-name-of-an-expert",
]
WEIGHTS = dict(zip(EXPERTS, [0.61, 0.44, -0.12, 0.06, 0.004, 0.01, 0.0, 0.0, 0.0, 0.0], strict=True))


@pytest.fixture
def clock(monkeypatch):
    """The time that the screens see; a test moves it."""
    now = [100.0]
    monkeypatch.setattr(screens.time, "monotonic", lambda: now[0])
    return now


def started(**changes):
    given = {
        "task": "medical",
        "edition": "mini",
        "engine": "local",
        "device": "cpu",
        "experts": EXPERTS,
        "particles": 20,
        "iterations": 8,
        "dev_items": 400,
        "test_items": 800,
    }
    return Started(**{**given, **changes})


def iteration(k, particles=20, scores=None, **changes):
    scores = scores if scores is not None else [(7 * i + 3 * k) % 20 / 40 + 0.25 for i in range(particles)]
    given = {
        "iteration": k,
        "step_length": 0.5 * 0.95**k,
        "scores": scores,
        "best": scores,
        "restarted": [False] * particles,
        "skipped": [False] * particles,
        "global_best": max((score for score in scores if score is not None), default=None),
        "coefficients": WEIGHTS,
        "evaluations": particles * (k + 1),
    }
    return IterationDone(**{**given, **changes})


def drawn(told, width=120, height=50):
    """The lines of the live screen after the events `told`."""
    console = Console(record=True, file=StringIO(), width=width, height=height, force_terminal=True)
    screen = LiveScreen(console)
    for event in told:
        screen(event)
    console.export_text(clear=True)
    console.print(screen.render())
    return console.export_text().splitlines()


def printed(told, width=60):
    file = StringIO()
    with PlainLines(Console(file=file, width=width)) as screen:
        for event in told:
            screen(event)
    return file.getvalue().splitlines()


def row(lines, name):
    (found,) = [line for line in lines if line.startswith(name)]
    return found


MOMENTS = {
    "before anything": [],
    "just started": [started()],
    "first scores": [started(), Evaluated(iteration=0, particle=3, value=0.5, items=400)],
    "under way": [
        started(),
        *(iteration(k) for k in range(20)),
        Evaluated(iteration=20, particle=3, value=None, items=9),
    ],
    "many particles": [started(particles=300), iteration(0, 300)],
    "nothing known": [started(), iteration(0, scores=[None] * 20, coefficients={})],
    "testing": [started(), iteration(0), events.Testing(name=EXPERTS[-1], done=2, total=12, answered=1600)],
}


@pytest.mark.parametrize("size", [(80, 24), (120, 50)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_screen_fits_the_terminal(moment, size):
    lines = drawn(MOMENTS[moment], *size)
    assert 1 <= len(lines) <= size[1]
    assert max(cell_len(line) for line in lines) <= size[0]


@pytest.mark.parametrize("size", [(80, 24), (120, 50)])
def test_every_one_of_twenty_particles_has_a_row(size):
    lines = drawn([started(), *(iteration(k) for k in range(4))], *size)
    for k, name in enumerate([*(name[:18] for name in EXPERTS), *(f"crossover {i + 1} " for i in range(10))]):
        told = row(lines, name)
        assert f"{(7 * k + 9) % 20 / 40 + 0.25:.4f}" in told
        assert len([c for c in told if c in screens.BARS]) == 4


def test_a_small_terminal_shows_the_best_and_says_how_many_are_not_shown():
    scores = [0.01 * k for k in range(40)]
    lines = drawn([started(particles=40), iteration(0, scores=scores, particles=40)], 80, 24)
    assert row(lines, "... and 21 more")
    assert row(lines, "crossover 30")
    assert not [line for line in lines if line.startswith("science ")]


def test_iteration_step_length_and_the_global_best_are_shown():
    text = "\n".join(drawn([started(), iteration(0), iteration(1), iteration(2)]))
    assert "iteration 3 of 8" in text
    assert "step length 0.451" in text
    assert "best metric 0.7250 = 0.61 science + 0.44 cot - 0.12 sharegpt + 0.06 code (+ 1 more)" in text


SMOOTH = [(0.5, 0.70), (0.6, 0.75), (0.7, 0.65)]
"""Objective and metric of the best mixture, iteration by iteration: the metric falls where the objective rises."""


def test_what_is_called_best_says_of_what_and_never_falls():
    seen = [started(objective="smooth")]
    seen += [iteration(k, best=[], objective=o, global_best=m) for k, (o, m) in enumerate(SMOOTH)]
    for lines in (printed(seen)[1:], [row(drawn(seen[: 2 + k]), "best") for k in range(3)]):
        bests = [re.search(r"best (\w+ \w+) ([\d.]+) \(metric ([\d.]+)\) = 0.61 science", line) for line in lines]
        assert [one.groups() for one in bests] == [("smooth objective", f"{o:.4f}", f"{m:.4f}") for o, m in SMOOTH]


@pytest.mark.parametrize("changes", [{"best": []}, {"objective": 0.5}])
def test_a_search_without_own_bests_of_the_metric_has_no_column_for_them(changes):
    objective = "smooth" if "objective" in changes else "metric"
    lines = drawn([started(objective=objective), iteration(0, **changes)])
    assert [line.split() for line in lines if line.startswith("particle")] == [["particle", "metric", "history"]]
    assert not any(" - " in line for line in lines[2:20])


def test_evaluations_rate_and_time(clock):
    told = [started(particles=4), *(Evaluated(iteration=0, particle=k, value=0.5, items=400) for k in range(4))]
    console = Console(file=StringIO(), record=True, width=120, height=50, force_terminal=True)
    screen = LiveScreen(console)
    for event in [*told, iteration(0, 4), Evaluated(iteration=1, particle=0, value=0.5, items=400)]:
        screen(event)
    clock[0] += 20.0
    console.print(screen.render())
    # 2000 answers in 20 s; 31 evaluations of 400 and 12 rows of 800 test items are left: 220 s.
    assert "5 evaluated, 31 left   100 answers/s   0:20, about 3:40 left" in console.export_text()


def test_the_bar_and_the_time_include_the_final_test(clock):
    told = [started(particles=2, iterations=1, experts=["ant", "bee"], dev_items=10, test_items=10)]
    assert row(drawn(told), "iteration").endswith("─ 0%")
    assert not any(" - " in line for line in drawn(told)), "blank, not dashes, before the first evaluation"
    told += [Evaluated(iteration=0, particle=0, value=0.5, items=10)]
    assert row(drawn(told), "iteration").endswith("─ 12%"), "10 of 40 answers on dev and 40 on test"
    told += [iteration(0, 2), iteration(1, 2), events.Testing(name="ant", done=2, total=4, answered=20)]
    assert row(drawn(told), "test: ant").endswith("━━━━━━────── 75%")


def test_a_long_name_keeps_its_start_and_its_end():
    assert screens.shortened("a-very-long-name-of-an-expert", 20) == "a-very-...-an-expert"
    lines = drawn([started(), iteration(0)], 80, 24)
    assert row(lines, "a-very-long-name-of-an-expert")


def test_nothing_of_the_search_is_left_while_testing(clock):
    console = Console(file=StringIO(), record=True, width=120, height=50, force_terminal=True)
    screen = LiveScreen(console)
    screen(started(particles=1, test_items=400))
    screen(Evaluated(iteration=0, particle=0, value=0.5, items=400))
    screen(iteration(0, 1))
    for done in range(3):
        screen(events.Testing(name="lima", done=done, total=12, answered=400 * done))
    clock[0] += 12.0
    console.print(screen.render())
    text = console.export_text()
    # Patience may end a search before its last iteration; test answers count as answers too.
    assert "test: lima (3 of 12)" in text
    assert "1 evaluated, 0 left   100 answers/s   0:12, about 0:40 left" in text


def test_restarted_and_skipped_particles_are_marked():
    marks = {"restarted": [k == 2 for k in range(20)], "skipped": [k in {4, 11} for k in range(20)]}
    lines = drawn([started(), iteration(0), iteration(1, **marks)])
    assert row(lines, "sharegpt").rstrip().endswith("restarted")
    assert row(lines, "wizard").rstrip().endswith("skipped")
    assert row(lines, "crossover 2").rstrip().endswith("skipped")
    assert sum("restarted" in line or "skipped" in line for line in lines) == 3


def test_a_score_is_shown_at_the_particle_with_that_number():
    # drop-N: particles 0 to 12 are skipped, the first value belongs to 13.
    lines = drawn([started(), iteration(0), Evaluated(iteration=1, particle=13, value=0.9876, items=400)])
    assert [line.split("  ")[0] for line in lines if "0.9876" in line] == ["crossover 4"]


def test_the_anchor_has_its_own_name():
    lines = drawn([started(experts=["ant", "bee"], anchor="base model", particles=4), iteration(0, 4)])
    assert [line.split("  ")[0] for line in lines[2:6]] == ["ant", "bee", "base model", "crossover 1"]


def test_missing_values_are_dashes():
    scores = [None, 0.5, *[0.25] * 18]
    told = [started(), iteration(0, scores=scores), Evaluated(iteration=1, particle=1, value=None, items=400)]
    lines = drawn(told)
    assert row(lines, "science").split() == ["science", "-", "-", "·"]
    assert row(lines, "cot").split()[:3] == ["cot", "-", "0.5000"]
    assert "None" not in "\n".join(lines)


def test_a_resumed_run_forgets_what_came_after_its_checkpoint():
    again = [started(), iteration(0), iteration(1), events.Testing(name="x", done=0, total=1), started(resumed_from=0)]
    text = "\n".join(drawn(again))
    assert "iteration 1 of 8" in text
    assert "test:" not in text


def test_markup_in_names_is_text():
    lines = drawn([started(experts=["[red]x[/red]", "[/]"], particles=2), iteration(0, 2, coefficients={"[/]": 1.0})])
    assert row(lines, "[red]x[/red]")
    assert row(lines, "best metric").endswith("= 1.00 [/]")


def test_plain_lines_come_in_order_one_an_event():
    told = [
        started(),
        Note(text="watch [this]"),
        Evaluated(iteration=0, particle=0, value=0.5, items=400),
        iteration(0),
        iteration(1, restarted=[True, True, *[False] * 18]),
        events.Testing(name="base model", done=0, total=12),
        events.Testing(name="science", done=1, total=12),
        Finished(reason="8 iterations done", seconds=75.0),
    ]
    lines = printed(told)
    begins = [
        "medical (mini): 10 experts",
        "note: watch [this]",
        "iteration 0/8  step 0.500",
        "iteration 1/8  step 0.475",
    ]
    begins += ["search done; evaluating 12 models", "finished after 1:15: 8 iterations done"]
    assert len(lines) == len(begins)
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(begin)
    assert "best metric 0.7250 = 0.61 science + 0.44 cot" in lines[3]
    assert "  restarted 2  evaluations 40" in lines[3]


def test_plain_lines_show_missing_values_as_dashes():
    line = printed([started(), iteration(0, scores=[None] * 20, coefficients={})])[1]
    assert "mean metric -  best metric: none yet  evaluations 20" in line


@pytest.mark.parametrize(
    ("display", "terminal", "kind"),
    [
        ("auto", True, LiveScreen),
        ("auto", False, PlainLines),
        ("plain", True, PlainLines),
        ("plain", False, PlainLines),
    ],
)
def test_which_screen(display, terminal, kind):
    console = Console(file=StringIO(), force_terminal=terminal, _environ={"TERM": "xterm"})
    assert isinstance(make_screen(display, console), kind)


def test_none_prints_nothing():
    file = StringIO()
    with make_screen("none", Console(file=file, force_terminal=True)) as screen:
        for event in (started(), Note(text="x"), iteration(0), Finished(reason="r", seconds=1.0)):
            screen(event)
    assert file.getvalue() == ""


def test_the_live_screen_leaves_the_terminal_clean():
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    with LiveScreen(console) as screen:
        screen(started())
        screen(iteration(0))
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1  # cursor hidden, shown again


def test_sparklines_share_one_scale():
    assert screens.sparkline([0.0, None, 1.0, 0.5], 0.0, 1.0) == "▁·█▅"
    assert screens.sparkline([0.5] * 3, 0.5, 0.5) == "▁▁▁"
    assert len(screens.sparkline([0.1] * 100, 0.0, 1.0)) == screens.SPARK_WIDTH


def test_a_screenshot_shows_the_search_of_a_run_folder_with_its_own_times(tmp_path):
    from harness.display.screenshot import draw
    from harness.run_folder.events import Evaluated, Started
    from harness.run_folder.store import Store

    store = Store.create(tmp_path / "run", {})
    described = {"task": "medical", "edition": "mini", "engine": "local", "device": "cpu", "experts": ["ant", "bee"]}
    store.log(Started(at=100.0, particles=2, iterations=1, dev_items=10, test_items=10, **described))
    for k, value in enumerate((0.25, 0.75)):
        store.log(Evaluated(at=110.0 + 10 * k, iteration=0, particle=k, value=value, items=10))
    store.close()
    draw(tmp_path / "run", tmp_path / "screen.svg", share=1.0)
    picture = (tmp_path / "screen.svg").read_text().replace("&#160;", " ")
    assert "ant" in picture and "0.7500" in picture
    assert "1 answers/s" in picture and "0:20" in picture
