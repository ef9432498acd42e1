"""Settings: which layer wins, what is refused, and in which words."""

from collections import Counter
from pathlib import Path

import pytest

from harness.session.settings import NESTED, RunSettings, known_settings, read_config, run_settings
from harness.swarm.settings import VARIANTS
from utilities.errors import UserError


def test_later_layers_win_and_none_means_not_given():
    settings = run_settings(
        {"task": "medical", "seed": 1, "particles": 5, "limit": 3}, {"seed": 2, "particles": None}, {"limit": None}
    )
    assert (settings.seed, settings.swarm.particles, settings.limit) == (2, 5, 3)


@pytest.mark.parametrize("name", sorted(VARIANTS["reference"]))
def test_a_variant_changes_the_defaults(name):
    assert getattr(run_settings({"task": "t", "variant": "reference"}).swarm, name) == VARIANTS["reference"][name]


def test_no_variant_is_the_paper():
    assert run_settings({"task": "t", "preset": "paper"}) == run_settings({"task": "t", "variant": "paper"})


def test_the_preset_of_the_paper_is_the_published_search():
    paper, default = run_settings({"task": "t", "preset": "paper"}), run_settings({"task": "t"})
    assert (paper.swarm.optimiser, paper.objective, paper.swarm.winner) == ("pso", "metric", "best")
    assert default.swarm.optimiser != "pso"
    assert default.preset == "default"
    assert run_settings({"task": "t", "variant": "reference"}).swarm.optimiser == "pso"


def test_an_explicit_value_wins_over_the_preset():
    settings = run_settings({"task": "t"}, {"objective": "smooth"}, {"preset": "paper"})
    assert (settings.objective, settings.swarm.optimiser) == ("smooth", "pso")


@pytest.mark.parametrize(
    "layers", [({"inertia": 0.9}, {"variant": "reference"}), ({"variant": "reference"}, {"inertia": 0.9})]
)
def test_an_explicit_value_wins_over_the_variant_in_whatever_order(layers):
    swarm = run_settings({"task": "t"}, *layers).swarm
    assert (swarm.inertia, swarm.repel) == (0.9, VARIANTS["reference"]["repel"])


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown setting 'particels'\. Did you mean 'particles'\?"):
        run_settings({"task": "t", "particels": 3})


def test_a_group_is_not_a_setting():
    with pytest.raises(UserError, match="unknown setting 'swarm'"):
        run_settings({"task": "t", "swarm": {"particles": 3}})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"particles": 0}, r"settings: particles: .*greater than or equal to 1 \(got '?0"),
        ({"inertia": "nan"}, r"settings: inertia: .*finite"),
        ({"variant": "papr"}, r"variant: .*'paper' or 'reference' \(got 'papr'\)"),
        ({"seed": -1}, r"seed: .*\(got -1\)"),
        ({"device": "tpu"}, r"settings: device: .*'cpu'"),
        ({"base_model": "/somewhere"}, r"experts: --base-model is given, so --experts"),
    ],
)
def test_a_wrong_value_is_named_with_field_value_and_what_would_be_right(given, words):
    with pytest.raises(UserError, match=words) as told:
        run_settings({"task": "t"}, given)
    assert not any(f"{group}." in str(told.value) for group in NESTED)


def test_flat_names_are_unique_over_the_groups():
    models = [RunSettings, *NESTED.values()]
    count = Counter(name for model in models for name in model.model_fields if name not in NESTED)
    assert [name for name, times in count.items() if times > 1] == []
    assert set(count) == set(known_settings())


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        run_settings({"task": "t"}).seed = 3


def test_settings_survive_the_settings_file():
    settings = run_settings({"task": "t", "experts": ["a", "b"], "base_model": "m", "data": "d", "inertia": 0.1 + 0.2})
    assert RunSettings(**settings.model_dump(mode="json")) == settings


def test_anywhere_makes_paths_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("data", "model", "owner/adapter"):
        Path(name).mkdir(parents=True)
    Path("my.yaml").write_text("")
    settings = run_settings(
        {"task": "my.yaml", "data": "data", "base_model": "~/model", "experts": ["owner/adapter", "hub/only"]}
    ).anywhere()
    assert settings.task == str(tmp_path / "my.yaml")
    assert settings.data == tmp_path / "data"
    assert settings.base_model == str(tmp_path / "model")
    assert settings.experts == (str(tmp_path / "owner/adapter"), "hub/only")
    monkeypatch.chdir("/")
    assert settings.anywhere() == settings


def test_anywhere_expands_the_home_folder_of_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_settings({"task": "medical", "data": "~/d"}).anywhere().data == tmp_path / "d"


def test_anywhere_leaves_names_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("medical", "embedded"):  # folders that happen to be called like a task and like the embedded model
        Path(name).mkdir()
    settings = run_settings({"task": "medical"})
    assert settings.anywhere() == settings


def test_the_embedded_model_prefers_mini_and_others_full():
    assert run_settings({"task": "t"}).preferred_edition == "mini"
    assert run_settings({"task": "t", "base_model": "m", "experts": ["a"]}).preferred_edition == "full"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "not readable as YAML"),
        (b"- particles\n", "expected a mapping"),
        (b"", "expected a mapping"),
        (b"\xff\xfe\xff", "not readable as YAML"),
        (b"particels: 3\n", r"c\.yaml: unknown setting 'particels'\. Did you mean 'particles'"),
        (b"3: 3\n", "unknown setting '3'"),
    ],
)
def test_a_config_file_that_is_wrong_is_named(tmp_path, content, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_config(path)


def test_a_config_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_config(tmp_path / "c.yaml")
    with pytest.raises(UserError, match="not readable"):
        read_config(tmp_path)


def test_a_config_file_is_read(tmp_path):
    (tmp_path / "c.yaml").write_text("particles: 3\ntask: medical\nexperts: [a, b]\n")
    assert read_config(tmp_path / "c.yaml") == {"particles": 3, "task": "medical", "experts": ["a", "b"]}


def test_options_of_a_scorer_are_read_as_yaml():
    given = ["max_tokens=3", "generated=no", " prompt =a=b", "stop=['x', \"\\n\"]", "model=", "pattern='[A-D]'"]
    options = run_settings({"task": "t", "option": given}).scorer_options
    assert options == {
        "max_tokens": 3,
        "generated": False,
        "prompt": "a=b",
        "stop": ["x", "\n"],
        "model": None,
        "pattern": "[A-D]",
    }


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("max_tokens", r"option: 'max_tokens' is not of the form NAME=VALUE"),
        ("=3", "'=3' is not of the form NAME=VALUE"),
        ("", "'' is not of the form NAME=VALUE"),
        ("a-b=3", "'a-b=3' is not of the form NAME=VALUE"),
        ("a=[1", r"the value of 'a=\[1' is not readable as YAML; quote it: a='...'"),
        ("a=1: 2: 3", "not readable as YAML"),
        ("a=2020-99-99", "not readable as YAML"),
    ],
)
def test_an_option_that_is_none_is_named(option, words):
    with pytest.raises(UserError, match=words) as told:
        run_settings({"task": "t", "option": ["b=1", option]})
    assert "\n" not in str(told.value)


def test_anywhere_makes_the_file_of_a_utility_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def utility(text):
        return run_settings({"task": "t", "utility": text}).anywhere().utility

    assert utility("my_file.py:my_score") == f"{tmp_path}/my_file.py:my_score"
    assert utility("~/my_file.py:my_score") == f"{tmp_path}/home/my_file.py:my_score"
    assert utility("numeric") == "numeric"
    assert utility(None) is None


def test_a_mistake_of_the_judges_is_told_in_flat_names():
    with pytest.raises(UserError, match=r"^settings: judge_url is given, but no model: name one with judge"):
        run_settings({"task": "medical", "judge_url": "http://localhost:8000/v1"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimiser", "cma-positiv", "unknown optimiser 'cma-positiv'. Did you mean 'cma-positive'?"),
        ("engine", "locl", "unknown engine 'locl'. Did you mean 'local'?"),
        ("combine", "minimun", "unknown combination 'minimun'. Did you mean 'minimum'?"),
    ],
)
def test_an_unregistered_name_is_refused_with_a_suggestion(name, value, message):
    with pytest.raises(UserError) as caught:
        run_settings({"task": "t", name: value})
    assert message in str(caught.value)


def test_objects_of_a_users_file_keep_their_file_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    specs = {"optimiser": "mine.py:search", "engine": "mine.py:Engine", "combine": "mine.py:first"}
    settings = run_settings({"task": "t", **specs}).anywhere()
    assert settings.swarm.optimiser == f"{tmp_path}/mine.py:search"
    assert (settings.engine, settings.combine) == (f"{tmp_path}/mine.py:Engine", f"{tmp_path}/mine.py:first")
