"""The trigram is Kneser and Ney's: against a slow version from the formulas, and against what any model must be."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.training.trigram import DISCOUNTS, bits_per_token, count, trigram, tuned_discounts

texts = st.lists(st.integers(0, 3), min_size=3, max_size=60)
discounts = st.tuples(*3 * [st.floats(0.05, 0.95)])


def by_formula(tokens, vocab_size, discounts):
    """P(c | a, b) as Chen & Goodman write it, with dictionaries."""
    threes = Counter(zip(tokens, tokens[1:], tokens[2:], strict=False))
    before_pair, before_one = defaultdict(set), defaultdict(set)
    for a, b, c in threes:
        before_pair[b, c].add(a)
    for b, c in before_pair:
        before_one[c].add(b)

    def smooth(counts, history, token, discount, shorter):
        """counts: (…history, token) → how often."""
        of_history = {key[-1]: n for key, n in counts.items() if key[:-1] == history}
        total = sum(of_history.values())
        if total == 0:
            return shorter
        return (max(of_history.get(token, 0) - discount, 0) + discount * len(of_history) * shorter) / total

    def p(a, b, c):
        one = smooth({(c,): len(bs) for c, bs in before_one.items()}, (), c, discounts[0], 1 / vocab_size)
        two = smooth({pair: len(as_) for pair, as_ in before_pair.items()}, (b,), c, discounts[1], one)
        return smooth(threes, (a, b), c, discounts[2], two)

    return p


@settings(max_examples=40, deadline=None)
@given(texts, discounts)
def test_equals_the_formula_and_is_a_distribution(tokens, discounts):
    table = trigram(count(torch.tensor(tokens), 5), discounts)  # the fifth token never comes
    torch.testing.assert_close(table.sum(-1), torch.ones(5, 5, dtype=torch.float64))
    assert (table > 0).all()
    p = by_formula(tokens, 5, discounts)
    for a, b, c in [(0, 1, 2), (4, 0, 1), (0, 4, 4), (3, 3, 3), (*tokens[:3],), (1, 0, 4)]:
        assert table[a, b, c].item() == pytest.approx(p(a, b, c), rel=1e-9)


def test_bits_by_hand():
    table = torch.full((2, 2, 2), 0.5, dtype=torch.float64)
    table[0, 0] = torch.tensor([0.25, 0.75])
    tokens = torch.tensor([0, 0, 0, 1, 0])  # 0 0 → 0, 0 0 → 1, 0 1 → 0
    assert bits_per_token(table, tokens) == pytest.approx((2 - math.log2(0.75) + 1) / 3)


def test_tuning_finds_no_worse_neighbour():
    source = torch.Generator().manual_seed(0)
    steps = torch.multinomial(torch.tensor([0.5, 0.3, 0.1, 0.1]), 3000, replacement=True, generator=source)
    walk = steps.cumsum(0) % 7
    counts, tuning = count(walk[:300], 7), walk[300:]
    best = tuned_discounts(counts, tuning)
    cost = bits_per_token(trigram(counts, best), tuning)
    for place in range(3):
        for other in DISCOUNTS:
            tried = [*best[:place], other, *best[place + 1 :]]
            assert bits_per_token(trigram(counts, tried), tuning) >= cost - 1e-4
    assert cost < bits_per_token(trigram(counts, (0.05, 0.05, 0.05)), tuning) - 0.01
