"""The handle that an edit is: the one place that knows the steps taken, and the way back.

It holds the saved bytes of what was touched (`memkit.editors.weights`) and the steps taken since
(`memkit.editors.steps`). Closing it gives the first bytes back; so does whatever goes wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor, nn

from memkit.editors.cost import measured
from memkit.editors.draft import Draft
from memkit.editors.guards import base_perplexity
from memkit.editors.interrupts import ending_with, uninterrupted
from memkit.editors.nesting import check_new, check_newest, left_by_removal, left_by_undo
from memkit.editors.reporting import checked, known, told
from memkit.editors.steps import (
    Change,
    Made,
    Step,
    forget_states,
    forget_weights,
    joined,
    moved,
)
from memkit.editors.tokens import check_facts
from memkit.editors.untouched import untouched_state
from memkit.editors.weights import Touched, Weights
from memkit.errors import BadInput, EditRejected
from memkit.lm.fingerprint import tensor_hash
from memkit.types import EditReport, Fact

if TYPE_CHECKING:
    import os

    from memkit.editors.base import Adaptor, Editor
    from memkit.editors.peft_folder import Written
    from memkit.lm.model import LM
    from memkit.lm.state import Mark

__all__ = ["Edit"]

T = TypeVar("T")


class Edit:
    """A live edit: the handle by which it grows, is set aside, saved and taken back.

    Leaving the `with` block, or `rollback`, restores the saved bytes of every touched tensor.
    Handles nest: the newest is closed first. `steps` are what was done; each `apply` or `add` is
    one step, however many facts it wrote.
    """

    def __init__(self, editor: Editor, lm: LM) -> None:
        check_new(editor, lm)
        self.editor = editor
        self.lm = lm
        self.steps: list[Step] = []
        self.weights = Weights()
        self.memo: dict[Any, Any] = {}
        self.closed = False
        self.revision = 0  # counts up with every change of the steps
        self.adaptor: Adaptor | None = None
        self._hooks = contextlib.ExitStack()
        self.mark: Mark | None = None  # of the model before the first step

    def __repr__(self) -> str:
        facts = [fact for step in self.steps for fact in step.facts]
        named = ", ".join(f"{fact.text!r} -> {fact.target!r}" for fact in facts[:3])
        more = f" and {len(facts) - 3} more" if len(facts) > 3 else ""
        return f"<Edit of {len(facts)} facts by {self.editor!r}: {named}{more}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rollback()

    @property
    def report(self) -> EditReport:
        """The steps' reports as one."""
        return joined(repr(self.editor), [step.report for step in self.steps])

    def add(self, facts: Sequence[Fact]) -> Self:
        """Write more facts on top of those written, as one step.

        Raises what `Editor.apply` raises; the model is then as it was before this step.
        """
        check_newest(self, "added to")
        facts = check_facts(self.lm, facts)
        past, live = list(self.steps), self in self.lm.edits
        try:
            with untouched_state(self.lm, self.editor.seed), measured(self.lm.device) as cost:
                if not past:
                    self.editor, chosen = self.editor.fitted(self.lm, facts)
                    self.memo.setdefault("chosen", chosen)
                self.once("perplexity", lambda: base_perplexity(self.lm, self.editor.guards))
                before = known(self.lm, facts)
                if not past:
                    self.mark = self.lm.mark()
                self._install()
                draft = Draft(self, facts)
                with torch.inference_mode(False), torch.enable_grad():
                    made = self.editor.write(draft)
                if self.adaptor is not None:
                    self.adaptor.rebuild([*past, _unscored(draft, made)])
                step = checked(self, draft, made, before)
            if step.report.warnings and self.editor.on_guard == "reject":
                raise EditRejected(
                    f"{type(self.editor).__name__} on {facts[0].text!r}: "
                    f"{'; '.join(step.report.warnings)}. The edit was taken back. Change the "
                    "editor's parameters or its guards, or pass on_guard='warn' to keep such edits."
                )
            with uninterrupted():
                self.steps.append(replace(step, report=told(self, step.report, cost)))
                self.revision += 1
                if self.adaptor is not None and self.adaptor.whole:
                    self.steps = forget_states(self.steps)
                self.steps = forget_weights(self.steps)
                if self not in self.lm.edits:
                    self.lm.edits.append(self)
            return self
        except BaseException:
            with ending_with(lambda: self._take_back(past, live=live)):
                raise

    def undo(self, n: int = 1) -> Self:
        """Take the newest `n` steps back: the bytes are those from before them.

        Raises `BadInput` if there are not as many, or if what they need was dropped to save memory
        (dense weights beyond 2 GiB; low-rank steps never are).
        """
        left = left_by_undo(self, n)
        with uninterrupted():
            self.steps = left
            self._restore()
        return self

    def remove(self, step: int) -> Self:
        """Take one step out, whichever, counted from 0; those after it stay as they were written.

        Raises `BadInput` if there is no such step, or if it or a later one keeps dense weights,
        which hold all that was written before them.
        """
        left = left_by_removal(self, step)
        with uninterrupted():
            self.steps = left
            self._restore()
        return self

    def digest(self) -> str:
        """SHA-256 of the editor and of what its steps keep: of an adaptor, which is no weight."""
        digest = hashlib.sha256(repr(self.editor).encode())
        for step in self.steps:
            digest.update(repr(step.facts).encode())
            for name, tensor in sorted(step.state.items()):
                digest.update(f"{name} {tensor_hash(tensor)}".encode())
        return digest.hexdigest()

    def rollback(self) -> None:
        """Close the edit: the bytes of every touched tensor are those from before it.

        Does nothing on a closed edit. Raises `BadInput` if a newer edit is live, and names both.
        """
        if self.closed:
            return
        if self.steps or self in self.lm.edits:
            check_newest(self, "rolled back")
        with uninterrupted():
            self.steps = []
            self._restore()
            if self in self.lm.edits:
                self.lm.edits.remove(self)
            self.memo.clear()
            self.closed = True

    @contextlib.contextmanager
    def paused(self) -> Iterator[Self]:
        """The model without this edit within the block, and with it again afterwards.

        Raises `BadInput` if a newer edit is live: pause that one first.
        """
        check_newest(self, "paused")

        def back() -> None:
            if self in self.lm.paused:
                self.lm.paused.remove(self)
                self.lm.edits.append(self)

        with ending_with(back), self.set_aside():
            with uninterrupted():
                self.lm.edits.remove(self)
                self.lm.paused.append(self)
            yield self

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gives of the model without this edit, made once and kept with the handle."""
        if key not in self.memo:
            with self.set_aside():
                self.memo[key] = make()
        found: T = self.memo[key]
        return found

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """The weights from before the first step, and no adaptor, within the block."""
        with self.weights.set_aside(), ending_with(lambda: self._enable(True)):
            self._enable(False)
            yield

    def save(self, folder: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the edit as a folder of safetensors and JSON, for `memkit.load_edit`.

        Low-rank steps keep their factors; of dense ones the newest weights are written, as one
        step. Raises `BadInput` if the folder exists and `replace` is false, or the edit is closed.
        """
        from memkit.editors.artefact import save

        if self.closed or not self.steps:
            raise BadInput(f"{self!r} holds nothing; allowed: a live edit. Save it before closing.")
        save(self, folder, replace=replace)

    def to_peft(
        self, folder: str | os.PathLike[str], rank: int | None = None, *, replace: bool = False
    ) -> Written:
        """Write the edit as a PEFT LoRA folder, for peft and vLLM; gives ranks and errors.

        `rank` is the most that a map may have; None keeps all. Raises `BadInput` if the edit
        changes anything but weights of linear maps; see `memkit.editors.peft_folder.write`.
        """
        from memkit.editors.adapter import Adapter

        return Adapter.of(self).save(folder, rank, replace=replace)

    def adopt(self, steps: Sequence[Step], turned: Mapping[str, bool]) -> None:
        """Make saved steps live, on a model that has been found to be their base."""
        check_newest(self, "adopted")
        try:
            self.mark = self.lm.mark()
            for name, way in turned.items():
                self.touch(name, self.lm.model.get_parameter(name), turned=way)
            self.steps = [moved(step, self.lm.device) for step in steps]
            self._install()
            self._restore()
            self.lm.edits.append(self)
        except BaseException:
            with ending_with(lambda: self._take_back([], live=False)):
                raise

    def _install(self) -> None:
        """Put the editor's adaptor over the model, if it has one and is not there yet."""
        if self.adaptor is None:
            self.adaptor = self.editor.adaptor(self.lm)
            if self.adaptor is not None:
                self._hooks.enter_context(self.adaptor.installed())

    def _enable(self, enabled: bool) -> None:
        if self.adaptor is not None:
            self.adaptor.enabled = enabled

    @property
    def touched(self) -> Mapping[str, Touched]:
        """The tensors that the steps changed, by name."""
        return self.weights.touched

    def touch(self, name: str, parameter: nn.Parameter, *, turned: bool = False) -> None:
        """Save a tensor's bytes before its first change."""
        self.weights.touch(name, parameter, turned=turned)

    def value(self, name: str, more: Sequence[Change] = ()) -> Tensor:
        """A touched tensor [d_out, d_in] after all steps and `more`, not rounded."""
        return self.weights.value(name, self.steps, more)

    def rewrite(self, name: str, more: Sequence[Change] = ()) -> None:
        """Write a touched tensor as saved bytes plus all changes, rounded once."""
        self.weights.rewrite(name, self.steps, more)

    def _take_back(self, steps: list[Step], *, live: bool) -> None:
        """Be as before: with these steps, and among the live edits or not."""
        self.steps = steps
        self._restore()
        if not live and self in self.lm.edits:
            self.lm.edits.remove(self)

    def _restore(self) -> None:
        """Make adaptor and weights what the steps say."""
        self.revision += 1
        if self.adaptor is not None and self.steps:
            self.adaptor.rebuild(self.steps)
        elif self.adaptor is not None:
            self._hooks.close()
            self.adaptor = None
        restored = [touched.parameter for touched in self.touched.values()]
        self.weights.restore(self.steps)
        if not self.steps and self.mark is not None:
            others = [edit.mark for edit in self.lm.edits if edit is not self]
            self.lm.returned(self.mark, restored, others)


def _unscored(draft: Draft, made: Made) -> Step:
    """The step as an adaptor sees it, before its report is there."""
    return Step(draft.facts, {}, made.state, EditReport(""))
