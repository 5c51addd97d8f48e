"""Text to ids and back: start tokens, boundaries, spaces."""

from __future__ import annotations

import pytest
import transformers

from memkit.errors import BadInput
from memkit.lm import tokens
from memkit.lm.tokens import Codec
from memkit.testing.models import tiny_tokenizer

STYLES = ["plain", "start", "classify", "end"]
TEXTS = ["Who wrote Erewhon?", " Samuel", "naïve 東京\n\ntwo  spaces ", "x"]


def codec(style: str) -> Codec:
    return Codec(tiny_tokenizer(style), 1000, closes=style in ("classify", "end"))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", TEXTS)
def test_prompts_are_tokenised_as_the_tokenizer_does(style: str, text: str):
    assert codec(style).prompt(text) == tiny_tokenizer(style)(text).input_ids


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_of_a_target_spell_the_target(style: str, text: str):
    made = codec(style)
    ids = made.target(text)
    assert not set(ids) & set(made.tokenizer.all_special_ids)
    assert made.texts([ids, ids[:0], ids]) == [text, "", text]


def test_a_target_has_no_space_that_its_text_has_not():
    made = codec("start")
    apart = made.tokenizer(" Samuel", add_special_tokens=False).input_ids
    names = made.tokenizer.convert_ids_to_tokens
    assert names(apart)[0] == "▁"  # the tokenizer's own space and the target's: one too many
    assert "".join(names(made.target(" Samuel"))) == "▁Samuel"
    assert "".join(names(made.target("Samuel"))) == "Samuel"


def test_another_anchor_is_taken_where_one_merges(monkeypatch):
    made = codec("start")
    monkeypatch.setattr(tokens, "ANCHORS", ("Sa", "\t"))
    assert made._ids("Sa") != made._ids("Samuel")[: len(made._ids("Sa"))]
    assert made.texts([made.target("muel")]) == ["muel"]
    monkeypatch.setattr(tokens, "ANCHORS", ("Sa",))  # none is left: as the tokenizer has it
    assert made.texts([made.target("muel")]) == [" muel"]


def test_a_prompt_that_spells_its_start_token_gets_no_second_one():
    made = codec("start")
    assert made.prompt("<s>One").count(1) == made.prompt("One").count(1) == 1


def test_a_decoder_prompt_is_not_closed():
    assert Codec(tiny_tokenizer("end"), 1000, closes=False).prompt("One")[-1] != 0
    assert codec("end").prompt("One")[-1] == 0
    assert codec("end").prompt("One</s>") == codec("end").prompt("One")


def test_special_tokens_are_left_out_of_texts():
    made = codec("plain")
    assert made.texts([[*made.target(" two"), 0]]) == [" two"]


def test_a_tokenizer_without_vocabulary_is_refused():
    """What transformers makes of a folder with a config and no tokenizer."""
    with pytest.raises(BadInput, match=r"GPT2Tokenizer, 1 entries.*tokenizer\.json"):
        Codec(transformers.GPT2Tokenizer(), 1000, closes=False)


@pytest.mark.parametrize("style", STYLES)
def test_a_text_is_cut_after_the_last_word_that_fits(style: str):
    own = codec(style)
    text = "Samuel Butler wrote Erewhon, and words and numbers."
    assert own.shorten(text, 60) == text
    whole = own.count(text)
    for room in range(own.count(""), whole):
        some = own.shorten(text, room)
        assert text.startswith(some)
        assert text[len(some)] == " " or not some
        assert own.count(some) <= room
        longer = " ".join(text.split(" ")[: len(some.split()) + 1])
        assert own.count(longer) > room
