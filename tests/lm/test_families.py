"""What holds for every family: orientation, padding, probabilities, greedy decoding."""

from __future__ import annotations

import pytest
import torch
import transformers

from memkit.errors import BadInput
from memkit.lm.generation import greedy
from memkit.lm.hooks import capture
from memkit.lm.layouts import LAYOUTS, find_window
from memkit.lm.model import LM
from memkit.testing.models import TINY, tiny_lm

DECODERS = sorted(name for name in TINY if name not in ("bert", "t5"))
GENERATORS = [*DECODERS, "t5"]
HEADS = [(name, head) for name, layout in LAYOUTS.items() for head in layout.heads]
# lengths differ, and most are longer than the sliding windows of 8
PROMPTS = [
    "Who wrote Erewhon?",
    "One",
    "The capital of France is Paris, and the capital of Peru is",
    "Question: Who wrote Erewhon? Answer:",
    "words and numbers, numbers and words: Samuel",
]
TARGETS = [" Samuel Butler", " two, three", " Lima.", " Paris", " Butler wrote"]
CLOSE = 2e-5


@pytest.fixture(scope="module")
def lm_of():
    made = {}

    def get(name: str) -> LM:
        if name not in made:
            made[name] = tiny_lm(name)
        return made[name]

    return get


def by_hand(lm: LM, prompt: str, target: str) -> list[float]:
    """log p of the target's tokens, one forward pass without padding, the head at all positions."""
    goal = list(lm.logprob([prompt], [target])[0].tokens)
    ids = lm.tokenizer(prompt).input_ids
    with torch.no_grad():
        if lm.kind == "decoder":
            logits = lm.model(input_ids=torch.tensor([ids + goal])).logits[0, len(ids) - 1 : -1]
        else:
            start = [lm.model.config.decoder_start_token_id, *goal[:-1]]
            logits = lm.model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([start])
            ).logits[0]
    return torch.log_softmax(logits, -1)[range(len(goal)), goal].tolist()


def test_every_layout_has_a_tiny_model():
    assert set(TINY) == set(LAYOUTS)


@pytest.mark.parametrize(("name", "head"), HEADS)
@pytest.mark.parametrize("projection", ["up", "down", "attention"])
def test_a_site_is_the_map_from_its_input_to_its_output(name, head, projection):
    lm = tiny_lm(name, head=head)
    for stack in lm.layout.stacks:
        for layer in range(len(lm.layout.layers(lm.model, stack))):
            site = lm.layout.site(lm.model, layer, projection, stack)
            with capture(site.module, "input") as keys, capture(site.module) as values:
                run(lm, PROMPTS[0])
            assert lm.model.get_submodule(site.name) is site.module
            rows, columns = site.weight.shape
            # a transposed weight would not fit
            assert projection == "attention" or rows != columns
            mapped = keys[0] @ site.weight.T + (0 if site.bias is None else site.bias)
            torch.testing.assert_close(mapped, values[0], rtol=1e-5, atol=1e-5)


def test_the_up_projection_of_a_gated_t5_is_its_linear_half():
    lm = tiny_lm("t5", feed_forward_proj="gated-gelu")  # as T5 1.1 and Flan-T5
    for stack, place in (("encoder", 1), ("decoder", 2)):
        site = lm.layout.site(lm.model, 2, "up", stack)
        assert site.name == f"{stack}.block.2.layer.{place}.DenseReluDense.wi_1"
        assert site.weight.shape == (40, 32)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_writing_to_a_site_changes_the_model(name):
    lm = tiny_lm(name)
    site, likely = lm.layout.site(lm.model, 1), score(lm)
    assert site.weight.data_ptr() == site.parameter.data_ptr()
    site.weight[0] *= -3  # one row: where a norm follows, scaling them all changes nothing
    assert score(lm) != likely


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_captures_hidden_states_of_a_layer_for_all_rows(name, lm_of):
    lm = lm_of(name)
    layer = lm.layout.layers(lm.model)[1]
    with capture(layer) as states, capture(layer, "input") as inputs:
        run(lm, PROMPTS[0])
    assert states[0].shape == inputs[0].shape == (1, lm.count_tokens(PROMPTS[0]), 32)
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", GENERATORS)
def test_logprob_is_the_log_softmax_of_one_plain_pass(name, lm_of):
    lm = lm_of(name)
    results = lm.logprob(PROMPTS, TARGETS)
    assert len({round(result.total, 3) for result in results}) == len(PROMPTS)
    for prompt, target, result in zip(PROMPTS, TARGETS, results, strict=True):
        assert result.per_token == pytest.approx(by_hand(lm, prompt, target), abs=CLOSE)
        assert result.total == pytest.approx(sum(result.per_token))
        assert lm.tokenizer.decode(result.tokens).strip() == target.strip()


@pytest.mark.parametrize(("name", "head"), HEADS)
@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_scores_as_one_by_one(name, head, batch_size):
    lm = tiny_lm(name, head=head)
    targets = ["LABEL_1"] * len(PROMPTS) if lm.kind == "classifier" else TARGETS
    together = lm.logprob(PROMPTS, targets, batch_size=batch_size)
    for prompt, target, result in zip(PROMPTS, targets, together, strict=True):
        (alone,) = lm.logprob([prompt], [target])
        assert result.per_token == pytest.approx(alone.per_token, abs=CLOSE)
        assert result.tokens == alone.tokens


@pytest.mark.parametrize("name", GENERATORS)
def test_a_batch_completes_as_one_by_one(name, lm_of):
    lm = lm_of(name)
    together = lm.complete(PROMPTS, max_new_tokens=12)
    assert len({done.tokens for done in together}) > 1
    for prompt, done in zip(PROMPTS, together, strict=True):
        (alone,) = lm.complete([prompt], max_new_tokens=12)
        assert (done.text, done.tokens, done.prompt_tokens) == (
            alone.text,
            alone.tokens,
            alone.prompt_tokens,
        )
        assert done.logprob == pytest.approx(alone.logprob, abs=12 * CLOSE)


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_that_go_on_are_not_changed_by_those_that_end(name, lm_of):
    lm = lm_of(name)
    rows = [lm.tokenizer(prompt).input_ids for prompt in PROMPTS]
    free = greedy(lm.model, rows, 12, lambda states: [False] * len(states), lm.ends.keep)
    assert len({tuple(row.tokens[3:]) for row in free}) > 1
    passes = []

    def ended(states):
        """After three tokens all rows end but the second and the last."""
        passes.append(len(states))
        return [len(passes) == 3 and i not in (1, 4) for i in range(len(states))]

    with capture(lm.layout.layers(lm.model, "decoder")[0]) as states:
        made = greedy(lm.model, rows, 12, ended, lm.ends.keep)
    assert passes == [5] * 3 + [2] * 9
    assert [len(state) for state in states] == passes  # ended rows are not computed
    for i, (row, whole) in enumerate(zip(made, free, strict=True)):
        count = 12 if i in (1, 4) else 3
        assert row.tokens == whole.tokens[:count]
        assert row.logprobs == pytest.approx(whole.logprobs[:count], abs=CLOSE)


@pytest.mark.parametrize("name", GENERATORS)
def test_completes_as_greedy_search_of_transformers(name, lm_of):
    lm = lm_of(name)
    for prompt, done in zip(PROMPTS, lm.complete(PROMPTS, 12, stop=()), strict=True):
        ids = torch.tensor([lm.tokenizer(prompt).input_ids])
        whole = lm.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        )[0].tolist()
        expected = whole[ids.shape[1] :] if lm.kind == "decoder" else whole[1:]
        assert list(done.tokens) == expected


@pytest.mark.parametrize("name", GENERATORS)
def test_logprob_of_a_completion_is_that_of_its_tokens(name, lm_of):
    lm = lm_of(name)
    (done,) = lm.complete([PROMPTS[2]], 6, stop=())
    ids = lm.tokenizer(PROMPTS[2]).input_ids
    total = 0.0
    for i, token in enumerate(done.tokens):
        before = list(done.tokens[:i])
        with torch.no_grad():
            if lm.kind == "decoder":
                logits = lm.model(input_ids=torch.tensor([ids + before])).logits
            else:
                start = [lm.model.config.decoder_start_token_id, *before]
                logits = lm.model(
                    input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([start])
                ).logits
        total += torch.log_softmax(logits[0, -1], -1)[token].item()
    assert done.logprob == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_perplexity_is_that_of_one_plain_pass_for_each_text(name, lm_of):
    lm = lm_of(name)
    losses = []
    for text in PROMPTS:
        ids = torch.tensor(lm.tokenizer(text).input_ids)
        with torch.no_grad():
            logits = lm.model(input_ids=ids[None]).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
    assert lm.perplexity(PROMPTS) == pytest.approx(torch.cat(losses).mean().exp().item(), rel=1e-4)


def test_padding_without_position_ids_would_spoil_gpt2(lm_of):
    """The trap that explicit position ids avoid: without it the tests above prove nothing."""
    lm = lm_of("gpt2")
    ids = lm.tokenizer(PROMPTS[0]).input_ids
    padded, mask = torch.tensor([[0] * 9 + ids]), torch.tensor([[0] * 9 + [1] * len(ids)])
    with torch.no_grad():
        alone = lm.model(input_ids=torch.tensor([ids])).logits[0, -1]
        naive = lm.model(input_ids=padded, attention_mask=mask).logits[0, -1]
    assert (alone - naive).abs().max() > 0.1


def run(lm: LM, text: str) -> None:
    ids = torch.tensor([lm.tokenizer(text).input_ids])
    extra = {"decoder_input_ids": ids} if lm.kind == "encoder-decoder" else {}
    with torch.no_grad():
        lm.model(input_ids=ids, **extra)


def score(lm: LM) -> float:
    return lm.logprob(PROMPTS[:1], TARGETS[:1])[0].total


@pytest.mark.parametrize(
    ("layer", "meant"),
    [
        (
            "transformer.h[2].mlp.c_fc",
            "Did you mean 2 ('transformer.h.2.mlp.c_fc'), projection 'up'",
        ),
        ("transformer.h.1.mlp.c_prj", "Did you mean 1 ('transformer.h.1.mlp.c_proj')"),
        ("h.1.attn.c_proj.weight", "('transformer.h.1.attn.c_proj'), projection 'attention'"),
        ("nothing of the kind", "Choose one of these"),
        (1.0, "Choose one of these"),
        (9, "Choose one of these"),
    ],
)
def test_a_layer_that_does_not_exist_is_named_with_what_was_meant(layer, meant):
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput) as error:
        lm.layout.site(lm.model, layer)
    assert f"layer is {layer!r}; allowed: 0 to 2" in str(error.value)
    assert meant in str(error.value)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "longformer", "mpnet", "bert"])
def test_a_window_is_what_the_positions_hold(family):
    """RoBERTa's kin count positions from the one after the padding token's id."""
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=20,
        attention_window=4,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    window = find_window(config)
    assert window == (20 if family == "bert" else 18)
    with torch.no_grad():
        model(torch.full((1, window), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, window + 1), 5))
