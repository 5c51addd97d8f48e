"""Second moments: what is counted, that a pass can be resumed, and the cache."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from memkit.editors import statistics
from memkit.editors.cache import cache_folder
from memkit.editors.statistics import Moments, Statistics
from memkit.errors import BadInput, FingerprintMismatch, UnsupportedModel
from memkit.lm.batching import padded
from memkit.lm.hooks import capture
from memkit.lm.layouts import Site
from memkit.lm.model import LM
from memkit.testing.models import TINY, tiny_lm, tiny_tokenizer

WINDOW = 64
LINES = [
    "Who wrote Erewhon?",
    "One",
    "Zebras quietly juggle fresh oranges behind foggy windows, having known better days.",  # cut
    "Question: Who wrote Erewhon? Answer: Samuel Butler",
    "words and numbers, numbers and words: Samuel",
    "Two, three",
]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MEMKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "moments"


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES) + "\n")
    return str(path)


@pytest.fixture
def lm() -> LM:
    return tiny_lm("gpt2")


def down(lm: LM, layer: int = 1) -> Site:
    return lm.layout.site(lm.model, layer)


def cut_rows(lm: LM) -> list[list[int]]:
    """Ids of the lines, cut at the window; what closes a text is kept."""
    rows = [lm.tokenizer(line).input_ids for line in LINES]
    assert any(len(row) > WINDOW for row in rows)
    keep = 1 if lm.kind == "masked" or lm.kind == "encoder-decoder" else 0
    return [
        row if len(row) <= WINDOW else row[: WINDOW - keep] + row[len(row) - keep :] for row in rows
    ]


def reads(lm: LM):
    return lm.model.get_encoder() if lm.kind == "encoder-decoder" else lm.model


def by_hand(lm: LM, site: Site, rows: list[list[int]]) -> tuple[torch.Tensor, int]:
    """X^T X / m of all rows, read one by one, without padding."""
    with torch.no_grad(), capture(site.module, "input") as keys:
        for row in rows:
            reads(lm)(input_ids=torch.tensor([row]))
    X = torch.cat([one.reshape(-1, one.shape[-1]) for one in keys]).double()
    return X.T @ X / len(X), len(X)


def passes(monkeypatch, fail_at: int | None = None) -> list[int]:
    """Rows of each forward pass from here on; the one numbered `fail_at` is interrupted."""
    seen: list[int] = []
    true = statistics._read

    def counted(lm, ids, mask):
        if len(seen) == fail_at:
            raise KeyboardInterrupt
        seen.append(len(ids))
        true(lm, ids, mask)

    monkeypatch.setattr(statistics, "_read", counted)
    return seen


# the moment itself


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("projection", ["up", "down"])
def test_is_the_mean_outer_product_of_all_tokens_but_padding(name, projection, corpus):
    lm = tiny_lm(name)
    sites = [lm.layout.site(lm.model, layer, projection) for layer in (2, 0)]
    every = Statistics(corpus, tokens=10**6).collect(lm, sites)
    rows = cut_rows(lm)
    for site, moments in zip(sites, every, strict=True):
        expected, count = by_hand(lm, site, rows)
        assert moments.count == count == sum(map(len, rows))
        assert moments.site == site.name
        assert moments.matrix.dtype == torch.float64
        torch.testing.assert_close(moments.matrix, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(moments.matrix, moments.matrix.T)
        assert torch.linalg.eigvalsh(moments.matrix).min() > -1e-9 * moments.matrix.trace()
    assert not torch.allclose(*[each.matrix for each in every], rtol=1e-2)


@pytest.mark.parametrize("name", ["gpt2", "opt"])  # [batch, length] and one flat axis
def test_with_padding_it_would_be_another(name, corpus):
    lm = tiny_lm(name)
    (moments,) = Statistics(corpus, tokens=10**6).collect(lm, [down(lm)])
    ids, mask = padded(cut_rows(lm), lm.device, left=False)
    with torch.no_grad(), capture(down(lm).module, "input") as keys:
        lm.model(input_ids=ids, attention_mask=mask)
    X = keys[0].flatten(0, -2).double()
    assert len(X) > moments.count
    assert not torch.allclose(X.T @ X / len(X), moments.matrix, rtol=1e-2)


def test_agrees_with_the_activations_behind_the_up_projection(lm, corpus):
    (moments,) = Statistics(corpus, tokens=10**6).collect(lm, [down(lm)])
    mlp = lm.model.transformer.h[1].mlp
    with torch.no_grad(), capture(mlp.c_fc) as before:
        for row in cut_rows(lm):
            lm.model(input_ids=torch.tensor([row]))
    X = torch.cat([mlp.act(one[0]) for one in before]).double()
    torch.testing.assert_close(moments.matrix, X.T @ X / len(X), rtol=1e-5, atol=1e-5)


def test_many_small_batches_equal_one(lm, corpus, monkeypatch, tmp_path):
    recipe, sites = Statistics(corpus, tokens=10**6), [down(lm)]
    seen = passes(monkeypatch)
    (one,) = recipe.collect(lm, sites, tmp_path / "one")
    assert seen == [len(LINES)]
    monkeypatch.setattr(statistics, "BATCH", 30)
    monkeypatch.setattr(statistics, "CHUNK", 40)
    (many,) = recipe.collect(lm, sites, tmp_path / "many")
    assert len(seen) > 4
    assert one.count == many.count
    torch.testing.assert_close(one.matrix, many.matrix, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 50, 51])
def test_the_budget_is_kept_to_the_token(lm, corpus, tokens):
    (moments,) = Statistics(corpus, tokens).collect(lm, [down(lm)])
    flat = [i for row in cut_rows(lm) for i in row]
    assert moments.count == tokens < len(flat)
    rows, left = [], tokens
    for row in cut_rows(lm):
        rows.append(row[:left])
        left -= len(rows[-1])
    expected, _ = by_hand(lm, down(lm), [row for row in rows if row])
    torch.testing.assert_close(moments.matrix, expected, rtol=1e-4, atol=1e-5)


def test_the_default_budget_is_ten_keys_a_dimension_of_the_widest_site(lm):
    sites = [lm.layout.site(lm.model, 0, "up"), down(lm, 0)]
    assert [site.weight.shape[1] for site in sites] == [32, 40]
    up, wide = Statistics().collect(lm, sites)
    assert up.count == wide.count == 400
    assert not wide.report()["short"]
    assert Statistics().collect(lm, sites[:1])[0].count == 320


def test_the_model_is_as_before(lm, corpus):
    before = lm.fingerprint()
    state = torch.get_rng_state()
    Statistics(corpus).collect(lm, [down(lm)])
    assert lm.fingerprint() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_pre_hooks for module in lm.model.modules())


def test_one_site_twice_is_one_moment(lm, corpus, monkeypatch):
    seen = passes(monkeypatch)
    first, second = Statistics(corpus).collect(lm, [down(lm), down(lm)])
    assert first is second
    assert len(seen) == 1


def test_no_site_needs_no_model(lm, corpus, monkeypatch):
    seen = passes(monkeypatch)
    assert Statistics(corpus).collect(lm, []) == []
    assert seen == []


def test_a_site_that_reading_does_not_run_is_refused(corpus):
    lm = tiny_lm("t5")
    site = lm.layout.site(lm.model, 0, stack="decoder")
    with pytest.raises(UnsupportedModel, match=r"decoder\.block\.0.*encoder-decoder"):
        Statistics(corpus).collect(lm, [site])


def test_keys_that_are_not_finite_are_refused(lm, corpus, cache):
    lm.model.transformer.h[1].mlp.c_fc.bias.data[3] = torch.inf
    with pytest.raises(BadInput, match=r"mlp\.c_proj are not finite"):
        Statistics(corpus).collect(lm, [down(lm)])
    assert not list(cache.glob("*"))


def test_a_corpus_without_text_is_refused(lm, tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(BadInput, match=r"blank\.txt.*has no text"):
        Statistics(str(tmp_path / "blank.txt")).collect(lm, [down(lm)])


def test_half_precision_is_summed_in_double(corpus):
    lm = tiny_lm("llama")
    (full,) = Statistics(corpus).collect(lm, [down(lm)])
    lm.model.bfloat16()
    (half,) = Statistics(corpus).collect(lm, [down(lm)])
    assert half.matrix.dtype == torch.float64
    assert not torch.equal(half.matrix, full.matrix)
    assert torch.linalg.norm(half.matrix - full.matrix) < 0.05 * torch.linalg.norm(full.matrix)


# a pass that was killed


def test_a_killed_pass_goes_on_where_it_was_saved(lm, corpus, monkeypatch, tmp_path, cache):
    monkeypatch.setattr(statistics, "BATCH", 30)
    monkeypatch.setattr(statistics, "CHUNK", 40)
    recipe, sites = Statistics(corpus, tokens=10**6), [down(lm, 0), down(lm, 2)]
    with monkeypatch.context() as whole:
        uncut = passes(whole)
        expected = recipe.collect(lm, sites, tmp_path / "whole")
    monkeypatch.setattr(statistics, "SAVE_SECONDS", -1)
    with monkeypatch.context() as broken:
        seen = passes(broken, fail_at=2)
        with pytest.raises(KeyboardInterrupt):
            recipe.collect(lm, sites)
    assert 0 < len(seen) < len(uncut)
    (partial,) = cache.iterdir()
    assert partial.name.startswith(".partial-")
    rest = passes(monkeypatch)
    found = recipe.collect(lm, sites)
    assert len(rest) < len(uncut)
    assert sum(rest) < sum(uncut)
    for one, other in zip(found, expected, strict=True):
        assert one.count == other.count
        # the last bit of a product may depend on where its factors lie in memory
        torch.testing.assert_close(one.matrix, other.matrix, rtol=1e-13, atol=1e-15)
    assert {path.suffix for path in cache.iterdir()} == {".safetensors"}
    assert not partial.exists()


def test_damaged_partial_sums_are_computed_again(lm, corpus, monkeypatch, cache):
    monkeypatch.setattr(statistics, "CHUNK", 20)
    monkeypatch.setattr(statistics, "SAVE_SECONDS", -1)
    with monkeypatch.context() as broken:
        passes(broken, fail_at=1)
        with pytest.raises(KeyboardInterrupt):
            Statistics(corpus, 90).collect(lm, [down(lm)])
    (partial,) = cache.iterdir()
    partial.write_bytes(partial.read_bytes()[:-100])
    (moments,) = Statistics(corpus, 90).collect(lm, [down(lm)])
    assert moments.count == 90
    assert not partial.exists()


# the cache


def test_what_was_computed_is_read_from_disk(lm, corpus, monkeypatch, tmp_path):
    (first,) = Statistics(corpus).collect(lm, [down(lm)])
    seen = passes(monkeypatch)
    (again,) = Statistics(corpus, ridge=0.5).collect(lm, [down(lm)])
    moved = tmp_path / "other name.txt"
    moved.write_bytes(Path(corpus).read_bytes())
    (renamed,) = Statistics(str(moved)).collect(lm, [down(lm)])
    assert seen == []
    assert torch.equal(first.matrix, again.matrix)
    assert torch.equal(first.matrix, renamed.matrix)
    assert (first.ridge, again.ridge) == (0.0, 0.5)


def test_all_that_it_depends_on_is_in_the_key(lm, corpus, monkeypatch):
    Statistics(corpus).collect(lm, [down(lm)])
    seen = passes(monkeypatch)
    Statistics(corpus).collect(lm, [down(lm)])
    assert seen == []
    Statistics(corpus).collect(lm, [down(lm, 2)])
    assert len(seen) == 1
    Statistics(corpus, tokens=41).collect(lm, [down(lm)])
    assert len(seen) == 2
    with Path(corpus).open("a") as file:
        file.write("One more line.\n")
    Statistics(corpus).collect(lm, [down(lm)])
    assert len(seen) == 3
    lm.model.transformer.h[0].mlp.c_fc.weight.data.mul_(1.01)
    changed = LM(lm.model, lm.tokenizer)
    Statistics(corpus).collect(changed, [down(lm)])
    assert len(seen) == 4
    Statistics(corpus).collect(LM(lm.model, tiny_tokenizer("start")), [down(lm)])
    assert len(seen) == 5


def test_damaged_files_are_computed_again(lm, corpus, monkeypatch, cache):
    (first,) = Statistics(corpus).collect(lm, [down(lm)])
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-8])
    seen = passes(monkeypatch)
    (again,) = Statistics(corpus).collect(lm, [down(lm)])
    assert len(seen) == 1
    assert torch.equal(first.matrix, again.matrix)


def test_a_file_under_the_name_of_another_is_not_taken(lm, corpus, monkeypatch, cache):
    Statistics(corpus).collect(lm, [down(lm)])
    (path,) = cache.iterdir()
    content = path.read_bytes()
    Statistics(corpus, tokens=41).collect(lm, [down(lm)])
    (other,) = set(cache.iterdir()) - {path}
    other.write_bytes(content)
    seen = passes(monkeypatch)
    (moments,) = Statistics(corpus, tokens=41).collect(lm, [down(lm)])
    assert len(seen) == 1
    assert moments.count == 41


def test_the_folder_is_an_argument_or_in_the_environment(lm, corpus, monkeypatch, tmp_path, cache):
    Statistics(corpus).collect(lm, [down(lm)], tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert not cache.exists()
    monkeypatch.delenv("MEMKIT_CACHE")
    assert cache_folder("moments") == Path.home() / ".cache" / "memkit" / "moments"


def test_a_folder_that_cannot_be_written_says_so(lm, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="MEMKIT_CACHE"):
        Statistics(corpus).collect(lm, [down(lm)], tmp_path / "file")


def test_moments_of_another_model_or_tokenizer_are_refused(lm, corpus, tmp_path):
    (moments,) = Statistics(corpus).collect(lm, [down(lm)])
    moments.save(tmp_path / "mine.safetensors")
    again = Moments.load(tmp_path / "mine.safetensors", lm, ridge=0.25)
    assert torch.equal(again.matrix, moments.matrix)
    assert (again.count, again.origin, again.ridge) == (moments.count, moments.origin, 0.25)
    other = tiny_lm("gpt2", seed=1)
    with pytest.raises(FingerprintMismatch) as model:
        Moments.load(tmp_path / "mine.safetensors", other)
    assert lm.fingerprint() in str(model.value)
    assert other.fingerprint() in str(model.value)
    with pytest.raises(FingerprintMismatch, match=f"tokenizer.*{moments.origin.tokenizer}"):
        Moments.load(tmp_path / "mine.safetensors", LM(lm.model, tiny_tokenizer("start")))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_a_file_of_something_else_is_refused(lm, tmp_path, content):
    path = tmp_path / "other.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"other\.safetensors.*cannot be read as moments"):
        Moments.load(path, lm)


# solving


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_solves_as_torch_does(lm, ridge):
    (moments,) = Statistics(ridge=ridge).collect(lm, [down(lm)])
    C = moments.matrix + ridge * moments.matrix.trace() / 40 * torch.eye(40, dtype=torch.float64)
    K = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = moments.solve(K)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.linalg.solve(C, K.double()), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(C @ found, K.double(), rtol=1e-7, atol=1e-9)
    assert moments._factor is moments._factor


def test_fewer_keys_than_dimensions_need_a_ridge(lm, corpus):
    (moments,) = Statistics(corpus, tokens=39).collect(lm, [down(lm)])
    K = torch.ones(40, 1)
    with pytest.raises(BadInput, match=r"39 keys.*d_in = 40.*`tokens`.*`ridge`"):
        moments.solve(K)
    assert moments.report()["condition"] == math.inf
    (ridged,) = Statistics(corpus, tokens=39, ridge=1e-2).collect(lm, [down(lm)])
    assert ridged.solve(K).isfinite().all()


def test_a_direction_that_no_key_has_needs_a_ridge():
    lm = tiny_lm("opt")  # ReLU: a unit can be dead
    lm.model.model.decoder.layers[1].fc1.bias.data[7] = -1e6
    (moments,) = Statistics().collect(lm, [down(lm)])
    assert moments.count == 400
    assert moments.matrix[7].abs().max() == 0
    with pytest.raises(BadInput, match=r"400 keys.*d_in = 40"):
        moments.solve(torch.ones(40, 1))


def test_two_units_that_always_agree_need_a_ridge(lm):
    weight, bias = (getattr(lm.model.transformer.h[1].mlp.c_fc, n).data for n in ("weight", "bias"))
    weight[:, 5], bias[5] = weight[:, 4], bias[4]
    (moments,) = Statistics().collect(lm, [down(lm)])
    assert moments.matrix.diagonal().min() > 0
    with pytest.raises(BadInput, match="singular"):
        moments.solve(torch.ones(40, 1))


def test_units_of_very_unlike_size_are_no_reason_to_refuse(lm):
    (moments,) = Statistics().collect(lm, [down(lm)])
    scale = torch.logspace(-6, 6, 40, dtype=torch.float64)
    scaled = Moments(scale[:, None] * moments.matrix * scale, moments.count, moments.origin)
    assert scaled.condition > 1e16
    K = torch.ones(40, 1, dtype=torch.float64)
    expected = moments.solve(K / scale[:, None]) / scale[:, None]
    torch.testing.assert_close(scaled.solve(K), expected, rtol=1e-6, atol=0)


# what is reported


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_report_agrees_with_the_eigenvalues(lm, ridge):
    (moments,) = Statistics(ridge=ridge).collect(lm, [down(lm)])
    values = torch.linalg.eigvalsh(moments.matrix)
    shifted = values + ridge * values.mean()
    report = moments.report()
    assert report["condition"] == pytest.approx(float(shifted[-1] / shifted[0]), rel=2e-3)
    rank = float(values.sum() ** 2 / values.square().sum())
    assert report["effective_rank"] == pytest.approx(rank, rel=1e-6)
    assert 1 < rank < 40
    assert (report["count"], report["ridge"], report["corpus"]) == (400, ridge, "sample")
    assert report["identity"] is False


def test_a_corpus_that_is_too_short_is_in_the_report(lm, corpus):
    (moments,) = Statistics(corpus, tokens=10**5).collect(lm, [down(lm)])
    report = moments.report()
    assert report["short"]
    assert report["count"] == sum(map(len, cut_rows(lm))) < report["tokens"] == 10**5


def test_the_identity_reads_nothing_and_says_so(lm, monkeypatch, cache):
    seen = passes(monkeypatch)
    (moments,) = Statistics(identity=True, ridge=1.0).collect(lm, [down(lm)])
    assert seen == []
    assert not cache.exists()
    assert torch.equal(moments.matrix, torch.eye(40, dtype=torch.float64))
    K = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moments.solve(K), K.double() / 2)
    report = moments.report()
    assert report["identity"]
    assert (report["condition"], report["effective_rank"]) == (1.0, 40.0)
    assert (report["count"], report["corpus"], report["short"]) == (0, "none", False)


# the recipe


def test_its_representation_rebuilds_it():
    recipe = Statistics("some/set:config", tokens=7, ridge=0.5, identity=True)
    assert eval(repr(recipe)) == recipe
    assert recipe != Statistics()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"ridge": -1e-9}, "ridge is -1e-09"),
        ({"ridge": math.nan}, "ridge is nan"),
        ({"ridge": math.inf}, "ridge is inf"),
        ({"corpus": ""}, "corpus is ''"),
        ({"corpus": None}, "corpus is None"),
    ],
)
def test_refuses_what_is_out_of_range(values, said):
    with pytest.raises(BadInput, match=said):
        Statistics(**values)
