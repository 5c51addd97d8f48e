"""The subject's last token and the target, whatever stands around them."""

from __future__ import annotations

import pytest
import tokenizers
import transformers

from memkit.editors.tokens import check_facts, drift_row, row, target_ids, target_text
from memkit.errors import BadInput
from memkit.lm.model import LM
from memkit.testing.models import tiny_lm
from memkit.types import Fact

FAMILIES = ("gpt2", "llama", "opt")  # without a start token, and with one
SUBJECTS = ("Peru", "Samuel Butler", "O", "Köln", "東京", "Łódź", "the 🙂🙃", "é", "d'Ys, the 2nd")
PROMPTS = (
    "{} wrote",
    "The capital of {} is",
    "The capital of {}",
    "The capital of {}, is",
    "Of{}of",
    "\u201c{}\u201d is",
    "Who wrote {}? Answer: ",
    "{} and {} are",
    "🙂 Über {} schrieb",
)
CONTEXTS = ("{}", "One, two. {}", "Peru. {}", "東京 🙂. {}")


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request):
    return tiny_lm(request.param)


def decoded(lm, ids):
    return lm.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


# the subject


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_text_up_to_the_subjects_last_token_ends_with_it(lm, subject):
    for prompt in PROMPTS:
        fact = Fact(subject, prompt, "Lima")
        for context in CONTEXTS:
            found = row(lm, fact, context)
            text = context.replace("{}", fact.text)
            assert list(found.ids) == lm.tokenizer(text).input_ids
            place = context.index("{}") + fact.prompt.rfind("{}")
            place += (fact.prompt.count("{}") - 1) * (len(subject) - 2)
            before, with_it = text[:place], text[: place + len(subject)]
            through = decoded(lm, found.ids[: found.subject + 1])
            if not through.startswith(with_it):
                assert through == with_it.strip()  # a decoder that drops the first space
            merged = through[len(with_it) :]  # what the tokenizer joins with the subject's end
            assert len(merged) <= 3
            assert not decoded(lm, found.ids[: found.subject]).startswith(with_it)
            assert decoded(lm, found.ids[: found.first]).rstrip("\ufffd") in before
            assert found.first <= found.subject


def test_a_start_token_moves_the_place():
    bare, started = (tiny_lm(name) for name in ("gpt2", "llama"))
    fact = Fact("Peru", "{} is", "Lima")
    assert row(bare, fact).first == 0
    found = row(started, fact)
    assert found.ids[0] == started.tokenizer.bos_token_id
    assert found.first == 1
    spelt = row(started, Fact("Peru", "<s>{} is", "Lima"))
    assert spelt.ids.count(started.tokenizer.bos_token_id) == 1
    assert spelt.first == 1


def test_a_character_of_several_tokens_ends_with_its_last_one():
    lm = tiny_lm("gpt2")
    found = row(lm, Fact("東", "{} is", "Lima"))
    assert (found.first, found.subject) == (0, 2)  # three bytes
    found = row(lm, Fact("東", "東{}東", "Lima"))
    assert (found.first, found.subject) == (3, 5)


def test_the_last_place_counts_and_of_the_literal_subject_the_first():
    lm = tiny_lm("gpt2")
    alone = row(lm, Fact("Lima", "{} and words", "Paris"))
    twice = row(lm, Fact("Lima", "{} and {}", "Paris"))
    literal = row(lm, Fact("Lima", "Lima and Lima", "Paris"))
    assert twice.ids == literal.ids
    assert literal.subject == alone.subject == 1
    assert decoded(lm, twice.ids[twice.first :]).strip() == "Lima"
    assert twice.subject == len(twice.ids) - 1
    mixed = row(lm, Fact("Lima", "Lima and {} and Lima", "Paris"))
    assert decoded(lm, mixed.ids[: mixed.subject + 1]) == "Lima and Lima"


def test_the_subject_in_a_context_is_not_meant():
    lm = tiny_lm("gpt2")
    fact = Fact("Peru", "Peru is", "Lima")
    found = row(lm, fact, "Peru. {}")
    assert decoded(lm, found.ids[: found.subject + 1]) == "Peru. Peru"


def test_a_context_moves_the_place_and_changes_nothing_else():
    lm = tiny_lm("gpt2")
    fact = Fact("Samuel Butler", "The capital of {} is", "Lima")
    bare, behind = row(lm, fact), row(lm, fact, "One. {}")
    more = len(behind.ids) - len(bare.ids)
    assert more > 0
    assert (behind.first, behind.subject) == (bare.first + more, bare.subject + more)


def test_the_drift_row_ends_after_the_subject(lm):
    for subject in SUBJECTS:
        found = drift_row(lm, Fact(subject, "The capital of {} is", "Lima"))
        assert list(found.ids) == lm.tokenizer(f"{subject} is a").input_ids
        assert decoded(lm, found.ids[: found.subject + 1]).startswith(subject)
        assert not decoded(lm, found.ids[: found.subject]).startswith(subject)
        assert found.target == ()


# the target


@pytest.mark.parametrize(
    ("prompt", "target", "expected"),
    [
        ("{} is", "Lima", " Lima"),
        ("{} is", " Lima", " Lima"),
        ("{} is ", "Lima", "Lima"),
        ("{} is\n", "Lima", "Lima"),
        ("{} is ", " Lima", " Lima"),  # as it was asked for
        ("{} is", "\u3000東京", "\u3000東京"),
        ("{}", "Lima", " Lima"),
    ],
)
def test_a_decoders_target_begins_with_one_space(lm, prompt, target, expected):
    fact = Fact("Peru", prompt, target)
    assert target_text(fact, lm) == expected
    ids = target_ids(fact, lm)
    whole = lm.codec.prompt(fact.text) + ids
    assert decoded(lm, whole) == fact.text + expected
    found = row(lm, fact, "{}", ids)
    assert found.ids == tuple(whole[:-1])
    assert found.target == tuple(ids)
    assert row(lm, fact).ids == found.ids[: len(found.ids) - len(ids) + 1]


@pytest.mark.parametrize("family", ["t5", "bert"])
def test_other_kinds_take_the_target_as_it_is(family):
    lm = tiny_lm(family)
    assert target_text(Fact("Peru", "{} is", "Lima"), lm) == "Lima"


# a tokenizer that drops what it cannot write, and shifts the offsets of all that comes after


@pytest.fixture(scope="module")
def dropping():
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(split=False)
    inner.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=["</s>"], show_progress=False)
    inner.train_from_iterator(["The capital of Peru is Lima and So Paulo is large"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    return LM(tiny_lm("gpt2").model, tokenizer)


@pytest.mark.parametrize(
    ("subject", "prompt", "spelt"),
    [
        ("Peru", "The capital of ({}) is Lima", "Peru"),
        ("S\u00e3o Paulo", "{} is", "So Paulo"),
        ("S\u00e3o Paulo", "(S\u00e3o Paulo) \u6771\u4eac and {} is", "So Paulo"),
        ("\u6771Peru\u4eac", "The capital of {}", "Peru"),
    ],
)
def test_the_subject_is_found_behind_characters_that_are_dropped(dropping, subject, prompt, spelt):
    found = row(dropping, Fact(subject, prompt, "Lima"))
    assert list(found.ids) == dropping.tokenizer(prompt.replace("{}", subject)).input_ids
    through = decoded(dropping, found.ids[: found.subject + 1]).rstrip()
    assert through.endswith(spelt)
    assert not decoded(dropping, found.ids[: found.subject]).rstrip().endswith(spelt)
    own = decoded(dropping, found.ids[found.first : found.subject + 1])
    assert own.replace(" ", "") == spelt.replace(" ", "")


def test_a_subject_of_which_nothing_is_left_is_named(dropping):
    with pytest.raises(BadInput, match=r"no token of 'The capital of \(.*drops characters"):
        row(dropping, Fact("\u6771\u4eac", "The capital of ({}) is", "Lima"))


# what is refused


def test_a_row_beyond_the_window_is_refused(lm):
    fact = Fact("Peru", "{} is", "Lima")
    room = (lm.window - len(row(lm, fact).ids)) // len(lm.tokenizer("🙂" * 9).input_ids) * 9
    row(lm, fact, "🙂" * room + "{}")
    with pytest.raises(BadInput, match=r"has \d+ tokens with its target; allowed: 64"):
        row(lm, fact, "🙂" * 20 + "{}")


def test_a_tokenizer_without_offsets_is_refused(monkeypatch):
    lm = tiny_lm("gpt2")
    monkeypatch.setattr(type(lm.tokenizer), "is_fast", property(lambda _: False))
    with pytest.raises(BadInput, match="gives no character offsets; allowed: a fast one"):
        row(lm, Fact("Peru", "{} is", "Lima"))


def test_facts_that_contradict_each_other_are_named(lm):
    lima, paris = (Fact("Peru", "The capital of {} is", target) for target in ("Lima", "Paris"))
    same = Fact("Peru", "The capital of Peru is", " Lima")
    assert check_facts(lm, (lima, same, lima)) == [lima, same, lima]
    other = Fact("Peru", "The old capital of {} is", "Paris")
    assert check_facts(lm, [lima, other]) == [lima, other]
    with pytest.raises(BadInput, match=r"'The capital of Peru is'.*' Lima' and by 'Paris'"):
        check_facts(lm, [other, same, paris])


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([], "facts is empty"),
        (Fact("Peru", "{} is", "Lima"), r"facts is one Fact \('Peru is'\)"),
        ([Fact("Peru", "{} is", "Lima"), "Peru is Lima"], "facts holds 'Peru is Lima'"),
        ([Fact("Peru", "{} is" + " numbers" * 99, "Lima")], r"has \d+ tokens with its target"),
        ([Fact("Peru", "{} is", "Lima" * 99)], r"has \d+ tokens with its target; allowed: 64"),
    ],
)
def test_what_is_no_list_of_facts_is_refused(lm, facts, said):
    with pytest.raises(BadInput, match=said):
        check_facts(lm, facts)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("Peru", "{} is", ""), "target"),
        (("Peru", "{} is", "  "), "target"),
        (("", "{} is", "Lima"), "subject"),
        (("Chile", "Peru is", "Lima"), "prompt is 'Peru is'; allowed.*subject 'Chile'"),
    ],
)
def test_what_is_no_fact_is_refused(values, said):
    with pytest.raises(BadInput, match=said):
        Fact(*values)
