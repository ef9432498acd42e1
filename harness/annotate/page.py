"""The page on which a rater works: one HTML document without anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.annotate.pairs import Key

__all__ = ["page"]

HERE = Path(__file__).parent


def page(key: Key, *, served: bool) -> str:
    """The page of an annotation; it holds instructions, answers and the annotation's id, and no names of models.

    Args:
        key: The pairs.
        served: Whether verdicts go to the local server; else they stay in the browser until they are downloaded.
    """
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    script, style = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    pairs = [{**key.shown(k), "names": key.pairs[k].names_model} for k in range(len(key.pairs))]
    data = {"annotation": key.id, "served": served, "pairs": pairs}
    hashes = {
        name: b64encode(sha256(text.encode()).digest()).decode()
        for name, text in (("script", script), ("style", style))
    }
    return environment.get_template("page.html.jinja").render(
        data=data,
        script=script,
        style=style,
        hashes=hashes,
    )
