"""Editors: methods that write facts into the weights, each with a handle that takes them out."""

from __future__ import annotations

from collections.abc import Mapping

from memkit.editors.alphaedit import AlphaEdit
from memkit.editors.base import Editor
from memkit.editors.memit import MEMIT
from memkit.editors.rome import ROME

__all__ = ["EDITORS"]

EDITORS: Mapping[str, type[Editor]] = {
    "alphaedit": AlphaEdit,
    "memit": MEMIT,
    "rome": ROME,
}
