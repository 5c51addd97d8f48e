"""Editors: methods that write facts into the weights, each with a handle that takes them out."""

from __future__ import annotations

from collections.abc import Mapping

from memkit.editors.alphaedit import AlphaEdit
from memkit.editors.ascent import GradientAscent
from memkit.editors.ascent_bounded import KLBoundedAscent
from memkit.editors.base import Editor
from memkit.editors.defer import Defer
from memkit.editors.dinm import DINM
from memkit.editors.finetune import FineTune
from memkit.editors.finetune_constrained import FineTuneConstrained
from memkit.editors.finetune_ewc import FineTuneEWC
from memkit.editors.finetune_localized import FineTuneLocalized
from memkit.editors.finetune_retrain import FineTuneRetrain
from memkit.editors.grace import GRACE
from memkit.editors.lora import LoRA
from memkit.editors.memit import MEMIT
from memkit.editors.memory import Memory
from memkit.editors.mend import MEND
from memkit.editors.npo import NPO
from memkit.editors.rome import ROME

__all__ = ["EDITORS"]

EDITORS: Mapping[str, type[Editor]] = {
    "alphaedit": AlphaEdit,
    "ascent": GradientAscent,
    "ascent-bounded": KLBoundedAscent,
    "defer": Defer,
    "dinm": DINM,
    "ft": FineTune,
    "ft-constrained": FineTuneConstrained,
    "ft-ewc": FineTuneEWC,
    "ft-localized": FineTuneLocalized,
    "ft-retrain": FineTuneRetrain,
    "grace": GRACE,
    "lora": LoRA,
    "memit": MEMIT,
    "memory": Memory,
    "mend": MEND,
    "npo": NPO,
    "rome": ROME,
}
