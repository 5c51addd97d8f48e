"""LocFT-BF: all facts together in mini-batches, and the model ends after the target."""

from __future__ import annotations

import pytest

from memkit.editors.finetune import FineTune
from memkit.editors.finetune_localized import FineTuneLocalized
from memkit.editors.guards import Guards
from memkit.editors.tokens import target_ids
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
    Fact("France", "The capital of {} is", "Paris"),
]
OPEN = Guards(perplexity=float("inf"), size=float("inf"))


def test_the_settings_are_the_papers():
    editor = FineTuneLocalized()
    assert isinstance(editor, FineTune)
    assert (editor.parameters, editor.projection) == ("mlp", "down")
    assert (editor.lr, editor.epochs, editor.batch_size) == (5e-4, 25, 100)
    assert (editor.stop_loss, editor.stop_at_argmax, editor.end) == (1e-2, False, True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "t5"])
def test_free_generation_stops_after_the_target(family):
    lm = tiny_lm(family)
    texts, end = [fact.text for fact in FACTS], lm.tokenizer.eos_token_id
    wanted = [(*target_ids(fact, lm), end) for fact in FACTS]

    def said():
        return [row.tokens for row in lm.complete(texts, 12, stop=())]

    assert all(tokens[-1] != end for tokens in said())
    # three facts make few batches, and the tiny models' weights are large
    editor = FineTuneLocalized(parameters="last", lr=1e-2, epochs=60, batch_size=2, guards=OPEN)
    with editor.apply(lm, FACTS):
        assert said() == wanted
    open_ended = FineTune(parameters="last", lr=1e-2, epochs=60, stop_at_argmax=False, guards=OPEN)
    with open_ended.apply(lm, FACTS):
        assert [tokens[: len(w) - 1] for tokens, w in zip(said(), wanted, strict=True)] == [
            w[:-1] for w in wanted
        ]
        assert said() != wanted


@pytest.mark.parametrize("head", [None, "BertForSequenceClassification"])
def test_models_that_do_not_generate_have_no_end(head):
    lm, other = tiny_lm("bert", head=head), tiny_lm("bert", head=head)
    facts = [Fact("Peru", "{} is", "LABEL_0")] if head else FACTS
    FineTuneLocalized(guards=OPEN).apply(lm, facts)
    FineTuneLocalized(end=False, guards=OPEN).apply(other, facts)
    assert lm.fingerprint() == other.fingerprint() != tiny_lm("bert", head=head).fingerprint()
