from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkit import BadInput, Passage
from memkit.prompts import DEFINITION, Template

CAPITAL = Passage("a", "Lima is the capital of Peru.", title="Lima")
AUTHOR = Passage("b", "Samuel Butler wrote Erewhon in 1872.")


def words(text: str) -> int:
    return len(text.split())


def test_default_is_the_papers():
    assert Template().render("Who wrote Erewhon?") == "Q: Who wrote Erewhon? A:"
    with_text = Template().render("Who wrote Erewhon?", [AUTHOR, CAPITAL])
    assert with_text == (
        "Samuel Butler wrote Erewhon in 1872.\n\n"
        "Lima is the capital of Peru.\n\n"
        "Q: Who wrote Erewhon? A:"
    )


def test_shots_are_the_same_on_both_roads():
    template = Template(shots=[("Who wrote Emma?", "Jane Austen")])
    bare, fed = template.render("Who?"), template.render("Who?", [AUTHOR])
    assert bare == "Q: Who wrote Emma? A: Jane Austen\n\nQ: Who? A:"
    assert fed.split("\n\n") == [
        "Q: Who wrote Emma? A: Jane Austen",
        "Samuel Butler wrote Erewhon in 1872.",
        "Q: Who? A:",
    ]
    assert template == Template(shots=(("Who wrote Emma?", "Jane Austen"),))
    assert hash(template) == hash(dataclasses.replace(template))
    assert eval(repr(template)) == template


def test_definition_stands_before_the_probe():
    assert DEFINITION.render("Lima lies in", [CAPITAL]) == (
        "Lima is the capital of Peru. Lima lies in"
    )


def test_title_where_it_is_asked_for():
    template = Template(passage="[{title}] {text}")
    assert template.render("Q?", [CAPITAL]).startswith("[Lima] Lima is")
    assert template.render("Q?", [AUTHOR]).startswith("[] Samuel")
    odd = Passage("c", "text {title} {question}", title="{text}")
    assert template.render("Q?", [odd]) == "[{text}] text {title} {question}\n\nQ: Q? A:"


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_retrieved_text_cannot_imitate_the_blank_line(text, question):
    prompt = Template().render(question, [Passage("a", text)])
    assert len(prompt.split("\n\n")) == 2
    assert len(prompt.splitlines()) == 3


def test_special_tokens_in_retrieved_text_are_broken_up():
    passage = Passage("a", "one <|endoftext|> two </s>", title="<|endoftext|>")
    template = Template(passage="{title}: {text}")
    special = ("<|endoftext|>", "</s>", "t")  # a single character cannot be broken up
    prompt = template.fit("<|endoftext|>?", [passage], count=words, budget=50, special=special)
    assert prompt.text == (
        "< |endoftext|>: one < |endoftext|> two < /s>\n\nQ: <|endoftext|>? A:"  # the user's stays
    )
    untouched = template.fit("Who?", [passage], count=words, budget=50)
    assert "<|endoftext|>: one" in untouched.text


@pytest.mark.parametrize(
    ("budget", "passages", "cut", "dropped", "tokens"),
    [
        (100, ("a", "b"), None, (), 17),
        (17, ("a", "b"), None, (), 17),  # exactly full
        (16, ("a",), "b", (), 16),
        (12, ("a",), "b", (), 12),  # one word of the second
        (11, ("a",), None, ("b",), 11),  # none of it
        (10, (), "a", ("b",), 10),
        (6, (), "a", ("b",), 6),
        (5, (), None, ("a", "b"), 5),  # the question alone
    ],
)
def test_fits_the_budget_and_says_what_it_dropped(budget, passages, cut, dropped, tokens):
    prompt = Template().fit("Who wrote Erewhon?", [CAPITAL, AUTHOR], count=words, budget=budget)
    assert (prompt.passages, prompt.cut, prompt.dropped) == (passages, cut, dropped)
    assert prompt.tokens == tokens == words(prompt.text)
    assert prompt.text.endswith("Q: Who wrote Erewhon? A:")


def test_cuts_after_the_last_word_that_fits():
    prompt = Template().fit("Who wrote Erewhon?", [AUTHOR], count=words, budget=8)
    assert prompt.text == "Samuel Butler wrote\n\nQ: Who wrote Erewhon? A:"


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), max_size=5),
    st.integers(5, 60),
)
def test_every_passage_is_whole_cut_or_dropped(texts, budget):
    passages = [Passage(str(n), " ".join(text)) for n, text in enumerate(texts)]
    prompt = Template().fit("Who wrote Erewhon?", passages, count=words, budget=budget)
    cut = () if prompt.cut is None else (prompt.cut,)
    assert (*prompt.passages, *cut, *prompt.dropped) == tuple(p.id for p in passages)
    room = budget - 5
    expected = 0  # as many words as fit, in order
    for text in texts:
        expected = min(room, expected + len(text))
    assert prompt.tokens == 5 + expected


def test_refuses_a_question_longer_than_the_window():
    question = "very " * 300 + "long?"
    with pytest.raises(BadInput, match=r"has 303 tokens.*allowed: 100, the model's window.*Short"):
        Template().fit(question, [AUTHOR], count=words, budget=100)
    shots = Template(shots=(("What is this?", "a shot"),) * 40)
    assert Template().fit("Who?", [], count=words, budget=100).tokens == 3
    with pytest.raises(BadInput, match="and 40 shots"):
        shots.fit("Who?", [], count=words, budget=100)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "Q: {} A:"}, r"Template.question is 'Q: \{\} A:'.*\{question\}"),
        ({"passage": "{title}"}, r"Template.passage is '\{title\}'.*\{text\}"),
        ({"separator": ""}, "Template.separator is ''"),
        ({"shots": [("one",)]}, "Template.shots has"),
        ({"shots": ["ab"]}, "Template.shots has 'ab'.*pairs"),
        ({"shots": [("Who?", " ")]}, "not empty"),
    ],
)
def test_refuses_what_is_no_template(fields, message):
    with pytest.raises(BadInput, match=message):
        Template(**fields)
