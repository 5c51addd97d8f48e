"""An editor from its representation, without evaluating code."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from memkit.editors.base import Editor
from memkit.editors.guards import Guards
from memkit.editors.statistics import Statistics
from memkit.errors import BadInput

__all__ = ["rebuilt"]


def rebuilt(text: str) -> Editor:
    """The editor whose `repr` the text is: `rebuilt(repr(editor)) == editor`.

    Only the names of `memkit.EDITORS`, `Applied`, `Guards` and `Statistics` are called, and only
    with literal keyword arguments. Raises `BadInput` for anything else.
    """
    from memkit.editors import EDITORS
    from memkit.editors.adapter import Applied

    classes: tuple[type, ...] = (*EDITORS.values(), Applied, Guards, Statistics)
    known = {value.__name__: value for value in classes}
    try:
        editor = _value(ast.parse(text, mode="eval").body, known)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise BadInput(
            f"{text!r:.200} is no editor ({error}); allowed: the repr of one of "
            f"{', '.join(sorted(known))}."
        ) from error
    if not isinstance(editor, Editor):
        raise BadInput(f"{text!r:.200} is no editor; allowed: the repr of one.")
    return editor


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        if node.func.id not in known:
            raise ValueError(f"{node.func.id!r} is not known")
        named = {str(part.arg): _value(part.value, known) for part in node.keywords}
        return known[node.func.id](**named)
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return math.inf if node.id == "inf" else math.nan
    return ast.literal_eval(node)
