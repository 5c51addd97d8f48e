"""Editors: methods that write facts into the weights, each with a handle that takes them out."""

from __future__ import annotations

from collections.abc import Mapping

from memkit.editors.alphaedit import AlphaEdit
from memkit.editors.base import Editor
from memkit.editors.finetune import FineTune
from memkit.editors.finetune_constrained import FineTuneConstrained
from memkit.editors.finetune_ewc import FineTuneEWC
from memkit.editors.finetune_localized import FineTuneLocalized
from memkit.editors.finetune_retrain import FineTuneRetrain
from memkit.editors.memit import MEMIT
from memkit.editors.rome import ROME

__all__ = ["EDITORS"]

EDITORS: Mapping[str, type[Editor]] = {
    "alphaedit": AlphaEdit,
    "ft": FineTune,
    "ft-constrained": FineTuneConstrained,
    "ft-ewc": FineTuneEWC,
    "ft-localized": FineTuneLocalized,
    "ft-retrain": FineTuneRetrain,
    "memit": MEMIT,
    "rome": ROME,
}
