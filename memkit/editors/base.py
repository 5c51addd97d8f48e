"""The editor's contract: what a method has to be.

An editor is a frozen dataclass of its hyper-parameters. `apply` gives an `Edit`, the handle that
can take the facts out again; the method itself sees a `Draft`, and no more of the handle.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from memkit.editors.draft import Draft
from memkit.editors.edit import Edit
from memkit.editors.guards import Guards
from memkit.editors.steps import Made, Step
from memkit.errors import BadInput
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Kind, Site
    from memkit.lm.model import LM

__all__ = ["Adaptor", "Draft", "Edit", "Editor", "Made", "Step"]


@dataclass(frozen=True, kw_only=True)
class Editor(abc.ABC):
    """A method that writes facts into the weights, or (where it `erases`) takes them out.

    guards: the bounds that an edit must keep.
    on_guard: what happens beyond a bound. "reject": the edit is taken back and `EditRejected`
        raised. "warn": the report has a warning.
    seed: of all that is random in the method; torch's own random state is left as it was.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder",)
    erases: ClassVar[bool] = False  # a fact's target is what the model is to say no longer

    guards: Guards = Guards()
    on_guard: Literal["reject", "warn"] = "reject"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what all have; methods add their own checks.

        No field may be a list: an editor is a value, which can be a key and does not change.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                raise BadInput(
                    f"{field.name} is {value!r:.80}, a list; allowed: a tuple. Write "
                    f"{tuple(value)!r:.80}."
                )
        if not isinstance(self.guards, Guards):
            raise BadInput(
                f"guards is {self.guards!r}; allowed: memkit.Guards(...), whose bounds may be "
                "infinity. Leave it out for the usual ones."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise BadInput(f"seed is {self.seed!r}; allowed: an integer. Choose one.")
        if self.on_guard not in ("reject", "warn"):
            raise BadInput(
                f"on_guard is {self.on_guard!r}; allowed: 'reject' or 'warn'. Choose one."
            )

    def apply(self, lm: LM, facts: Sequence[Fact]) -> Edit:
        """Write facts into the model, and give the handle that can take them out again.

        Raises `BadInput` for facts that cannot be written, `UnsupportedModel` for a model that the
        method does not serve, `EditRejected` if a guard finds harm. After any error the model is as
        it was.
        """
        return Edit(self, lm).add(facts)

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with what is None chosen for this model, and for each choice why.

        The choice may look at the facts; the model is as before.
        """
        return self, {}

    def adaptor(self, lm: LM) -> Adaptor | None:
        """What a method that leaves the weights alone puts over a layer instead; None: nothing."""
        return None

    @abc.abstractmethod
    def write(self, draft: Draft) -> Made:
        """Write `draft.facts` into `draft.lm` by way of the draft. Called by the handle."""


class Adaptor(abc.ABC):
    """What lies over layers of a model and changes what comes out of them, as a GRACE codebook.

    It is a function of the steps of its handle: `rebuild` is called after each of them and whenever
    some are taken back, and must give the same for the same steps, to the bit. What it needs of a
    step stands in `Step.state` and `Step.facts`. `whole` says that a step's state holds all that
    the steps before it did, so that the newest one's is enough, and no older step can be removed.
    """

    whole: ClassVar[bool] = False
    enabled: bool = True

    @property
    @abc.abstractmethod
    def sites(self) -> Sequence[Site]:
        """The maps that it lies over."""

    @abc.abstractmethod
    def installed(self) -> contextlib.AbstractContextManager[None]:
        """Its hooks, for the time of the block; while `enabled` is false they do nothing."""

    @abc.abstractmethod
    def rebuild(self, steps: Sequence[Step]) -> None:
        """Become what these steps make of it."""
