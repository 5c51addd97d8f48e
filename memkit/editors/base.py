"""The editor's contract, and the handle that an edit is.

An editor is a frozen dataclass of its hyper-parameters. `apply` gives an `Edit`: the one place that
holds the saved bytes of what was touched, the steps taken since, and the way back. A weight is
always written as saved bytes plus everything that the steps added, rounded once, so that taking a
step back gives exactly the bytes that were there before it, and closing the handle the first ones.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from memkit.editors.cost import Cost, measured
from memkit.editors.guards import (
    Guards,
    base_perplexity,
    check_learnt,
    check_perplexity,
    check_size,
)
from memkit.editors.interrupts import uninterrupted
from memkit.editors.tokens import check_facts, target_text
from memkit.errors import BadInput, EditRejected, UnsupportedModel
from memkit.lm.fingerprint import tensor_hash
from memkit.types import EditReport, Fact, FactReport

if TYPE_CHECKING:
    import os

    from memkit.lm.layouts import Kind, Site
    from memkit.lm.model import LM

__all__ = [
    "Adaptor",
    "Change",
    "Dense",
    "Draft",
    "Edit",
    "Editor",
    "LowRank",
    "Made",
    "Step",
    "joined",
    "untouched_state",
]

T = TypeVar("T")

MANY = 2**18  # bytes of left factors beyond which their sum is kept
KEPT_BYTES = 2**31  # of dense weights that are kept for `undo`; the oldest go first


@dataclass(frozen=True, slots=True)
class LowRank:
    """An addition to a weight [d_out, d_in]: left [d_out, r] times right [d_in, r] transposed."""

    left: Tensor
    right: Tensor

    def norm(self) -> float:
        """Frobenius norm, without making the matrix."""
        left, right = self.left.double(), self.right.double()
        return float(((left.T @ left) * (right.T @ right)).sum().clamp(min=0).sqrt())


@dataclass(frozen=True, slots=True)
class Dense:
    """A weight as a step left it, as stored; None once it was dropped to save memory."""

    after: Tensor | None


Change = LowRank | Dense


@dataclass(frozen=True, slots=True)
class Made:
    """What a method says of a step, beside what it wrote.

    `details` has one mapping a fact; `warnings` are what the method's own guards found; `chosen`
    says what was chosen for this model and why; `state` are tensors that later steps of the same
    handle build on (keys of past edits).
    """

    details: Sequence[Mapping[str, float]] = ()
    warnings: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One `apply` or `add`: its facts, its changes by parameter, its part of the report."""

    facts: tuple[Fact, ...]
    changes: Mapping[str, tuple[Change, ...]]
    state: Mapping[str, Tensor]
    report: EditReport


@dataclass(frozen=True, kw_only=True)
class Editor(abc.ABC):
    """A method that writes facts into the weights.

    guards: the bounds that an edit must keep.
    on_guard: what happens beyond a bound. "reject": the edit is taken back and `EditRejected`
        raised. "warn": the report has a warning.
    seed: of all that is random in the method; torch's own random state is left as it was.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder",)

    guards: Guards = Guards()
    on_guard: Literal["reject", "warn"] = "reject"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check `on_guard`; methods add their own checks."""
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


class Draft:
    """A step being taken: what an editor sees, and the only way in which it may write.

    lm, facts: the model and what to write.
    past: the steps before this one, on the same handle.
    adaptor: the editor's, if it has one; it is installed and as the past steps made it.
    """

    def __init__(self, edit: Edit, facts: Sequence[Fact]) -> None:
        self.lm = edit.lm
        self.facts = tuple(facts)
        self.past: Sequence[Step] = tuple(edit.steps)
        self.adaptor = edit.adaptor
        self.changes: dict[str, list[Change]] = {}
        self._edit = edit

    def add(self, site: Site, left: Tensor, right: Tensor) -> LowRank:
        """Add left [d_out, r] @ right.T [r, d_in] to the weight of a site, at once.

        The factors are kept in float32. Gives the change as it is kept.
        """
        name = f"{site.name}.weight"
        change = LowRank(left.detach().float(), right.detach().float())
        self._edit.touch(name, site.parameter, turned=site.turned)
        self.changes.setdefault(name, []).append(change)
        self._edit.rewrite(name, self.changes[name])
        return change

    @contextlib.contextmanager
    def training(self, names: Sequence[str]) -> Iterator[list[nn.Parameter]]:
        """The parameters of these names, open for in-place training within the block."""
        parameters = []
        for name in names:
            parameter = self.lm.model.get_parameter(name)
            self._edit.touch(name, parameter)
            self.changes.setdefault(name, [])
            parameters.append(parameter.requires_grad_(True))
        try:
            yield parameters
            for name, parameter in zip(names, parameters, strict=True):
                self.changes[name] = [Dense(parameter.detach().clone())]
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gives of the model as it was before the handle's first step.

        It is made once a handle.
        """
        return self._edit.once(key, make)

    @contextlib.contextmanager
    def base(self) -> Iterator[None]:
        """The model without any live edit, this handle's and others', within the block."""
        live = list(self.lm.edits)
        others = [edit for edit in live if edit is not self._edit]
        with contextlib.ExitStack() as stack:
            for edit in reversed([*others, self._edit]):  # which is the newest
                stack.enter_context(edit.set_aside())
            stack.callback(self.lm.edits.__setitem__, slice(None), live)
            self.lm.edits.clear()  # they are no part of the fingerprint now
            yield

    def before(self, name: str) -> Tensor:
        """A touched tensor as it was at the start of this step, in float64 (float32 on MPS)."""
        return self._edit.value(name, ())

    def reset(self, name: str) -> None:
        """Put back the bytes of a tensor from before the first step of the handle, if touched."""
        if name in self._edit.touched:
            self._edit.touched[name].restore()


@dataclass(slots=True)
class Touched:
    """A tensor that the handle has changed, with its bytes from before the first step.

    `turned` says that low-rank changes are meant for its transpose, as Conv1D stores weights.
    """

    parameter: nn.Parameter
    turned: bool
    saved: Tensor

    def view(self, stored: Tensor) -> Tensor:
        """A tensor as it is stored seen as [d_out, d_in], where there are low-rank changes."""
        return stored.T if self.turned else stored

    def restore(self) -> None:
        """Put the saved bytes back."""
        with torch.no_grad():
            self.parameter.copy_(self.saved)


class Edit:
    """A live edit: the handle by which it grows, is set aside, saved and taken back.

    Leaving the `with` block, or `rollback`, restores the saved bytes of every touched tensor.
    Handles nest: the newest is closed first. `steps` are what was done; each `apply` or `add` is
    one step, however many facts it wrote.
    """

    def __init__(self, editor: Editor, lm: LM) -> None:
        if lm.kind not in editor.kinds:
            raise UnsupportedModel(
                f"{type(editor).__name__} does not serve {type(lm.model).__name__}, a {lm.kind} "
                f"model; allowed: {', '.join(editor.kinds)}. Choose another editor or model."
            )
        if lm.paused:
            raise BadInput(
                f"{lm.paused[-1]!r} is paused; allowed: new edits while none is. Leave its "
                "`with edit.paused()` block first."
            )
        self.editor = editor
        self.lm = lm
        self.steps: list[Step] = []
        self.touched: dict[str, Touched] = {}
        self.memo: dict[Any, Any] = {}
        self.closed = False
        self.revision = 0  # counts up with every change of the steps
        self.adaptor: Adaptor | None = None
        self._hooks = contextlib.ExitStack()
        self._print: str | None = None
        self._sums: dict[str, tuple[tuple[Step, ...], Tensor]] = {}  # of the steps, by tensor

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
        self._check_newest("added to")
        facts = check_facts(self.lm, facts)
        past, live = list(self.steps), self in self.lm.edits
        try:
            with untouched_state(self.lm, self.editor.seed), measured(self.lm.device) as cost:
                if not past:
                    self.editor, chosen = self.editor.fitted(self.lm, facts)
                    self.memo.setdefault("chosen", chosen)
                self.once("perplexity", lambda: base_perplexity(self.lm, self.editor.guards))
                before = _scores(self.lm, facts)
                self._install()
                draft = Draft(self, facts)
                with torch.inference_mode(False), torch.enable_grad():
                    made = self.editor.write(draft)
                if self.adaptor is not None:
                    self.adaptor.rebuild([*past, _unscored(draft, made)])
                step = self._checked(draft, made, before)
            if step.report.warnings and self.editor.on_guard == "reject":
                raise EditRejected(
                    f"{type(self.editor).__name__} on {facts[0].text!r}: "
                    f"{'; '.join(step.report.warnings)}. The edit was taken back. Change the "
                    "editor's parameters or its guards, or pass on_guard='warn' to keep such edits."
                )
            with uninterrupted():
                self.steps.append(replace(step, report=_with_cost(step.report, cost)))
                self.revision += 1
                self._forget()
                if self not in self.lm.edits:
                    self.lm.edits.append(self)
        except BaseException:
            with uninterrupted():
                self.steps = past
                self._restore()
                if not live and self in self.lm.edits:
                    self.lm.edits.remove(self)
            raise
        return self

    def undo(self, n: int = 1) -> Self:
        """Take the newest `n` steps back: the bytes are those from before them.

        Raises `BadInput` if there are not as many, or if what they need was dropped to save memory
        (dense weights beyond 2 GiB; low-rank steps never are).
        """
        self._check_newest("undone")
        if not 1 <= n <= len(self.steps):
            raise BadInput(
                f"undo got {n!r}; allowed: 1 to {len(self.steps)}, the steps of this edit. Take "
                "fewer, or rollback()."
            )
        left = self.steps[: len(self.steps) - n]
        whole = self.adaptor is not None and self.adaptor.whole
        if _is_lost(left) or (whole and left and not left[-1].state):
            raise BadInput(
                f"undo got {n!r}, and the weights after step {len(left)} were dropped to save "
                "memory; allowed: fewer steps back, or rollback(). Write the facts again."
            )
        with uninterrupted():
            self.steps = left
            self._restore()
        return self

    def remove(self, step: int) -> Self:
        """Take one step out, whichever, counted from 0; those after it stay as they were written.

        Raises `BadInput` if there is no such step, or if it or a later one keeps dense weights,
        which hold all that was written before them.
        """
        self._check_newest("undone")
        if not 0 <= step < len(self.steps):
            raise BadInput(
                f"remove got {step!r}; allowed: 0 to {len(self.steps) - 1}, the steps of this edit."
            )
        rows = [row for later in self.steps[step:] for row in later.changes.values()]
        dense = any(isinstance(change, Dense) for row in rows for change in row)
        if dense or (self.adaptor is not None and self.adaptor.whole):
            raise BadInput(
                f"remove got {step!r}, and {type(self.editor).__name__} keeps whole weights, which "
                "hold all steps together; allowed: undo(n) from the newest on. Or write the other "
                "facts anew."
            )
        with uninterrupted():
            self.steps = [*self.steps[:step], *self.steps[step + 1 :]]
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
            self._check_newest("rolled back")
        with uninterrupted():
            self.steps = []
            self._restore()
            if self in self.lm.edits:
                self.lm.edits.remove(self)
            self.memo.clear()
            self.closed = True
            self.lm.remember_fingerprint(self._print)

    @contextlib.contextmanager
    def paused(self) -> Iterator[Self]:
        """The model without this edit within the block, and with it again afterwards.

        Raises `BadInput` if a newer edit is live: pause that one first.
        """
        self._check_newest("paused")
        try:
            with self.set_aside():
                with uninterrupted():
                    self.lm.edits.remove(self)
                    self.lm.paused.append(self)
                yield self
        finally:
            with uninterrupted():
                if self in self.lm.paused:
                    self.lm.paused.remove(self)
                    self.lm.edits.append(self)

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
        now = {name: t.parameter.detach().clone() for name, t in self.touched.items()}
        try:
            with uninterrupted():
                for tensor in self.touched.values():
                    tensor.restore()
                self._enable(False)
            yield
        finally:
            with uninterrupted(), torch.no_grad():
                self._enable(True)
                for name, tensor in self.touched.items():
                    tensor.parameter.copy_(now[name])

    def save(self, folder: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the edit as a folder of safetensors and JSON, for `memkit.load_edit`.

        Low-rank steps keep their factors; of dense ones the newest weights are written, as one
        step. Raises `BadInput` if the folder exists and `replace` is false, or the edit is closed.
        """
        from memkit.editors.artefact import save

        if self.closed or not self.steps:
            raise BadInput(f"{self!r} holds nothing; allowed: a live edit. Save it before closing.")
        save(self, folder, replace=replace)

    def adopt(self, steps: Sequence[Step], turned: Mapping[str, bool]) -> None:
        """Make saved steps live, on a model that has been found to be their base."""
        self._check_newest("adopted")
        try:
            for name, way in turned.items():
                self.touch(name, self.lm.model.get_parameter(name), turned=way)
            self.steps = [_moved(step, self.lm.device) for step in steps]
            self._install()
            self._restore()
        except BaseException:
            with uninterrupted():
                self.steps = []
                self._restore()
            raise
        self.lm.edits.append(self)

    def _install(self) -> None:
        """Put the editor's adaptor over the model, if it has one and is not there yet."""
        if self.adaptor is None:
            self.adaptor = self.editor.adaptor(self.lm)
            if self.adaptor is not None:
                self._hooks.enter_context(self.adaptor.installed())

    def _enable(self, enabled: bool) -> None:
        if self.adaptor is not None:
            self.adaptor.enabled = enabled

    def touch(self, name: str, parameter: nn.Parameter, *, turned: bool = False) -> None:
        """Save a tensor's bytes before its first change."""
        if not self.touched:
            self._print = self.lm.known_fingerprint()
        if name not in self.touched:
            self.touched[name] = Touched(parameter, turned, parameter.detach().clone())
        self.touched[name].turned |= turned

    def value(self, name: str, more: Sequence[Change]) -> Tensor:
        """A touched tensor's view after all steps and `more`, one after the other, not rounded."""
        value = self._sum(name)
        for change in more:
            value = self._with(name, value, change)
        return value

    def _sum(self, name: str) -> Tensor:
        """The view after all steps; kept for the next call where many factors are in it."""
        done, value = self._sums.get(name, ((), None))
        if value is None or any(map(operator.is_not, done, self.steps[: len(done)])):
            done, value = (), self._with(name, None, Dense(self.touched[name].saved))
        rows = [change for step in self.steps for change in step.changes.get(name, ())]
        for step in self.steps[len(done) :]:
            for change in step.changes.get(name, ()):
                value = self._with(name, value, change)
        if sum(change.left.nbytes for change in rows if isinstance(change, LowRank)) > MANY:
            self._sums[name] = (tuple(self.steps), value)
        return value

    def _with(self, name: str, value: Tensor | None, change: Change) -> Tensor:
        """A view in float64 (float32 on MPS) with one more change."""
        touched = self.touched[name]
        exact = torch.float32 if touched.saved.device.type == "mps" else torch.float64
        if isinstance(change, LowRank):
            assert value is not None
            return value + change.left.to(exact) @ change.right.to(exact).T
        if change.after is None:
            assert value is not None
            return value
        return touched.view(change.after).to(exact)

    def rewrite(self, name: str, more: Sequence[Change] = ()) -> None:
        """Write a touched tensor as saved bytes plus all changes, rounded once."""
        touched = self.touched[name]
        touched.view(touched.parameter.detach()).copy_(self.value(name, more))

    def _checked(self, draft: Draft, made: Made, before: Sequence[tuple[float, bool]]) -> Step:
        """The step with its report; what a guard finds stands among the warnings."""
        after = _scores(self.lm, draft.facts)
        details = made.details or [{}] * len(draft.facts)
        rows = tuple(
            FactReport(fact, old, new, known, learnt, dict(more))
            for fact, (old, known), (new, learnt), more in zip(
                draft.facts, before, after, details, strict=True
            )
        )
        changes = {name: tuple(change) for name, change in draft.changes.items()}
        guards = self.editor.guards
        warnings = [*made.warnings, *check_learnt(rows)]
        for name in changes:
            old = self.value(name, ())
            if old.dim() < 2:  # biases may be zero, and what would be out of proportion then?
                continue
            touched = self.touched[name]
            new = touched.view(touched.parameter.detach()).to(old.dtype)
            warnings += check_size(name, guards, float((new - old).norm()), float(old.norm()))
        warnings += check_perplexity(self.lm, guards, self.memo["perplexity"])
        stored = sum(_bytes(change) for row in changes.values() for change in row)
        sites = [] if self.adaptor is None else [site.name for site in self.adaptor.sites]
        if sites:
            stored += sum(tensor.nbytes for tensor in made.state.values())
        report = EditReport(
            editor=repr(self.editor),
            facts=rows,
            chosen={**self.memo.get("chosen", {}), **made.chosen},
            parameters=(*changes, *sites),
            warnings=tuple(warnings),
            stored_bytes=stored,
        )
        return Step(draft.facts, changes, made.state, report)

    def _restore(self) -> None:
        """Write every touched tensor as the steps want it; untouched by any: the saved bytes."""
        self.revision += 1
        if self.adaptor is not None and self.steps:
            self.adaptor.rebuild(self.steps)
        elif self.adaptor is not None:
            self._hooks.close()
            self.adaptor = None
        changed = {name for step in self.steps for name in step.changes}
        with torch.no_grad():
            for name, tensor in self.touched.items():
                if name in changed:
                    self.rewrite(name)
                else:
                    tensor.restore()
        self.touched = {name: self.touched[name] for name in self.touched if name in changed}
        self._sums = {name: self._sums[name] for name in self._sums if name in changed}

    def _forget(self) -> None:
        """Drop the oldest dense weights beyond the bound; the newest of a tensor always stay."""
        kept = sum(_dense_bytes(c) for s in self.steps for row in s.changes.values() for c in row)
        if self.adaptor is not None and self.adaptor.whole:
            self._forget_states()
        for place, step in enumerate(self.steps[:-1]):
            if kept <= KEPT_BYTES:
                break
            newer = {name for later in self.steps[place + 1 :] for name in later.changes}
            changes = dict(step.changes)
            for name in newer & set(changes):
                kept -= sum(map(_dense_bytes, changes[name]))
                changes[name] = tuple(_dropped(change) for change in changes[name])
            self.steps[place] = replace(step, changes=changes)

    def _forget_states(self) -> None:
        """Drop the oldest states beyond the bound, where the newest one is enough."""
        kept = 0
        for place, step in reversed(list(enumerate(self.steps))):
            kept += sum(tensor.nbytes for tensor in step.state.values())
            if kept > KEPT_BYTES and place < len(self.steps) - 1:
                self.steps[place] = replace(step, state={})

    def _check_newest(self, verb: str) -> None:
        """Raise `BadInput` unless this is the newest live edit, or not yet among them."""
        if self.closed:
            raise BadInput(f"{self!r} is closed; allowed: a live edit. Apply the editor again.")
        if self in self.lm.paused or (self.lm.paused and verb != "paused"):
            raise BadInput(
                f"{self!r} cannot be {verb} while {self.lm.paused[-1]!r} is paused; allowed: only "
                "pausing older edits. Leave its `with edit.paused()` block first."
            )
        if self in self.lm.edits and self.lm.edits[-1] is not self:
            raise BadInput(
                f"{self!r} cannot be {verb} while the newer {self.lm.edits[-1]!r} is live; "
                "allowed: the newest first. Close that one before."
            )


def joined(editor: str, reports: Sequence[EditReport]) -> EditReport:
    """The reports of several steps as one."""
    return EditReport(
        editor=editor,
        facts=tuple(row for report in reports for row in report.facts),
        chosen={name: why for report in reports for name, why in report.chosen.items()},
        parameters=tuple(dict.fromkeys(name for report in reports for name in report.parameters)),
        warnings=tuple(warning for report in reports for warning in report.warnings),
        seconds=sum(report.seconds for report in reports),
        peak_bytes=max((report.peak_bytes for report in reports), default=0),
        stored_bytes=sum(report.stored_bytes for report in reports),
    )


def _moved(step: Step, device: torch.device) -> Step:
    """A step with its tensors on a device."""

    def move(change: Change) -> Change:
        if isinstance(change, LowRank):
            return LowRank(change.left.to(device), change.right.to(device))
        return Dense(None if change.after is None else change.after.to(device))

    changes = {name: tuple(map(move, row)) for name, row in step.changes.items()}
    return replace(step, changes=changes)


def _unscored(draft: Draft, made: Made) -> Step:
    """The step as an adaptor sees it, before its report is there."""
    return Step(draft.facts, {}, made.state, EditReport(""))


def _with_cost(report: EditReport, cost: Cost) -> EditReport:
    return replace(report, seconds=cost.seconds, peak_bytes=cost.peak_bytes)


def _bytes(change: Change) -> int:
    if isinstance(change, LowRank):
        return change.left.nbytes + change.right.nbytes
    return _dense_bytes(change)


def _dense_bytes(change: Change) -> int:
    return change.after.nbytes if isinstance(change, Dense) and change.after is not None else 0


def _dropped(change: Change) -> Change:
    return Dense(None) if isinstance(change, Dense) else change


def _is_lost(steps: Sequence[Step]) -> bool:
    """Whether the newest dense weight of some tensor was dropped."""
    newest: dict[str, Dense] = {}
    for step in steps:
        for name, row in step.changes.items():
            for change in row:
                if isinstance(change, Dense):
                    newest[name] = change
    return any(change.after is None for change in newest.values())


def _scores(lm: LM, facts: Sequence[Fact]) -> list[tuple[float, bool]]:
    """For each fact log p(target | prompt), and whether each target token is the argmax."""
    scores = lm.logprob([fact.text for fact in facts], [target_text(fact, lm) for fact in facts])
    return [(score.total, all(score.argmax)) for score in scores]


@contextlib.contextmanager
def untouched_state(lm: LM, seed: int) -> Iterator[None]:
    """Seeded random state and closed parameters within the block; all as found after it."""
    flags = [(parameter, parameter.requires_grad) for parameter in lm.model.parameters()]
    grads = [(parameter, parameter.grad) for parameter, _ in flags]
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
                parameter.grad = None
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            for parameter, grad in grads:
                parameter.grad = grad
