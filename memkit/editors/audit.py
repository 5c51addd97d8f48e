"""Audit: what the difference of two models' weights says of the edits between them.

Three things can be read off the difference D = W_edited - W_base of a map [d_out, d_in], with no
more than the two sets of weights and a list of candidates:

- where: the maps that differ, and by how much;
- how many: locate-and-edit methods write one rank-one change a fact, and the singular values of D
  fall at that number (`rank`); a change without such a fall (fine-tuning) has none;
- whom: ROME (Meng et al., NeurIPS 2022) and its kin write sum_j r_j (C^-1 k_j)^T for keys k_j, the
  map's input at each subject's last token. Let C be the second moment of the candidates' own keys
  and C = L L^T. The right singular vectors of D L are then those of the edits' keys L^-1 k_j, and a
  candidate's score is the cosine of its L^-1 k with their span. Over several maps the one counts in
  which a candidate stands out most.

So an erased fact can be named by whoever has the base model too (compare arXiv:2505.20819, which
reads the new object from the weights). Where erasure is to hide something, only the merged model
may be given away, and not where its base is known.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memkit.editors.adapter import Adapter
from memkit.editors.adapter_sources import adapter_of
from memkit.editors.artefact import CARD, SavedEdit
from memkit.editors.base import Edit
from memkit.editors.factors import of_matrix, svd
from memkit.editors.peft_folder import CONFIG
from memkit.editors.reading import context_keys
from memkit.editors.steps import LowRank
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.linear import linear_map
from memkit.lm.model import LM
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.layouts import Site

__all__ = ["AuditReport", "ChangedMap", "Suspect", "audit"]

FALL = 10.0  # from one singular value to the next, that counts as the end of what was written
RIDGE = 1e-2  # of the mean of the second moment's diagonal
CLEAR = 5.0  # robust standard deviations above the median, from which a subject is likely
Model = LM | str | os.PathLike[str]
Edited = Model | Edit | SavedEdit | Adapter


@dataclass(frozen=True, slots=True)
class ChangedMap:
    """A linear map that differs.

    norm: Frobenius norm of the difference; relative: over that of the base weight.
    rank: how many singular values stand before the deepest fall, which is the number of rank-one
        edits; None if there is no fall by a factor of ten.
    effective_rank: exp of the entropy of the squared singular values' shares (Roy and Vetterli,
        2007): 1 if one direction has it all.
    """

    name: str
    norm: float
    relative: float
    rank: int | None
    effective_rank: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """A candidate subject.

    score: the cosine of its key with the span of the edits' keys, from 0 to 1.
    deviations: how many robust standard deviations (1.4826 times the median absolute deviation)
        that lies above the candidates' median.
    """

    subject: str
    score: float
    deviations: float


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found.

    maps: the linear maps that differ, in the order of the model; others: names of further
    parameters that do. suspects: the candidates, the most likely first.
    """

    maps: tuple[ChangedMap, ...]
    others: tuple[str, ...] = ()
    suspects: tuple[Suspect, ...] = ()

    @property
    def edits(self) -> int | None:
        """The number of rank-one edits: the largest rank of a map; None if no map shows one."""
        return max((one.rank for one in self.maps if one.rank is not None), default=None)

    @property
    def likely(self) -> tuple[str, ...]:
        """The subjects that stand out by five robust standard deviations.

        After a hundred edits nobody does: every key is near the span of so many. The first `edits`
        of the suspects are the best guess then.
        """
        return tuple(one.subject for one in self.suspects if one.deviations >= CLEAR)

    def __str__(self) -> str:
        """One line for each map, the number of edits, and the likely subjects."""
        lines = [f"{len(self.maps)} linear maps differ, {len(self.others)} other parameters"]
        for one in self.maps:
            rank = "no fall" if one.rank is None else f"rank {one.rank}"
            lines.append(
                f"  {one.name}: {one.relative:.3g} of its norm, {rank}, effective rank "
                f"{one.effective_rank:.3g}"
            )
        lines.append(f"rank-one edits: {'not shown' if self.edits is None else self.edits}")
        if self.suspects:
            named = ", ".join(self.likely[:10]) or "none stands out"
            lines.append(f"likely subjects, of {len(self.suspects)}: {named}")
            if self.edits is not None and len(self.likely) < self.edits < len(self.suspects):
                first = ", ".join(one.subject for one in self.suspects[: min(self.edits, 10)])
                lines.append(f"fewer stand out than were edited; the first suspects: {first}")
        return "\n".join(lines)


def audit(base: Model, edited: Edited, subjects: Sequence[str | Fact] = ()) -> AuditReport:
    """Compare an edited model with its base, and name the likely subjects of the edits.

    base, edited: `LM` objects, or the paths or Hub ids of models. `edited` may also be an `Edit`
    (its model may be `base`: the edit is set aside meanwhile), a saved one, an `Adapter`, or the
    folder of one of these. subjects: candidates, hundreds of them, as text or as facts, whose
    prompts are then read up to the subject; several facts of one subject count as one candidate.
    Weights of two precisions are compared in the coarser one.

    Raises `BadInput` if the two are not of one shape, or the edit changes no weights;
    `UnsupportedModel` for subjects with other models than decoders.
    """
    if isinstance(subjects, str | Fact):
        raise BadInput(
            f"subjects is {subjects!r:.80}; allowed: a list of names or facts, hundreds of them. "
            "Put one into brackets, beside others to compare it with."
        )
    base = base if isinstance(base, LM) else LM.load(base)
    if subjects and base.kind != "decoder":
        raise UnsupportedModel(
            f"{type(base.model).__name__} is a {base.kind} model; allowed for subjects: a decoder, "
            "whose keys are read at the subject. Leave subjects out."
        )
    differences, others = _differences(base, edited)
    with _without(base, edited):
        sites = {name: linear_map(base.model, name) for name in differences}
        maps, directions = [], {}
        for name, change in differences.items():
            _, values, right = svd(change)
            maps.append(one := _described(sites[name], values))
            directions[name] = right[:, : one.rank or math.ceil(one.effective_rank)]
        suspects = _suspects(base, sites, directions, subjects) if maps and subjects else ()
    return AuditReport(tuple(maps), tuple(others), suspects)


@contextlib.contextmanager
def _without(base: LM, edited: Edited) -> Iterator[None]:
    """The base without the edit within the block, if it is live there."""
    live = isinstance(edited, Edit) and edited.lm is base and not edited.closed
    with edited.paused() if live and isinstance(edited, Edit) else contextlib.nullcontext():
        yield


def _differences(base: LM, edited: Edited) -> tuple[dict[str, LowRank], list[str]]:
    """What was added to each linear map, and the names of other parameters that differ."""
    if isinstance(edited, str | os.PathLike):
        folder = Path(edited)
        adapter = (folder / CARD).is_file() or (folder / CONFIG).is_file()
        edited = adapter_of(edited) if adapter else LM.load(edited, device=base.device)
    if not isinstance(edited, LM):
        return dict(adapter_of(edited).changes), []
    own, other = (dict(lm.model.named_parameters()) for lm in (base, edited))
    odd = sorted(own.keys() ^ other.keys()) or [n for n in own if own[n].shape != other[n].shape]
    if odd:
        raise BadInput(
            f"{odd[0]!r} is not in both models, or in two shapes; allowed: an edited model and the "
            "base that it was made from. Name that one."
        )
    changed: dict[str, LowRank] = {}
    others = []
    for name in own:
        before, after = _alike(own[name].detach(), other[name].detach())
        if torch.equal(before, after):
            continue
        module, _, part = name.rpartition(".")
        site = _site(base, module) if part == "weight" else None
        if site is None:
            others.append(name)
            continue
        difference = after.cpu().double() - before.cpu().double()
        changed[module] = of_matrix(difference.T if site.turned else difference)
    return changed, others


def _alike(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the coarser one's precision: a model that was rounded as a whole is no edited one."""
    coarse = max(before.dtype, after.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return before.to(coarse), after.to(before.device, coarse)


def _described(site: Site, values: Tensor) -> ChangedMap:
    """A map with its singular values read."""
    norm, weight = float(values.norm()), float(site.weight.double().norm())
    shares = values.square() / values.square().sum().clamp(min=1e-300)
    entropy = -(shares * shares.clamp(min=1e-300).log()).sum()
    return ChangedMap(
        name=site.name,
        norm=norm,
        relative=norm / weight if weight else norm,
        rank=_fall(values, min(site.weight.shape)),
        effective_rank=float(entropy.exp()),
    )


def _fall(values: Tensor, size: int) -> int | None:
    """How many singular values stand before the deepest fall; None if it is not deep.

    `size` is the smaller side of the matrix: values that are not given are 0, and whatever is below
    float32's noise counts as that.
    """
    if size < 2 or not values[0] > 0:
        return None
    whole = torch.zeros(size, dtype=values.dtype)
    whole[: len(values)] = values
    whole = whole.clamp(min=float(values[0]) * torch.finfo(torch.float32).eps)
    falls = whole[:-1] / whole[1:]
    deepest = int(falls.argmax())
    return deepest + 1 if falls[deepest] >= FALL else None


def _suspects(
    base: LM,
    sites: Mapping[str, Site],
    directions: Mapping[str, Tensor],
    subjects: Sequence[str | Fact],
) -> tuple[Suspect, ...]:
    """The candidates, the most likely first; of one named several times its best prompt counts."""
    facts = [one if isinstance(one, Fact) else Fact(one, "{}", "?") for one in subjects]
    names = list(dict.fromkeys(fact.subject for fact in facts))
    best = dict.fromkeys(names, (0.0, -math.inf))
    for name, site in sites.items():
        keys = context_keys(base, facts, ["{}"], site)[:, 0].cpu()
        scores: dict[str, float] = dict.fromkeys(names, 0.0)
        for fact, score in zip(facts, _cosines(keys, directions[name]).tolist(), strict=True):
            scores[fact.subject] = max(score, scores[fact.subject])
        values = torch.tensor(list(scores.values()), dtype=torch.float64)
        spread = 1.4826 * (values - values.median()).abs().median().clamp(min=1e-12)
        deviations = ((values - values.median()) / spread).tolist()
        for subject, score, z in zip(names, scores.values(), deviations, strict=True):
            best[subject] = max(best[subject], (score, z), key=lambda pair: pair[1])
    found = [Suspect(subject, *best[subject]) for subject in names]
    return tuple(sorted(found, key=lambda one: -one.deviations))


def _cosines(keys: Tensor, directions: Tensor) -> Tensor:
    """Of each key [n, d_in] with the span of the edits' keys, both whitened; see above."""
    moment = keys.T @ keys / len(keys)
    ridge = RIDGE * moment.diagonal().mean().clamp(min=1e-30)
    factor = torch.linalg.cholesky(moment + ridge * torch.eye(len(moment), dtype=moment.dtype))
    white = torch.linalg.solve_triangular(factor, keys.T, upper=False).T
    span = torch.linalg.qr(factor.T @ directions).Q
    cosines: Tensor = (white @ span).norm(dim=1) / white.norm(dim=1).clamp(min=1e-30)
    return cosines


def _site(lm: LM, name: str) -> Site | None:
    try:
        return linear_map(lm.model, name)
    except BadInput:
        return None
