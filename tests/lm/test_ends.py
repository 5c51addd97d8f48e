"""Where prompts end, in every way in which a model is run."""

from __future__ import annotations

import contextlib
import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from memkit.editors.grace import GRACE
from memkit.editors.training import fact_example, losses
from memkit.errors import BadInput
from memkit.lm.batching import padded
from memkit.lm.hooks import around_each_pass, capture_inputs
from memkit.testing.models import tiny_lm
from memkit.types import Fact

PROMPTS = ["Samuel Butler wrote", "The capital of Peru is", "One"]
TARGETS = [" Erewhon and numbers", " Lima", " words"]
DECODERS = ["gpt2", "llama", "gemma3", "opt"]


@contextlib.contextmanager
def noted(lm, module=None):
    """For each pass: the columns, or "goes on"; ids of the tokens there, if ids went in."""
    seen = []

    def before(args, kwargs):
        lm.ends.note(args, kwargs)
        columns, ids = lm.ends.columns, kwargs.get("input_ids")
        assert (columns is None) == lm.ends.continues
        rows = torch.arange(len(ids))
        seen.append("goes on" if columns is None else ids[rows, columns].tolist())

    with around_each_pass(lm.model if module is None else module, before, lm.ends.over):
        yield seen
    assert lm.ends.columns is None
    assert not lm.ends.continues


def last(lm, prompts=PROMPTS):
    """The last token of each prompt."""
    return [lm.codec.prompt(prompt)[-1] for prompt in prompts]


@pytest.mark.parametrize("family", DECODERS)
def test_scoring_and_training_say_where_the_prompts_end(family):
    lm = tiny_lm(family)
    with noted(lm) as seen:
        lm.logprob(PROMPTS, TARGETS)  # rows in the order of their length
    assert len(seen) == 1
    assert sorted(seen[0]) == sorted(last(lm))
    facts = [Fact("x", f"{{}} {p}", t) for p, t in zip(PROMPTS, TARGETS, strict=True)]
    with noted(lm) as seen:
        losses(lm, [fact_example(lm, fact) for fact in facts])
    assert seen == [last(lm, [fact.text for fact in facts])]


@pytest.mark.parametrize("family", DECODERS)
def test_generating_reads_the_prompts_once(family):
    lm = tiny_lm(family)
    with noted(lm) as seen:
        lm.generate(PROMPTS, 4, stop=())
    assert sorted(seen[0]) == sorted(last(lm))
    assert seen[1:] == ["goes on"] * 3


def left(lm):
    """The prompts as transformers wants them."""
    ids, mask = padded([lm.codec.prompt(prompt) for prompt in PROMPTS], lm.device, left=True)
    return {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0, "max_new_tokens": 4}


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize(
    ("how", "times"),
    [
        ({}, 1),
        ({"do_sample": True}, 1),
        ({"do_sample": True, "num_return_sequences": 2}, 2),
        ({"num_beams": 3}, 3),
        ({"num_beams": 3, "do_sample": True}, 3),
    ],
)
def test_generate_of_transformers(family, how, times):
    lm = tiny_lm(family)
    with noted(lm) as seen, torch.random.fork_rng(devices=[]):
        lm.model.generate(**left(lm), **how)
    assert seen[0] == [token for token in last(lm) for _ in range(times)]
    assert len(seen) > 1
    assert set(seen[1:]) == {"goes on"}


@pytest.mark.parametrize("how", [{}, {"num_beams": 2}])
def test_without_a_cache_the_ends_have_to_be_said(how):
    lm = tiny_lm("gpt2")
    arguments = {**left(lm), **how, "use_cache": False}
    expected = [token for token in last(lm) for _ in range(how.get("num_beams", 1))]
    with noted(lm) as seen:
        lm.model.generate(**arguments)
    assert seen[0] == expected
    assert seen[1] != expected  # the newest token, as nobody says where the prompt ended
    column = arguments["input_ids"].shape[1] - 1
    with noted(lm) as seen, lm.ends.saying([column] * len(PROMPTS)):
        lm.model.generate(**arguments)
    assert seen == [expected] * 4


def test_ends_of_another_batch_are_refused():
    lm = tiny_lm("gpt2")
    with noted(lm), lm.ends.saying([1, 2]), pytest.raises(BadInput, match=r"of 2 rows .* has 3"):
        lm.model(input_ids=torch.ones(3, 4, dtype=torch.long))


@pytest.mark.parametrize("left_padded", [True, False])
def test_a_bare_call_takes_the_last_real_token(left_padded):
    lm = tiny_lm("gpt2")
    rows = [lm.codec.prompt(prompt) for prompt in PROMPTS]
    ids, mask = padded(rows, lm.device, left=left_padded)
    assert len({len(row) for row in rows}) > 1
    with noted(lm) as seen:
        lm.model(input_ids=ids, attention_mask=mask)
        lm.model(input_ids=ids[:1])
        output = lm.model(input_ids=ids, attention_mask=mask, use_cache=True)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        lm.model(input_ids=ids[:, :1], attention_mask=mask, past_key_values=output.past_key_values)
    assert seen == [last(lm), [int(ids[0, -1])], last(lm), "goes on"]


def test_embeddings_in_place_of_ids():
    lm = tiny_lm("gpt2")
    ids, mask = padded([lm.codec.prompt(prompt) for prompt in PROMPTS], lm.device, left=True)
    embedded = lm.model.get_input_embeddings()(ids)
    lm.ends.note((), {"input_ids": None, "inputs_embeds": embedded, "attention_mask": mask})
    assert lm.ends.columns.tolist() == [ids.shape[1] - 1] * 3
    lm.ends.over()


def test_encoders_and_classifiers_end_with_their_closing_token():
    lm = tiny_lm("t5")
    encoder = lm.model.get_encoder()
    end = [lm.tokenizer.eos_token_id] * 3
    with noted(lm, encoder) as seen:
        lm.logprob(PROMPTS, TARGETS)
        lm.generate(PROMPTS, 4, stop=())
        lm.model.generate(**{**left(lm), **right(lm)})
        losses(lm, [fact_example(lm, Fact("x", "{} wrote", "Lima"))])
    assert seen == [end, end, end, end[:1]]
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    with noted(lm) as seen:
        lm.logprob(PROMPTS, ["LABEL_0", "LABEL_1", "LABEL_1"])
    assert seen == [[lm.tokenizer.sep_token_id] * 3]


def right(lm):
    """Right-padded, as encoders are given them."""
    ids, mask = padded([lm.codec.prompt(prompt) for prompt in PROMPTS], lm.device, left=False)
    return {"input_ids": ids, "attention_mask": mask}


def test_rows_that_go_on_are_those_of_the_newest_prompts():
    lm = tiny_lm("gpt2")
    assert lm.ends.rows is None
    lm.ends.keep(torch.tensor([0, 2, 3]))
    lm.ends.keep(torch.tensor([2, 0]))
    assert lm.ends.rows.tolist() == [3, 0]
    with noted(lm):
        lm.generate(PROMPTS, 1)
    assert lm.ends.rows is None


def test_a_pass_that_is_left_early_is_over():
    lm = tiny_lm("gpt2")
    site = lm.layout.site(lm.model, 1)
    with noted(lm) as seen, capture_inputs([site.module]) as inputs:
        lm.model(input_ids=torch.tensor([[1, 2, 3]]))
    assert seen == [[3]]
    assert inputs[0].shape[1] == 3


def test_threads_run_the_model_at_once():
    lm = tiny_lm("gpt2")
    fact = Fact("Peru", "The capital of {} is", "Lima")
    jobs = [[fact.text] * (n % 3 + 1) + PROMPTS[: n % 4] for n in range(16)]

    def asked(prompts):
        scores = lm.logprob(prompts, [" Lima and words"] * len(prompts))
        return lm.generate(prompts, 4, stop=()), [round(score.total, 3) for score in scores]

    with GRACE(layer=1, steps=8, replacement="all").apply(lm, [fact]):
        expected = [asked(prompts) for prompts in jobs]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(6) as pool:
                assert list(pool.map(asked, jobs)) == expected
        finally:
            sys.setswitchinterval(interval)


def test_a_copy_of_a_model_begins_anew():
    lm = tiny_lm("gpt2")
    with lm.ends.saying([3]):
        again = copy.deepcopy(lm)
    assert again.generate(PROMPTS, 3) == lm.generate(PROMPTS, 3)
    assert again.fingerprint() == lm.fingerprint()
    assert again.logprob(PROMPTS, TARGETS) == lm.logprob(PROMPTS, TARGETS)
