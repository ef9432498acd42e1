"""What an environment is: one item is one episode, played by the scorer `conversation`.

An environment holds options and no episode; what happens in an episode is its state, which `act` replaces. So one
environment plays all items at once, and a stored transcript is scored again by replaying its actions.

Example:
    >>> from utilities.core import Item
    >>> class Guess(Environment):
    ...     def start(self, item):
    ...         return (int(item.answer), None)
    ...     def observe(self, state):
    ...         secret, guess = state
    ...         return Observation("Guess a number:" if guess is None else "Higher:" if guess < secret else "Lower:")
    ...     def act(self, state, action):
    ...         if not action.isdigit():
    ...             raise IllegalAction("write a number")
    ...         return (state[0], int(action))
    ...     def done(self, state):
    ...         return state[0] == state[1]
    ...     def score(self, state):
    ...         return float(self.done(state))
    >>> game, state = Guess(), Guess().start(Item(id="1", question="A number", answer="7"))
    >>> game.observe(game.act(state, "3")).text
    'Higher:'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from utilities.core import Item
from utilities.registry import Registry

__all__ = ["Environment", "IllegalAction", "Observation", "environment_registry"]


class Observation(NamedTuple):
    """What a model sees before its next action."""

    text: str
    """Everything that it is shown; nothing of earlier turns is added."""
    actions: tuple[str, ...] = ()
    """The actions to choose from by likelihood; empty if the model writes its action as a line of text."""


class IllegalAction(Exception):  # noqa: N818 - it costs the model a turn and is no error of the program
    """The action is not possible now; the message is shown to the model."""


class Environment(Protocol):
    """The rules of an episode; they must be deterministic. A class inherits it and defines all but `check`."""

    columns: tuple[str, ...] = ()
    """Columns of the data that it reads as `item.row`."""

    def check(self, item: Item) -> str | None:
        """The reason why `item` cannot be played; None if it can."""
        return None if item.answer else "the item has no answer"

    def start(self, item: Item) -> Any:
        """The state before the first action."""
        ...

    def observe(self, state: Any) -> Observation:
        """What the model sees in this state."""
        ...

    def act(self, state: Any, action: str) -> Any:
        """The state after an action.

        Raises:
            IllegalAction: The action is not possible; the state stays, and the turn is used.
        """
        ...

    def done(self, state: Any) -> bool:
        """Whether the episode has ended by itself."""
        ...

    def score(self, state: Any) -> float:
        """The score of an episode that ended in this state, by itself or at a limit; higher is better."""
        ...


environment_registry: Registry[Callable[..., Environment]] = Registry(
    "environment", ("utilities.environments",), ("environment_registry.register",), group="model_swarms.environments"
)
"""Constructors of environments; their arguments are options of the scorer `conversation`."""
