"""The edited model in lm-evaluation-harness, on tasks that are made here."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

import memkit
from memkit import GRACE, Fact, FineTune, Guards
from memkit.errors import BadInput, MissingDependency, UnsupportedModel
from memkit.testing.models import tiny_lm

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and its packages

OPEN = {"guards": Guards(perplexity=math.inf, size=math.inf), "on_guard": "warn"}
PLACES = ("Peru", "France", "Paris")
CHOICES = ("Lima", "numbers", "words and")
FACTS = [Fact(place, "The capital of {} is", "numbers") for place in PLACES]


def asked(*args):
    return SimpleNamespace(args=args)


def evaluated(lm):
    """Accuracy and the answers' log-likelihoods of a multiple-choice task without any file."""
    import datasets
    from lm_eval import evaluate
    from lm_eval.api.task import ConfigurableTask

    rows = [{"place": place, "choices": list(CHOICES), "gold": 1} for place in PLACES]
    task = ConfigurableTask(
        config={
            "task": "capitals",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "The capital of {{place}} is",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc"}],
        }
    )
    found = evaluate(memkit.to_lm_eval(lm), {"capitals": task}, log_samples=True, bootstrap_iters=0)
    samples = sorted(found["samples"]["capitals"], key=lambda sample: sample["doc_id"])
    likely = [[float(answer[0][0]) for answer in sample["resps"]] for sample in samples]
    return found["results"]["capitals"]["acc,none"], likely


@pytest.mark.parametrize(
    "editor",
    [FineTune(layer=1, lr=5e-2, **OPEN), GRACE(layer=1, eps=0.05, steps=30, **OPEN)],
    ids=["FT", "GRACE"],
)
def test_an_edit_changes_the_score_and_the_likelihoods_are_memkits_own(editor):
    lm = tiny_lm("gpt2")
    prompts = [fact.text for fact in FACTS for _ in CHOICES]
    targets = [f" {choice}" for _ in FACTS for choice in CHOICES]
    accuracy, likely = evaluated(lm)
    assert accuracy < 1
    own = [score.total for score in lm.logprob(prompts, targets)]
    assert [x for row in likely for x in row] == pytest.approx(own, abs=1e-4)
    with editor.apply(lm, FACTS):
        edited, likely = evaluated(lm)
        own_edited = [score.total for score in lm.logprob(prompts, targets)]
        assert own_edited != pytest.approx(own, abs=0.1)
        assert [x for row in likely for x in row] == pytest.approx(own_edited, abs=1e-4)
        assert edited == 1.0
    assert evaluated(lm)[0] == accuracy


def test_what_the_harness_does_itself_passes_over_an_adaptor():
    """Why `HFLM` is not enough: it is right about weights and wrong about GRACE."""
    from lm_eval.models.huggingface import HFLM

    lm = tiny_lm("gpt2")
    requests = [asked(fact.text, " numbers and") for fact in FACTS]

    def both():
        theirs = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, max_length=64)
        pairs = (model.loglikelihood(requests) for model in (theirs, memkit.to_lm_eval(lm)))
        return [[total for total, _ in found] for found in pairs]

    theirs, ours = both()
    assert ours == pytest.approx(theirs, abs=1e-4)
    with FineTune(layer=1, lr=5e-2, **OPEN).apply(lm, FACTS):
        theirs, ours = both()
        assert ours == pytest.approx(theirs, abs=1e-4)
    with GRACE(layer=1, eps=0.05, steps=30, **OPEN).apply(lm, FACTS):
        theirs, ours = both()
        assert all(a > b + 1 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_greedy_is_said_of_what_greedy_decoding_takes(family):
    lm = tiny_lm(family)
    prompt, said = (
        "The capital of Peru is",
        lm.codec.texts([[id] for id in range(lm.codec.vocabulary)]),
    )
    found = memkit.to_lm_eval(lm).loglikelihood([asked(prompt, text) for text in said if text])
    (done,) = lm.complete([prompt], 1, ())
    likely = dict(zip(filter(None, said), found, strict=True))
    assert [text for text, (_, greedy) in likely.items() if greedy] == [done.text]
    assert likely[done.text][0] == pytest.approx(done.logprob, abs=1e-4)


def test_spaces_at_the_end_of_a_context_belong_to_what_follows():
    lm = tiny_lm("gpt2")
    pairs = [asked("The capital of Peru is ", "Lima"), asked("The capital of Peru is", " Lima")]
    (one, _), (other, _) = memkit.to_lm_eval(lm).loglikelihood(pairs)
    assert one == other


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_empty_context_is_a_start_token(family):
    lm = tiny_lm(family)
    ((total, _),) = memkit.to_lm_eval(lm).loglikelihood([asked("", "numbers")])
    start = lm.codec.prefix or [lm.tokenizer.eos_token_id]
    (own,) = lm.logprob_ids([start], [lm.codec.target("numbers")])
    assert total == own.total


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_long_context_loses_its_beginning_and_keeps_its_start_token(family):
    lm = tiny_lm(family)
    long = "words, numbers; " * 40 + "The capital of Peru is"
    target = lm.codec.target(" Lima")
    ids = lm.codec.prompt(long)
    assert len(ids) > lm.window
    room = lm.window - len(target) - len(lm.codec.prefix)
    (own,) = lm.logprob_ids([[*lm.codec.prefix, *ids[-room:]]], [target])
    ((total, _),) = memkit.to_lm_eval(lm).loglikelihood([asked(long, " Lima")])
    assert total == own.total


def test_a_rolling_likelihood_is_the_loss_of_the_whole_text():
    import torch

    lm = tiny_lm("llama")
    text = "The capital of France is Paris"
    (found,) = memkit.to_lm_eval(lm).loglikelihood_rolling([asked(text)])
    ids = torch.tensor([lm.codec.prompt(text)])
    with torch.no_grad():
        loss = lm.model(ids, labels=ids).loss
    assert found == pytest.approx(-float(loss) * (ids.shape[1] - 1), rel=1e-4)
    # a text longer than the window: every token once
    long = "words, numbers; " * 60
    (whole,) = memkit.to_lm_eval(lm).loglikelihood_rolling([asked(long)])
    count = len(lm.codec.prompt(long)) - 1
    assert count > 2 * lm.window
    assert -12 * count < whole < found


def test_generates_up_to_the_stop_strings_of_each_request():
    lm = tiny_lm("gpt2")
    contexts = ("The capital of Peru is", "Who wrote Erewhon?")
    whole = lm.generate(contexts, 12, ())
    stop = whole[0][5:7]
    found = memkit.to_lm_eval(lm).generate_until(
        [
            asked(contexts[0], {"until": [stop], "max_gen_toks": 12}),
            asked(contexts[1], {"until": ["\x00never"], "max_gen_toks": 12, "do_sample": False}),
            asked(contexts[1], {"max_gen_toks": 3}),
        ]
    )
    assert found[0] == whole[0][: whole[0].index(stop)]
    assert found[1] == whole[1]
    assert found[2] == lm.generate(contexts[1:], 3, ())[0]
    # a task that does not say how much gets what the window has, its context cut
    assert memkit.to_lm_eval(lm).generate_until([asked("words " * 100, {"until": "\n"})])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, "the task samples"),
        ({"max_gen_toks": 64}, "leaves 0 tokens of the window of 64"),
    ],
)
def test_refuses_generation_that_it_does_not_do(given, message):
    with pytest.raises(BadInput, match=message):
        memkit.to_lm_eval(tiny_lm("gpt2")).generate_until([asked("Peru", given)])


def test_refuses_models_that_do_not_generate_and_targets_beyond_the_window():
    with pytest.raises(UnsupportedModel, match="masked model does not generate"):
        memkit.to_lm_eval(tiny_lm("bert", head="BertForMaskedLM"))
    with pytest.raises(UnsupportedModel, match="no probability to a text as a whole"):
        memkit.to_lm_eval(tiny_lm("t5")).loglikelihood_rolling([asked("text")])
    with pytest.raises(BadInput, match="allowed: 63, the model's window less one"):
        memkit.to_lm_eval(tiny_lm("gpt2")).loglikelihood([asked("a", " words" * 100)])


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.api", None)
    with pytest.raises(MissingDependency, match=r"pip install 'memkit\[lm-eval\]'"):
        memkit.to_lm_eval(tiny_lm("gpt2"))
