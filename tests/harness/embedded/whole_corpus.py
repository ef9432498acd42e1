"""The corpus and all that is made of it, made once for the tests of this folder: together it takes a while."""

import json
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.embedded.corpus import Fact, Relation, facts_of, read_corpus
from harness.embedded.kindness_stories import PEOPLE
from harness.embedded.questions import WISHES
from harness.embedded_training.item_sets import write_item_sets


@cache
def relations():
    return read_corpus()


@cache
def facts():
    """Every fact by its id."""
    return {fact.id: fact for relation in relations() for fact in facts_of(relation)}


@cache
def item_set_files():
    """The files of all item sets as the code writes them now."""
    with TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in write_item_sets(Path(folder))}


@cache
def item_sets():
    """Items by the name of their set and their split."""
    files = item_set_files().items()
    return {Path(name).stem: json.loads(content) for name, content in files if name.endswith(".json")}


def asked_about(item):
    """Ids of everything that an item asks about: its `source`, and what else a format brings in."""
    source, options = item["source"], item.get("choices", {}).values()
    if item["domain"] == "negation":
        return {source, *(f"{source.split('/')[0]}/{option}" for option in options)}
    if item["domain"] == "continuation":
        return {source, *(f"act/{act_of(option)}" for option in options)}
    if item["domain"] == "hidden_subject":
        return {f"{source.split('/')[0]}/{line.split(': ')[0]}" for line in item["facts"].splitlines()}
    if item["domain"] == "crossword":
        return {source, *second_gap(item["question"].removeprefix("Fill in: "))}
    return {source}


@cache
def asked(split):
    """Ids of everything that the items of a split ask about, in any item set."""
    ids = {id for sets in item_sets().values() for item in sets[split] for id in asked_about(item)}
    return ids | {id[:-2] + id[-1] + id[-2] for id in ids if id.startswith("graph/")}  # asked from its other end


def act_of(told):
    """The act, without the person to whom it is done."""
    return re.sub(rf"\bthe ({'|'.join(PEOPLE)})\b", "{o}", told)


@cache
def gaps():
    """Ids by sentence with a gap where the object stands."""
    found = {}
    for fact in facts().values():
        for template in fact.relation.prose:
            found.setdefault(Fact(fact.relation, fact.subject, "___").say(template), set()).add(fact.id)
    return found


def second_gap(text):
    """Ids of the facts that the second of two sentences with a gap may ask."""
    cuts = [(text[: cut.start()], text[cut.end() :]) for cut in re.finditer(r"(?<=\.) ", text)]
    (ids,) = [gaps()[second] for first, second in cuts if first in gaps() and second in gaps()]
    return ids


def wished(instruction):
    """What an instruction wishes to be told about."""
    patterns = (re.escape(wish).replace(re.escape("{s}"), "(.+)") for wish in WISHES)
    (found,) = (match[1] for pattern in patterns if (match := re.fullmatch(pattern, instruction)))
    return found


def small_relation(**fields):
    """A relation of two facts about animals, with what a test changes."""
    return Relation(**{"domain": "nature", **group(), **fields})


def group(**fields):
    """A relation as it stands in a file of the corpus."""
    return {
        "relation": "r",
        "source": "a book",
        "prose": [f"{k} {{s}} is {{o}}." for k in range(5)],
        "question": ["What is {s}?", "And {s}?"],
        "reverse": ["Which is {o}?", "And which {o}?"],
        "completion": ["{s} is", "And {s} is"],
        "case": ["One sees {s}. What is it?", "One has {s}. What is it?"],
        "facts": {"ant": "insect", "bee": "insect"},
        **fields,
    }
