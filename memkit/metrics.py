"""Scores of answers, and how sure one can be of their mean: pure functions, each with its source.

A match rule takes a prediction and the accepted answers and gives a number in [0, 1]; several
answers count as their best. No rule credits an answer that is empty once normalised ("The", "?"):
otherwise every prediction would match it.

Statistics take one value for each question and, where questions hang together, one `group` for
each: questions on one subject are right or wrong together, and a group is then what was sampled.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memkit.errors import BadInput
from memkit.truthfulness import bleu, mc1, mc2, mc3, nearer_truth, rouge1

__all__ = [
    "Difference",
    "bleu",
    "bootstrap_means",
    "contains",
    "exact_match",
    "generation_entropy",
    "grace_f1",
    "harmonic_mean",
    "mc1",
    "mc2",
    "mc3",
    "nearer_truth",
    "ngram_entropy",
    "normalise",
    "oracle_gap_closed",
    "paired_bootstrap",
    "popqa_substring",
    "rouge1",
    "same_answer",
    "tfidf_cosines",
    "token_f1",
    "wilson_interval",
]

Floats = npt.NDArray[np.float64]
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
TOKENS = re.compile(r"\w+|[^\w\s]")  # a run of letters and digits, or one sign
TERMS = re.compile(r"\b\w\w+\b")  # scikit-learn's: words of at least two letters
Z = 1.959963984540054  # the normal quantile of a two-sided interval of 95 %
BLOCK = 2_000_000  # multinomial counts that are held in memory at once


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single blanks.

    Source: Rajpurkar et al., EMNLP 2016 (SQuAD), `normalize_answer` of the official evaluation.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals an answer, both normalised, else 0. Source: SQuAD, as above."""
    predicted = normalise(prediction)
    return float(predicted != "" and any(predicted == normalise(answer) for answer in answers))


def contains(prediction: str, answers: Sequence[str]) -> float:
    """1 if the words of an answer stand in a row in the prediction, both normalised, else 0.

    Containment at word boundaries: "us" is not found in "music". It rewards long predictions, so
    print it beside `exact_match`.
    """
    words = f" {normalise(prediction)} "
    return float(any(gold and f" {gold} " in words for gold in map(normalise, answers)))


def popqa_substring(prediction: str, answers: Sequence[str]) -> float:
    """1 if an answer, as it is, lower-cased or capitalised, is a substring of the prediction.

    Source: Mallen et al., ACL 2023, section 3, as in their code: no normalisation and no word
    boundary ("us" is found in "music"). For comparison with published figures only.
    """
    forms = {form for a in answers for form in (a, a.lower(), a.capitalize()) if form}
    return float(any(form in prediction for form in forms))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, best answer. Source: SQuAD, as above.

    Words are counted with their multiplicity, in any order.
    """
    predicted = Counter(normalise(prediction).split())

    def f1(gold: Counter[str]) -> float:
        shared = (predicted & gold).total()
        return 2 * shared / (predicted.total() + gold.total()) if shared else 0.0

    return max((f1(Counter(normalise(answer).split())) for answer in answers), default=0.0)


def grace_f1(prediction: Sequence[int], target: Sequence[int]) -> float:
    """F1 of token ids as the GRACE code has it: distinct shared ids over the numbers of all.

    Order is ignored, and repeats lower it. Special tokens count: with the end token in both, a
    wrong answer of one token scores 0.5, and of two tokens against three 0.29. Source:
    Thartvigsen/GRACE. For comparison with published figures only.
    """
    shared = len(set(prediction) & set(target))
    return 2 * shared / (len(prediction) + len(target)) if shared else 0.0


def same_answer(a: str, b: str) -> float:
    """1 if two predictions are equal once normalised, else 0.

    Where nothing is left of either ("" and "?"), they have to be equal as they are.
    """
    return float(normalise(a) == normalise(b) and (normalise(a) != "" or a.strip() == b.strip()))


def ngram_entropy(tokens: Sequence[str], n: int) -> float:
    """Entropy (bits) of the n-grams of a text, -sum f log2 f over their relative frequencies f.

    0 where there is at most one kind of n-gram: for a text that repeats itself, or is too short.
    """
    counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    shares = [count / counts.total() for count in counts.values()]
    return math.fsum(-share * math.log2(share) for share in shares)


def generation_entropy(text: str) -> float:
    """GE, how varied a generated text is: the mean of 2/3 H2 and 4/3 H3, H_n as `ngram_entropy`.

    Source: Zhang et al., NeurIPS 2018, weighted as in Meng et al., NeurIPS 2022 (ROME), who print
    100 times as much. Departure: tokens are runs of letters and digits and single other signs,
    not those of nltk. It grows with length: compare texts of equal length.
    """
    tokens = TOKENS.findall(text)
    return (2 / 3 * ngram_entropy(tokens, 2) + 4 / 3 * ngram_entropy(tokens, 3)) / 2


def tfidf_cosines(
    texts: Sequence[str], references: Sequence[str], corpus: Sequence[str]
) -> list[float]:
    """Cosine of each text with its reference, as vectors of tf-idf over the terms of a corpus.

        tf(t, d) (1 + ln((1 + N)/(1 + df(t))))

    tf counts a term in a text, df the texts of the corpus that have it, of N; terms are words of
    at least two letters, lower-cased. 0 where a text has no term of the corpus. With one reference
    text for each generated one it is RS, the consistency of Meng et al., NeurIPS 2022 (ROME).
    Source: the defaults of scikit-learn's `TfidfVectorizer`.
    """
    df = Counter(term for text in corpus for term in set(_terms(text)))
    idf = {term: 1 + math.log((1 + len(corpus)) / (1 + count)) for term, count in df.items()}

    def vector(text: str) -> dict[str, float]:
        counts = Counter(_terms(text))
        return {term: count * idf[term] for term, count in counts.items() if term in idf}

    return [_cosine(vector(a), vector(b)) for a, b in zip(texts, references, strict=True)]


def harmonic_mean(values: npt.ArrayLike) -> Floats:
    """k / (1/x1 + ... + 1/xk) along the last axis, of numbers of at least 0; 0 where one is 0."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore"):
        mean: Floats = array.shape[-1] / (1 / array).sum(axis=-1)
    return mean


def oracle_gap_closed(accuracy: float, never: float, always: float, oracle: float) -> float | None:
    """The share of the possible gain that a router makes, negative if it does harm.

        (accuracy - max(never, always)) / (oracle - max(never, always))

    `oracle` is the mean over questions of max(weights right, right with retrieval). None where the
    denominator is 0: no router could gain anything.
    """
    best = max(never, always)
    return (accuracy - best) / (oracle - best) if oracle > best else None


def wilson_interval(
    values: Sequence[float] | Floats, groups: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """The 95 % interval of the mean m of n values in [0, 1], never empty at 0 and 1.

        (m + z^2/2N +- z sqrt(m (1 - m)/N + z^2/4N^2)) / (1 + z^2/N)

    Source: Wilson, JASA 1927. N is n, or with `groups` the effective sample size m (1 - m)/V
    (Kish 1965), at most n, where V = sum over groups of (sum of its values - m times their
    number)^2 / n^2 is the variance of m under sampling of groups. Where V is 0, as it is at m = 0
    and 1, N is the number of groups.

    Raises `BadInput` without values, for a value outside [0, 1], or if lengths differ.
    """
    sums, sizes = _by_group(values, groups)
    if not ((np.asarray(values) >= 0) & (np.asarray(values) <= 1)).all():
        bad = next(value for value in values if not 0 <= value <= 1)
        raise BadInput(f"a value is {bad!r}; allowed: scores in [0, 1]. Correct its source.")
    n = float(sizes.sum())
    mean = min(float(sums.sum()) / n, 1.0)
    spread = mean * (1 - mean)
    variance = float(((sums - mean * sizes) ** 2).sum()) / n**2
    effective = min(n, spread / variance) if variance > 0 else float(len(sizes))
    centre = mean + Z**2 / (2 * effective)
    half = Z * math.sqrt(spread / effective + Z**2 / (4 * effective**2))
    scale = 1 + Z**2 / effective
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two means, its 95 % interval, and the p-value of its being 0 (two-sided)."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The difference mean(a) - mean(b) on the same questions, by resampling questions (or groups).

    Percentile interval; p = min(1, 2 (1 + r)/(1 + resamples)), where r is the smaller number of
    resamples whose difference is at most, or at least, 0. Source: Efron & Tibshirani 1993,
    chapters 13 and 15; Koehn, EMNLP 2004, for paired resampling of test questions.

    How often each *kind* of group (same sum, same size) is drawn is multinomial, so kinds are
    drawn and not groups: the same distribution, and ten thousand resamples of ten thousand
    questions that are right or wrong take milliseconds.

    Raises `BadInput` without values or if lengths differ.
    """
    if len(a) != len(b):
        raise BadInput(f"{len(a)} values against {len(b)}; allowed: pairs. Score the same rows.")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    sums, sizes = _by_group(difference, groups)
    kinds, counts = np.unique(np.column_stack([sums.round(12), sizes]), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    share, step = counts / counts.sum(), max(1, BLOCK // len(counts))
    means = []
    for start in range(0, resamples, step):
        drawn = rng.multinomial(counts.sum(), share, size=min(step, resamples - start)) @ kinds
        means.append(drawn[:, 0] / drawn[:, 1])
    drawn_means = np.concatenate(means)
    low, high = np.quantile(drawn_means, [0.025, 0.975])
    rarer = min((drawn_means <= 0).sum(), (drawn_means >= 0).sum())
    p = min(1.0, 2 * (1 + int(rarer)) / (1 + resamples))
    return Difference(float(sums.sum() / sizes.sum()), float(low), float(high), p)


def bootstrap_means(rows: Floats, *, resamples: int = 1000, seed: int = 0) -> Floats:
    """Means of the columns of `rows` [cases, k], over cases drawn with replacement: [resamples, k].

    NaN marks a case that has no value in a column; a mean is over those that have one, and NaN in
    a resample without any. All columns see the same resamples, so that whatever is computed of
    several means has its interval from their quantiles. Source: Efron & Tibshirani 1993, chapter 6.

    Raises `BadInput` without cases.
    """
    if len(rows) == 0:
        raise BadInput("there are no cases; allowed: at least one. Score something first.")
    rng = np.random.default_rng(seed)
    there = ~np.isnan(rows)
    filled, step = np.where(there, rows, 0.0), max(1, BLOCK // len(rows))
    means = []
    for start in range(0, resamples, step):
        share = np.full(len(rows), 1 / len(rows))
        drawn = rng.multinomial(len(rows), share, size=min(step, resamples - start)).astype(float)
        with np.errstate(invalid="ignore"):
            means.append((drawn @ filled) / (drawn @ there))
    return np.concatenate(means)


def _terms(text: str) -> list[str]:
    return TERMS.findall(text.lower())


def _cosine(a: dict[str, float], b: dict[str, float]) -> float:
    norms = math.hypot(*a.values()) * math.hypot(*b.values())
    return math.fsum(a[term] * b.get(term, 0.0) for term in a) / norms if norms else 0.0


def _by_group(
    values: Sequence[float] | Floats, groups: Sequence[Hashable] | None
) -> tuple[Floats, Floats]:
    """Sum and number of the values of each group; without groups each value is one."""
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        raise BadInput("there are no values; allowed: at least one. Score some questions first.")
    if groups is None:
        return array, np.ones_like(array)
    if len(groups) != array.size:
        raise BadInput(f"{array.size} values but {len(groups)} groups; allowed: one for each.")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    sizes = np.bincount(index)
    return np.bincount(index, weights=array).astype(float), sizes.astype(float)
