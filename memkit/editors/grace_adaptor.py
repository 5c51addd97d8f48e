"""GRACE's codebook over a map of a model, kept as a log of what was written into it.

The log is the state of the handle's steps. From it the codebook is built again to the bit, also
without some of the steps.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from memkit.editors.base import Step
from memkit.editors.codebook import ACTIONS, Codebook, Decision
from memkit.editors.prompt_end import PromptEndAdaptor, Replacement, Row

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["Entry", "GraceAdaptor", "label"]


class Entry(NamedTuple):
    """One fact in the log: all that is needed to write it again.

    `value` is that of the key that serves it, `number` counts the facts before it on the handle,
    `trained` says that the value was trained on it.
    """

    query: Tensor
    value: Tensor
    decision: Decision
    number: int
    trained: bool

    def state(self, place: int) -> dict[str, Tensor]:
        """As tensors, for the fact at a place of its step."""
        action, nearest, distance = self.decision
        log = (ACTIONS.index(action), nearest, distance, self.number, self.trained)
        return {
            f"{place}.query": self.query,
            f"{place}.value": self.value,
            f"{place}.log": torch.tensor(log, dtype=torch.float64),
        }

    @classmethod
    def of(cls, state: Mapping[str, Tensor], place: int, device: torch.device) -> Entry:
        """The fact at a place of a step, with its tensors on a device."""
        action, nearest, distance, number, trained = state[f"{place}.log"].tolist()
        decision = Decision(ACTIONS[int(action)], int(nearest), distance)
        query, value = (state[f"{place}.{name}"].to(device) for name in ("query", "value"))
        return cls(query, value, decision, int(number), bool(trained))


class GraceAdaptor(PromptEndAdaptor):
    """A codebook over a map, as the log of the steps makes it.

    `decisions` has one a fact. What was decided holds as long as all facts from before are there;
    from the first one on that lacks some, it is decided anew, from the queries that were kept. A
    fact whose key is gone, or serves others with another value by now, gets a key of its own then.
    """

    def __init__(
        self,
        lm: LM,
        site: Site,
        stack: str | None,
        replacement: Replacement,
        codebook: Codebook,
    ) -> None:
        super().__init__(lm, site, stack, replacement)
        self.codebook = codebook
        self.decisions: list[Decision] = []
        self._written: list[Mapping[str, Tensor]] = []  # states that the codebook holds
        self._complete = True  # whether no fact has lost one from before it
        self._forced: Tensor | None = None

    @contextlib.contextmanager
    def writing(self, state: Mapping[str, Tensor]) -> Iterator[None]:
        """A block in which a step is entered that has this state in the end."""
        written, self._written = self._written, [{}]  # known to nobody: to be built anew
        yield
        self._written = [*written, state]

    @contextlib.contextmanager
    def forcing(self, value: Tensor) -> Iterator[None]:
        """A block in which every row gets this value."""
        self._forced = value
        try:
            yield
        finally:
            self._forced = None

    def enter(self, entry: Entry, label: str) -> int:
        """Write a fact into the codebook; gives its key."""
        key = self.codebook.carry_out(entry.decision, entry.query, entry.value, label)
        if entry.trained:
            self.codebook.put(key, entry.value)
        self.decisions.append(entry.decision)
        return key

    @torch.inference_mode(False)
    @torch.no_grad()
    def rebuild(self, steps: Sequence[Step]) -> None:
        """Enter the steps that are new, or all of them if some are gone."""
        self.decided = None
        states = [step.state for step in steps]
        known = len(self._written)
        if known > len(states) or any(map(operator.is_not, self._written, states)):
            self.codebook.clear()
            self.decisions, self._written, self._complete = [], [], True
        for step in steps[len(self._written) :]:
            for place, fact in enumerate(step.facts):
                entry = Entry.of(step.state, place, self.site.weight.device)
                self._complete &= entry.number == len(self.decisions)
                if not self._complete:
                    entry = entry._replace(decision=self._anew(entry, label(fact)))
                self.enter(entry, label(fact))
            self._written.append(step.state)

    def _anew(self, entry: Entry, label: str) -> Decision:
        """What becomes of a fact whose decision may not hold any more."""
        decision = self.codebook.decide(entry.query, label)
        if decision.action != "expand" or (entry.trained and entry.decision.action == "expand"):
            return decision
        shared = torch.equal(self.codebook.values[decision.nearest], entry.value)
        return decision if shared else decision._replace(action="add")

    def decide(self, queries: Tensor) -> Row | None:
        """Which rows have a value, and it: [rows], [rows, d_out]."""
        if self._forced is not None:
            found = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
            return found, self._forced.expand(len(queries), -1)
        if not len(self.codebook):
            return None
        found, keys = self.codebook.look_up(queries)
        return (found, self.codebook.values[keys]) if bool(found.any()) else None

    def change(self, decided: Row, hidden: Tensor, output: Tensor, where: Tensor) -> Tensor:
        """The values in the places of the rows that have one."""
        found, values = decided
        places = (found[:, None] & where)[..., None]
        return torch.where(places, values[:, None].to(output.dtype), output)


def label(fact: Fact) -> str:
    """What makes two facts want the same."""
    return fact.target.strip()
