"""An edit on disk: a folder of one JSON card and one safetensors file, tied to its base model.

The card has the facts, the editor's representation, versions, the report with what was measured at
edit time, and the base model's fingerprint: a hash of the config and of each touched tensor as it
was before the edit (of all weights for an adaptor, which changes none). Low-rank steps are kept as
their factors, [d_out, r] and [d_in, r]; of dense steps, and of an adaptor whose states are whole,
the newest is kept, and the edit has one step then. It also has one, with the weights in float64,
where factors would take more room than these.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memkit.editors.base import Edit, Editor
from memkit.editors.steps import Change, Dense, LowRank, Step, joined
from memkit.errors import BadInput, FingerprintMismatch
from memkit.files import building, sha256
from memkit.lm.fingerprint import config_hash, tensor_hash, weights_hash
from memkit.types import EditReport, Fact, FactReport

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["CARD", "SavedEdit", "check_fingerprint", "load_edit", "save"]

FORMAT = 1  # of the folder; another one is refused
CARD, TENSORS = "edit.json", "edit.safetensors"
WHOLE = "weights"  # the fingerprint of all weights, for adaptors, which depend on all below them


@dataclass(frozen=True, slots=True)
class SavedEdit:
    """An edit that was read from disk; `apply` makes it live on its base model.

    `editor` and `facts` are those of the edit, `report` what was measured when it was made,
    `fingerprint` the hashes of the base model's config and of each touched tensor.
    """

    editor: Editor
    facts: tuple[Fact, ...]
    report: EditReport
    fingerprint: Mapping[str, str]
    versions: Mapping[str, str]
    steps: tuple[Step, ...]
    turned: Mapping[str, bool]

    def apply(self, lm: LM) -> Edit:
        """Write the saved changes into the model; nothing is computed anew.

        Raises `FingerprintMismatch` if config or tensors are not those of the base model, with both
        hashes; nothing is written then.
        """
        check_fingerprint(lm, self.fingerprint)
        edit = Edit(self.editor, lm)
        edit.adopt(self.steps, self.turned)
        return edit


def check_fingerprint(lm: LM, fingerprint: Mapping[str, str]) -> None:
    """Raise `FingerprintMismatch` unless config and tensors have these hashes; both are named."""
    present = dict(lm.model.named_parameters())
    for name, wanted in fingerprint.items():
        if name == "config":
            own = config_hash(lm.model)
        elif name == WHOLE:
            own = lm.fingerprint()
        else:
            own = tensor_hash(present[name]) if name in present else "absent"
        if own != wanted:
            raise FingerprintMismatch(
                f"the edit was made on a model whose {name} has fingerprint {wanted}, and this "
                f"{type(lm.model).__name__} has {own}; allowed: the same base model, without other "
                "live edits of these tensors. Load that model, or write the facts anew."
            )


def save(edit: Edit, folder: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write a live edit; see `Edit.save`."""
    from memkit import __version__

    steps = _merged(edit)
    tensors: dict[str, Tensor] = {}
    for number, step in enumerate(steps):
        for name, row in step.changes.items():
            for place, change in enumerate(row):
                for part in dataclasses.fields(change):
                    tensor = getattr(change, part.name)
                    tensors[f"{number}/{name}/{place}/{part.name}"] = tensor
        tensors |= {f"{number}/state/{name}": tensor for name, tensor in step.state.items()}
    fingerprint = {"config": config_hash(edit.lm.model)}
    fingerprint |= {name: tensor_hash(touched.saved) for name, touched in edit.touched.items()}
    if edit.adaptor is not None:
        fingerprint[WHOLE] = weights_hash(edit.lm.model)
    with building(folder, replace=replace) as temporary:
        contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_file(contiguous, temporary / TENSORS)
        card = {
            "format": FORMAT,
            "editor": repr(edit.editor),
            "fingerprint": fingerprint,
            "turned": {name: touched.turned for name, touched in edit.touched.items()},
            "versions": {
                "memkit": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "sha256": sha256(temporary / TENSORS),
            "steps": [dataclasses.asdict(step.report) for step in steps],
        }
        text = json.dumps(card, ensure_ascii=False, indent=1)
        (temporary / CARD).write_text(text + "\n", encoding="utf-8")


def load_edit(folder: str | os.PathLike[str]) -> SavedEdit:
    """Read an edit that `Edit.save` wrote; `.apply(lm)` makes it live.

    Raises `BadInput` if the folder is not one, is damaged, or of another format.
    """
    from memkit.editors.rebuilding import rebuilt

    place = Path(folder)
    try:
        card = json.loads((place / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']!r}, and memkit reads {FORMAT}")
        found = sha256(place / TENSORS)
        if found != card["sha256"]:
            raise ValueError(f"{TENSORS} has SHA-256 {found}, and its card says {card['sha256']}")
        tensors = load_file(place / TENSORS)
        reports = [_report(row) for row in card["steps"]]
        apart: list[dict[str, Tensor]] = [{} for _ in reports]
        for key, tensor in tensors.items():
            number, _, name = key.partition("/")
            apart[int(number)][name] = tensor
        steps = tuple(_step(own, report) for own, report in zip(apart, reports, strict=True))
        fingerprint, turned = dict(card["fingerprint"]), dict(card["turned"])
        changed = {name for step in steps for name in step.changes}
        whole = {WHOLE} & set(fingerprint)
        empty = not (changed or whole)
        if empty or not changed <= set(turned) or set(fingerprint) - whole != {"config", *turned}:
            raise ValueError(f"{CARD} and {TENSORS} do not belong together")
        return SavedEdit(
            editor=rebuilt(card["editor"]),
            facts=tuple(fact for step in steps for fact in step.facts),
            report=reports[-1] if len(reports) == 1 else _sum(reports),
            fingerprint=fingerprint,
            versions=dict(card["versions"]),
            steps=steps,
            turned=turned,
        )
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise BadInput(
            f"{str(place)!r} cannot be read as an edit ({type(error).__name__}: {error}); allowed: "
            "a folder that Edit.save wrote. Check the path, or save the edit again."
        ) from error


def _sum(reports: Sequence[EditReport]) -> EditReport:
    return joined(reports[-1].editor, reports)


def _merged(edit: Edit) -> Sequence[Step]:
    """The steps as they are if any may go alone, else one step with the newest of everything."""
    steps = edit.steps
    changes = [change for step in steps for row in step.changes.values() for change in row]
    whole = edit.adaptor is not None and edit.adaptor.whole
    apart = not whole and all(isinstance(change, LowRank) for change in changes)
    weights = 8 * sum(touched.saved.numel() for touched in edit.touched.values())
    factors = sum(c.left.nbytes + c.right.nbytes for c in changes if isinstance(c, LowRank))
    large = factors > weights and not any(step.state for step in steps)
    if len(steps) == 1 or (apart and not large):
        return steps
    newest: dict[str, list[Change]] = {}
    for step in [] if large else steps:
        for name, row in step.changes.items():
            for change in row:
                kept = [] if isinstance(change, Dense) else newest.get(name, [])
                newest[name] = [*kept, change]
    for name in edit.touched if large else ():
        newest[name] = [Dense(edit.touched[name].view(edit.value(name)))]
    facts = tuple(fact for step in steps for fact in step.facts)
    report = _sum([step.report for step in steps])
    state = steps[-1].state if whole else {}
    return [Step(facts, {name: tuple(row) for name, row in newest.items()}, state, report)]


def _step(tensors: Mapping[str, Tensor], report: EditReport) -> Step:
    """One step from its tensors, whose names are parameter/place/part, or state/name."""
    parts: dict[str, dict[str, dict[str, Tensor]]] = {}
    state: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name, *rest = key.split("/")
        if name == "state":
            state["/".join(rest)] = tensor
        else:
            parts.setdefault(name, {}).setdefault(rest[0], {})[rest[1]] = tensor
    changes = {
        name: tuple(_change(row[place]) for place in sorted(row, key=int))
        for name, row in parts.items()
    }
    return Step(tuple(row.fact for row in report.facts), changes, state, report)


def _change(parts: Mapping[str, Tensor]) -> Change:
    return Dense(**parts) if "after" in parts else LowRank(**parts)


def _report(values: Mapping[str, Any]) -> EditReport:
    """A report from its plain values."""
    rows = tuple(FactReport(**{**row, "fact": _fact(row["fact"])}) for row in values["facts"])
    lists = {name: tuple(values[name]) for name in ("parameters", "warnings")}
    return EditReport(**{**values, **lists, "facts": rows})


def _fact(values: Mapping[str, Any]) -> Fact:
    pairs = {name: tuple(map(tuple, values[name])) for name in ("locality", "portability")}
    return Fact(**{**values, **pairs, "paraphrases": tuple(values["paraphrases"])})
