"""Adapter: what was added to a model's linear maps, as a value that can be kept, combined, put on.

An adapter is a low-rank change [d_out, d_in] for each of some linear maps, by the module's name. It
comes from a PEFT folder (`load_adapter`), from training (`LoRA.train`), from an edit, or from a
combination of these (`ExtSub`, `TaskNegation`, `Merge`). Changes are effective updates: alpha/rank
is multiplied in, and nothing depends on how an update was factored. They are float32, on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from memkit.editors.artefact import check_fingerprint
from memkit.editors.base import Draft, Edit, Editor, Made
from memkit.editors.cost import measured
from memkit.editors.factors import truncated
from memkit.editors.guards import Guards, base_perplexity, check_perplexity, check_size
from memkit.editors.steps import LowRank, Step, stored_bytes
from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count
from memkit.lm.fingerprint import config_hash, tensor_hash
from memkit.lm.linear import linear_map
from memkit.types import EditReport

if TYPE_CHECKING:
    from memkit.editors.artefact import SavedEdit
    from memkit.editors.peft_folder import Written
    from memkit.lm.layouts import Kind, Site
    from memkit.lm.model import LM

__all__ = ["TASKS", "Adapter", "Applied", "fingerprint_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Changes of linear maps by module name, each left [d_out, r] times right [d_in, r] transposed.

    base: the name of the base model, as an adapter's config states it; "" where it is not known.
    fingerprint: hashes of the base model's config and of the changed tensors, where they are known.
    source: what this is, in reports.
    notes: what is to be said of it, for the report's `chosen`.
    warnings: what is to be warned of, for the report.
    task: PEFT's task type, for `save`; "" is none.
    turned: whether the base stores these weights as [d_in, d_out] (PEFT's fan_in_fan_out).

    Raises `BadInput` if there is no change, if factors do not fit together, or if a number is not
    finite.
    """

    changes: Mapping[str, LowRank]
    base: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    source: str = "adapter"
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    task: str = ""
    turned: bool = False

    def __post_init__(self) -> None:
        """Check the factors."""
        if not self.changes:
            raise BadInput(f"{self.source} changes nothing; allowed: at least one linear map.")
        for name, change in self.changes.items():
            shapes = (tuple(change.left.shape), tuple(change.right.shape))
            if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
                raise BadInput(
                    f"{self.source}: the factors of {name!r} have shapes {shapes[0]} and "
                    f"{shapes[1]}; allowed: [d_out, rank] and [d_in, rank] of one rank. The "
                    "adapter is damaged: get it again."
                )
            if not (change.left.isfinite().all() and change.right.isfinite().all()):
                raise BadInput(
                    f"{self.source}: {name!r} has numbers that are not finite; allowed: finite "
                    "ones. Its training failed: train it again, with a lower learning rate."
                )

    def __repr__(self) -> str:
        ranks = sorted({change.left.shape[1] for change in self.changes.values()})
        return f"<Adapter {self.source} of {len(self.changes)} linear maps, rank {ranks}>"

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(d_out, d_in) of each map."""
        return {
            name: (change.left.shape[0], change.right.shape[0])
            for name, change in self.changes.items()
        }

    @classmethod
    def of(cls, edit: Edit | SavedEdit) -> Adapter:
        """What the steps of an edit add up to, against the weights from before its first step.

        Low-rank steps keep their rank; whole weights (fine-tuning) give changes of full rank.
        Raises `BadInput` if the edit is closed, changes no weight (GRACE) or others than those of
        linear maps, or if it was loaded and holds whole weights, which say nothing without a model.
        """
        from memkit.editors.adapter_sources import of_live, of_saved

        return of_live(edit) if isinstance(edit, Edit) else of_saved(edit)

    def apply(
        self,
        lm: LM,
        *,
        guards: Guards = Guards(),
        on_guard: Literal["reject", "warn"] = "reject",
    ) -> Edit:
        """Add the changes to the model's weights; leaving the handle gives the bytes back.

        Raises `FingerprintMismatch` if it is known to belong to another base model, `BadInput` if
        the model lacks one of its maps or has it in another shape, `EditRejected` if a guard finds
        harm. The model is then as it was.
        """
        check_fingerprint(lm, self.fingerprint)
        sites = [self._fitting(lm, name) for name in self.changes]
        editor = Applied(source=self.source, guards=guards, on_guard=on_guard)
        edit = Edit(editor, lm)
        changes = {f"{name}.weight": (change,) for name, change in self.changes.items()}
        report = EditReport(
            editor=repr(editor),
            chosen=dict(self.notes),
            parameters=tuple(changes),
            stored_bytes=sum(map(stored_bytes, self.changes.values())),
        )
        found = _sizes(sites, self.changes, guards)
        base = base_perplexity(lm, guards)
        with measured(lm.device) as cost:
            turned = {f"{site.name}.weight": site.turned for site in sites}
            edit.adopt([Step((), changes, {}, report)], turned)
        try:
            found += check_perplexity(lm, guards, base)
            if found and on_guard == "reject":
                raise EditRejected(
                    f"{self.source}: {'; '.join(found)}. It was taken back. Lower its strength, "
                    "or pass on_guard='warn' to keep it."
                )
        except BaseException:
            edit.rollback()
            raise
        report = replace(
            report,
            warnings=(*found, *self.warnings),
            seconds=cost.seconds,
            peak_bytes=cost.peak_bytes,
        )
        edit.steps = [replace(edit.steps[0], report=report)]
        return edit

    def save(
        self, folder: str | os.PathLike[str], rank: int | None = None, *, replace: bool = False
    ) -> Written:
        """Write it as a PEFT LoRA folder; see `memkit.editors.peft_folder.write`."""
        from memkit.editors.peft_folder import write

        return write(self, folder, rank, replace=replace)

    def truncated(self, rank: int) -> tuple[Adapter, dict[str, float]]:
        """The nearest adapter of at most this rank, and each map's error relative to its norm."""
        check_count("rank", rank)
        changes, errors = {}, {}
        for name, change in self.changes.items():
            if change.left.shape[1] <= rank:
                changes[name], errors[name] = change, 0.0
            else:
                changes[name], errors[name] = truncated(change, rank)
        return replace(self, changes=changes), errors

    def _fitting(self, lm: LM, name: str) -> Site:
        """The map of this name, if it has the change's shape."""
        site = linear_map(lm.model, name)
        own, wanted = tuple(site.weight.shape), self.shapes[name]
        if own != wanted:
            raise BadInput(
                f"{self.source}: the change of {name!r} is {wanted}, and the weight of this "
                f"{type(lm.model).__name__} is {own} (d_out, d_in); allowed: one shape. Load the "
                f"base model of the adapter{f' ({self.base})' if self.base else ''}."
            )
        return site


@dataclass(frozen=True, kw_only=True)
class Applied(Editor):
    """What stands behind the handle of an adapter that was applied; it learns no facts.

    source: what was applied.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("decoder", "encoder-decoder", "masked", "classifier")

    source: str = "adapter"

    def write(self, draft: Draft) -> Made:
        """Raise `BadInput`: there is nothing here that could learn."""
        raise BadInput(
            f"{self.source} is an adapter and learns no facts; allowed: an editor on top of it. "
            "Call, for example, LoRA().apply(lm, facts)."
        )


TASKS: Mapping[Kind, str] = {
    "decoder": "CAUSAL_LM",
    "encoder-decoder": "SEQ_2_SEQ_LM",
    "masked": "",
    "classifier": "",
}


def fingerprint_of(lm: LM, names: Sequence[str]) -> dict[str, str]:
    """Hashes of the model's config and of the weights of these maps, as they are."""
    weights = {f"{name}.weight" for name in names}
    hashes = {n: tensor_hash(p) for n, p in lm.model.named_parameters() if n in weights}
    return {"config": config_hash(lm.model), **hashes}


def _sizes(sites: Sequence[Site], changes: Mapping[str, LowRank], guards: Guards) -> list[str]:
    """Changes out of proportion to their weights."""
    found = []
    for site in sites:
        size, weight = changes[site.name].norm(), float(site.weight.float().norm())
        found += check_size(f"{site.name}.weight", guards, size, weight)
    return found
