"""`paper.md`: which claims of the paper hold here, and which command does what the paper does."""

from __future__ import annotations

from harness.analysis.result import CLAIMS, Analysed, not_measured

__all__ = ["PARTS", "paper_page"]

PARTS: tuple[tuple[str, str], ...] = (
    ("Algorithm 1, and its settings (defaults and swept values)", "python run.py --task medical --preset paper"),
    ("the choices of the reference code", "python run.py --task medical --variant reference"),
    ("hyperparameter search over particles' moves", "python run.py sweep --task medical"),
    ("table: single tasks (nine data sets)", "python run.py compare --task mmlu,hellaswag,gsm8k --methods all"),
    ("table: domains of two data sets", "python run.py compare --task medical,legal,science,culture --methods all"),
    ("table: reward models", "python run.py compare --task reward_general,reward_verbose,reward_concise --methods all"),
    ("table and figure: human interests rated by a judge", "python run.py --task electric_vehicles --preset paper"),
    ("human evaluation of the interests", "python run.py annotate runs/electric_vehicles-seed0"),
    ("baselines: trivial, static, dynamic", "python run.py compare --task medical --methods all"),
    ("figure: correctness emergence", "python run.py analyse --task medical --only emergence"),
    ("figure: diamond in the rough", "python run.py analyse --task medical --only diamond"),
    ("figure: diversity of the initial experts", "python run.py analyse --task medical --only diversity"),
    ("table: weak to strong", "python run.py analyse --task medical --only weak-to-strong"),
    ("figure: drop-K and drop-N", "python run.py analyse --task medical --only drop"),
    ("table: ablations", "python run.py analyse --task medical --only ablation"),
    ("figure: trajectories of the particles", "python run.py analyse --task medical --only trajectory"),
    ("adding experts to a finished search", "python run.py analyse --task medical --only modularity"),
    ("winners on other tasks", "python run.py analyse --task medical,legal --only transfer"),
    ("experts of different architectures: token probabilities", "python run.py --task medical --mix tokens"),
    ("risks: dual use", "python run.py analyse --task medical --only dual-use"),
)
"""Part of the paper to a command of this project; only commands that exist (a test parses them)."""

HEAD = """# The paper and this project

Written by `python run.py analyse` (`paper.md` in its folder). The paper is Model Swarms, arXiv 2410.11163; its parts
are named by their subject. All searches here are those of the published algorithm (`--preset paper`), and all values
are on test unless a row says dev.

## Claims
"""
NOTES = """
**holds**: the 95 % interval of the difference to the control lies on the claim's side of zero; **does not hold**: on
the other side; else **not decided**. Intervals are those of a bootstrap over clusters of items and over seeds; those of
ranks are exact binomial ones. Guessers are uniform and independent, and their shares are exact. With one seed of a task
no difference between searches is decided.
"""


def paper_page(analysed: Analysed) -> str:
    """The page in Markdown."""
    lines = [HEAD, f"Searches: {', '.join(analysed.runs)} ({analysed.settings}).\n"]
    lines += ["| claim of the paper | there | here, with 95 % interval | holds? |", "|---|---|---|---|"]
    done = {one.analysis for one in analysed.claims}
    claims = [*analysed.claims, *(not_measured(name, "") for name in CLAIMS if name not in done)]
    lines += [f"| {one.claim} | {one.paper} | {one.here} | {one.verdict} |" for one in claims]
    lines += [NOTES, *(f"- *{one.analysis}*: {one.sentence}" for one in analysed.claims)]
    lines += ["\n## Where each part of the paper is\n", "| part of the paper | command |", "|---|---|"]
    lines += [f"| {part} | `{command}` |" for part, command in PARTS]
    return "\n".join(lines) + "\n"
