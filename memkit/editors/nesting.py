"""Which edits and steps may be taken back: the newest edit first, and no step that others hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memkit.editors.steps import Dense, Step, is_lost
from memkit.errors import BadInput, UnsupportedModel

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.editors.edit import Edit
    from memkit.lm.model import LM

__all__ = ["check_new", "check_newest", "left_by_removal", "left_by_undo"]


def check_new(editor: Editor, lm: LM) -> None:
    """Raise `UnsupportedModel` or `BadInput` if the editor cannot begin an edit of this model."""
    if not hasattr(lm, "edits"):
        raise BadInput(
            f"lm is a {type(lm).__name__}; allowed: memkit.LM. Load it by LM.load, or wrap a model "
            "with its tokenizer: LM(model, tokenizer)."
        )
    if lm.kind not in editor.kinds:
        raise UnsupportedModel(
            f"{type(editor).__name__} does not serve {type(lm.model).__name__}, a {lm.kind} "
            f"model; allowed: {', '.join(editor.kinds)}. Choose another editor or model."
        )
    _check_weights(lm)
    if lm.paused:
        raise BadInput(
            f"{lm.paused[-1]!r} is paused; allowed: new edits while none is. Leave its "
            "`with edit.paused()` block first."
        )


def _check_weights(lm: LM) -> None:
    """Raise `UnsupportedModel` for weights that cannot be changed where they are."""
    weights = dict(lm.model.named_parameters())
    places = {name: str(weight.device) for name, weight in weights.items()}
    named = [name for name, place in places.items() if place == "meta"]
    if named:
        raise UnsupportedModel(
            f"{len(named)} weights of this {type(lm.model).__name__} are not in memory "
            f"({named[0]!r} first): they were offloaded; allowed: all on one device. Load the "
            "model without device_map, by LM.load."
        )
    if len(set(places.values())) > 1 or any(hasattr(w, "placements") for w in weights.values()):
        raise UnsupportedModel(
            f"the weights of this {type(lm.model).__name__} are spread over devices "
            f"({', '.join(sorted(set(places.values())))}); allowed: all on one device, whole. Load "
            "the model by LM.load."
        )
    named = [name for name, weight in weights.items() if not weight.is_floating_point()]
    if named:
        raise UnsupportedModel(
            f"{named[0]!r} is stored as {weights[named[0]].dtype}, quantised; allowed: weights in "
            "floating point. Load the model without quantisation, in bfloat16 say."
        )
    if any(module._compiled_call_impl is not None for module in lm.model.modules()):
        raise UnsupportedModel(
            f"this {type(lm.model).__name__} was compiled in place, and compiled code does not see "
            "the hooks by which editors read and change a model; allowed: a model that was not. "
            "Load it again and leave .compile() out."
        )


def check_newest(edit: Edit, verb: str) -> None:
    """Raise `BadInput` unless this is the newest live edit, or not yet among them."""
    lm = edit.lm
    if edit.closed:
        raise BadInput(f"{edit!r} is closed; allowed: a live edit. Apply the editor again.")
    if edit in lm.paused or (lm.paused and verb != "paused"):
        raise BadInput(
            f"{edit!r} cannot be {verb} while {lm.paused[-1]!r} is paused; allowed: only "
            "pausing older edits. Leave its `with edit.paused()` block first."
        )
    if edit in lm.edits and lm.edits[-1] is not edit:
        raise BadInput(
            f"{edit!r} cannot be {verb} while the newer {lm.edits[-1]!r} is live; "
            "allowed: the newest first. Close that one before."
        )


def left_by_undo(edit: Edit, n: int) -> list[Step]:
    """The steps before the newest `n`; `BadInput` if there are none or what they need is gone."""
    check_newest(edit, "undone")
    if not isinstance(n, int) or not 1 <= n <= len(edit.steps):
        raise BadInput(
            f"undo got {n!r}; allowed: 1 to {len(edit.steps)}, the steps of this edit. Take "
            "fewer, or rollback()."
        )
    left = edit.steps[: len(edit.steps) - n]
    if is_lost(left) or (_whole(edit) and left and not left[-1].state):
        raise BadInput(
            f"undo got {n!r}, and the weights after step {len(left)} were dropped to save "
            "memory; allowed: fewer steps back, or rollback(). Write the facts again."
        )
    return left


def left_by_removal(edit: Edit, step: int) -> list[Step]:
    """The steps without this one; `BadInput` if there is none, or a later one holds it too."""
    check_newest(edit, "undone")
    if not isinstance(step, int) or not 0 <= step < len(edit.steps):
        raise BadInput(
            f"remove got {step!r}; allowed: 0 to {len(edit.steps) - 1}, the steps of this edit."
        )
    rows = [row for later in edit.steps[step:] for row in later.changes.values()]
    dense = any(isinstance(change, Dense) for row in rows for change in row)
    if dense or _whole(edit):
        raise BadInput(
            f"remove got {step!r}, and {type(edit.editor).__name__} keeps whole weights, which "
            "hold all steps together; allowed: undo(n) from the newest on. Or write the other "
            "facts anew."
        )
    return [*edit.steps[:step], *edit.steps[step + 1 :]]


def _whole(edit: Edit) -> bool:
    return edit.adaptor is not None and edit.adaptor.whole
