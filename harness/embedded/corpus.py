"""Reads the corpus: facts as relations between a subject and an object, with templates that state them.

One YAML file of `corpus/` holds the relation groups of one field; the part of its name before the first underscore is
the domain (`medical_drugs.yaml` -> `medical`). The fields of `Relation` describe the format of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from utilities.bounded_input import read_yaml
from utilities.errors import UserError

CORPUS = Path(__file__).parent / "corpus"
Templates = Annotated[tuple[str, ...], Field(min_length=2)]


class Relation(BaseModel):
    """A group of facts of one kind, and its templates of sentences and questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relation: str
    """Name, unique in the corpus."""
    domain: str
    source: str
    """Where the facts can be looked up."""
    prose: Annotated[tuple[str, ...], Field(min_length=5)]
    """Declarative sentences with {s} and {o}."""
    question: Templates
    """Asks for {o}, given {s}."""
    reverse: Templates
    """Asks for {s}, given {o}."""
    completion: Templates
    """An unfinished statement about {s} that continues with {o}."""
    case: Templates
    """A small scenario with {s} and a question whose answer is {o}."""
    negation: tuple[str, ...] = ()
    """Asks for a subject that does *not* have {o}."""
    facts: dict[str, str]
    """Subject to object. Within a group only one object is correct for a subject."""

    @model_validator(mode="after")
    def _slots(self) -> Relation:
        expected = {"prose": "so", "question": "s", "reverse": "o", "completion": "s", "case": "s", "negation": "o"}
        for kind, slots in expected.items():
            for template in getattr(self, kind):
                present = "".join(slot for slot in "so" if template.count("{" + slot + "}") == 1)
                if present != "".join(slot for slot in "so" if slot in slots):
                    raise ValueError(f"{kind} template {template!r} must contain {list(slots)} exactly once each")
        return self


@dataclass(frozen=True, slots=True)
class Fact:
    """One atomic fact: in `relation`, `subject` has `object`."""

    relation: Relation
    subject: str
    object: str

    @property
    def id(self) -> str:
        """Stable name: items that ask the same fact share it, so standard errors can be clustered by it."""
        return f"{self.relation.relation}/{self.subject}"

    def say(self, template: str) -> str:
        """The template with this fact's words, first letter upper case."""
        text = template.replace("{s}", self.subject).replace("{o}", self.object)
        return text[0].upper() + text[1:]


def read_corpus(folder: Path = CORPUS) -> list[Relation]:
    """All relations of the corpus, in a fixed order.

    Raises:
        UserError: A file does not follow the format; the message names file, relation and field.
    """
    relations: list[Relation] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            entries = read_yaml(path.read_bytes())
        except ValueError as error:
            raise UserError(f"{path.name}: {error}") from error
        for entry in entries:
            try:
                relations.append(Relation(domain=path.stem.split("_")[0], **entry))
            except ValidationError as error:
                raise UserError(f"{path.name}, relation {entry.get('relation')!r}: {error}") from error
    return relations


def facts_of(relation: Relation) -> list[Fact]:
    """The relation's facts in the order of the file."""
    return [Fact(relation, subject, object_) for subject, object_ in relation.facts.items()]
