import numpy as np
import pytest
from matplotlib.image import imread

from harness.compare import figure as module
from harness.compare.figure import write_figure
from harness.compare.result import Compared, Measured, Outcome, Versus

METHODS = ["base", "best_single", *(f"a_method_with_a_long_name_{k}" for k in range(12)), "swarm"]


def compared(difference=0.02, tasks=("medical",), seconds=2.0):
    """Methods of nearly the same gain and cost, which is where labels would lie on each other."""
    outcomes, versus = [], []
    for task in tasks:
        for k, method in enumerate(METHODS):
            one = Measured(value=0.5 + difference * k, se=0.02, n=100, unscored=0)
            outcomes.append(
                Outcome(
                    method=method,
                    task=task,
                    seed=None,
                    dev=one,
                    test=one,
                    evaluations=500 if method == "swarm" else 0,
                    items=0,
                    tokens=0,
                    seconds=seconds,
                    coefficients=None,
                    adapter=None,
                    records="r.parquet",
                    note=None,
                )
            )
            if method != "best_single":
                gain = difference * (k - 1)
                verdict = "better" if gain > 0.05 else "worse" if gain < 0 else "tie"
                given = {"difference": gain, "low": gain - 0.03, "high": gain + 0.03, "p": 0.01, "p_holm": 0.02}
                versus.append(Versus(method=method, reference="best_single", task=task, verdict=verdict, **given))
    return Compared(
        tasks=list(tasks),
        methods=METHODS,
        seeds=[0],
        budget=500,
        engine="local",
        model="embedded",
        outcomes=outcomes,
        absent=[],
        noise_floor={},
        versus=versus,
        ranking=None,
        seconds=1.0,
    )


@pytest.fixture
def drawn(monkeypatch):
    """The axes, with points and labels, of every gain-against-cost panel that is written."""
    seen = []
    part = module._part

    def spy(axes, points, labels):
        part(axes, points, labels)
        seen.append((axes, points, labels))

    monkeypatch.setattr(module, "_part", spy)
    return seen


@pytest.mark.parametrize(("difference", "cost"), [(0.02, "seconds"), (0.0, "evaluations")])
def test_no_label_lies_on_another_or_outside_and_what_costs_nothing_is_drawn(tmp_path, drawn, difference, cost):
    write_figure(compared(difference), tmp_path / "compare.png", cost)
    ((axes, points, labels),) = drawn
    assert [label.get_text() for label in labels] == [point.method for point in points]
    frame, boxes = axes.get_window_extent(), [label.get_window_extent() for label in labels]
    assert all(frame.x0 < axes.transData.transform((point.cost, point.gain))[0] < frame.x1 for point in points)
    for k, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert not any(box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)) for other in boxes[:k])


def test_the_picture_has_a_row_a_task_and_ink_in_it_even_without_a_reference_or_without_anything(tmp_path):
    full = compared(tasks=("medical", "legal"))
    half = full.model_copy(update={"versus": [v for v in full.versus if v.task == "legal"]})
    empty = full.model_copy(update={"versus": [], "outcomes": []})
    pictures = []
    for what in (half, empty):
        write_figure(what, tmp_path / "compare.png")
        pictures.append(imread(tmp_path / "compare.png"))
    two, none = pictures
    assert two.shape[1] == 1800 and two.shape[0] > 2 * none.shape[0]
    assert 0.005 < (two[..., :3].mean(-1) < 0.5).mean() < 0.2
    assert np.allclose(two[..., 0], two[..., 2])  # grey, so colour alone carries no information
    assert [path.name for path in tmp_path.iterdir()] == ["compare.png"]


def test_points_are_sorted_and_the_reference_is_among_them():
    points = module._points(compared(), "medical", "best_single", "seconds")
    assert [point.method for point in points][:3] == ["base", "best_single", METHODS[2]]
    assert sorted(point.gain for point in points) == [point.gain for point in points]
    assert (points[1].gain, points[1].verdict) == (0.0, "reference")
