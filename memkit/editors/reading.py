"""What locate-and-edit methods read of a model: keys at the subject, the stream after a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.statistics import Moments, Statistics
from memkit.editors.tokens import row
from memkit.lm.batching import padded, positions
from memkit.lm.hooks import capture, capture_inputs
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.base import Draft
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["context_keys", "moments", "streams"]

ROWS = 512  # that go through the model at once


def context_keys(lm: LM, facts: Sequence[Fact], contexts: Sequence[str], site: Site) -> Tensor:
    """Keys at the subject's last token in each context, [facts, contexts, d_in], float64.

    Only the layers up to the site are run, on the tokens up to the subject's end.
    """
    rows = _until_subject(lm, facts, contexts)
    keys = []
    for start in range(0, len(rows), ROWS):
        ids, mask = padded(rows[start : start + ROWS], lm.device, left=True)
        with torch.no_grad(), capture_inputs([site.module]) as seen:
            _run(lm, ids, mask)
        keys.append(_exact(seen[0].reshape(*ids.shape, -1)[:, -1]))
    return torch.cat(keys).reshape(len(facts), len(contexts), -1)


def streams(lm: LM, facts: Sequence[Fact], layer: int) -> Tensor:
    """The residual stream after a layer at the subject's last token, [facts, width], float64."""
    rows = _until_subject(lm, facts, ["{}"])
    layers = lm.layout.layers(lm.model)
    found = []
    for start in range(0, len(rows), ROWS):
        ids, mask = padded(rows[start : start + ROWS], lm.device, left=True)
        with torch.no_grad(), capture(layers[layer]) as seen:
            _run(lm, ids, mask)
        found.append(_exact(seen[0][:, -1]))
    return torch.cat(found)


def moments(draft: Draft, statistics: Statistics, sites: Sequence[Site]) -> list[Moments]:
    """The sites' second moments, of the model before the first step of the handle.

    They are kept on the handle, and the newest with the model for as long as its weights stay the
    same.
    """
    key = ("moments", statistics, *(site.name for site in sites))
    lm = draft.lm

    def collect() -> list[Moments]:
        return statistics.collect(lm, sites)

    return draft.once(key, lambda: lm.keep(key, collect, slot="moments"))


def _until_subject(lm: LM, facts: Sequence[Fact], contexts: Sequence[str]) -> list[list[int]]:
    rows = [row(lm, fact, context) for fact in facts for context in contexts]
    return [list(r.ids[: r.subject + 1]) for r in rows]


def _run(lm: LM, ids: Tensor, mask: Tensor) -> None:
    lm.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=False,
        logits_to_keep=1,
    )


def _exact(tensor: Tensor) -> Tensor:
    """In float64; on the CPU where the device has none (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
