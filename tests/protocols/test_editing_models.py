"""The protocol on tiny real models: no trace is left, and the formulae agree with direct calls."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from memkit import protocols
from memkit.editors.base import Draft, Editor, Made
from memkit.editors.guards import Guards
from memkit.editors.tokens import row, target_ids
from memkit.errors import BadInput, EditRejected, UnsupportedModel
from memkit.metrics import generation_entropy
from memkit.testing.models import tiny_lm
from memkit.types import Fact


@dataclass(frozen=True, kw_only=True)
class OneMatrix(Editor):
    """Trains the last MLP's output weight until it says the target and a full stop."""

    kinds: ClassVar = ("decoder",)
    guards: Guards = Guards(perplexity=math.inf, size=math.inf)
    steps: int = 40
    refused: str = ""

    def write(self, draft: Draft) -> Made:
        lm = draft.lm
        with draft.training(["transformer.h.2.mlp.c_proj.weight"]) as parameters:
            optimiser = torch.optim.Adam(parameters, lr=0.05)
            for _ in range(self.steps):
                loss = torch.zeros(())
                for fact in draft.facts:
                    target = [*target_ids(fact, lm), *lm.codec.target(".")]
                    ids = torch.tensor([row(lm, fact, target=target).ids])
                    logits = lm.model(ids).logits[0, -len(target) :]
                    loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(target))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        if self.refused in [fact.target for fact in draft.facts]:
            raise EditRejected(f"{self.refused} is refused")
        return Made()


FACTS = [
    Fact(
        "France",
        "The capital of {} is",
        "Lyon",
        previous="Paris",
        paraphrases=("{} is ruled from", "The seat of France is"),
        locality=(("The capital of Peru is", "Lima"), ("The capital of Chad is", "N'Djamena")),
    ),
    Fact("Erewhon", "{} was written by", "Anna", previous="Samuel Butler"),
    Fact("Peru", "The language of {} is", "words"),
]


def digest(lm):
    state = lm.model.state_dict()
    return [hashlib.sha256(state[name].numpy().tobytes()).hexdigest() for name in state]


@pytest.fixture(scope="module")
def gpt2():
    return tiny_lm("gpt2")


@pytest.mark.parametrize("mode", ["single", "sequential", "batch"])
def test_every_mode_edits_and_leaves_no_trace(gpt2, mode):
    before, state = digest(gpt2), torch.get_rng_state()
    result = protocols.editing(gpt2, OneMatrix(refused="words"), FACTS[:2], mode=mode)
    assert result.cell("reliability", "unedited").mean == 0
    assert result.cell("reliability").mean == 1
    assert result.cell("reliability_forced_sequence").mean == 1
    assert result.columns["stored_bytes"].cells["edited"].mean > 0
    refused = protocols.editing(gpt2, OneMatrix(refused="words"), FACTS, mode=mode)
    assert refused.rejected == (3 if mode == "batch" else 1)
    assert digest(gpt2) == before
    assert gpt2.edits == []
    assert torch.equal(torch.get_rng_state(), state)


def test_an_interrupt_leaves_no_trace(gpt2, monkeypatch):
    before, calls = digest(gpt2), []

    def generate(*given, **named):
        calls.append(digest(gpt2) == before)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return type(gpt2).generate(gpt2, *given, **named)

    monkeypatch.setattr(gpt2, "generate", generate)
    with pytest.raises(KeyboardInterrupt):
        protocols.editing(gpt2, OneMatrix(), FACTS, mode="sequential")
    assert calls == [True, False, False]
    assert digest(gpt2) == before
    assert gpt2.edits == []


def nll(lm, prompt, target):
    """Mean token NLL by a plain call of the model, and whether each token is the argmax."""
    given, wanted = lm.tokenizer(prompt).input_ids, lm.tokenizer(f" {target}").input_ids
    with torch.no_grad():
        logits = lm.model(torch.tensor([given + wanted])).logits[0, len(given) - 1 : -1]
    logprobs = logits.log_softmax(-1)
    values = [float(logprobs[i, token]) for i, token in enumerate(wanted)]
    return -sum(values) / len(values), [
        int(r.argmax()) == t for r, t in zip(logits, wanted, strict=True)
    ]


def test_formulae_agree_with_direct_calls(gpt2):
    fact = FACTS[0]
    result = protocols.editing(gpt2, OneMatrix(), [fact], fluency=True)
    scores = {s: dict(result.records[0].scores[s]) for s in result.stages}
    assert scores["unedited"] != scores["edited"]

    def check(found):
        new, forced = nll(gpt2, fact.text, "Lyon")
        true, _ = nll(gpt2, fact.text, "Paris")
        assert found["ES"] == (new < true)
        assert found["EM"] == pytest.approx(math.exp(-new) - math.exp(-true), abs=1e-5)
        assert found["reliability_forced_tokens"] == pytest.approx(np.mean(forced))
        asked = [p.replace("{}", "France") for p in fact.paraphrases]
        pairs = [(nll(gpt2, p, "Lyon")[0], nll(gpt2, p, "Paris")[0]) for p in asked]
        assert found["PS"] == pytest.approx(np.mean([a < b for a, b in pairs]))
        assert found["PM"] == pytest.approx(
            np.mean([math.exp(-a) - math.exp(-b) for a, b in pairs]), abs=1e-5
        )
        pairs = [(nll(gpt2, p, a)[0], nll(gpt2, p, "Lyon")[0]) for p, a in fact.locality]
        assert found["NS"] == pytest.approx(np.mean([a < b for a, b in pairs]))
        assert found["NM"] == pytest.approx(
            np.mean([math.exp(-a) - math.exp(-b) for a, b in pairs]), abs=1e-5
        )
        room = 64 - len(gpt2.tokenizer(fact.text).input_ids)
        essay = gpt2.generate([fact.text], max_new_tokens=room, stop=())[0]
        assert found["fluency"] == pytest.approx(generation_entropy(essay))

    check(scores["unedited"])
    with OneMatrix().apply(gpt2, [fact]):
        check(scores["edited"])
        said = gpt2.generate([fact.text], stop=("\n", "."))[0]
        assert result.records[0].views["edited"][0].text == said == " Lyon"


def test_an_encoder_decoder_is_served(gpt2):
    @dataclass(frozen=True, kw_only=True)
    class Noise(Editor):
        kinds: ClassVar = ("encoder-decoder",)

        def write(self, draft: Draft) -> Made:
            with draft.training(["shared.weight"]) as (weight,), torch.no_grad():
                weight.add_(torch.randn_like(weight), alpha=0.01)
            return Made()

    lm = tiny_lm("t5")
    result = protocols.editing(lm, Noise(), FACTS[1:], fluency=True)
    assert result.cell("reliability").mean == 0
    assert result.columns["fluency"].facts == 2
    with pytest.raises(UnsupportedModel, match="Noise does not serve"):
        protocols.editing(gpt2, Noise(), FACTS)


def test_a_model_that_does_not_generate_is_refused():
    with pytest.raises(UnsupportedModel, match="does not generate"):
        protocols.editing(tiny_lm("bert"), OneMatrix(), FACTS)


def test_a_probe_that_does_not_fit_is_named(gpt2):
    fact = replace(FACTS[0], locality=(("word " * 60, "x"),))
    before = digest(gpt2)
    with pytest.raises(BadInput, match="word word"):
        protocols.editing(gpt2, OneMatrix(), [fact])
    assert digest(gpt2) == before
