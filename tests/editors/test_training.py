"""The loss of a fact is what LM.logprob says of it, and the loop is plain Adam over batches."""

from __future__ import annotations

import math

import pytest
import torch

from memkit.editors.tokens import target_ids, target_text
from memkit.editors.training import (
    Plan,
    check_number,
    definition_example,
    fact_example,
    losses,
    train,
)
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.layouts import LAYOUTS
from memkit.testing.models import tiny_lm
from memkit.types import Fact

DECODERS = sorted(name for name, layout in LAYOUTS.items() if "decoder" in layout.heads.values())
FACTS = [
    Fact("Erewhon", "{} was written by", "Samuel Butler"),
    Fact("Peru", "The capital of the country that is called {} is", "Lima"),
    Fact("Who", "{} ", "wrote, one, two, three"),
]
LABELLED = [
    Fact("Erewhon", "{} is a book", "LABEL_1"),
    Fact("Peru", "{} is one of the countries", "LABEL_0"),
]
CLASSIFIER = "BertForSequenceClassification"


def examples(lm, facts, **options):
    return [fact_example(lm, fact, **options) for fact in facts]


# the loss


@pytest.mark.parametrize("family", [*DECODERS, "t5"])
def test_the_loss_is_the_negative_logprob_for_each_token(family):
    lm = tiny_lm(family)
    found, right = losses(lm, examples(lm, FACTS))
    targets = [target_text(fact, lm) for fact in FACTS]
    scores = lm.logprob([fact.text for fact in FACTS], targets, batch_size=1)
    expected = [-score.total / len(score.tokens) for score in scores]
    assert len({len(score.tokens) for score in scores}) > 1  # rows of unequal length
    assert found.tolist() == pytest.approx(expected, abs=2e-5)
    assert right == [all(score.argmax) for score in scores]


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_a_decoders_loss_is_that_of_transformers(family):
    lm = tiny_lm(family)
    for fact in FACTS:
        prompt, target = lm.codec.prompt(fact.text), target_ids(fact, lm)
        ids = torch.tensor([prompt + target])
        labels = torch.tensor([[-100] * len(prompt) + target])
        expected = lm.model(input_ids=ids, labels=labels).loss
        (found,), _ = losses(lm, examples(lm, [fact]))
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_an_encoder_decoders_loss_is_that_of_transformers():
    lm = tiny_lm("t5")
    for fact in FACTS:
        ids, labels = lm.codec.prompt(fact.text), target_ids(fact, lm)
        labels.append(lm.tokenizer.eos_token_id)
        expected = lm.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        (found,), _ = losses(lm, examples(lm, [fact], end=True))
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_a_classifiers_loss_is_that_of_its_label():
    lm = tiny_lm("bert", head=CLASSIFIER)
    found, right = losses(lm, examples(lm, LABELLED, end=True))
    scores = lm.logprob([f.text for f in LABELLED], [f.target for f in LABELLED], batch_size=1)
    assert found.tolist() == pytest.approx([-score.total for score in scores], abs=2e-5)
    assert right == [all(score.argmax) for score in scores]


def test_a_masked_models_target_is_masked_as_a_whole():
    lm = tiny_lm("bert")
    found, _ = losses(lm, examples(lm, FACTS, end=True))
    for fact, loss in zip(FACTS, found.tolist(), strict=True):
        target = lm.codec.target(fact.target)
        start, *inner, stop = lm.codec.prompt(fact.text)
        ids = [start, *inner, *[lm.tokenizer.mask_token_id] * len(target), stop]
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([ids])).logits[0, len(inner) + 1 : -1]
        expected = -logits.log_softmax(-1)[range(len(target)), target].mean().item()
        assert loss == pytest.approx(expected, abs=2e-5)
    one = Fact("Erewhon", "{} is", "w")
    assert len(target_ids(one, lm)) == 1
    (loss,), _ = losses(lm, examples(lm, [one]))
    (score,) = lm.logprob([one.text], [one.target])
    assert loss.item() == pytest.approx(-score.total, abs=2e-5)


def test_the_last_position_is_asked_for_every_target_token():
    lm = tiny_lm("gpt2")
    rows = examples(lm, FACTS)
    found, right = losses(lm, rows, last_position=True)
    assert not torch.allclose(found, losses(lm, rows)[0], atol=1e-2)
    for row, loss in zip(rows, found.tolist(), strict=True):
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([row.given])).logits[0, -1]
        expected = -logits.log_softmax(-1)[list(row.target)].mean().item()
        assert loss == pytest.approx(expected, abs=2e-5)
    assert right == [False] * 3  # different tokens cannot all be the argmax of one place
    with pytest.raises(UnsupportedModel, match=r"T5.*last prompt position.*a decoder"):
        losses(tiny_lm("t5"), rows, last_position=True)


@pytest.mark.parametrize(("family", "first"), [("gpt2", 1), ("llama", 0)])
def test_a_definition_counts_from_its_first_token_that_something_stands_before(family, first):
    lm = tiny_lm(family)
    text = "Erewhon is a book that Samuel Butler wrote."
    row = definition_example(lm, text, "the text")
    count = len(lm.codec.prompt(text)) - len(lm.codec.prefix) - first
    assert len(row.target) == count
    (found,), _ = losses(lm, [row])
    assert math.exp(found.item()) == pytest.approx(lm.perplexity([text]), rel=1e-4)


def test_the_end_follows_the_target_where_a_model_generates():
    for family, head in [("gpt2", None), ("t5", None), ("bert", None), ("bert", CLASSIFIER)]:
        lm = tiny_lm(family, head=head)
        fact = LABELLED[0] if lm.kind == "classifier" else FACTS[0]
        plain, ended = fact_example(lm, fact), fact_example(lm, fact, end=True)
        more = (lm.tokenizer.eos_token_id,) if family in ("gpt2", "t5") else ()
        assert ended.target == plain.target + more
        assert ended.given == plain.given
    lm = tiny_lm("gpt2")
    text = "Samuel Butler wrote Erewhon."
    ended = definition_example(lm, text, "the text", end=True)
    assert ended.target == (*lm.codec.prompt(text)[1:], lm.tokenizer.eos_token_id)


def test_bad_examples_are_named():
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match=r"the definition of 'x' is None.*not empty"):
        definition_example(lm, None, "the definition of 'x'")
    with pytest.raises(BadInput, match=r"the text has 1 tokens.*2 to 64"):
        definition_example(lm, "w", "the text")
    with pytest.raises(BadInput, match=r"the text has \d+ tokens.*2 to 64"):
        definition_example(lm, "Samuel Butler " * 40, "the text")
    with pytest.raises(UnsupportedModel, match=r"T5.*whole texts.*a decoder"):
        definition_example(tiny_lm("t5"), "One, two", "the text")
    classifier = tiny_lm("bert", head=CLASSIFIER)
    with pytest.raises(BadInput, match=r"'Samuel Butler' of 'Erewhon was.*'LABEL_0', 'LABEL_1'"):
        fact_example(classifier, FACTS[0])
    lm.tokenizer.eos_token = None
    assert fact_example(lm, FACTS[0]).target
    with pytest.raises(BadInput, match=r"end is True.*no end token"):
        fact_example(lm, FACTS[0], end=True)


# the loop


def flat(parameter, figures):
    """A loss that is `figures[i]` for example i, with a gradient of one in every element."""
    seen = []

    def loss(batch):
        seen.append(list(batch))
        slope = parameter.float().sum() - parameter.detach().float().sum()
        values = torch.stack([figures[i] + slope for i in batch])
        return values, [figures[i] == 0 for i in batch]

    return loss, seen


def plan(**changes):
    usual = {"lr": 1e-3, "epochs": 4, "batch_size": 2, "stop_loss": 0.0, "stop_at_argmax": False}
    return Plan(**(usual | changes))


def parameter(dtype=torch.float32):
    return torch.nn.Parameter(torch.ones(3, dtype=dtype))


def test_an_epoch_sees_every_example_once_and_each_epoch_in_another_order():
    weight = parameter()
    loss, seen = flat(weight, [1.0] * 5)
    torch.manual_seed(0)
    assert train([weight], loss, 5, plan()) == 12
    assert [len(batch) for batch in seen] == [2, 2, 1] * 4
    epochs = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in range(0, 12, 3)]
    assert [sorted(epoch) for epoch in epochs] == [[0, 1, 2, 3, 4]] * 4
    assert len({tuple(epoch) for epoch in epochs}) > 1
    loss, again = flat(weight, [1.0] * 5)
    torch.manual_seed(0)
    train([weight], loss, 5, plan())
    assert again == seen


def test_a_single_batch_keeps_its_order():
    weight = parameter()
    loss, seen = flat(weight, [1.0] * 5)
    assert train([weight], loss, 5, plan(batch_size=5)) == 4
    assert seen == [[0, 1, 2, 3, 4]] * 4


@pytest.mark.parametrize(
    ("figures", "rules", "steps", "batches"),
    [
        ([1.0, 1.0], {}, 8, 8),
        ([1.0, 0.005], {"stop_loss": 1e-2}, 4, 8),  # one batch is learnt, the other goes on
        ([0.012, 0.005], {"stop_loss": 1e-2}, 1, 2),  # the epoch's mean is below
        ([0.005, 0.005], {"stop_loss": 1e-2}, 0, 2),
        ([1.0, 0.0], {"stop_at_argmax": True}, 4, 8),
        ([0.0, 0.0], {"stop_at_argmax": True}, 0, 2),
        ([0.0, 0.0], {}, 8, 8),  # nothing stops it
    ],
)
def test_learnt_batches_are_skipped_and_end_the_training(figures, rules, steps, batches):
    weight = parameter()
    loss, seen = flat(weight, figures)
    assert train([weight], loss, 2, plan(batch_size=1, **rules)) == steps
    assert len(seen) == batches
    assert torch.equal(weight, parameter()) == (steps == 0)


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(figure):
    weight = parameter()
    loss, seen = flat(weight, [figure])
    assert train([weight], loss, 1, plan()) == 0
    assert len(seen) == 1
    assert torch.equal(weight, parameter())


def test_steps_that_half_precision_cannot_hold_add_up():
    weight = parameter(torch.bfloat16)
    assert torch.equal(weight - 1e-3, weight)  # one step alone is lost
    loss, _ = flat(weight, [1.0])
    train([weight], loss, 1, plan(epochs=16))
    assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, torch.full((3,), 1 - 16e-3).bfloat16())
    assert weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hooks_stand_before_and_after_the_step(dtype):
    weight = parameter(dtype)
    loss, _ = flat(weight, [1.0])

    def before(masters):
        assert masters[0].dtype == torch.float32
        assert torch.equal(masters[0].grad, torch.ones(3))
        masters[0].grad[0] = -1

    def after(masters):
        masters[0][2] = 0.5

    train([weight], loss, 1, plan(lr=0.25, epochs=1), before_step=before, after_step=after)
    assert weight.tolist() == pytest.approx([1.25, 0.75, 0.5])


def test_a_parameter_that_the_loss_does_not_reach_stays():
    used, unused = parameter(), parameter()
    loss, _ = flat(used, [1.0])
    assert train([used, unused], loss, 1, plan()) == 4
    assert not torch.equal(used, unused)
    assert torch.equal(unused, parameter())


def test_numbers_that_are_not_allowed():
    check_number("eps", math.inf, zero=False, infinite=True)
    check_number("eps", 0, zero=True)
    for value in (0, -1.0, math.inf, math.nan, "1", None, True):
        with pytest.raises(BadInput, match=r"lr is .*; allowed: a finite number above 0\."):
            check_number("lr", value, zero=False)
    with pytest.raises(BadInput, match=r"eps is -1; allowed: a number of at least 0\."):
        check_number("eps", -1, zero=True, infinite=True)
