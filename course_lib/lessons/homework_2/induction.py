"""Homework 2: which head is an induction head?"""

from itertools import combinations

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.parts import hidden_first
from course_lib.lessons.tools import vectors


def scored(offset=lambda half: half - 1, queries=lambda half: range(half, 2 * half), mean=lambda w, half: w.mean(-1)):
    """Each head's mean weight on the key that stands `offset` before the query."""

    def score(attention):
        half = attention.shape[-1] // 2
        rows = [query for query in queries(half) if 0 <= query - offset(half) < 2 * half]
        return mean(attention[..., rows, [row - offset(half) for row in rows]], half)

    return score


INDUCTION = scored()


def found(score=INDUCTION, pick=torch.argmax, name=lambda layer, head, n_heads: (layer, head)):
    def answer(attention):
        table = score(attention)
        layer, head = divmod(int(pick(table)), table.shape[1])
        return *name(layer, head, table.shape[1]), table[layer, head].item()

    return answer


find_induction_head = found()


def head_first(attention):
    """One who takes the best head of the mean over all layers, then its best layer."""
    table = INDUCTION(attention)
    head = int(table.mean(0).argmax())
    layer = int(table[:, head].argmax())
    return layer, head, table[layer, head].item()


def layer_first(attention):
    """One who takes the best layer of the mean over all heads, then its best head."""
    table = INDUCTION(attention)
    layer = int(table.mean(1).argmax())
    head = int(table[layer].argmax())
    return layer, head, table[layer, head].item()


def attentions_of_repeats(random, sizes):
    """Made-up weights: in one head each query leans to the token after its earlier copy, in others to decoys.

    The decoys lean to the copy itself, to the token before, to the copy's predecessor; and one leans to the right
    place in the first half only, or from one query only. So every slip finds another head or another score.
    """
    for n_layers, n_heads, half in sizes:
        n = 2 * half
        scores = vectors(random, n_layers, n_heads, n, n)
        places = torch.randperm(n_layers * n_heads, generator=random)
        strengths = {half - 1: 3.0, half: 5.0, 1: 5.0, half + 1: 5.0}
        for place, (offset, strength) in zip(places.tolist(), strengths.items(), strict=False):
            layer, head = divmod(place, n_heads)
            scores[layer, head].diagonal(-offset).add_(strength)
        if len(places) > len(strengths):  # one query that is sure of itself
            layer, head = divmod(int(places[len(strengths)]), n_heads)
            scores[layer, head, n - 1, half] += 9.0
        yield hidden_first(scores, torch.ones(n, n, dtype=torch.bool).tril())


def one_layer(find, random):
    """one layer of a few heads: the number of the head, and its score"""
    find.compare(attentions_of_repeats(random, ((1, 3, 4), (1, 5, 3), (1, 6, 5))))


def many_layers(find, random):
    """several layers: the layer, the head, and the score"""
    inputs = []
    ways = (find_induction_head, head_first, layer_first)
    while any(all(one(given) == other(given) for given in inputs) for one, other in combinations(ways, 2)):  # by luck
        inputs = [*attentions_of_repeats(random, ((2, 3, 4), (5, 2, 3), (4, 6, 7), (6, 3, 12)))]
    find.compare(inputs)


FIND_INDUCTION_HEAD = Exercise(
    name="find_induction_head",
    lesson="hw2",
    title="the strongest induction head, by score",
    oracle=find_induction_head,
    may_call=(),
    checks={"head": (one_layer, many_layers)},
    mistakes={
        "it measures the weight on the earlier copy itself: the token *after* it is what counts": found(
            scored(lambda half: half)
        ),
        "it measures the weight on the token before the earlier copy: the one after it is what counts": found(
            scored(lambda half: half + 1)
        ),
        "it measures the weight on the previous token: that is another kind of head": found(scored(lambda half: 1)),
        "it has one query too many: the last token of the first half has no earlier copy": found(
            scored(queries=lambda half: range(half - 1, 2 * half))
        ),
        "it has one query too few: the second half begins at position n": found(
            scored(queries=lambda half: range(half + 1, 2 * half))
        ),
        "its last query is missing": found(scored(queries=lambda half: range(half, 2 * half - 1))),
        "it divides by all queries: only those of the second half have an earlier copy": found(
            scored(mean=lambda weights, half: weights.sum(-1) / (2 * half))
        ),
        "it sums the weights up: their mean is asked for": found(scored(mean=lambda weights, half: weights.sum(-1))),
        "it takes each head's best query: the mean over all queries of the second half counts": found(
            scored(mean=lambda weights, half: weights.amax(-1))
        ),
        "it finds the head with the lowest score": found(pick=torch.argmin),
        "layer and head are swapped": found(name=lambda layer, head, n_heads: (head, layer)),
        "it counts layers and heads from 1: they count from 0": found(
            name=lambda layer, head, n_heads: (layer + 1, head + 1)
        ),
        "it numbers the heads through all layers: a layer, and a head in it": found(
            name=lambda layer, head, n_heads: (layer, layer * n_heads + head)
        ),
        "the score is missing: a layer, a head, and the head's score are asked for": lambda attention: (
            find_induction_head(attention)[:2]
        ),
        "it compares means over layers first: each head of each layer is a candidate of its own": head_first,
        "it looks for the best layer first, by its mean: each head of each layer is a candidate": layer_first,
        "queries and keys are swapped: a row belongs to a query, a column to a key": found(
            lambda attention: INDUCTION(attention.transpose(-2, -1))
        ),
    },
    hints=(
        "First draw it: positions 0 to 5 with the tokens a b c a b c. The query at position 3 is the second a. Where "
        "stands the token that came after the first a? And for the query at 4?",
        "The key is always n − 1 before the query, and the queries are n, n + 1, … 2n − 1. You can collect these "
        "weights in a loop, or by `attention[..., queries, keys]` with two lists of the same length.",
        "The mean over those n weights gives a table (layer, head). `table.argmax()` is one number, counted through "
        "all heads of all layers: `divmod` by the number of heads makes a layer and a head of it.",
    ),
)
