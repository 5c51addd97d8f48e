"""Where adapters come from beside training: edits, live or saved, and paths and ids of the Hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from memkit.editors.adapter import TASKS, Adapter
from memkit.editors.artefact import CARD, SavedEdit, load_edit
from memkit.editors.base import Edit
from memkit.editors.factors import of_matrix, summed
from memkit.editors.peft_folder import load_adapter
from memkit.editors.steps import Change, Dense, LowRank, Step
from memkit.errors import BadInput
from memkit.lm.fingerprint import config_hash, tensor_hash
from memkit.lm.linear import linear_map

__all__ = ["Source", "adapter_of", "of_live", "of_saved"]

Source = Adapter | Edit | SavedEdit | str | os.PathLike[str]


def adapter_of(source: Source) -> Adapter:
    """An adapter from itself, an edit, or the path or Hub id of either.

    Raises `BadInput` for anything else, and what reading it raises.
    """
    if isinstance(source, Adapter):
        return source
    if isinstance(source, Edit | SavedEdit):
        return Adapter.of(source)
    if not isinstance(source, str | os.PathLike):
        raise BadInput(
            f"{source!r:.80} is no adapter; allowed: an Adapter, an Edit, or the path or Hub id of "
            "one. Load it with memkit.load_adapter."
        )
    if (Path(source) / CARD).is_file():
        return Adapter.of(load_edit(source))
    return load_adapter(source)


def of_live(edit: Edit) -> Adapter:
    """What a live edit adds to its model; see `Adapter.of`."""
    model = edit.lm.model
    changes = {}
    for name, rows in _by_name(edit.steps, repr(edit.editor)).items():
        module = _module(name, repr(edit.editor))
        try:
            site = linear_map(model, module)
        except BadInput as error:
            raise _unheld(name, repr(edit.editor)) from error
        if any(isinstance(row, Dense) for row in rows):
            touched = edit.touched[name]
            whole = (edit.value(name) - touched.view(touched.saved)).cpu()
            changes[module] = of_matrix(whole.T if site.turned != touched.turned else whole)
        else:
            changes[module] = summed(_on_cpu(rows))
    hashes = {name: tensor_hash(touched.saved) for name, touched in edit.touched.items()}
    return Adapter(
        changes,
        base=str(getattr(model.config, "_name_or_path", "") or ""),
        fingerprint={"config": config_hash(model), **hashes},
        source=repr(edit.editor),
        task=TASKS[edit.lm.kind],
        turned=any(linear_map(model, name).turned for name in changes),
    )


def of_saved(edit: SavedEdit) -> Adapter:
    """What a saved edit adds to its base model; see `Adapter.of`."""
    changes = {}
    for name, rows in _by_name(edit.steps, repr(edit.editor)).items():
        if any(isinstance(row, Dense) for row in rows):
            raise BadInput(
                f"{edit.editor!r:.80} holds the whole weight {name!r}, which is no difference "
                "without its base; allowed: a live edit. Apply it, and pass the handle."
            )
        changes[_module(name, repr(edit.editor))] = summed(_on_cpu(rows))
    return Adapter(
        changes,
        fingerprint=edit.fingerprint,
        source=repr(edit.editor),
        turned=any(edit.turned.values()),
    )


def _by_name(steps: Sequence[Step], editor: str) -> Mapping[str, list[Change]]:
    """All changes of each tensor. Raises `BadInput` if there is none."""
    found: dict[str, list[Change]] = {}
    for step in steps:
        for name, rows in step.changes.items():
            found.setdefault(name, []).extend(rows)
    if not found:
        raise BadInput(
            f"an edit by {editor:.80} has no change of weights; allowed: a live or saved edit of "
            "weights (not GRACE, Defer or Memory, which lie over a layer)."
        )
    return found


def _module(name: str, editor: str) -> str:
    module, _, part = name.rpartition(".")
    if part != "weight":
        raise _unheld(name, editor)
    return module


def _unheld(name: str, editor: str) -> BadInput:
    return BadInput(
        f"{editor:.80} changed {name!r}; allowed: weights of linear maps alone, which is all that "
        "an adapter holds. Save the edit with edit.save instead."
    )


def _on_cpu(rows: Sequence[Change]) -> list[LowRank]:
    low = [row for row in rows if isinstance(row, LowRank)]
    return [
        LowRank(row.left.to("cpu", torch.float32), row.right.to("cpu", torch.float32))
        for row in low
    ]
