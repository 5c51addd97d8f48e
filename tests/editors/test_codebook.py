"""The codebook: Algorithm 1's table, and look-up beside a plain one."""

from __future__ import annotations

import math
import random

import pytest
import torch

from memkit.editors.codebook import NEAR, SLACK, Codebook, Decision

OLD, NEW = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def at(*place):
    """A query in the plane."""
    return torch.tensor([*place, *[0.0] * (2 - len(place))])


def write(book, query, label, value=NEW):
    decision = book.decide(query, label)
    return decision, book.carry_out(decision, query, value, label)


def one_key(radius=1.0, **how):
    """A codebook with a key at the origin, label A."""
    book = Codebook(1.0, **how)
    write(book, at(0.0), "A", OLD)
    book._radii[0] = radius
    return book


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize(
    ("expansion", "d", "label", "action", "radii"),
    [
        ("paper", 0.5, "A", "expand", [2.0]),
        ("paper", 1.7, "A", "expand", [2.0]),
        ("paper", 2.5, "A", "add", [1.0, 1.0]),
        ("paper", 2.5, "B", "add", [1.0, 1.0]),
        ("paper", 0.5, "B", "split", [0.25, 0.25]),
        ("paper", 2.0, "B", "split", [1.0, 1.0]),
        ("coverage", 0.5, "A", "expand", [1.0]),
        ("coverage", 1.7, "A", "expand", [1.7]),
        ("coverage", 2.5, "A", "add", [1.0, 1.0]),
        ("coverage", 2.5, "B", "add", [1.0, 1.0]),
        ("coverage", 0.5, "B", "split", [0.25 - 1e-5, 0.25]),
        ("coverage", 2.0, "B", "split", [1.0 - 1e-5, 1.0]),
    ],
)
def test_the_table_of_algorithm_1(expansion, d, label, action, radii, literal):
    book = one_key(expansion=expansion, literal=literal)
    decision, key = write(book, at(d), label)
    assert decision == (action, 0, pytest.approx(d))
    assert book.radii.tolist() == pytest.approx(radii, abs=1e-7)
    assert key == len(radii) - 1
    assert book.labels == ["A", label][: len(radii)]
    assert book.keys.tolist() == [[0, 0], [pytest.approx(d), 0]][: len(radii)]
    values = [OLD, NEW][: len(radii)]
    assert torch.equal(book.values, torch.stack(values))  # an expanded key keeps its own


@pytest.mark.parametrize("expansion", ["paper", "coverage"])
def test_a_split_shrinks_and_the_written_rule_can_enlarge(expansion):
    gap = 1e-5 if expansion == "coverage" else 0.0
    for literal, first in [(False, 0.1), (True, 0.5 - gap)]:
        book = one_key(0.1, expansion=expansion, literal=literal)
        write(book, at(1.0), "B")
        assert book.radii.tolist() == pytest.approx([first, 0.5], abs=1e-7)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("expansion", ["paper", "coverage"])
def test_the_two_balls_of_a_split_never_overlap(distance, expansion):
    rng, splits = random.Random(0), 0
    book = Codebook(0.8, expansion=expansion, distance=distance)
    for _ in range(200):
        query = torch.tensor([rng.gauss(0, 1) for _ in range(3)])
        (action, nearest, apart), key = write(book, query, rng.choice("AB"))
        if action == "split":
            splits += 1
            assert book.labels[nearest] != book.labels[key]
            assert float(book.radii[nearest] + book.radii[key]) <= apart + 1e-6
    assert splits > 10


def test_the_same_query_with_another_label_takes_the_key_over():
    book = one_key(3.0)
    decision, key = write(book, at(SLACK / 2), "B")
    assert decision == ("rewrite", 0, pytest.approx(SLACK / 2))
    assert (key, book.labels, book.radii.tolist()) == (0, ["B"], [1.0])
    assert torch.equal(book.values, NEW[None])
    book = one_key(3.0, literal=True)
    decision, key = write(book, at(0.0), "B")
    assert decision == ("split", 0, 0.0)
    assert book.radii.tolist() == [0.0, 0.0]  # what Algorithm 1 makes of it: nobody's prompt
    assert (book.labels, key) == (["A", "B"], 1)


def test_the_surface_is_blurred_unless_literal():
    just, out = torch.stack([at(1.0), at(1 + SLACK / 2)]), at(1 + 2 * SLACK)[None]
    assert one_key().look_up(just)[0].tolist() == [True, True]
    assert one_key(literal=True).look_up(just)[0].tolist() == [True, False]
    assert one_key().look_up(out)[0].tolist() == [False]


def test_the_nearest_key_alone_decides():
    book = Codebook(1.0)
    for place, label, radius in [(0.0, "A", 9.0), (4.0, "B", 0.5)]:
        book.carry_out(Decision("add", -1, math.inf), at(place), OLD, label)
        book._radii[len(book) - 1] = radius
    found, key = book.look_up(torch.stack([at(1.9), at(2.1), at(3.8), at(-9.5)]))
    assert key.tolist() == [0, 1, 1, 0]
    assert found.tolist() == [True, False, True, False]  # at 2.1 key 0 would reach, were it nearest


def plain(keys, query, distance):
    """Distances in float64, one by one."""
    keys, query = keys.double(), query.double()
    if distance == "cosine":
        return [float(1 - k @ query / (k.norm() * query.norm())) for k in keys]
    return [float((k - query).norm()) for k in keys]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_look_up_beside_a_plain_one(distance, shift):
    """Also where all vectors have a large part in common, as hidden states have."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(500, 24, generator=generator) + shift
    queries = torch.cat([keys[:20] + 1e-3, torch.randn(30, 24, generator=generator) + shift])
    book = Codebook(0.1, distance=distance)
    for number, key in enumerate(keys):
        made = book.carry_out(Decision("add", -1, math.inf), key, key[:2], "A")
        assert made == number
    assert torch.equal(book.values, keys[:, :2])
    distances, nearest = book.nearest(queries)
    tight = 1e-6 if distance == "cosine" else 1e-5
    for query, found, key in zip(queries, distances.tolist(), nearest.tolist(), strict=True):
        expected = plain(keys, query, distance)
        assert found == pytest.approx(min(expected), abs=tight)
        assert expected[key] == pytest.approx(min(expected), abs=tight)
    each = [book.nearest(query[None]) for query in queries]
    assert torch.equal(torch.cat([d for d, _ in each]), distances)
    assert torch.equal(torch.cat([key for _, key in each]), nearest)


def test_it_grows_by_doubling_and_is_cleared():
    book, sizes = Codebook(1.0), set()
    assert len(book) == 0
    assert book.decide(at(0.0), "A") == ("add", -1, math.inf)
    for number in range(100):
        write(book, at(10.0 * number), "A", torch.full((3,), float(number)))
        sizes.add(len(book._keys))
    assert sizes == {8, 16, 32, 64, 128}
    assert len(book) == len(book.keys) == len(book.radii) == 100 > NEAR
    assert book.values[:, 0].tolist() == list(range(100))
    book.clear()
    assert len(book) == 0
    assert write(book, at(5.0), "B")[0].action == "add"
    assert book.keys.tolist() == [[5.0, 0.0]]


def test_half_precision_is_kept_in_float32():
    book = Codebook(1.0)
    write(book, at(1 / 3).bfloat16(), "A", OLD)
    assert book.keys.dtype == torch.float32
    assert book.look_up(at(1 / 3).bfloat16()[None])[0].tolist() == [True]
    assert float(book.nearest(at(1 / 3).bfloat16()[None])[0]) == 0.0
