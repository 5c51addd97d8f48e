"""LM: loading, saving, stopping, the window, and what it says of bad input."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from memkit.errors import BadInput, UnsupportedModel
from memkit.lm.gaps import gap_logits
from memkit.lm.layouts import LAYOUTS
from memkit.lm.model import LM
from memkit.testing.models import tiny_lm, tiny_tokenizer

PROMPTS = ["Who wrote Erewhon?", "One", "Question: Who"]


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm("gpt2")


@pytest.fixture(scope="module")
def bert() -> LM:
    return tiny_lm("bert")


@pytest.fixture(scope="module")
def classifier() -> LM:
    return tiny_lm("bert", head="BertForSequenceClassification")


@pytest.fixture
def folder(lm: LM, tmp_path: Path) -> Path:
    lm.save(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# generation


def test_text_ends_before_the_first_stop_and_tokens_with_the_one_that_completes_it(lm: LM):
    (free,) = lm.complete(PROMPTS[:1], 10, stop=())
    assert len(free.tokens) == 10
    stop = free.text[3:5]
    at = free.text.find(stop)
    (done,) = lm.complete(PROMPTS[:1], 10, stop=("not in it", stop))
    assert done.text == free.text[:at]
    assert done.tokens == free.tokens[: len(done.tokens)]
    assert stop in lm.tokenizer.decode(done.tokens)
    assert stop not in lm.tokenizer.decode(done.tokens[:-1])
    assert lm.complete(PROMPTS[:1], 10, stop)[0] == done  # one string is a stop, not its letters
    assert lm.generate(PROMPTS[:1], 10, stop) == [done.text]


def test_a_row_that_ended_says_nothing_more_while_others_go_on(lm: LM):
    free = lm.complete(PROMPTS, 10, stop=())
    assert ["hre" in done.text for done in free] == [True, True, False]
    done = lm.complete(PROMPTS, 10, "hre")
    assert [len(row.tokens) < 10 for row in done] == [True, True, False]
    assert done[2].text == free[2].text
    for prompt, row in zip(PROMPTS, done, strict=True):
        (alone,) = lm.complete([prompt], 10, "hre")
        assert (row.text, row.tokens) == (alone.text, alone.tokens)
        assert row.logprob == pytest.approx(alone.logprob, abs=1e-4)


@pytest.mark.parametrize("as_list", [False, True])
def test_the_end_token_ends_a_text_and_is_counted(as_list: bool):
    lm = tiny_lm("gpt2")
    (free,) = lm.complete(PROMPTS[:1], 10, stop=())
    end = free.tokens[6]
    assert end not in free.tokens[:6]
    lm.model.generation_config.eos_token_id = [400, end] if as_list else end
    (done,) = lm.complete(PROMPTS[:1], 10, stop=())
    assert done.tokens == free.tokens[:7]


def test_checkpoint_settings_do_not_bend_greedy_search():
    lm = tiny_lm("gpt2")
    (plain,) = lm.complete(PROMPTS[:1], 10, stop=())
    assert len(set(plain.tokens)) < 10  # a penalty on repetition would show
    lm.model.generation_config.repetition_penalty = 5.0
    assert lm.complete(PROMPTS[:1], 10, stop=()) == [plain]


def test_order_is_restored_and_batches_of_any_size_agree(lm: LM):
    whole = lm.generate(PROMPTS, 5)
    assert [lm.generate(PROMPTS, 5, batch_size=size) for size in (1, 2, 3)] == [whole] * 3
    assert lm.generate(PROMPTS[::-1], 5) == whole[::-1]
    assert lm.generate([]) == []


def test_neither_random_state_nor_tokenizer_nor_model_is_touched(lm: LM):
    weights = {name: value.clone() for name, value in lm.model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    lm.complete(PROMPTS, 3)
    lm.logprob(PROMPTS, [" Paris"] * 3)
    lm.perplexity(PROMPTS)
    tiny_lm("llama")
    assert torch.equal(state, torch.get_rng_state())
    assert lm.tokenizer.pad_token is None
    assert lm.tokenizer.padding_side == tiny_tokenizer().padding_side
    assert lm.tokenizer.backend_tokenizer.to_str() == tiny_tokenizer().backend_tokenizer.to_str()
    assert all(torch.equal(value, weights[name]) for name, value in lm.model.state_dict().items())


def test_a_model_in_training_mode_is_put_into_evaluation_mode(lm: LM):
    lm.model.train()
    again = LM(lm.model, lm.tokenizer)
    assert not again.model.training
    assert again.complete(PROMPTS) == again.complete(PROMPTS)
    assert again.edits == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda lm: lm.complete(PROMPTS),
        lambda lm: lm.draft(PROMPTS, lambda places, firsts: [True] * len(firsts)),
        lambda lm: lm.logprob(PROMPTS, [" Paris"] * 3),
        lambda lm: lm.options(PROMPTS, [[" Paris", " Lima"]] * 3),
        lambda lm: lm.perplexity(PROMPTS),
        lambda lm: [g.tolist() for _, g in gap_logits(lm, [("One", "")], [1, 2])],
    ],
)
def test_a_model_left_in_training_mode_is_asked_in_evaluation_mode(ask):
    lm = tiny_lm("gpt2")
    said = ask(lm)
    lm.model.activation_checkpointing_enable()
    lm.model.train()
    lm.model.transformer.ln_f.eval()
    state = torch.random.get_rng_state()
    with torch.no_grad():  # first: dropout would have changed it
        plain = lm.model(torch.tensor([[1, 2, 3]])).logits
        assert not torch.equal(lm.model(torch.tensor([[1, 2, 3]])).logits, plain)
    torch.random.set_rng_state(state)
    assert ask(lm) == said
    assert torch.equal(torch.random.get_rng_state(), state)
    assert lm.model.training
    assert lm.model.transformer.h[0].training
    assert not lm.model.transformer.ln_f.training


# what is kept


def test_of_a_slot_the_newest_is_kept_and_all_else_as_long_as_the_weights():
    lm, made = tiny_lm("gpt2"), []

    def ask(key, slot=None):
        return lm.keep(key, lambda: made.append(key) or f"{key} {len(made)}", slot)

    assert [ask("a"), ask("b"), ask("a")] == ["a 1", "b 2", "a 1"]
    assert [ask("a", "s"), ask("a", "s"), ask("b", "s"), ask("a", "s")] == [
        "a 3",
        "a 3",
        "b 4",
        "a 5",
    ]
    assert [ask("a"), ask("c", "t"), ask("a", "s")] == ["a 1", "c 6", "a 5"]
    with torch.no_grad():
        lm.model.transformer.wte.weight[0] += 1
    assert [ask("a"), ask("a", "s")] == ["a 7", "a 8"]


# probabilities


def test_pseudo_log_likelihood_masks_one_token_at_a_time(bert: LM):
    prompt, target = "The capital of Peru is", " Lima, words"
    (result,) = bert.logprob([prompt], [target], batch_size=2)
    tokenizer, goal = bert.tokenizer, list(result.tokens)
    assert len(goal) > 2
    row = [*tokenizer(prompt).input_ids[:-1], *goal, tokenizer.sep_token_id]
    expected = []
    for i, token in enumerate(goal):
        masked = list(row)
        masked[len(row) - 1 - len(goal) + i] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = bert.model(input_ids=torch.tensor([masked])).logits[0]
        place = masked.index(tokenizer.mask_token_id)
        expected.append(torch.log_softmax(logits[place], -1)[token].item())
    assert result.per_token == pytest.approx(expected, abs=1e-5)


def test_a_classifier_scores_its_labels(classifier: LM):
    labels = ["LABEL_0", "LABEL_1"]
    results = classifier.logprob(["One, two"] * 2, labels)
    ids = torch.tensor([classifier.tokenizer("One, two").input_ids])
    with torch.no_grad():
        logits = classifier.model(input_ids=ids).logits[0]
    assert [r.total for r in results] == pytest.approx(torch.log_softmax(logits, -1).tolist())
    assert [r.tokens for r in results] == [(0,), (1,)]
    assert sum(math.exp(r.total) for r in results) == pytest.approx(1)
    with pytest.raises(BadInput, match=r"'Paris' is no label.*'LABEL_0', 'LABEL_1'"):
        classifier.logprob(["One"], ["Paris"])


def test_perplexity_of_a_long_text_moves_on_by_half_a_window(lm: LM):
    text = "One, two, three: numbers and words, words and numbers. " * 12
    ids = lm.tokenizer(text).input_ids
    assert len(ids) > 2 * lm.window

    def losses(start: int, end: int, given: int) -> list[float]:
        part = torch.tensor(ids[start:end])
        with torch.no_grad():
            logits = lm.model(input_ids=part[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], part[1:], reduction="none")
        return loss[given - 1 :].tolist()

    expected, done = losses(0, 64, 1), 64
    while done < len(ids):
        expected += losses(done - 32, done + 32, 32)
        done += 32
    assert len(expected) == len(ids) - 1
    assert lm.perplexity([text]) == pytest.approx(math.exp(sum(expected) / len(expected)), rel=1e-4)
    assert lm.perplexity([text, PROMPTS[0]]) != pytest.approx(lm.perplexity([text]), rel=1e-4)


# loading and saving


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bert"])
def test_what_is_saved_is_what_is_loaded(name: str, tmp_path: Path):
    lm = tiny_lm(name)
    lm.save(tmp_path / "model")
    again = LM.load(tmp_path / "model", device="cpu")
    assert (again.kind, again.window, repr(again)) == (lm.kind, lm.window, repr(lm))
    assert again.logprob(PROMPTS, [" Paris"] * 3) == lm.logprob(PROMPTS, [" Paris"] * 3)
    files = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert files <= {".json", ".safetensors", ".txt"}
    with pytest.raises(BadInput, match="exists"):
        lm.save(tmp_path / "model")


def test_loads_a_classifier_as_one(classifier: LM, tmp_path: Path):
    classifier.save(tmp_path / "model")
    assert LM.load(str(tmp_path / "model")).kind == "classifier"


@pytest.mark.parametrize(
    ("stored", "asked", "computed"),
    [
        (torch.float32, "auto", torch.float32),
        (torch.float16, "auto", torch.float32),  # float16 is computed in float32 on a CPU
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float16, "float16", torch.float16),
        (torch.float32, torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtype(stored, asked, computed, tmp_path: Path):
    lm = tiny_lm("gpt2")
    lm.model.to(stored)
    lm.save(tmp_path / "model")
    assert LM.load(tmp_path / "model", device="cpu", dtype=asked).model.dtype == computed


def test_device_is_where_the_model_is(folder: Path):
    lm = LM.load(folder, device="cpu")
    assert lm.device == torch.device("cpu")
    allowed = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.backends.mps.is_available():
        assert LM.load(folder).device.type == allowed


def test_loading_keeps_the_library_as_it_was_and_says_nothing(folder: Path, capfd):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    LM.load(folder).save(folder.parent / "again")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


# bad input


def test_a_prompt_longer_than_the_window_is_refused_before_anything_is_computed(lm: LM):
    long = "words " * 70
    assert lm.count_tokens(long) > lm.window == 64
    with pytest.raises(BadInput, match=r"prompt 1 .* tokens and 16 are to.*64 together"):
        lm.complete(["One", long])
    with pytest.raises(BadInput, match="64 together"):
        lm.logprob(["One"], [long])
    edge = "a" * 60
    count = lm.count_tokens(edge)
    assert len(lm.complete([edge], lm.window - count, stop=())[0].tokens) == lm.window - count
    with pytest.raises(BadInput, match="64 together"):
        lm.complete([edge], lm.window - count + 1)


def test_an_encoder_has_the_window_to_itself():
    t5 = tiny_lm("t5")
    prompt = "a" * (t5.window - 1)
    assert t5.count_tokens(prompt) == t5.window
    assert len(t5.complete([prompt], 70, stop=())[0].tokens) <= 70
    with pytest.raises(BadInput, match="64 together"):
        t5.complete([prompt + "a"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda lm: lm.generate("One"), "prompts is 'One'; allowed: a list.*brackets"),
        (lambda lm: lm.logprob(["One"], " two"), "targets is ' two'"),
        (lambda lm: lm.perplexity("One"), "texts is 'One'"),
        (lambda lm: lm.generate(None), "prompts is None; allowed: a list of strings"),
        (lambda lm: lm.generate(["One", None]), r"prompts\[1\] is None; allowed: a string"),
        (lambda lm: lm.generate([""]), "prompt '' has no token"),
        (lambda lm: lm.logprob(None, [" two"]), "prompts is None"),
        (lambda lm: lm.generate(["One"], 0), "max_new_tokens is 0; allowed: 1 or more"),
        (lambda lm: lm.generate(["One"], batch_size=0), "batch_size is 0; allowed: 1"),
        (lambda lm: lm.generate(["One"], 2.5), "max_new_tokens is 2.5; allowed: an integer"),
        (lambda lm: lm.logprob(["One"], ["x"], True), "batch_size is True; allowed: an integer"),
        (lambda lm: lm.generate(["One"], stop=["", "x"]), "stop is .*not empty"),
        (lambda lm: lm.logprob(["One"], []), "1 prompts and 0 targets"),
        (lambda lm: lm.logprob(["One"], [""]), "target '' has no token"),
        (lambda lm: lm.perplexity(["\n"]), "no token to predict"),
        (lambda lm: lm.perplexity([]), "0 texts"),
        (lambda lm: lm.layout.site(lm.model, 3), "layer is 3; allowed: 0 to 2"),
        (lambda lm: lm.layout.site(lm.model, -1), "layer is -1"),
        (lambda lm: lm.layout.site(lm.model, 0, "sideways"), "projection is 'sideways'"),
        (lambda lm: lm.layout.layers(lm.model, "encoder"), "allowed: 'decoder'"),
        (lambda lm: LM.load("/no/such/folder"), "'/no/such/folder' does not exist; allowed"),
        (lambda lm: LM.load(Path("no-such")), "'no-such' does not exist"),
        (lambda lm: LM.load(__file__), "is a file"),
        (lambda lm: LM.load("no-such/model"), "no-such/model.*no config.*Hub.*network"),
        (lambda lm: LM.load("x", device="abacus"), "device is 'abacus'.*'auto', 'cpu'"),
        (lambda lm: LM.load("x", dtype="int8"), "dtype is 'int8'; allowed: 'auto'"),
        (lambda lm: LM.load("x", dtype="wide"), "dtype is 'wide'"),
        (lambda lm: tiny_lm("mamba"), "no tiny 'mamba'; allowed: bert"),
        (lambda lm: tiny_tokenizer("odd"), "style is 'odd'; allowed: start"),
    ],
)
def test_bad_input_is_named(lm: LM, call, says: str):
    with pytest.raises(BadInput, match=says):
        call(lm)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda bert: bert.complete(["One"]), "masked model does not generate.*logprob"),
        (lambda bert: bert.perplexity(["One"]), "masked model.*perplexity.*logprob"),
    ],
)
def test_what_a_kind_cannot_do(bert: LM, call, says: str):
    with pytest.raises(UnsupportedModel, match=says):
        call(bert)


def test_a_folder_without_tokenizer(folder: Path):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(BadInput, match="tokenizer"):
        LM.load(folder)


def test_a_folder_without_weights_or_with_damaged_ones(folder: Path):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"weights in safetensors.*missing or damaged"):
        LM.load(folder)
    weights.unlink()
    with pytest.raises(BadInput, match="weights in safetensors"):
        LM.load(folder)
    torch.save({}, folder / "pytorch_model.bin")  # pickle is not read
    with pytest.raises(BadInput, match="weights in safetensors"):
        LM.load(folder)


def test_a_checkpoint_that_lacks_a_weight(folder: Path):
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["transformer.h.1.mlp.c_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks 1 weights of a GPT2LMHeadModel.*h\.1\.mlp\.c_proj"):
        LM.load(folder)


def test_a_checkpoint_of_the_bare_model_with_a_tied_head_loads(lm: LM, folder: Path):
    """The Hub's gpt2 is stored like this."""
    shutil.rmtree(folder)
    lm.model.transformer.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    rewrite(folder, architectures=["GPT2LMHeadModel"])
    again = LM.load(folder, device="cpu")
    assert again.generate(PROMPTS) == lm.generate(PROMPTS)
    rewrite(folder, architectures=None)  # the family's first head
    assert LM.load(folder, device="cpu").generate(PROMPTS) == lm.generate(PROMPTS)


def test_a_config_without_a_family_and_unknown_families_and_heads(folder: Path):
    rewrite(folder, architectures=["GPT2ForSequenceClassification"])
    with pytest.raises(UnsupportedModel, match=r"GPT2ForSequenceClassification.*GPT2LMHeadModel"):
        LM.load(folder)
    rewrite(folder, model_type="mamba")
    with pytest.raises(UnsupportedModel) as error:
        LM.load(folder)
    assert ", ".join(sorted(LAYOUTS)) in str(error.value)
    (folder / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="model_type"):
        LM.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="no config"):
        LM.load(folder)


def test_a_masked_model_needs_a_mask_token(bert: LM):
    with pytest.raises(BadInput, match="BertForMaskedLM has no mask token"):
        LM(bert.model, tiny_tokenizer())


def test_counts_special_tokens_even_of_nothing(lm: LM, bert: LM):
    assert (lm.count_tokens(""), bert.count_tokens("")) == (0, 2)
    assert lm.complete(["One"])[0].prompt_tokens == lm.count_tokens("One")


def test_a_tokenizer_of_another_model(lm: LM):
    foreign = tiny_tokenizer("start")
    foreign.add_tokens([f"extra{i}" for i in range(5)])
    with pytest.raises(BadInput, match=r"extra4.*0 to 343, the model's vocabulary"):
        LM(lm.model, foreign).generate(["extra4"])
