from __future__ import annotations

import statistics

import pytest
import torch
import transformers

import memkit
from memkit import BadInput, Benchmark, Fact, Question, UnsupportedModel
from memkit.benchmarks.cases import ClozeFact, clozes
from memkit.lm.gaps import word_ids, words
from memkit.protocols import common_vocabulary, probe
from memkit.protocols.probe_result import ProbeRecord, scored
from memkit.testing.models import tiny_lm

KINDS = ("gpt2", "llama", "bert", "t5")


@pytest.fixture(scope="module", params=KINDS)
def lm(request):
    return tiny_lm(request.param)


@pytest.fixture(scope="module")
def sentinels():
    """A T5 whose tokenizer has the sentinel of a gap."""
    lm = tiny_lm("t5")
    lm.tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_id_0>"]})
    lm.model.resize_token_embeddings(len(lm.tokenizer), mean_resizing=False)
    return memkit.LM(lm.model, lm.tokenizer)


def facts_for(lm):
    """Facts of two relations whose objects are words of the model."""
    some = words(lm)[:12]
    templates = {"made": "[X] was made by [Y] .", "of": "The end of [X] is [Y] , they say"}
    kinds = {"made": "N-1", "of": "1-1"}
    return [
        ClozeFact(f"Erewhon{n}", word, templates[name], name, kinds[name], 10.0 * n, str(n))
        for n, word in enumerate(some)
        for name in (["made", "of"] if n % 3 else ["made"])
    ]


def word_id(lm, word):
    return word_ids(lm, [word])[0]


@torch.no_grad()
def alone(lm, fact):
    """The logits of every token at a fact's gap, from the bare model, without any batch."""
    tokenizer, model = lm.tokenizer, lm.model
    before, after = fact.template.replace("[X]", fact.subject).split("[Y]")
    if lm.kind == "decoder":
        ids = tokenizer(before.rstrip(), return_tensors="pt").input_ids
        return model(input_ids=ids).logits[0, -1]
    if lm.kind == "masked":
        ids = tokenizer(f"{before}[MASK]{after}", return_tensors="pt").input_ids
        place = ids[0].tolist().index(tokenizer.mask_token_id)
        return model(input_ids=ids).logits[0, place]
    start = [model.config.decoder_start_token_id]
    text = before.rstrip()
    if "<extra_id_0>" in tokenizer.get_vocab():
        start.append(tokenizer.convert_tokens_to_ids("<extra_id_0>"))
        text = f"{before}<extra_id_0>{after}"
    ids = tokenizer(text, return_tensors="pt").input_ids
    return model(input_ids=ids, decoder_input_ids=torch.tensor([start])).logits[0, -1]


def brute_force(lm, facts, vocabulary):
    """P@1, P@10, MRR by relation, in plain Python."""
    found = {}
    for fact in facts:
        logits = alone(lm, fact)
        scores = sorted((float(logits[word_id(lm, word)]), word) for word in vocabulary)[::-1]
        rank = [word for _, word in scores].index(fact.object) + 1
        row = (rank == 1, rank <= 10, 1 / rank)
        found.setdefault(fact.relation, []).append(row)
    return {
        name: [statistics.fmean(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }


def check(lm):
    facts = facts_for(lm)
    vocabulary = words(lm)
    result = probe(lm, facts, batch_size=5, parts=3)
    expected = brute_force(lm, facts, vocabulary)
    assert 0 < result.cell("MRR").mean < 1
    for name, row in expected.items():
        means = [result.relations[name].cells[m].mean for m in ("P@1", "P@10", "MRR")]
        assert means == pytest.approx(row)
    macro = [statistics.fmean(column) for column in zip(*expected.values(), strict=True)]
    assert [result.cell(m).mean for m in ("P@1", "P@10", "MRR")] == pytest.approx(macro)
    assert result.cell("MRR", "1-1").mean == pytest.approx(expected["of"][2])
    assert result.cell("MRR", "N-1").mean == pytest.approx(expected["made"][2])
    assert {record.candidates for record in result.records} == {len(vocabulary)}
    assert [record.fact for record in result.records] == facts
    assert sum(found.facts for _, _, found in result.popularity) == len(facts)


def test_equals_an_independent_computation(lm):
    check(lm)


def test_fills_a_sentinel(sentinels):
    check(sentinels)
    opening = ClozeFact("Peru", words(sentinels)[0], "[Y] is of [X] .", "r")
    assert probe(sentinels, [opening]).left_out["gaps that open their sentence"] == 0


def test_a_smaller_vocabulary_ranks_among_itself(lm):
    facts = facts_for(lm)
    kept = words(lm)[:5]
    result = probe(lm, facts, vocabulary=kept)
    assert result.left_out["objects that are no candidate"] == sum(
        fact.object not in kept for fact in facts
    )
    assert max(record.rank for record in result.records) <= 5
    assert result.cell("P@10").mean == 1
    expected = brute_force(lm, [fact for fact in facts if fact.object in kept], kept)
    assert result.cell("MRR", "of").mean == pytest.approx(expected["of"][2])


def test_a_model_that_reads_to_the_right_needs_something_before_the_gap():
    for kind, left_out in (("gpt2", 1), ("t5", 1), ("bert", 0)):
        lm = tiny_lm(kind)
        templates = ("[Y] is the capital of [X] .", "[X] is [Y]")
        facts = [ClozeFact("Peru", words(lm)[0], template, "r") for template in templates]
        assert probe(lm, facts).left_out["gaps that open their sentence"] == left_out


@pytest.mark.parametrize("editor", [memkit.FineTune, memkit.GRACE])
def test_sees_the_edits_that_are_live(editor):
    """Also those that lie over a layer, and act where the prompt ends."""
    lm = tiny_lm("gpt2")
    asked = ClozeFact("Erewhon", words(lm)[0], "The end of [X] is [Y]", "of")
    (before,) = probe(lm, [asked]).records
    assert before.rank > 1
    fact = Fact("Erewhon", "The end of {} is", asked.object)
    bounds = memkit.Guards(perplexity=float("inf"), size=float("inf"))
    with editor(lr=1e-1, on_guard="warn", guards=bounds).apply(lm, [fact]) as edit:
        assert edit.report.facts[0].learnt
        assert probe(lm, [asked]).records[0].rank == 1
    assert probe(lm, [asked]).records == (before,)


def test_popularity_parts_are_ordered():
    lm = tiny_lm("gpt2")
    some = words(lm)[:9]
    facts = [
        ClozeFact("Peru", word, "[X] is [Y]", "r", popularity=float(100 - n))
        for n, word in enumerate(some)
    ]
    result = probe(lm, facts, parts=3)
    bounds = [(low, high) for low, high, _ in result.popularity]
    assert bounds == [(92, 94), (95, 97), (98, 100)]
    without = ClozeFact("Peru", some[0], "[X] is [Y]", "r")
    assert probe(lm, [without]).popularity == ()
    assert "page views" in str(result)
    assert "page views" not in str(probe(lm, [without]))


def test_objects_of_several_tokens_by_relation():
    """The candidates are the relation's objects; the sum of their tokens' log-probabilities."""
    lm = tiny_lm("gpt2")
    objects = ("Lima", "the City of Kings", "Oslo")
    facts = [ClozeFact("Peru", name, "The seat of [X] is [Y] .", "seat") for name in objects]
    facts.append(ClozeFact("Peru", "Quechua", "[X] speaks [Y]", "tongue"))
    result = probe(lm, facts, candidates="relation")
    totals = {}
    for name in objects:
        text = lm.tokenizer("The seat of Peru is").input_ids
        target = lm.tokenizer(f" {name}").input_ids
        ids = torch.tensor([text + target])
        with torch.no_grad():
            logs = lm.model(input_ids=ids).logits[0].log_softmax(-1)
        totals[name] = sum(float(logs[len(text) + n - 1, t]) for n, t in enumerate(target))
    order = sorted(totals, key=lambda name: -totals[name])
    assert [record.rank for record in result.records[:3]] == [order.index(n) + 1 for n in objects]
    assert result.records[0].first == order[0]
    assert (result.records[3].rank, result.records[3].candidates) == (1, 1)
    with pytest.raises(UnsupportedModel, match="masked model does not rank objects of several"):
        probe(tiny_lm("bert"), facts, candidates="relation")
    with pytest.raises(BadInput, match="vocabulary is given with candidates='relation'"):
        probe(lm, facts, candidates="relation", vocabulary=["a"])


def test_vocabulary_in_common():
    decoder, masked = tiny_lm("gpt2"), tiny_lm("bert")
    shared = common_vocabulary(decoder, masked)
    assert list(shared) == sorted(set(words(decoder)) & set(words(masked)))
    for word in shared:
        assert word_id(decoder, word) is not None
        assert word_id(masked, word) is not None
    facts = [ClozeFact("Peru", shared[0], "[X] is [Y]", "r")]
    ranks = [probe(m, facts, vocabulary=shared).records[0] for m in (decoder, masked)]
    assert {record.candidates for record in ranks} == {len(shared)}
    with pytest.raises(BadInput, match="no model is given"):
        common_vocabulary()


def with_real_tokenizer(shared, name):
    """A random model of one narrow layer with GPT-2's or BERT's own tokenizer."""
    folder = shared / "models" / "tokenizers" / name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    size = {"vocab_size": len(tokenizer)}
    with torch.random.fork_rng(devices=[]):
        if name == "gpt2":
            config = transformers.GPT2Config(**size, n_embd=8, n_layer=1, n_head=1)
            return memkit.LM(transformers.GPT2LMHeadModel(config), tokenizer)
        config = transformers.BertConfig(
            **size,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
        return memkit.LM(transformers.BertForMaskedLM(config), tokenizer)


def test_real_facts_and_tokenizers(shared):
    """Words begin with a space for GPT-2's tokenizer, and not for BERT's."""
    decoder, masked = (with_real_tokenizer(shared, n) for n in ("gpt2", "bert-base-uncased"))
    found = common_vocabulary(decoder, masked)
    assert {"city", "river", "english"} <= set(found)
    assert not {"##ing", "Paris", ","} & set(found)
    path = shared / "data" / "counterfact" / "known_1000.json"
    facts = clozes(memkit.benchmarks.load("known_1000", path))[:100]
    result = probe(decoder, facts, vocabulary=found)
    assert len(result.records) > 5  # BERT's words are in lower case, most objects are not
    assert len(result.records) + sum(result.left_out.values()) == 100
    assert result.records[0].candidates == len(found) > 5_000


def test_facts_of_a_benchmark():
    fact = Fact("Ann", "{} was born in", "Lima", relation="born", id="1")
    bench = Benchmark("b", facts=(fact,), questions=(Question("Where?", popularity=5, id="1"),))
    assert clozes(bench) == (ClozeFact.of(fact, 5),)
    own = ClozeFact("Bo", "Oslo", "[X] is in [Y]", "in")
    assert clozes(Benchmark("c", cases=(own,), facts=(fact,))) == (own,)
    with pytest.raises(BadInput, match="'d' has no facts"):
        clozes(Benchmark("d"))


def test_knows_what_the_world_taught():
    """The most popular tenth of the miniature world is known, the rarest tenth guessed."""
    world = memkit.benchmarks.load("miniworld")
    lm = memkit.LM.load(memkit.world.shipped())
    facts = [fact for fact in clozes(world) if fact.relation == "industry"]
    facts += [fact for fact in clozes(world) if fact.relation == "occupation"][::4]
    result = probe(lm, facts, parts=4)
    rare, *_, popular = (found.cells["P@1"].mean for _, _, found in result.popularity)
    assert rare < 0.3
    assert popular > 0.9


def test_refuses_bad_input():
    lm = tiny_lm("gpt2")
    fact = ClozeFact("Peru", "Lima of the kings", "[X] is [Y]", "r")
    with pytest.raises(BadInput, match="there are no facts"):
        probe(lm, [])
    with pytest.raises(BadInput, match="facts holds Fact"):
        probe(lm, [Fact("Ann", "{} is", "b")])
    with pytest.raises(BadInput, match=r"none of 1 facts can be asked .*1 objects that are no"):
        probe(lm, [fact])
    with pytest.raises(BadInput, match="the vocabulary's 'Lima of' is no single token"):
        probe(lm, [fact], vocabulary=["Lima of"])
    with pytest.raises(BadInput, match="candidates is 'all'; allowed: 'vocabulary', 'relation'"):
        probe(lm, [fact], candidates="all")
    with pytest.raises(BadInput, match="parts is 0"):
        probe(lm, [fact], parts=0)
    word = words(lm)[0]
    long = ClozeFact("Peru " * 80, word, "[X] is [Y]", "r")
    with pytest.raises(BadInput, match="tokens; allowed: 64, the model's window"):
        probe(lm, [long])
    classifier = tiny_lm("bert", head="BertForSequenceClassification")
    with pytest.raises(UnsupportedModel, match="a classifier has no words"):
        probe(classifier, [fact])


def test_consistency_by_hand():
    def record(subject, template, rank, first, relation="made"):
        fact = ClozeFact(subject, "Ann", f"{template} [X] [Y]", relation)
        return ProbeRecord(fact, rank, 5, first)

    records = (
        # two of three patterns say the same; all three have it right or not
        record("Pong", "a", 1, "Ann"),
        record("Pong", "b", 1, "Ann"),
        record("Pong", "c", 2, "Bo"),
        record("Tetris", "a", 1, "Ann"),
        record("Tetris", "b", 1, "Ann"),
        record("Tetris", "b", 3, "Bo"),  # the same pattern again is none
        record("Go", "a", 1, "Ann"),  # one pattern alone says nothing
        record("Lima", "a", 4, "Cy", "in"),
        record("Lima", "b", 3, "Cy", "in"),
    )
    settings = {"samples": 100, "seed": 0}
    found = scored(model="x", settings=settings, left_out={}, parts=1, records=records)
    cells = {name: own.cells for name, own in found.consistency.items()}
    assert cells["made"]["consistency"].mean == pytest.approx((1 / 3 + 1) / 2)
    assert cells["made"]["consistent P@1"].mean == 0.5
    assert cells["in"]["consistency"].mean == 1
    assert cells["in"]["consistent P@1"].mean == 0
    assert cells["all"]["consistency"].mean == pytest.approx((2 / 3 + 1) / 2)
    assert found.consistency["all"].facts == 3
    assert "several patterns" in str(found)
    plain = scored(model="x", settings=settings, left_out={}, parts=1, records=records[6:8])
    assert plain.consistency == {}
    assert "several patterns" not in str(plain)
