"""GRACE beyond the contract: who gets a value, where, and what is left when edits go."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from memkit import GRACE, Fact, Guards
from memkit.lm.batching import padded, positions
from memkit.testing.models import tiny_lm

OPEN = Guards(perplexity=float("inf"))
FACTS = (
    Fact("Samuel Butler", "{} wrote", "Paris"),
    Fact("Peru", "The capital of {} is", "numbers and words"),
    Fact("France", "The capital of {} is", "Lima"),
)
OTHERS = ["One, two, three", "Question: Who wrote Erewhon?", "words"]
PROMPTS = [OTHERS[0], FACTS[1].text, OTHERS[1], FACTS[0].text, OTHERS[2]]
REPLACEMENTS = ["last", "prompt", "all"]
MODELS = [("gpt2", None), ("llama", None), ("t5", None), ("bert", "BertForSequenceClassification")]


def grace(**how):
    return GRACE(**{"eps": 0.3, "steps": 12, "guards": OPEN, **how})


def facts_for(lm):
    if lm.kind != "classifier":
        return FACTS
    return [dataclasses.replace(f, target=f"LABEL_{i % 2}") for i, f in enumerate(FACTS)]


def logits(lm, prompts):
    """All logits of a batch, padded as the kind is given it."""
    rows = [lm.codec.prompt(prompt) for prompt in prompts]
    ids, mask = padded(rows, lm.device, left=lm.kind == "decoder")
    more = {"position_ids": positions(mask)} if lm.kind == "decoder" else {}
    if lm.kind == "encoder-decoder":
        more["decoder_input_ids"] = ids[:, :2]
    with torch.no_grad():
        return lm.model(input_ids=ids, attention_mask=mask, **more).logits, mask


def without(edit, function, *args):
    with edit.paused():
        return function(*args)


# who gets a value


@pytest.mark.parametrize(("family", "head"), MODELS)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_rows_without_a_match_are_bit_equal_and_the_others_are_not(family, head, replacement):
    lm = tiny_lm(family, head=head)
    with grace(replacement=replacement).apply(lm, facts_for(lm)[:2]) as edit:
        edited, _ = logits(lm, PROMPTS)
        base, _ = without(edit, logits, lm, PROMPTS)
        same = [torch.equal(a, b) for a, b in zip(edited, base, strict=True)]
        assert same == [True, False, True, False, True]
        alone, _ = logits(lm, OTHERS)
        assert torch.equal(alone, without(edit, logits, lm, OTHERS)[0])


@pytest.mark.parametrize("family", ["gpt2", "opt", "t5"])
def test_the_very_output_is_given_back_where_no_row_matches(family):
    lm = tiny_lm(family)
    with grace().apply(lm, FACTS[:1]) as edit:
        output = torch.zeros(2, 3, 32)
        lm.ends.columns = torch.tensor([2, 2])
        hidden = torch.full((2, 3, 40), 1e3)
        assert edit.adaptor._replace(hidden, output) is output
        lm.ends.over()
        assert edit.adaptor._replace(hidden, output) is output  # outside of any pass


def by_hand(lm, edit, prompt, tokens, replacement):
    """Logits after a prompt and each of some tokens, from one bare row and a hook of our own."""
    book, site = edit.adaptor.codebook, edit.adaptor.site
    ids = lm.codec.prompt(prompt)
    end = len(ids) - 1

    def hook(_, args, output):
        shape, h = output.shape, args[0].reshape(-1, args[0].shape[-1])
        apart = (book.keys.double() - h[end].double()).norm(dim=1)
        nearest = int(apart.argmin())
        if apart[nearest] > book.radii[nearest]:
            return output
        flat = output.reshape(-1, shape[-1]).clone()
        places = {"last": slice(end, end + 1), "prompt": slice(end + 1), "all": slice(None)}
        flat[places[replacement]] = book.values[nearest]
        return flat.reshape(shape)

    with contextlib.ExitStack() as stack:
        stack.enter_context(edit.paused())
        handle = site.module.register_forward_hook(hook)
        stack.callback(handle.remove)
        with torch.no_grad():
            whole = lm.model(input_ids=torch.tensor([[*ids, *tokens]])).logits[0]
    return whole[end:]


@pytest.mark.parametrize(
    ("family", "replacement"),
    [
        *(("gpt2", replacement) for replacement in REPLACEMENTS),
        ("llama", "all"),
        ("opt", "prompt"),
        ("gptj", "last"),
        ("gemma2", "last"),
        ("phi3", "all"),
    ],
)
def test_generation_and_scores_beside_a_hook_by_hand(family, replacement):
    """Without cache, padding and batch: the prompt's last token decides, at each token again."""
    lm = tiny_lm(family)
    with grace(replacement=replacement).apply(lm, FACTS[:2]) as edit:
        done = lm.complete(PROMPTS, 8, stop=())
        base = without(edit, lm.complete, PROMPTS, 8, ())
        assert [a.tokens != b.tokens for a, b in zip(done, base, strict=True)][1::2] == [True] * 2
        for prompt, row in zip(PROMPTS, done, strict=True):
            whole = by_hand(lm, edit, prompt, row.tokens[:-1], replacement)
            assert whole.argmax(dim=-1).tolist() == list(row.tokens)
        targets = [" Lima and numbers", " Paris"]
        for prompt in PROMPTS:
            for score in lm.logprob([prompt, prompt], targets):
                whole = by_hand(lm, edit, prompt, score.tokens[:-1], replacement)
                expected = whole.log_softmax(-1)[range(len(score.tokens)), score.tokens]
                assert score.per_token == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_a_batch_is_one_by_one_also_when_rows_end_early(family, replacement):
    lm = tiny_lm(family)
    prompts = PROMPTS * 2
    with grace(replacement=replacement).apply(lm, FACTS[:2]):
        for stop in [(), ("a", "e", "o", "n")]:
            whole = lm.complete(prompts, 10, stop)
            assert [row.tokens for row in whole] == [
                lm.complete([prompt], 10, stop)[0].tokens for prompt in prompts
            ]
        assert len({len(row.tokens) for row in whole}) > 2
        scores = lm.logprob(prompts, ["numbers and words"] * 10)
        for prompt, score in zip(prompts, scores, strict=True):
            (alone,) = lm.logprob([prompt], ["numbers and words"])
            assert score.per_token == pytest.approx(alone.per_token, abs=1e-5)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": False},
        {"do_sample": True},
        {"do_sample": True, "num_return_sequences": 3},
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 3},
    ],
)
def test_generate_of_transformers_with_and_without_a_cache(replacement, how):
    """Left padding, beams and sampling; without a cache the prompts' ends are said."""
    lm = tiny_lm("gpt2")
    ids, mask = padded([lm.codec.prompt(p) for p in PROMPTS], lm.device, left=True)

    def run(cache):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return lm.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=8,
                pad_token_id=0,
                use_cache=cache,
                **how,
            ).tolist()

    with grace(replacement=replacement).apply(lm, FACTS[:2]) as edit:
        cached = run(True)
        assert cached != without(edit, run, True)
        with lm.ends.saying([ids.shape[1] - 1] * len(ids)):
            assert run(False) == cached
        if how == {"do_sample": False}:
            own = [list(row.tokens) for row in lm.complete(PROMPTS, 8, stop=())]
            assert [
                row[ids.shape[1] :][: len(o)] for row, o in zip(cached, own, strict=True)
            ] == own


def test_decode_steps_ask_nothing():
    lm = tiny_lm("gpt2")
    with grace().apply(lm, FACTS[:1]) as edit:
        asked, true = [], edit.adaptor.codebook.look_up
        edit.adaptor.codebook.look_up = lambda q: asked.append(len(q)) or true(q)
        lm.generate(PROMPTS, 6, stop=())
        assert asked == [5]


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_both_stacks_of_an_encoder_decoder(stack, replacement):
    lm = tiny_lm("t5")
    editor = grace(stack=stack, replacement=replacement, steps=60)
    with editor.apply(lm, FACTS[:2]) as edit:
        assert edit.report.parameters == (
            f"{stack}.block.1.layer.{1 + (stack == 'decoder')}.DenseReluDense.wo",
        )
        assert all(row.after > row.before for row in edit.report.facts)
        texts = lm.generate(PROMPTS, 6, stop=())
        base = without(edit, lm.generate, PROMPTS, 6, ())
        assert [a == b for a, b in zip(texts, base, strict=True)][::2] == [True] * 3
        assert texts[3] != base[3]
        ids, mask = padded([lm.codec.prompt(p) for p in PROMPTS], lm.device, left=False)
        made = lm.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0
        )
        assert lm.codec.texts(made[:, 1:].tolist()) == texts


def test_a_classifier_is_asked_at_a_real_token():
    """Not at padding: a longer row in the batch changes nothing."""
    lm = tiny_lm("bert", head="BertForSequenceClassification")
    facts = facts_for(lm)
    long = "One, two, three " * 3
    with grace(steps=30).apply(lm, facts) as edit:
        assert all(row.learnt for row in edit.report.facts)
        assert not all(row.known for row in edit.report.facts)
        for fact in facts:
            for batch in [[fact.text], [fact.text, long], [long, fact.text]]:
                scores = lm.logprob(batch, [fact.target] * len(batch))
                assert scores[batch.index(fact.text)].argmax == (True,)


def test_modes_and_random_numbers_are_nothing_to_it():
    lm = tiny_lm("gpt2")
    with grace().apply(lm, FACTS[:2]) as edit:
        before, state = logits(lm, PROMPTS)[0], torch.random.get_rng_state()
        keys = edit.adaptor.codebook.keys.clone()
        lm.model.train()
        for module in lm.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert torch.equal(logits(lm, PROMPTS)[0], before)
        lm.model.eval()
        assert torch.equal(logits(lm, PROMPTS)[0], before)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(edit.adaptor.codebook.keys, keys)
