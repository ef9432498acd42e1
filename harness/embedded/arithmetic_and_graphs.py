"""Small problems that need no knowledge: word problems, and questions about paths in a graph."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from harness.embedded.questions import SEED, SHARES, Question


@dataclass(frozen=True, slots=True)
class Sum:
    """`left sign right`, with a result above zero."""

    left: int
    sign: str
    right: int

    @property
    def id(self) -> str:
        """Unit of the split: 3 + 4 and 4 + 3 are one sum."""
        pair = (self.left, self.right) if self.sign == "-" else sorted((self.left, self.right))
        return f"sum/{pair[0]}{self.sign}{pair[1]}"

    @property
    def value(self) -> int:
        """The result."""
        signs = {"+": self.left + self.right, "-": self.left - self.right, "*": self.left * self.right}
        return signs[self.sign]


WORDS = {
    "+": ("{a} plus {b} is {c}.", "Adding {b} to {a} gives {c}."),
    "-": ("{a} minus {b} is {c}.", "Taking {b} from {a} leaves {c}."),
    "*": ("{a} times {b} is {c}.", "{a} groups of {b} make {c}."),
}
STORIES = {
    "+": (
        "{n} has {a} {x} and buys {b} more. How many {x} does {n} have now?",
        "There are {a} {x} on the table. {n} brings {b} more. How many {x} are there?",
        "{n} picks {a} {x} in the morning and {b} in the evening. How many {x} is that in all?",
    ),
    "-": (
        "{n} has {a} {x} and gives {b} away. How many {x} does {n} still have?",
        "{n} had {a} {x} and lost {b} of them. How many {x} are left?",
        "Of {a} {x} in a box, {n} takes {b}. How many {x} stay in the box?",
    ),
    "*": (
        "{n} has {a} bags with {b} {x} in each. How many {x} is that in all?",
        "Each of {a} children brings {n} {b} {x}. How many {x} does {n} get?",
    ),
}
NAMES = [
    "Ana",
    "Ben",
    "Chloe",
    "David",
    "Emma",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jamal",
    "Kira",
    "Leo",
    "Mia",
    "Noor",
    "Oscar",
    "Priya",
]
THINGS = [
    "apples",
    "books",
    "coins",
    "eggs",
    "flowers",
    "letters",
    "marbles",
    "pens",
    "plates",
    "shells",
    "stamps",
    "tickets",
]


def split_sums() -> dict[str, list[Sum]]:
    """All small sums, split into learn, dev and test."""
    plus = [Sum(a, "+", b) for a in range(1, 21) for b in range(1, 21)]
    minus = [Sum(a, "-", b) for a in range(2, 31) for b in range(1, min(a, 21))]
    times = [Sum(a, "*", b) for a in range(2, 11) for b in range(2, 11)]
    rng = random.Random(f"{SEED}/sums")
    split: dict[str, list[Sum]] = {name: [] for name in SHARES}
    for group in (plus, minus, times):
        same: dict[str, list[Sum]] = {}
        for one in group:
            same.setdefault(one.id, []).append(one)
        order, start = rng.sample(list(same.values()), len(same)), 0
        for name, share in SHARES.items():
            end = start + round(share * len(order))
            split[name] += [one for mirrored in order[start : None if name == "test" else end] for one in mirrored]
            start = end
    return split


def sum_sentences() -> list[str]:
    """Every sum as plain sentences, for the base model to read."""
    sums = [one for split in split_sums().values() for one in split]
    return [t.format(a=s.left, b=s.right, c=s.value) for s in sums for t in WORDS[s.sign]]


def word_problem(one: Sum, rng: random.Random) -> Question:
    """A sum as a word problem."""
    template, name, thing = rng.choice(STORIES[one.sign]), rng.choice(NAMES), rng.choice(THINGS)
    text = template.format(n=name, a=one.left, b=one.right, x=thing)
    return Question("word_problem", one.id, f"Problem: {text}", (str(one.value),))


FIRST_STEPS = {
    "+": "{n} has {a} {x} and buys {b} more.",
    "-": "{n} had {a} {x} and lost {b} of them.",
    "*": "{n} has {a} bags with {b} {x} in each.",
}
SECOND_STEPS = {
    "+": "{n} picks {c} more in the evening.",
    "-": "{n} gives {c} away.",
    "*": "Then {n} gets {c} times as many.",
}


def long_problem(split: str, rng: random.Random) -> Question:
    """A word problem of two steps with large numbers; the first number is even in dev and odd in test."""
    (first, second), name, thing = rng.choices("+-*", k=2), rng.choice(NAMES), rng.choice(THINGS)
    a, b, c = 2 * rng.randrange(40, 100) + (split == "test"), rng.randrange(12, 40), rng.randrange(12, 40)
    steps = f"{FIRST_STEPS[first]} {SECOND_STEPS[second]} How many {{x}} does {{n}} have in the end?"
    value = Sum(Sum(a, first, b).value, second, c).value
    text = steps.format(n=name, a=a, b=b, c=c, x=thing)
    return Question("long_problem", f"sum/{a}{first}{b}{second}{c}", f"Problem: {text}", (str(value),))


@dataclass(frozen=True, slots=True)
class Graph:
    """An undirected graph and the two nodes that are asked about."""

    edges: tuple[tuple[str, str], ...]
    start: str
    goal: str

    @property
    def id(self) -> str:
        """Unit of the split: the same edges in another order are the same graph."""
        return "graph/" + "".join(sorted("".join(sorted(edge)) for edge in self.edges)) + f"/{self.start}{self.goal}"

    def distance(self) -> int | None:
        """Length of the shortest path; None if there is no path."""
        seen, queue = {self.start: 0}, deque([self.start])
        while queue:
            node = queue.popleft()
            for edge in self.edges:
                if node in edge:
                    other = edge[0] if edge[1] == node else edge[1]
                    if other not in seen:
                        seen[other] = seen[node] + 1
                        queue.append(other)
        return seen.get(self.goal)


GRAPHS = {"learn": 1000, "dev": 250, "test": 500}
"""Graphs per split."""


def split_graphs() -> dict[str, list[Graph]]:
    """Random graphs of six nodes and four to six edges; two of three questions are about connected nodes.

    Two splits may share the edges of a graph, never together with the pair of nodes.
    """
    rng, used = random.Random(f"{SEED}/graphs"), set()
    pairs = [(a, b) for a in "ABCDEF" for b in "ABCDEF" if a < b]
    splits: dict[str, list[Graph]] = {name: [] for name in GRAPHS}
    for name, count in GRAPHS.items():
        while len(splits[name]) < count:
            edges = tuple((b, a) if rng.random() < 0.5 else (a, b) for a, b in rng.sample(pairs, rng.randint(4, 6)))
            graph = Graph(edges, *rng.sample("ABCDEF", 2))
            wanted = len(splits[name]) % 3 > 0
            if (graph.distance() is not None) == wanted and graph.id not in used:
                used |= {graph.id, Graph(edges, graph.goal, graph.start).id}
                splits[name].append(graph)
    return splits


def graph_question(graph: Graph, rng: random.Random) -> Question:
    """Asks whether there is a path or, for half of the connected pairs, for the length of the shortest one.

    A third of the answers is Yes, a third No, a third a number.
    """
    drawing = "Graph: " + ", ".join("-".join(edge) for edge in graph.edges)
    distance = graph.distance()
    if distance is not None and rng.random() < 0.5:
        text = f"{drawing}. How long is the shortest path between {graph.start} and {graph.goal}?"
        return Question("shortest_path", graph.id, text, (str(distance),))
    text = f"{drawing}. Is there a path between {graph.start} and {graph.goal}?"
    return Question("connectivity", graph.id, text, ("Yes" if distance is not None else "No",))
