"""Homework 2: who may look at whom."""

from functools import partial

import torch

from course_lib.classroom.exercise import Exercise
from course_lib.lessons.parts import hidden_first, hidden_last, over_queries
from course_lib.lessons.tools import only_if, vectors


def weighed(see, hide=hidden_first, first_query=lambda n_query, n_key: n_key - n_query):
    """Weights from scores, where `see(distance, window)` says who is seen: the distance is 0 for a token itself."""

    def answer(scores, window=None):
        n_query, n_key = scores.shape[-2:]
        query = torch.arange(n_query)[:, None] + first_query(n_query, n_key)
        return hide(scores, see(query - torch.arange(n_key), n_key if window is None else window))

    return answer


def in_window(distance, window):
    return (distance >= 0) & (distance < window)


masked_weights = weighed(in_window)


def with_a_window(scores, window=None):
    return window is not None


def after_cached_keys(weigh, random):
    """the queries are the last tokens: each sees all keys up to its own"""
    shapes = ((1, 2), (2, 4), (2, 5), (2, 3, 2, 4), (2, 2, 3, 7))
    weigh.compare((vectors(random, *shape), None) for shape in shapes)


def nothing_cached(weigh, random):
    """also where nothing was cached: as many queries as keys"""
    weigh.compare((vectors(random, *shape), None) for shape in ((1, 1), (2, 2), (3, 3), (2, 3, 5, 5)))


def windows(weigh, random):
    """with a window: a token sees itself and the last ones before it"""
    inputs = [(vectors(random, 4, 4), window) for window in (1, 2, 3, 4, 9)]
    weigh.compare([*inputs, (vectors(random, 2, 2, 3, 8), 3), (vectors(random, 2, 6), 4), (vectors(random, 1, 9), 2)])


def large_scores(weigh, random):
    """also where scores are so large that e to their power is infinite"""
    weigh.compare((200 * vectors(random, 2, *shape), window) for shape, window in (((3, 4), None), ((5, 5), 2)))


MASKED_WEIGHTS = Exercise(
    name="masked_weights",
    lesson="hw2",
    title="attention weights, after cached keys and within a window",
    oracle=masked_weights,
    may_call=(),
    checks={"weights": (after_cached_keys, nothing_cached, windows, large_scores)},
    mistakes={
        "it lines the queries up with the first keys: they are the last tokens, and the keys before are the past": (
            weighed(in_window, first_query=lambda n_query, n_key: 0)
        ),
        "a token does not see itself: its own key is the last that it may look at": weighed(
            lambda distance, window: (distance > 0) & (distance < window)
        ),
        "it sees the future and not the past: the mask is the wrong way round": weighed(
            lambda distance, window: (distance <= 0) & (distance > -window)
        ),
        "it hides nothing: what comes later must not be seen": weighed(lambda distance, window: distance < torch.inf),
        "each query sees one token of the future": weighed(
            lambda distance, window: (distance >= -1) & (distance < window)
        ),
        "the window hides the far past, and the future must be hidden as well": only_if(
            with_a_window, weighed(lambda distance, window: distance.abs() < window)
        ),
        "the window hides the far past, but here it has put the future back into sight": only_if(
            with_a_window, weighed(lambda distance, window: distance < window)
        ),
        "it ignores the window": weighed(lambda distance, window: distance >= 0),
        "its window is one too wide: the token itself is one of the `window`": weighed(
            lambda distance, window: (distance >= 0) & (distance <= window)
        ),
        "its window is one too narrow: the token itself is only one of the `window`": weighed(
            lambda distance, window: (distance >= 0) & ((distance < window - 1) | (distance == 0))
        ),
        "what is hidden gets the score 0, and e to the power of 0 is 1: take −∞": weighed(
            in_window, partial(hidden_first, closed=0.0)
        ),
        "its rows do not sum to 1: the mask comes after the softmax": weighed(in_window, hidden_last),
        "its columns sum to 1, not its rows: softmax runs over the keys, the last dimension": weighed(
            in_window, over_queries
        ),
        "it gives the masked scores; the weights that softmax makes of them are asked for": weighed(
            in_window, lambda scores, visible: scores.masked_fill(~visible, -torch.inf)
        ),
        "it divides the scores by a root, and they are divided already": lambda scores, window: masked_weights(
            scores / scores.shape[-1] ** 0.5, window
        ),
    },
    hints=(
        "First the mask, a table (query, key) of True and False; then `masked_fill` and softmax. Count distances: "
        "where stands the query, where the key, and how many steps lie between?",
        "With 2 queries and 5 keys the queries stand at the positions 3 and 4. In general the first one stands at "
        "n_key − n_query. A column of query positions minus a row of key positions is the table of distances.",
        "A distance of 0 is the token itself, a negative one the future. So what may be seen has a distance from 0 to "
        "window − 1. Everything else gets the score −∞ *before* the softmax, and so the weight 0.",
    ),
)
