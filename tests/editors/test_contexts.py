"""Contexts: what is drawn, that it is drawn once, and the random state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from memkit.editors import contexts
from memkit.editors.contexts import Samples, generated, memit_contexts, rome_contexts
from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.model import LM
from memkit.testing.models import TINY, tiny_lm

DECODERS = sorted(name for name in TINY if name not in ("bert", "t5"))
STEMS = ["The", "Therefore", "Because", "I", "You"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path))
    return tmp_path / "contexts"


@pytest.fixture
def lm() -> LM:
    return tiny_lm("gpt2")


def drawn(lm: LM, start: list[int], count: int, length: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return contexts._draw(lm, start, count, length, generator)


@pytest.mark.parametrize("name", DECODERS)
def test_templates_of_every_family(name):
    lm = tiny_lm(name)
    state, config = torch.get_rng_state(), lm.model.generation_config.to_dict()
    rome, memit = rome_contexts(lm), memit_contexts(lm)
    assert (len(rome), len(memit)) == (21, 6)
    for template in (*rome, *memit):
        assert template.count("{") == template.count("}") == template.count("{}") == 1
        assert template.endswith("{}")
        assert len(template.splitlines()) == 1
        assert template.replace("{}", "The prompt").endswith("The prompt")
    assert rome[0] == memit[0] == "{}"
    assert all(template.endswith(". {}") for template in (*rome[1:], *memit[1:]))
    for template, stem in zip(memit[1:], STEMS, strict=True):
        # a tokenizer of bytes spells the stem anew where what follows is no UTF-8
        assert template.startswith(stem) or "\ufffd" in template
        assert len(template) > len(f"{stem}. {{}}")
    assert torch.equal(torch.get_rng_state(), state)
    assert lm.model.generation_config.to_dict() == config


def test_a_seed_is_a_draw(lm, monkeypatch):
    first = generated(lm, contexts.ROME, seed=3)
    torch.manual_seed(1)
    assert generated(lm, contexts.ROME, seed=3) == first
    assert generated(lm, contexts.ROME, seed=4) != first
    assert rome_contexts(lm, seed=3) == first
    assert rome_contexts(lm) != first


@pytest.mark.parametrize("length", [5, 10])
def test_a_length_counts_the_start(lm, length):
    rows = drawn(lm, [lm.tokenizer.bos_token_id], 3, length)
    assert [len(row) for row in rows] == [length] * 3
    assert {row[0] for row in rows} == {lm.tokenizer.bos_token_id}


def test_a_stem_as_long_as_the_length_is_followed_by_a_token(lm):
    start = lm.codec.prompt("Therefore")
    assert len(start) > 2
    (row,) = drawn(lm, start, 1, 2)
    assert row[:-1] == start


def test_each_token_is_among_the_five_most_likely(lm):
    rows = drawn(lm, [lm.tokenizer.bos_token_id], 20, 8)
    special = set(lm.tokenizer.all_special_ids)
    firsts = 0
    for row in rows:
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([row])).logits[0]
        for place, token in enumerate(row[1:]):
            order = [i for i in logits[place].argsort(descending=True).tolist() if i not in special]
            assert token in order[:5]
            firsts += token == order[0]
    assert firsts < 20 * 7  # greedy would take the first every time


def test_tokens_are_drawn_by_their_probabilities(lm):
    start, count = lm.tokenizer.bos_token_id, 4000
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([[start]])).logits[0, -1].double()
    logits[lm.tokenizer.all_special_ids] = -torch.inf
    best = logits.topk(5)
    probabilities = best.values.softmax(-1)
    seen = Counter(row[1] for row in drawn(lm, [start], count, 2))
    for token, p in zip(best.indices.tolist(), probabilities.tolist(), strict=True):
        assert seen[token] / count == pytest.approx(p, abs=4 * (p * (1 - p) / count) ** 0.5)


def test_no_special_token_is_drawn():
    lm = tiny_lm("gptj")
    end = lm.tokenizer.eos_token_id
    lm.model.lm_head.bias.data[end] = 100.0
    with torch.no_grad():
        assert int(lm.model(input_ids=torch.tensor([[end]])).logits.argmax()) == end
    rows = drawn(lm, [end], 5, 6)
    assert all(end not in row[1:] for row in rows)


def test_rows_beyond_the_tokenizer_are_not_drawn():
    lm = tiny_lm("gptj", vocab_size=400)
    assert len(lm.tokenizer) < 390
    lm.model.lm_head.bias.data[390:] = 100.0
    rows = drawn(lm, [0], 5, 6)
    assert max(max(row) for row in rows) < len(lm.tokenizer)


def test_braces_and_line_breaks_are_taken_out(lm, monkeypatch):
    ids = lm.codec.prompt("a {b}\r\nc {} d\u2028e{0}")
    monkeypatch.setattr(contexts, "_draw", lambda *_: [ids])
    assert generated(lm, [Samples("", 1, 5)]) == ("{}", "a b c d e0. {}")


def test_starts_from_the_end_token_where_there_is_no_other(lm):
    assert lm.tokenizer.bos_token_id is not None
    expected = contexts._start(lm, "")
    lm.tokenizer.bos_token = None
    assert contexts._start(lm, "") == expected == [lm.tokenizer.eos_token_id]
    lm.tokenizer.eos_token = None
    with pytest.raises(BadInput, match="neither a start nor an end token"):
        rome_contexts(lm)
    assert len(memit_contexts(lm)) == 6


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_others_than_decoders_have_none(name):
    with pytest.raises(UnsupportedModel, match="Pass contexts"):
        rome_contexts(tiny_lm(name))


def test_a_length_beyond_the_window_is_refused(lm):
    with pytest.raises(BadInput, match=r"65 tokens.*allowed: 64"):
        generated(lm, [Samples("", 1, 65)])


# the cache


def test_contexts_are_generated_once(lm, monkeypatch, cache):
    calls = []
    true = contexts.generated
    monkeypatch.setattr(contexts, "generated", lambda *args: calls.append(args) or true(*args))
    first = rome_contexts(lm)
    assert rome_contexts(LM(lm.model, lm.tokenizer)) == first
    assert len(calls) == 1
    memit_contexts(lm)
    rome_contexts(lm, seed=1)
    assert len(calls) == 3
    lm.model.transformer.h[0].mlp.c_fc.weight.data.mul_(1.01)
    rome_contexts(LM(lm.model, lm.tokenizer))
    assert len(calls) == 4
    assert len(list(cache.iterdir())) == 4
    assert {path.suffix for path in cache.iterdir()} == {".json"}


@pytest.mark.parametrize("content", ["", "{}", '{"key": {}, "contexts": ["{}", "x. {}"]}'])
def test_a_damaged_or_foreign_file_is_not_taken(lm, cache, content):
    first = memit_contexts(lm)
    (path,) = cache.iterdir()
    whole = path.read_text()
    path.write_text(content)
    assert memit_contexts(lm) == first
    assert path.read_text() == whole
