"""Several targets behind one prompt: read once, and as likely as one by one."""

from __future__ import annotations

import pytest

from memkit import GRACE, BadInput, Fact
from memkit.testing.models import TINY, tiny_lm

PROMPTS = ["The capital of Peru is", "One, two", "Who wrote Erewhon? Words and numbers, numbers"]
OPTIONS = [[" Lima", " Lima, and Paris"], [" three"], [" Samuel Butler", "s", " and", " France"]]


def one_by_one(lm):
    return [
        [lm.logprob([prompt], [option])[0] for option in own]
        for prompt, own in zip(PROMPTS, OPTIONS, strict=True)
    ]


def same(found, expected):
    assert [len(own) for own in found] == [len(own) for own in expected]
    for own, other in zip(found, expected, strict=True):
        for a, b in zip(own, other, strict=True):
            assert a.tokens == b.tokens
            assert a.argmax == b.argmax
            assert a.per_token == pytest.approx(b.per_token, abs=2e-5)
            assert a.total == pytest.approx(sum(a.per_token))


@pytest.mark.parametrize("family", TINY)
def test_options_are_as_likely_as_one_by_one(family):
    lm = tiny_lm(family)
    expected = one_by_one(lm)
    assert any(len(one.tokens) > 1 for own in expected for one in own)
    for size in (1, 32):
        same(lm.options(PROMPTS, OPTIONS, size), expected)


def test_a_decoder_reads_a_prompt_once(monkeypatch):
    lm = tiny_lm("gpt2")
    seen = []
    forward = lm.model.forward
    monkeypatch.setattr(
        lm.model,
        "forward",
        lambda **kwargs: seen.append(kwargs["input_ids"].shape) or forward(**kwargs),
    )
    lm.options(PROMPTS[:1], [[" Lima", " Lima, and Paris", " Peru"]])
    length = lm.count_tokens(PROMPTS[0])
    assert seen[0] == (1, length)
    assert len(seen) == 2
    assert seen[1][1] < length


def test_with_an_edit_over_a_layer():
    lm = tiny_lm("gpt2")
    before = one_by_one(lm)
    fact = Fact("Peru", "The capital of {} is", "France")
    with GRACE(layer=1, eps=5.0, steps=4).apply(lm, [fact]):
        after = one_by_one(lm)
        assert after[0][0].total != before[0][0].total
        same(lm.options(PROMPTS, OPTIONS), after)


def test_padding_does_not_leave_the_window():
    """A prompt that fills it with a short option, beside a short one with a long option."""
    lm = tiny_lm("gpt2")
    short = lm.codec.target(" Lima, and Paris")
    full = "One" + " two" * 80
    while lm.count_tokens(full) > lm.window - 2:
        full = full[:-1]
    prompts, options = [full, "One"], [["s", "ss"], [" Lima, and Paris"]]
    assert lm.count_tokens(full) + len(short) - 1 > lm.window
    found = lm.options(prompts, options)
    expected = [
        [lm.logprob([p], [o])[0] for o in own] for p, own in zip(prompts, options, strict=True)
    ]
    same(found, expected)


def test_what_is_refused():
    lm = tiny_lm("gpt2")
    for prompts, options in ((PROMPTS, OPTIONS[:2]), (["One"], [[]])):
        with pytest.raises(BadInput, match="a list for each prompt, with one at least"):
            lm.options(prompts, options)
    with pytest.raises(BadInput, match="the model's window"):
        lm.options(["One"], [["two", " two" * 80]])
    assert lm.options([], []) == []
