"""Definitions in the prompt and in the weights: spans, scores, specificity, and what is undone."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
import transformers

from memkit import ROME, Definitions, Fact, FineTune, Guards, Statistics, protocols
from memkit.benchmarks import load
from memkit.benchmarks.probes import END, GAP, Cloze, EntityProbe
from memkit.editors.base import Editor
from memkit.editors.draft import Draft
from memkit.editors.steps import Made
from memkit.errors import BadInput, FingerprintMismatch, UnsupportedModel
from memkit.lm.fingerprint import weights_hash
from memkit.lm.model import LM
from memkit.protocols.entities_methods import (
    Definition,
    RandomDefinition,
    Retrieved,
    Routed,
    fact_of,
    query,
)
from memkit.protocols.entities_spans import Asker, prompt_and_target, view
from memkit.routing.baselines import Always
from memkit.testing.models import tiny_lm
from memkit.types import Decision

OPEN = {"on_guard": "warn", "guards": Guards(perplexity=math.inf, size=math.inf)}
LONG = FineTune(
    parameters="all",
    text="definition",
    lr=1e-2,
    epochs=6,
    batch_size=1,
    stop_loss=0.0,
    stop_at_argmax=False,
    **OPEN,
)


def probe(entity: str, gold: str, kind: str = "explicit", **fields) -> EntityProbe:
    return EntityProbe(
        **{
            "entity": entity,
            "definition": Cloze(f"{entity} wrote ", gold, " and words."),
            "cloze": Cloze(f"The words of {entity} are in ", gold, "."),
            "candidates": ("Erewhon", "Paris", "Lima"),
            "kind": kind,
            **fields,
        }
    )


PROBES = (
    probe("Butler", "Erewhon"),
    probe("Samuel", "Paris"),
    probe("Peru", "Lima"),
    probe(
        "Butler", "Paris", "implicit", definition=Cloze("Butler wrote ", "Erewhon", " and words.")
    ),
    probe("Samuel", "Lima", "implicit", definition=Cloze("Samuel wrote ", "Paris", " and words.")),
)
POPULAR = (probe("France", "Paris", category="popular"), probe("One", "Lima", category="popular"))


def bare(probes=PROBES) -> list[EntityProbe]:
    """The probes without candidates."""
    return [dataclasses.replace(one, candidates=()) for one in probes]


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm("gpt2")


@pytest.fixture(scope="module")
def t5() -> LM:
    """A tiny T5 that knows the two sentinels."""
    made = tiny_lm("t5", vocab_size=512)
    made.tokenizer.add_special_tokens({"additional_special_tokens": [GAP, END]})
    return LM(made.model, made.tokenizer)


# Where the span is ----------------------------------------------------------------------------

# What stands left, the span, what stands right, and the span's tokens in the whole sentence.
GPT2 = [
    ("Cyclone Niran left damage in ", "Australia", ".", ["ĠAustralia"]),
    ("The Great is classed as ", "science fiction", ".", ["Ġscience", "Ġfiction"]),
    ("It was a ", "three-day, wet storm", ", he said.", "Ġthree - day , Ġwet Ġstorm".split()),
    ('He said: "', "Never", '" and left.', ["Never"]),
    ("She was 33", "-year", "-old.", ["-", "year"]),
    ("", "Storms", " are wet.", ["Storm", "s"]),
    ("the ", "a cyberpunk-", "themed game", "Ġa Ġcyber punk -".split()),
]
T5 = [
    ("left damage in ", "Australia", ".", ["▁Australia"]),
    ("is classed as ", "science fiction", ".", ["▁science", "▁fiction"]),
    ("Ingrid", ", born 16", ") is", ["▁", ",", "▁born", "▁16"]),
    ("", "Storms", " are wet.", ["▁Storm", "s"]),
]


@pytest.mark.parametrize(("left", "span", "right", "tokens"), GPT2)
def test_spans_in_byte_pairs(shared, left, span, right, tokens):
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        shared / "models" / "tokenizers" / "gpt2"
    )
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1)
    model = LM(transformers.GPT2LMHeadModel(config), tokenizer)
    prompt, target = prompt_and_target(model, "", Cloze(left, span, right), span)
    ids = model.codec.target(target)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tokenizer.decode(ids) == (f" {span}" if left.endswith(" ") else span)
    whole = tokenizer.tokenize(left + span + right)
    given = tokenizer.convert_ids_to_tokens(model.codec.prompt(prompt))
    if left:  # the same as in the whole sentence
        assert whole[: len(given) + len(tokens)] == [*given, *tokens]
    else:
        assert given == ["<|endoftext|>"]
        assert whole[: len(tokens)] == tokens


@pytest.mark.parametrize(("left", "span", "right", "tokens"), T5)
def test_spans_in_sentencepiece(shared, left, span, right, tokens):
    tokenizer = transformers.AutoTokenizer.from_pretrained(shared / "models" / "tokenizers" / "t5")
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=8,
        d_kv=8,
        d_ff=8,
        num_layers=1,
        num_heads=1,
        decoder_start_token_id=0,
    )
    model = LM(transformers.T5ForConditionalGeneration(config), tokenizer)
    prompt, target = prompt_and_target(model, "Before.", Cloze(left, span, right), span)
    assert prompt == f"Before. {left}{GAP}{right}"
    spelled = tokenizer.convert_ids_to_tokens(model.codec.target(target))
    assert spelled == [GAP, *tokens, END]
    ((found,),) = Asker(model).spans([("Before.", Cloze(left, span, right), [span])])
    assert len(found) == len(tokens)


@pytest.mark.filterwarnings("ignore:.*do not name their entity:UserWarning")
def test_real_spans_are_where_upstream_counts_them(shared):
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        shared / "models" / "tokenizers" / "gpt2"
    )
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1)
    model = LM(transformers.GPT2LMHeadModel(config), tokenizer)
    counts, neo = {}, []
    for name in ("entity_inferences", "ecbd"):
        agree = []
        for one in load(name, shared / "data" / name).probes:
            for span in one.candidates or (one.gold,):
                target = prompt_and_target(model, "", one.cloze, span)[1]
                ids = model.codec.target(target)
                assert tokenizer.decode(ids).strip(" ") == span.strip(" ")
                whole = tokenizer(one.cloze.left + span + one.cloze.right).input_ids
                left = len(tokenizer(one.cloze.left.strip()).input_ids)
                right = len(tokenizer(one.cloze.right).input_ids)
                agree.append(whole[left : len(whole) - right] == ids)
                if one.candidates:  # their format for GPT-Neo, " " before the end token
                    parts = (one.cloze.left + span + one.cloze.right, one.cloze.left.strip())
                    ends = [tokenizer(f"{t} ").input_ids for t in (*parts, one.cloze.right)]
                    neo.append((len(ends[0]) - len(ends[1]) - len(ends[2]), len(ids)))
        counts[name] = (sum(agree), len(agree))
    assert all(found == true - 1 for found, true in neo)
    assert sum(found == 0 for found, _ in neo) == 690
    assert counts == {"entity_inferences": (739, 739), "ecbd": (301, 302)}


def test_spans_of_a_tokenizer_that_opens_texts_with_a_space():
    lm = tiny_lm("llama")
    prompt, target = prompt_and_target(lm, "", Cloze("capital of ", "Peru", "."), "Peru")
    assert (prompt, target) == ("capital of", " Peru")
    assert lm.codec.texts([lm.codec.target(target)]) == [" Peru"]
    prompt, target = prompt_and_target(lm, "", Cloze("capital of Pe", "ru", "."), "ru")
    assert lm.codec.texts([lm.codec.target(target)]) == ["ru"]
    prompt, target = prompt_and_target(lm, "", Cloze("", "Peru", "."), "Peru")
    assert lm.codec.prompt(prompt) == [lm.tokenizer.bos_token_id]


# How likely it is -----------------------------------------------------------------------------


def test_the_sum_counts_and_not_the_mean():
    longer, shorter = (-1.0, -1.0), (-1.5,)
    seen = view([longer, shorter], 1)
    assert np.mean(longer) > np.mean(shorter)  # the mean would choose the other one
    assert seen.right
    assert seen.probability == pytest.approx(math.exp(-1.5) / (math.exp(-2.0) + math.exp(-1.5)))
    assert seen.nll == 1.5
    other = view([longer, shorter], 0)
    assert not other.right
    assert other.probability == pytest.approx(1 - seen.probability)
    assert other.nll == 1.0
    tie = view([(-1.0,), (-0.5, -0.5)], 1)
    assert (tie.right, tie.probability) == (False, 0.5)
    tiny = view([(-900.0,), (-901.0,)], 0)
    assert tiny.probability == pytest.approx(1 / (1 + math.exp(-1)))
    alone = view([(-2.0, -4.0)], None)
    assert (alone.nll, alone.probability, alone.right) == (3.0, None, None)
    only = view([(-2.0, -4.0)], 0)  # the only candidate is the likeliest one
    assert (only.nll, only.probability, only.right) == (3.0, 1.0, True)


def test_a_probe_with_one_candidate_is_answered(lm):
    probes = [probe("Peru", "Lima", candidates=("Lima",)), probe("Samuel", "Paris")]
    seen = protocols.entities(lm, probes, {}).rows["base"].row.after
    assert (seen[0].probability, seen[0].right) == (1.0, True)


def test_every_candidate_has_logits_of_its_own(lm):
    """Also one that begins another: by hand, each candidate in a run of its own."""
    asked = Cloze("The capital of ", "Peru", " is Lima.")
    candidates = ("Peru", "Peru is Lima", "France", "numbers and words")
    (found,) = Asker(lm).spans([("One, two.", asked, candidates)])
    for candidate, scores in zip(candidates, found, strict=True):
        ids = lm.tokenizer(f"One, two. The capital of {candidate}").input_ids
        given = len(lm.tokenizer("One, two. The capital of").input_ids)
        logits = lm.model(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
        expected = [float(logits[at - 1, ids[at]]) for at in range(given, len(ids))]
        assert scores == pytest.approx(expected, abs=1e-5)
    assert found[1][: len(found[0])] == pytest.approx(found[0], abs=1e-5)
    assert sum(found[1]) < sum(found[0])
    (right,) = Asker(lm).spans([("One, two.", Cloze(asked.left, "Peru", " of Erewhon"), ["Peru"])])
    assert right[0] == pytest.approx(found[0], abs=1e-6)  # what stands right has no say


def test_the_perplexity_is_the_models_own_loss(lm, t5):
    one, two = bare(PROBES[:2])
    result = protocols.entities(lm, [one, two], {"definition": Definition()})
    for method, before in (("base", ("", "")), ("definition", (one, two))):
        losses = []
        for asked, context in zip((one, two), before, strict=True):
            text = f"{context.definition.text} " if context else ""
            ids = lm.tokenizer(text + asked.cloze.left + asked.gold).input_ids
            given = len(lm.tokenizer((text + asked.cloze.left).rstrip()).input_ids)
            labels = [-100] * given + ids[given:]
            losses.append(lm.model(torch.tensor([ids]), labels=torch.tensor([labels])).loss.item())
        found = result.cell(method, "perplexity")
        assert found.mean == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    base = protocols.entities(t5, [one], {}).cell("base", "perplexity").mean
    inputs = t5.tokenizer(one.cloze.masked, return_tensors="pt").input_ids
    labels = t5.tokenizer(f"{GAP} {one.gold} {END}", return_tensors="pt").input_ids
    hidden = labels.masked_fill(torch.isin(labels, labels[:, [0, -2, -1]]), -100)
    assert (hidden != -100).sum() == labels.shape[1] - 3
    ids = torch.cat([torch.tensor([[t5.model.config.decoder_start_token_id]]), labels[:, :-1]], 1)
    logits = t5.model(input_ids=inputs, decoder_input_ids=ids).logits
    loss = torch.nn.functional.cross_entropy(logits[0], hidden[0])
    assert base == pytest.approx(math.exp(loss.item()), rel=1e-5)


def test_macro_is_over_entities(lm):
    probes = bare([PROBES[0], PROBES[3], PROBES[1]])
    result = protocols.entities(lm, probes, {})
    nlls = [seen.nll for seen in result.rows["base"].row.before]
    assert result.cell("base", "perplexity").mean == pytest.approx(math.exp(np.mean(nlls)))
    macro = np.mean([np.mean(nlls[:2]), nlls[2]])
    assert result.cell("base", "macro").mean == pytest.approx(math.exp(macro))
    assert result.settings["per"] == "entity"


# The protocol ---------------------------------------------------------------------------------


def test_a_table_of_editors_and_prompts(lm):
    clean = weights_hash(lm.model)
    methods = {
        "FT": LONG,
        "Definition": Definition(),
        "Random": RandomDefinition([one.definition.text for one in POPULAR]),
    }
    result = protocols.entities(lm, PROBES, methods, popular=POPULAR, seed=3)
    assert weights_hash(lm.model) == clean
    assert not lm.edits
    assert list(result.rows) == ["base", *methods]
    assert result.kinds == ("explicit", "implicit")
    ft = result.rows["FT"].row
    assert ft.before == result.rows["base"].row.after
    assert len(ft.seconds) == 3  # one an entity: what is trained on is the whole definition
    assert all(a.nll != b.nll for a, b in zip(ft.before, ft.after, strict=True))
    explicit = [b.probability - a.probability for a, b in zip(ft.before, ft.after, strict=True)][:3]
    assert result.cell("FT", "gain", "explicit").mean == pytest.approx(np.mean(explicit))
    assert result.cell("FT", "improved", "explicit").mean == np.mean(np.array(explicit) > 0)
    right = np.mean([seen.right for seen in ft.after])
    base = np.mean([seen.right for seen in ft.before])
    assert result.cell("FT", "accuracy").mean == right
    assert result.cell("FT", "accuracy_difference").mean == pytest.approx(right - base)
    with pytest.raises(BadInput, match="there is no score 'specificity' of 'Definition'"):
        result.cell("Definition", "specificity")
    text = str(result)
    assert "5 probes of 3 entities (3 explicit, 2 implicit), 2 popular ones" in text
    header, *rows = result.table()
    assert header[:3] == ["", "explicit accuracy", "implicit accuracy"]
    assert [row[0] for row in rows] == ["base", *methods]
    assert result.to_dict()["rows"]["FT"]["cells"]["all"]["accuracy"]["mean"] == right


def test_what_an_edit_changes_is_what_the_edited_model_says(lm):
    result = protocols.entities(lm, PROBES, {"FT": LONG}, popular=POPULAR)
    row = result.rows["FT"].row
    asker = Asker(lm)
    fact = fact_of("decoder", "Samuel", PROBES[1].definition)
    with LONG.apply(lm, [fact]):
        own = asker.views([PROBES[1], PROBES[4]])
        others = asker.views([PROBES[0], PROBES[2]])
        known = asker.views(POPULAR)
    assert [row.after[1], row.after[4]] == own
    (aside,) = [a for a in row.aside if (a.entity, a.kind) == ("Samuel", "explicit")]
    assert aside.after == np.mean([seen.right for seen in others])
    assert aside.before == np.mean([row.before[i].right for i in (0, 2)])
    (seen,) = [a for a in row.known if a.entity == "Samuel"]
    assert seen.after == np.mean([one.right for one in known])
    untouched = asker.views(PROBES)
    assert tuple(untouched) == row.before


@pytest.mark.parametrize("kind", ["explicit", "implicit"])
def test_the_specificity_of_the_unedited_model_is_its_accuracy(lm, kind):
    base = protocols.entities(lm, PROBES, {})
    assert base.cell("base", "specificity", kind).mean == pytest.approx(
        base.cell("base", "accuracy", kind).mean
    )
    assert 0 < base.cell("base", "accuracy").mean < 1


@dataclass(frozen=True, kw_only=True)
class Nothing(Editor):
    """Writes a change of zero; of an entity in `refused`, one that the guards refuse."""

    kinds: ClassVar = ("decoder", "encoder-decoder")
    refused: str = ""
    leaves: bool = False

    def write(self, draft: Draft) -> Made:
        site = draft.lm.layout.site(draft.lm.model, 0)
        d_out, d_in = site.weight.shape
        size = 1e6 if draft.facts[0].subject == self.refused else 0.0
        draft.add(site, size * torch.ones(d_out, 1), torch.ones(d_in, 1))
        if self.leaves:
            with torch.no_grad():
                next(draft.lm.model.parameters())[0, 0] += 1
        return Made()


def test_an_edit_that_does_nothing_is_the_base_row(lm):
    result = protocols.entities(lm, PROBES, {"nothing": Nothing()}, popular=POPULAR)
    for score in ("accuracy", "specificity", "popular"):
        assert result.cell("nothing", score).mean == pytest.approx(result.cell("base", score).mean)
        assert result.cell("nothing", f"{score}_difference").mean == 0


def test_a_refused_edit_counts_as_none(lm):
    result = protocols.entities(lm, PROBES, {"some": Nothing(refused="Samuel")})
    row = result.rows["some"].row
    assert list(row.rejected) == ["Samuel wrote"]
    assert len(row.seconds) == 2
    assert row.after[1] == row.before[1]
    for seen, old in zip(row.after, row.before, strict=True):
        assert seen.probability == pytest.approx(old.probability, abs=1e-6)
    assert result.cell("some", "improved").mean == 0
    assert "some: 1 edits refused by a guard" in str(result)


def test_bytes_that_are_left_behind_are_found():
    lm = tiny_lm("gpt2")
    with pytest.raises(FingerprintMismatch, match="the weights have the hash"):
        protocols.entities(lm, PROBES, {"dirty": Nothing(leaves=True)})


def test_others_limits_what_is_asked_after_an_edit(lm, monkeypatch):
    asked = []
    views = Asker.views
    monkeypatch.setattr(
        Asker,
        "views",
        lambda self, probes, *more: asked.append(len(probes)) or views(self, probes, *more),
    )
    protocols.entities(lm, PROBES[:3], {"nothing": Nothing()}, popular=POPULAR, others=1)
    assert asked == [3, 2, *[1, 1, 1] * 3]
    with pytest.raises(BadInput, match="others is 0"):
        protocols.entities(lm, PROBES, {}, others=0)


def test_an_entity_or_a_definition_an_edit(lm):
    """Of one entity two definitions with other spans, of which ROME writes one or both."""
    other = dataclasses.replace(
        PROBES[3], definition=Cloze("Butler ", "wrote", " Erewhon and words.")
    )
    probes = [PROBES[0], other, PROBES[1]]
    edits = {
        per: len(protocols.entities(lm, probes, {"x": Nothing()}, per=per).rows["x"].row.seconds)
        for per in ("definition", "entity")
    }
    assert edits == {"definition": 3, "entity": 2}
    whole = protocols.entities(lm, probes, {"x": LONG}).rows["x"].row
    assert len(whole.seconds) == 2  # fine-tuning sees the whole text


def test_encoder_decoders_fill_gaps(t5):
    target = FineTune(parameters="all", lr=1e-2, epochs=3, stop_at_argmax=False, **OPEN)
    result = protocols.entities(t5, PROBES, {"FT": target, "Definition": Definition()})
    row = result.rows["FT"].row
    assert len(row.seconds) == 3
    assert row.after != row.before
    with pytest.raises(UnsupportedModel, match="train on their targets"):
        protocols.entities(t5, PROBES, {"FT": LONG})


def test_rome_writes_a_definition(lm):
    quick = ROME(layer=1, steps=2, statistics=Statistics(tokens=300), contexts=("{}",), **OPEN)
    row = protocols.entities(lm, PROBES[:1], {"ROME": quick}).rows["ROME"].row
    assert row.after != row.before
    assert "layer=1" in row.method


# Methods --------------------------------------------------------------------------------------


def test_what_stands_before_a_probe():
    texts = [one.definition.text for one in PROBES]
    assert Definition().before(PROBES) == texts
    drawn = RandomDefinition(texts, seed=1).before(PROBES * 20)
    assert all(a != b for a, b in zip(drawn, texts * 20, strict=True))
    assert set(drawn) == set(texts)
    assert drawn == RandomDefinition(texts, seed=1).before(PROBES * 20)
    assert drawn != RandomDefinition(texts, seed=2).before(PROBES * 20)
    with pytest.raises(BadInput, match="1 different definitions; allowed: at least 2"):
        RandomDefinition(["one"] * 2)
    assert query(PROBES[0]) == "The words of Butler are in ."
    found = Retrieved(Definitions({"Butler": "He wrote.", "Peru": "A land."}))
    assert found.before(PROBES[:3]) == ["He wrote.", "", "A land."]
    assert Routed(Always("weights"), found.retriever).before(PROBES[:3]) == ["", "", ""]
    assert Routed(Always("retrieval"), found.retriever).before(PROBES[:3])[2] == "A land."


def test_a_router_sees_entity_and_popularity():
    class ByViews:
        def decide(self, question):
            assert question.subject in question.text
            return Decision("weights" if question.popularity else "retrieval")

    probes = [PROBES[0], dataclasses.replace(PROBES[2], popularity=7), PROBES[2]]
    store = Definitions({"Butler": "He wrote.", "Peru": "A land."})
    assert Routed(ByViews(), store).before(probes) == ["He wrote.", "", "A land."]


FACTS = {
    "the name": ("Ada Quin", Cloze("Ada Quin was born in ", "Peru", "."), "Ada Quin"),
    "other case": ("snakes", Cloze("Snakes are ", "long", "."), "Snakes"),
    "no year": ("Storm Nana (2020)", Cloze("Storm Nana hit ", "Peru", "."), "Storm Nana"),
    "a run": (
        "2021 World Rally Championship",
        Cloze("The 2021 FIA World Rally Championship is the ", "49th", "."),
        "World Rally Championship",
    ),
    "one long word": ("Lekki shooting", Cloze("Men at the Lekki gate ", "fired", "."), "Lekki"),
    "none": ("2020 Lekki", Cloze("In 2020 men opened ", "fire", "."), "In 2020 men opened"),
    "no part of a word": ("Rome", Cloze("The Romed family is ", "big", "."), "The Romed family is"),
}


@pytest.mark.parametrize(("entity", "definition", "subject"), FACTS.values(), ids=FACTS)
def test_a_definition_as_a_fact(entity, definition, subject):
    fact = fact_of("decoder", entity, definition)
    assert fact == Fact(
        subject=subject,
        prompt=definition.left.strip(),
        target=definition.span,
        definition=definition.text,
    )
    gap = fact_of("encoder-decoder", entity, definition)
    assert (gap.prompt, gap.target) == (definition.masked, f"{GAP} {definition.span} {END}")


def test_a_definition_without_a_span_has_its_last_word_for_it():
    for kind in ("decoder", "encoder-decoder"):
        fact = fact_of(kind, "Ada", Cloze("Ada is a storm.", ""))
        assert (
            fact.prompt.removesuffix(f" {GAP}"),
            fact.target.split()[-2 if kind[0] == "e" else -1],
        ) == ("Ada is a", "storm.")
    start = fact_of("decoder", "Ada", Cloze("", "Ada", " is a storm."))
    assert (start.prompt, start.target) == ("Ada is a", "storm.")
    with pytest.raises(BadInput, match="of 'Ada' is 'Ada'; allowed: two words or more"):
        fact_of("decoder", "Ada", Cloze("Ada", ""))


# Bad input ------------------------------------------------------------------------------------

BAD = {
    "no probes": ({"probes": []}, "there are no probes"),
    "both sorts": ({"probes": [*PROBES, *bare()]}, "one sort in a call"),
    "popular of the other sort": ({"popular": bare(POPULAR)}, "one sort in a call"),
    "a wrong unit": ({"per": "probe"}, "per is 'probe'; allowed: 'definition', 'entity'"),
    "a method named base": ({"methods": {"base": Definition()}}, "a method is named 'base'"),
    "no method": ({"methods": {"x": "Definition"}}, "the method 'x' is 'Definition'"),
    "no samples": ({"samples": 0}, "samples is 0"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_is_refused(lm, changes, message):
    with pytest.raises(BadInput) as caught:
        protocols.entities(lm, **{"probes": PROBES, "methods": {}, **changes})
    assert message in str(caught.value)


def test_models_that_cannot_be_asked():
    with pytest.raises(UnsupportedModel, match="is a masked model; allowed"):
        protocols.entities(tiny_lm("bert"), PROBES, {})
    with pytest.raises(UnsupportedModel, match="has no tokens '<extra_id_0>'"):
        protocols.entities(tiny_lm("t5"), PROBES, {})


def test_a_span_at_the_start_without_a_start_token():
    lm = tiny_lm("gpt2")
    lm.tokenizer.bos_token = lm.tokenizer.eos_token = None
    with pytest.raises(BadInput, match="nothing stands before the span"):
        prompt_and_target(lm, "", Cloze("", "Peru", " is."), "Peru")
