"""Causal tracing: against one cell at a time, at its two ends, and what it says of itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import memkit
from memkit.editors import locating, tracing
from memkit.editors.locating import Traced, locate
from memkit.editors.tokens import row, target_ids, target_text
from memkit.editors.tracing import KINDS, POSITIONS, Runs, deviation, draw
from memkit.errors import BadInput, UnsupportedModel
from memkit.testing.models import TINY, tiny_lm
from memkit.types import Fact

DECODERS = sorted(name for name in TINY if name not in ("bert", "t5"))
SUBJECTS = ["Samuel Butler", "Erewhon", "a", "France and Peru", "numbers, words", "Peru", "Who"]
PROMPTS = [
    "The book that {} wrote is ",
    "{} wrote and ",
    "{}: ",  # few tokens behind the subject
    "We say: {}",  # none
    "Lima, {} or two ",
    "Question: Who is {}, one or two? Answer: ",
    "Paris and words, {}",
]
# what a family calls its attention and its MLP, as modules
PARTS = {
    "gpt2": {"attention": "attn", "mlp": "mlp"},
    "llama": {"attention": "self_attn", "mlp": "mlp"},
}


def known(lm, most=7) -> list[Fact]:
    """Facts whose target is what the model says, of as many prompts as possible."""
    asked = [(prompt, subject) for subject in SUBJECTS for prompt in PROMPTS]
    texts = [prompt.replace("{}", subject) for prompt, subject in asked]
    found: dict[str, Fact] = {}
    for length in (2, 1):
        said = lm.generate(texts, length, stop=())
        pairs = zip(asked, said, strict=True)
        facts = [Fact(subject, prompt, goal) for (prompt, subject), goal in pairs if goal.strip()]
        targets = [target_text(fact, lm) for fact in facts]
        scores = lm.logprob([fact.text for fact in facts], targets)
        for fact, score in zip(facts, scores, strict=True):
            if all(score.argmax):
                found.setdefault(fact.prompt, fact)
    assert len(found) >= 2
    return list(found.values())[:most]


def hooks(lm) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())


class Plain:
    """The runs of one fact as the paper has them: one row and one cell at a time, no padding."""

    def __init__(self, lm, fact, noise, whole):
        self.lm, self.noise = lm, noise
        encoded = lm.tokenizer(fact.text)
        ids, target = encoded.input_ids, target_ids(fact, lm)
        self.target = target if whole else target[:1]
        start = fact.prompt.index("{}")
        self.first = encoded.char_to_token(start)
        self.last = encoded.char_to_token(start + len(fact.subject) - 1)
        self.length = len(ids)
        self.ids = torch.tensor([[*ids, *self.target[:-1]]])
        self.states = {}

    def run(self, draw=None, module=None, put=None) -> float:
        """p of the target. `module` maps names to modules, `put` (name, column) to a state."""
        handles = []
        if draw is not None:
            noisy = slice(self.first, self.last + 1)
            handles.append(
                self.lm.model.get_input_embeddings().register_forward_hook(
                    lambda _, __, output: output.index_add(
                        1, torch.arange(self.length)[noisy], self.noise[draw][None]
                    )
                )
            )
        for name, each in (module or {}).items():
            handles.append(each.register_forward_hook(self.hook(name, put)))
        with torch.no_grad():
            logits = self.lm.model(input_ids=self.ids).logits[0].double()
        for handle in handles:
            handle.remove()
        logs = logits.log_softmax(-1)[self.length - 1 :]
        return math.exp(sum(float(logs[i, token]) for i, token in enumerate(self.target)))

    def hook(self, name, put):
        def change(_, __, output):
            tensor = output[0] if isinstance(output, tuple) else output
            if put is None:
                self.states[name] = tensor.clone()
                return output
            tensor = tensor.clone()
            for layer, column in put:
                if layer == name:
                    tensor[:, column] = self.states[name][:, column]
            return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

        return change

    def effects(self, module, window) -> np.ndarray:
        """Indirect effects [layers, columns from the prompt's first on]."""
        self.run(module=module)
        found = np.zeros((len(module), self.length))
        for layer in module:
            layers = [n for n in range(layer - window // 2, layer - (-window // 2)) if n in module]
            for column in range(self.length):
                put = [(n, column) for n in layers]
                found[layer, column] = np.mean(
                    [
                        self.run(draw, module, put) - self.run(draw)
                        for draw in range(len(self.noise))
                    ]
                )
        return found

    def by_position(self, found) -> np.ndarray:
        first, last, end = self.first, self.last, self.length - 1
        parts = [
            found[:, [first]],
            found[:, first + 1 : last],
            found[:, [last]],
            found[:, last + 1 : last + 2],
            found[:, last + 2 : end],
            found[:, [end]],
        ]
        empty = np.full(len(found), np.nan)
        return np.stack([p.mean(axis=1) if p.shape[1] else empty for p in parts], axis=1)


def drawn(lm, fact, facts, samples, seed=0) -> torch.Tensor:
    """The noise of a fact among facts."""
    r = row(lm, fact)
    scale = 3 * deviation(lm, [row(lm, each) for each in facts])
    return scale * draw(lm, fact, r.subject - r.first + 1, samples, seed)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", sorted(PARTS))
def test_effects_are_those_of_one_cell_at_a_time(name, whole):
    lm = tiny_lm(name)
    facts = known(lm, 4)
    traced = locate(lm, facts, samples=2, window=2, whole=whole)
    assert traced.facts == tuple(facts)
    layers, sizes = lm.layout.layers(lm.model), {kind: [] for kind in KINDS}
    for number, fact in enumerate(facts):
        plain = Plain(lm, fact, drawn(lm, fact, facts, 2), whole)
        assert traced.clean[number] == pytest.approx(plain.run(), rel=1e-3)
        corrupted = np.mean([plain.run(0), plain.run(1)])
        assert traced.corrupted[number] == pytest.approx(corrupted, rel=1e-3)
        for kind in KINDS:
            if kind == "stream":
                module = dict(enumerate(layers))
            else:
                module = {n: getattr(x, PARTS[name][kind]) for n, x in enumerate(layers)}
            found = plain.effects(module, 1 if kind == "stream" else 2)
            assert np.abs(found[:, : plain.first]).max(initial=0) < 1e-6  # none before the subject
            expected = plain.by_position(found)
            scale = plain.run()
            sizes[kind].append(np.nanmax(np.abs(expected)) / scale)
            np.testing.assert_allclose(traced.effects[kind][number], expected, atol=1e-4 * scale)
    assert min(map(max, sizes.values())) > 0.02  # there is something to agree about
    assert hooks(lm) == 0


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_restored_is_corrupted_and_everything_is_clean(name):
    lm = tiny_lm(name)
    facts = known(lm)
    rows = [row(lm, fact, target=target_ids(fact, lm)) for fact in facts]
    noise = [drawn(lm, fact, facts, 3) for fact in facts]
    runs = Runs(lm, rows, noise)
    owner = torch.arange(len(facts))
    none = torch.zeros(len(facts), runs.entering[0].shape[1], dtype=torch.bool)
    for number, fact in enumerate(facts):
        one = Plain(lm, fact, noise[number], whole=True)
        assert float(runs.clean[number]) == pytest.approx(one.run(), rel=1e-3)
        by_hand = [one.run(sample) for sample in range(3)]
        assert runs.corrupted[number].tolist() == pytest.approx(by_hand, rel=2e-3, abs=1e-5)
    corrupted = runs.corrupted.mean(dim=1)
    assert not torch.allclose(corrupted, runs.clean, rtol=1e-2)
    for kind in KINDS:
        nothing = runs.restored(kind, range(3), owner, none)
        torch.testing.assert_close(nothing, corrupted, rtol=1e-3, atol=1e-5)
    everything = runs.restored("stream", range(3), owner, ~none)
    torch.testing.assert_close(everything, runs.clean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_the_last_layers_stream_at_the_last_token_is_the_whole_effect(name):
    lm = tiny_lm(name)
    traced = locate(lm, known(lm), samples=2)
    last = POSITIONS.index("last token")
    total = traced.clean - traced.corrupted
    assert np.abs(total).max() > 1e-3
    np.testing.assert_allclose(traced.effects["stream"][:, -1, last], total, atol=2e-5)
    for kind in KINDS:
        assert np.nanmax(np.abs(traced.effects[kind][:, 0])) > 1e-4
        # a state of the last layer reaches no other token; a subject can end the prompt
        early = ~np.isnan(traced.effects[kind][:, 0, POSITIONS.index("first subsequent token")])
        assert early.any()
        assert np.nanmax(np.abs(traced.effects[kind][early, -1, :3])) < 1e-5


def test_a_seed_is_a_result_whatever_the_batches_and_the_order(monkeypatch):
    lm = tiny_lm("llama")
    facts = known(lm)
    first = locate(lm, facts, samples=3, seed=5)
    again = locate(lm, facts, samples=3, seed=5)
    other = locate(lm, facts, samples=3, seed=6)
    np.testing.assert_array_equal(again.corrupted, first.corrupted)
    assert not np.allclose(other.corrupted, first.corrupted, rtol=1e-3)
    np.testing.assert_allclose(other.clean, first.clean)
    for kind in KINDS:
        np.testing.assert_array_equal(again.effects[kind], first.effects[kind])
    monkeypatch.setattr(locating, "ROWS", 1)
    monkeypatch.setattr(tracing, "ROWS", 1)
    turned = locate(lm, facts[::-1], samples=3, seed=5)
    for kind in KINDS:
        np.testing.assert_allclose(turned.effects[kind][::-1], first.effects[kind], atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_the_model_and_the_random_state_are_only_read(name):
    lm = tiny_lm(name)
    facts = known(lm)
    before, state = lm.fingerprint(), torch.get_rng_state()
    flags = [parameter.requires_grad for parameter in lm.model.parameters()]
    locate(lm, facts, samples=2)
    lm.mark().fingerprint = None
    assert lm.fingerprint() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert [parameter.requires_grad for parameter in lm.model.parameters()] == flags
    assert all(parameter.grad is None for parameter in lm.model.parameters())


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 7])
def test_no_hook_is_left_after_an_exception(call, fault, monkeypatch):
    lm = tiny_lm("gpt2")
    facts = known(lm)
    lm.logprob([facts[0].text], [" one"])
    layer, calls = lm.layout.layers(lm.model)[2], []
    forward = layer.forward

    def failing(*args, **kwargs):
        calls.append(hooks(lm))
        if len(calls) == call:
            raise fault
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", failing)
    with pytest.raises(fault):
        locate(lm, facts, samples=2)
    assert call == 1 or calls[-1] > 0  # the first call scores the facts
    assert hooks(lm) == 0


def test_what_the_model_does_not_say_is_skipped():
    lm = tiny_lm("gpt2")
    facts = known(lm)
    wrong = Fact("Samuel Butler", "{} wrote", "numbers")
    traced = locate(lm, [wrong, *facts], samples=2)
    assert traced.skipped == (wrong,)
    assert traced.facts == tuple(facts)
    assert "1 skipped" in str(traced)


def test_noise_scales_with_the_embeddings_of_the_subjects():
    lm = tiny_lm("gpt2")
    facts = known(lm)
    subjects = []
    for fact in facts:
        encoded = lm.tokenizer(fact.text)
        start = fact.prompt.index("{}")
        places = {encoded.char_to_token(start + i) for i in range(len(fact.subject))}
        subjects += [encoded.input_ids[place] for place in sorted(places)]
    expected = float(lm.model.get_input_embeddings().weight.detach()[subjects].std())
    assert locate(lm, facts, samples=1).deviation == pytest.approx(expected, rel=1e-6)
    weak = locate(lm, facts, samples=2, noise=1e-4)
    assert weak.total == pytest.approx(0, abs=1e-3)
    assert abs(locate(lm, facts, samples=2).total) > 1e-2


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("fact", "subject"),
    [
        (Fact("Samuel Butler", "The book that {} wrote", "one"), "Samuel Butler"),
        (Fact("Peru", "{}", "one"), "Peru"),
        (Fact("Peru", "Peru and Peru", "one"), "Peru"),  # the first where there are no braces
        (Fact("Peru", "France and {}'s capital", "one"), "Peru"),
    ],
)
def test_a_row_has_the_subjects_first_and_last_token(name, fact, subject):
    lm = tiny_lm(name)
    for context in ("{}", "One, two. {}"):
        r = row(lm, fact, context)
        assert lm.codec.texts([r.ids[r.first : r.subject + 1]])[0].strip() == subject
        assert lm.codec.texts([r.ids[: r.first]])[0].count(subject) == 0


def test_the_default_window_is_the_papers_share():
    lm = tiny_lm("gpt2", n_layer=12)
    facts = known(lm, 2)
    assert locate(lm, facts, samples=1, kinds=["mlp"]).window == 2  # 10 / 48 of 12 is 2.5
    assert locate(tiny_lm("gpt2"), known(tiny_lm("gpt2"), 2), samples=1).window == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"facts": []}, "facts is empty"),
        ({"noise": 0}, "noise is 0; allowed: a number above 0"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"noise": float("inf")}, "noise is inf"),
        ({"samples": 0}, "samples is 0"),
        ({"window": 0}, "window is 0"),
        ({"kinds": []}, "kinds is"),
        ({"kinds": "mlp"}, "kinds is 'mlp'; allowed: a list of 'stream', 'mlp', 'attention'"),
        ({"kinds": ["head"]}, "kinds is"),
    ],
)
def test_bad_input(changes, match):
    lm = tiny_lm("gpt2")
    with pytest.raises(BadInput, match=match):
        locate(lm, **{"facts": known(lm, 2), **changes})


def test_no_known_fact_names_what_the_model_says():
    lm = tiny_lm("gpt2")
    fact = Fact("Samuel Butler", "{} wrote", "numbers")
    said = lm.generate([fact.text], 8)[0].strip()
    with pytest.raises(BadInput, match="none of 1 facts") as error:
        locate(lm, [fact])
    for part in (fact.text, said, "'numbers'"):
        assert part in str(error.value) or repr(part) in str(error.value)


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_other_kinds_are_not_supported(name):
    lm = tiny_lm(name)
    with pytest.raises(UnsupportedModel, match=f"{lm.kind}.*decoder"):
        locate(lm, [Fact("Peru", "{} is", "one")])


def made(effects: dict, facts=4, window=1) -> Traced:
    """A result with given effects."""
    named = tuple(Fact("Peru", f"{n} {{}} is", "one") for n in range(facts))
    return Traced(
        facts=named,
        skipped=(),
        clean=np.full(facts, 0.9),
        corrupted=np.full(facts, 0.2),
        effects=effects,
        window=window,
        noise=3.0,
        deviation=0.1,
        samples=10,
        seed=0,
        whole=False,
        seconds=1.0,
    )


@pytest.fixture
def result() -> Traced:
    rng = np.random.default_rng(0)
    mlp = rng.normal(0, 0.01, size=(4, 5, 6))
    mlp[:, 3, 2] += 0.5  # layer 3 at the last subject token
    mlp[:, 1, 5] += 0.9  # elsewhere
    mlp[:3, :, 1] = np.nan
    mlp[:, :, 4] = np.nan
    stream = rng.normal(0, 0.01, size=(4, 5, 6))
    stream[:, 1, 2] += 0.3
    stream[np.isnan(mlp)] = np.nan
    return made({"stream": stream, "mlp": mlp}, window=2)


def test_averages_leave_out_who_has_no_token(result):
    assert result.counts == [4, 1, 4, 4, 0, 4]
    average = result.average()
    assert average.shape == (5, 6)
    np.testing.assert_allclose(average[:, 2], result.effects["mlp"][:, :, 2].mean(axis=0))
    np.testing.assert_allclose(average[:, 1], result.effects["mlp"][3, :, 1])
    assert np.isnan(average[:, 4]).all()
    low, high = result.interval()
    there = ~np.isnan(average)
    assert (low[there] <= average[there]).all()
    assert (average[there] <= high[there]).all()
    assert low[3, 2] < high[3, 2]
    assert np.isnan(low[:, 4]).all()
    assert result.total == pytest.approx(0.7)
    assert result.probabilities["clean"] == pytest.approx((0.9, 0.9, 0.9))


def test_the_best_layer_is_that_of_the_last_subject_token(result):
    assert (result.best(), result.best("mlp"), result.best("stream")) == (3, 3, 1)
    assert result.support() == 1.0
    with pytest.raises(BadInput, match="'attention'; allowed: 'stream', 'mlp'"):
        result.best("attention")
    tied = made({"mlp": np.zeros((4, 3, 6))})
    assert tied.best() == 0


def test_support_falls_where_facts_disagree():
    effects = np.zeros((4, 2, 6))
    effects[:2, 0, 2], effects[2:, 1, 2] = 0.5, 0.45
    assert 0.3 < made({"mlp": effects}).support() < 0.9


def test_the_text_has_counts_intervals_and_the_layer_with_its_reason(result):
    text = str(result)
    assert "4 facts; 0 skipped" in text
    assert "target's first token" in text
    assert "clean 0.900 [0.900, 0.900], corrupted 0.200" in text
    low, high = (bound[3, 2] for bound in result.interval())
    assert f"{result.average()[3, 2]:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "middle subject tokens (1)" in text
    assert "Recommended: layer 3" in text
    assert f"{100 * result.average()[3, 2] / 0.7:.0f} % of the total effect" in text
    assert "100 % of 1,000 resamples" in text
    assert "nan" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "has 0 in it" not in text
    assert "has 0 in it" in str(made({"mlp": np.zeros((4, 3, 6))}))
    assert "the residual stream at" in str(made({"stream": result.effects["stream"]}))


def test_plain_values_for_json(result):
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["positions"] == list(POSITIONS)
    assert plain["kinds"]["mlp"]["best"] == 3
    assert plain["kinds"]["mlp"]["average"][3][2] == pytest.approx(result.average()[3, 2])
    assert plain["kinds"]["mlp"]["low"][0][4] is None
    assert plain["facts"][0] == {
        "text": "0 Peru is",
        "target": "one",
        "clean": 0.9,
        "corrupted": 0.2,
    }
    assert (plain["noise"], plain["samples"], plain["window"]) == (3.0, 10, 2)


def test_plots(result, tmp_path):
    result.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for name in ("a.svg", "b.SVG"):
        result.plot(str(tmp_path / name))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.SVG").read_bytes()
    made({"mlp": np.zeros((1, 3, 6))}, facts=1).plot(tmp_path / "one.png")
    with pytest.raises(BadInput, match=r"a\.pdf.*allowed: a name in \.png or \.svg"):
        result.plot(tmp_path / "a.pdf")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "a.png",
        "a.svg",
        "b.SVG",
        "one.png",
    ]


def test_it_is_exported():
    assert memkit.locate is locate
    assert memkit.Traced is Traced
