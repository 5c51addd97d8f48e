"""GRACE, general retrieval adaptors for continual editing (Hartvigsen, Sankaranarayanan, Palangi,
Kim and Ghassemi, NeurIPS 2023, arXiv:2211.11031).

Idea. A codebook lies over one map of the model. A query h, the map's input at the prompt's last
token, that falls into the ball around a key gets the key's value as the map's output; any other
passes through. Weights never change. An edit adds a key, or makes the balls around keys larger or
smaller (Algorithm 1, `memkit.editors.codebook`), and its value is found by gradient steps on the
fact's loss with all else frozen.

Departures from the paper's code (Thartvigsen/GRACE):
- The query is taken at the prompt's last real token, in training, scoring and generation alike.
  There it is the last position, be it padding or the answer's first token.
- Decided once a prompt, and for each row of a batch; passes that go on from a cache ask nothing
  (and without a cache the prompts' ends have to be said, see `memkit.lm.ends`).
- `replacement="prompt"` includes the prompt's last token; there it ends before it.
- Two targets are the same if their texts are, not if their token ids have the same mean.
- A key that is expanded keeps its value if that already gives the new fact's target; there it is
  always trained on, which can spoil the facts that it has served. Of all steps the best value is
  kept.
- Near-equal queries, splits and facts that change their target: see `Codebook.literal`.
- `eps` is chosen for the model: a distance of 1.0 means nothing across models and layers.
- No random numbers but for the cold start, which is the same for every fact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from torch import Tensor

from memkit.editors.base import Draft, Made
from memkit.editors.codebook import ACTIONS, Codebook, Decision, Distance, Expansion
from memkit.editors.corpora import sample
from memkit.editors.grace_adaptor import Entry, GraceAdaptor, label
from memkit.editors.prompt_end import PromptEndEditor, Replacement, check_choice, queries
from memkit.editors.training import Example, check_number, fact_example, losses
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.lm.model import LM
    from memkit.types import Fact

__all__ = ["GRACE"]

PROMPTS = 64  # from which a radius is chosen, at most, of each kind
QUANTILE = 0.05  # of their distances


@dataclass(frozen=True, kw_only=True)
class GRACE(PromptEndEditor):
    """A codebook over one map of a decoder, encoder-decoder or classifier.

    Fields beside those of `PromptEndEditor`:

    eps: radius of a new ball, in units of `distance`. "auto": of the handle's first facts and this
        model, a quarter of the 5 % quantile of the distances between unrelated prompts, or half of
        that between the facts with other targets, if that is less (with the cosine's, which goes
        with the square: a sixteenth and a quarter).
    expansion, distance, literal: see `Codebook`.
    replacement: where in a row the value stands in for the map's output, see `PromptEndAdaptor`.
        None: the preset's, else "last" in a decoder and "prompt" elsewhere.
    start: of the value's training. "cold": uniform in [0, 1). "warm": the map's own output.

    Facts of one step are written one after the other. The report's details: "add", "expand",
    "split" and "rewrite" (one of them is 1), "distance" to the nearest key of before (absent if
    there was none), "key" (number of the key that serves the fact), its "radius", "keys" (how many
    there are), "loss" and "steps". `Edit.adaptor` has `codebook` and `decisions`, one a fact.
    `Edit.remove` takes out any step: what was decided after it is decided anew, and no fact loses
    its value thereby.

    Raises `BadInput` for values that are not allowed.
    """

    eps: float | Literal["auto"] = "auto"
    expansion: Expansion = "coverage"
    replacement: Replacement | None = None
    distance: Distance = "euclidean"
    start: Literal["cold", "warm"] = "cold"
    literal: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.eps != "auto":
            check_number("eps", self.eps, zero=False)
        check_choice("expansion", self.expansion, ("coverage", "paper"))
        check_choice("replacement", self.replacement, (None, "last", "prompt", "all"))
        check_choice("distance", self.distance, ("euclidean", "cosine"))
        check_choice("start", self.start, ("cold", "warm"))

    def fitted(self, lm: LM, facts: Sequence[Fact]) -> tuple[Self, dict[str, str]]:
        """The editor with the place chosen, and the radius from unrelated prompts."""
        editor, chosen = super().fitted(lm, facts)
        if editor.replacement is None:
            decoder = lm.kind == "decoder"
            editor = replace(editor, replacement="last" if decoder else "prompt")
            chosen["replacement"] = f"{editor.replacement} (what GRACE's settings have there)"
        if editor.eps == "auto":
            eps, chosen["eps"] = _radius(lm, editor, facts)
            editor = replace(editor, eps=eps)
        return editor, chosen

    def adaptor(self, lm: LM) -> GraceAdaptor:
        """The codebook over its map, empty."""
        assert isinstance(self.eps, float | int)
        assert self.replacement is not None
        codebook = Codebook(
            self.eps, expansion=self.expansion, distance=self.distance, literal=self.literal
        )
        return GraceAdaptor(lm, self.site(lm), self.stack, self.replacement, codebook)

    def write(self, draft: Draft) -> Made:
        """Write the draft's facts, one after the other."""
        lm, adaptor = draft.lm, draft.adaptor
        assert isinstance(adaptor, GraceAdaptor)
        rows = [fact_example(lm, fact, end=self.end) for fact in draft.facts]
        state: dict[str, Tensor] = {}
        details: list[Mapping[str, float]] = []
        with adaptor.writing(state):
            for number, (fact, row) in enumerate(zip(draft.facts, rows, strict=True)):
                query = queries(lm, adaptor.site, self.stack, [row.given])[0]
                decision = adaptor.codebook.decide(query, label(fact))
                start, known = self._start(adaptor, decision, query), False
                if decision.action == "expand":
                    found = _try(adaptor, start, row)
                    known = found.right
                if not known:
                    found = self._train(adaptor, start, row)
                entry = Entry(query, found.value, decision, len(adaptor.decisions), not known)
                key = adaptor.enter(entry, label(fact))
                state |= entry.state(number)
                details.append(
                    {action: float(action == decision.action) for action in ACTIONS}
                    | ({} if decision.nearest < 0 else {"distance": decision.distance})
                    | {"key": key, "radius": float(adaptor.codebook.radii[key])}
                    | {"keys": len(adaptor.codebook), "loss": found.loss, "steps": found.steps}
                )
        return Made(details, state=state)

    def _start(self, adaptor: GraceAdaptor, decision: Decision, query: Tensor) -> Tensor:
        """What a value's training starts from, [d_out], in float32 at least."""
        if decision.action == "expand":
            return adaptor.codebook.values[decision.nearest].clone()
        weight, bias = adaptor.site.weight, adaptor.site.bias
        exact = torch.promote_types(weight.dtype, torch.float32)
        if self.start == "warm":
            return torch.nn.functional.linear(query, weight, bias).to(exact)
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(len(weight), generator=generator).to(weight.device, exact)

    def _train(self, adaptor: GraceAdaptor, start: Tensor, row: Example) -> Found:
        """Adam on the fact's loss; gives the best of all values, one that is right before others.

        Stops where a loss is not finite.
        """
        value = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([value], lr=self.lr)
        best: Found | None = None
        for step in range(self.steps + 1):
            with adaptor.forcing(value):
                (loss,), (right,) = losses(adaptor.lm, [row])
            figure = float(loss.detach())
            if best is None or (not right, figure) < (not best.right, best.loss):
                best = Found(value.detach().clone(), figure, right, step)
            done = right and figure < self.stop_loss
            if done or step == self.steps or not math.isfinite(figure):
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert best is not None
        return best


class Found(NamedTuple):
    """A value, [d_out], its loss, whether it gives the target, and the steps that it took."""

    value: Tensor
    loss: float
    right: bool
    steps: int


def _try(adaptor: GraceAdaptor, value: Tensor, row: Example) -> Found:
    """What a value does for a fact, as it is."""
    with torch.no_grad(), adaptor.forcing(value):
        (loss,), (right,) = losses(adaptor.lm, [row])
    return Found(value, float(loss), right, 0)


def _radius(lm: LM, editor: GRACE, facts: Sequence[Fact]) -> tuple[float, str]:
    """The radius that "auto" stands for, and why.

    Unrelated prompts are beginnings of the built-in sample's texts. The facts' own are of one form,
    and so nearer to each other.
    """
    whole = islice(dict.fromkeys(sample()), PROMPTS)
    texts = [" ".join(text.split()[: 3 + i % 6]) for i, text in enumerate(whole)]
    prompts = {fact.text: label(fact) for fact in facts[:PROMPTS]}
    rows = [lm.codec.prompt(text)[: lm.window] for text in (*texts, *prompts)]
    found = queries(lm, editor.site(lm), editor.stack, rows)
    near = float(_apart(found[: len(texts)], editor.distance).quantile(QUANTILE))
    power = 2 if editor.distance == "cosine" else 1  # it goes with the square of the chord
    eps = near / 4**power
    why = f"1/{4**power} of {near:.4g}, the 5 % quantile between {len(texts)} unrelated prompts"
    labels = list(prompts.values())
    pairs = itertools.combinations(range(len(labels)), 2)
    other = torch.tensor([labels[i] != labels[j] for i, j in pairs], dtype=torch.bool)
    if other.any():
        own = _apart(found[len(texts) :], editor.distance)[other]
        near = float(own.quantile(QUANTILE))
        if 0 < near / 2**power < eps:
            eps = near / 2**power
            why = (
                f"1/{2**power} of {near:.4g}, the 5 % quantile between the facts with other targets"
            )
    if not 0 < eps < math.inf:
        raise BadInput(
            f"eps is 'auto', and unrelated prompts are {near:.4g} apart at {editor.site(lm).name}; "
            "allowed: a layer that tells them apart. Name another layer, or eps."
        )
    eps = float(f"{eps:.4g}")
    return eps, f"{eps:g} ({why})"


def _apart(vectors: Tensor, distance: Distance) -> Tensor:
    """Distances of all pairs of vectors [n, d_in], in float32 on the CPU."""
    vectors = vectors.float().cpu()
    if distance == "cosine":
        return torch.pdist(torch.nn.functional.normalize(vectors, dim=-1)).square() / 2
    return torch.pdist(vectors)
