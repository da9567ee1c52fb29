"""Lesson 05: the causal mask, scaled dot-product attention, and what a row of weights says."""

import math
from functools import partial

import torch

from course_lib.classroom.answers import describe
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.parts import all_keys, before_itself, hidden_first, hidden_last, mixed, past
from course_lib.lessons.tools import OVERFLOWS, crash_said, draw, only_if
from course_lib.transformer_block import attention

# ---- causal_mask ----------------------------------------------------------------------------------


def square(mask, random):
    """as many keys as queries: each sees itself and those before it"""
    truth_values(mask, random)
    mask.compare([(2, 2), (3, 3), (1, 1), (n := draw(random, 4, 9), n)])


def after_a_cache(mask, random):
    """queries after earlier keys: they are the last ones, and a single one sees every key"""
    truth_values(mask, random)
    n = draw(random, 2, 5)
    mask.compare([(1, 3), (2, 4), (3, 4), (1, draw(random, 5, 20)), (n, n + draw(random, 3, 9))])


def truth_values(mask, random):
    """True and False"""
    answer = mask.answer(2, 3)
    if not isinstance(answer, torch.Tensor):
        mask.compare([(2, 3)])  # says what it is instead
    if answer.dtype != torch.bool:
        kind = str(answer.dtype).removeprefix("torch.")
        raise Wrong(f"it returns numbers of type {kind}: True and False (torch.bool) are asked for", describe(answer))


MASK_MISTAKES = {
    "a token does not see itself: the diagonal must be True": before_itself,
    "it is upside down: True where a query *may* look": lambda q, k: ~past(q, k),
    "it looks ahead: a query sees the later tokens, and not those before it": lambda q, k: all_keys(q, k).triu(k - q),
    "a query sees one token too many, the one right after it": partial(past, ahead=1),
    "every query sees everything: the future must be False": all_keys,
    "a query sees itself alone: the tokens before it are open, too": lambda q, k: past(q, k).triu(k - q),
    "it puts the queries at the beginning: they are the *last* of the keys' tokens": lambda q, k: all_keys(q, k).tril(),
    "the first queries of several see too little: the keys before them are n_key − n_query": lambda q, k: all_keys(
        q, k
    ).tril(q - k),
    "it makes a square mask of all keys: only the queries have a row": lambda q, k: past(k, k),
    "it makes a square mask of the queries: every key has a column": lambda q, k: past(q, q),
    "all queries see the same keys: each sees one more than the query before it": lambda q, k: (
        all_keys(1, k).tril(k - q).expand(q, -1).clone()
    ),
}


# ---- scaled_dot_product_attention -----------------------------------------------------------------


def attend(query, key, value, mask):
    return attention.scaled_dot_product_attention(query, key, value, mask)[0]


def case(random, n_query, n_key, d, mask, front=()):
    """Numbers large enough that a wrong scale shows."""
    query = 2 * torch.randn(*front, n_query, d, generator=random)
    key, value = torch.randn(2, *front, n_key, d, generator=random)
    return query, key, value, mask


def by_hand(*mask):
    """A case small enough to check with a pencil: a row of the mask for each query, of which √d_head = 2."""
    query = torch.tensor([[2.0, 1, 0, 1], [0, 2, 1, 0]])[: len(mask)]
    key = torch.tensor([[1.0, 0, 0, 0], [0, 2, 1, 2], [1, 1, 0, 0]])[: len(mask[0])]
    value = torch.tensor([[4.0, 0, 0, 8], [0, 4, 8, 0], [8, 8, 0, 0]])[: len(mask[0])]
    return query, key, value, torch.tensor(mask, dtype=torch.bool)


def holes(random, *shape):
    """Half of it closed, and each query sees at least two keys and misses at least one."""
    mask = torch.rand(shape, generator=random).argsort(-1).argsort(-1)
    return (mask < 2) | ((mask < shape[-1] - 1) & (torch.rand(shape, generator=random) < 0.4))


def mixed_alone(attend, random):
    """one tensor"""
    answer = attend.answer(*case(random, 2, 3, 4, all_keys(2, 3)))
    if isinstance(answer, tuple | list):
        raise Wrong("it returns several things: the mixed values alone are asked for", describe(answer))


def one_head(attend, random):
    """one head, and every query may look at every key"""
    sizes = ((1, 2, 4), (2, 3, 5), (4, 6, 16), (7, 5, 3))
    attend.compare([by_hand([1, 1]), *(case(random, q, k, d, all_keys(q, k)) for q, k, d in sizes)])


def with_a_causal_mask(attend, random):
    """closed keys get no weight, and the open ones share it all"""
    sizes = ((2, 2, 4), (3, 5, 6), (6, 6, 8))
    attend.compare([by_hand([1, 0], [1, 1]), *(case(random, q, k, d, past(q, k)) for q, k, d in sizes)])


def with_any_mask(attend, random):
    """any mask will do, not only the causal one"""
    cases = [case(random, q, k, d, holes(random, q, k)) for q, k, d in ((2, 4, 3), (5, 6, 8))]
    attend.compare([by_hand([1, 0, 1], [0, 1, 1]), *cases])


def many_heads(attend, random):
    """many heads in many texts: (batch, heads, query, d_head)"""
    attend.compare(
        [
            case(random, 3, 4, 5, holes(random, 3, 4), (2,)),
            case(random, 3, 5, 4, past(3, 5), (2, 3)),
            case(random, 3, 4, 6, holes(random, 2, 1, 3, 4), (2, 5)),
            case(random, 3, 4, 5, holes(random, 2, 3, 4), (2,)),
            case(random, 2, 3, 4, holes(random, 1, 2, 3), (1,)),
            case(random, 1, 1, 4, past(1, 1), (1, 1)),
        ]
    )


def large_scores(attend, random):
    """scores in the hundreds, also of keys that are closed, and also where all open ones lie far below 0"""
    query, key, value, _ = by_hand([1, 1, 1], [1, 1, 1])
    far = torch.tensor([[1.0, 1, 0, 1], [2, 1, 2, 0]])  # its scores are all positive, so that -far has none
    masks = [torch.tensor(rows, dtype=torch.bool) for rows in ([[1, 1, 1], [1, 1, 1]], [[1, 0, 1], [0, 1, 1]])]
    inputs = [(size * query, key, value, mask) for mask in masks for size in (100, -100)]
    attend.compare([*inputs, *((size * far, key + 1, value, mask) for mask in masks for size in (400, -400))])


def nothing_to_look_at(attend, random):
    """a query that may look at nothing gets zeros, and the others are as before"""
    mask = holes(random, 3, 4)
    mask[draw(random, 0, 2)] = False
    many = holes(random, 2, 1, 3, 5)
    many[1, 0, 0] = False
    attend.compare([by_hand([0, 0], [1, 0]), case(random, 3, 4, 5, mask), case(random, 3, 5, 4, many, (2, 3))])


def emptied(scores, mask, **slips):
    """The weights, and zeros where everything is closed."""
    return hidden_first(scores, mask, **slips).masked_fill(~mask, 0.0)


def by(divide=math.sqrt, of=lambda q, k: q.shape[-1], hide=emptied):
    """A formula that differs in one step from the right one."""
    return lambda query, key, value, mask: mixed(query, key, value, mask, divide(of(query, key)), hide)


def the_weights(query, key, value, mask):
    return mixed(query, key, torch.eye(key.shape[-2]), mask)


def below_the_largest_of_all(scores, mask):
    powers = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    total = powers.sum(-1, keepdim=True)
    return powers / torch.where(total == 0, 1, total)


def scaled_after(query, key, value, mask):
    return mixed(query, key, value, mask, 1, emptied) / math.sqrt(query.shape[-1])


def flipped(query, key, value, mask):
    return attend(query, key, value, ~mask)


def best_alone(scores, mask):
    best = scores.masked_fill(~mask, -torch.inf).argmax(-1, keepdim=True)
    return torch.zeros_like(scores).scatter(-1, best, 1.0).masked_fill(~mask, 0.0)


def scale_by(factor):
    return by(divide=lambda d: 1 / factor(d))


def in_heads(query, *_):
    return query.ndim > 2  # of one head alone, the first dimension is that of the queries


ATTENTION_MISTAKES = {
    "the scores are not divided by √d_head": by(divide=lambda d: 1),
    "it divides by d_head: by its square root, √d_head, is asked for": by(divide=lambda d: d),
    "it multiplies by √d_head: divide": scale_by(math.sqrt),
    "it divides by √n_key, the number of keys: d_head is the length of a query, query.shape[-1]": by(
        of=lambda q, k: k.shape[-2]
    ),
    "it divides by √n_query, the number of queries: d_head is the length of one, query.shape[-1]": by(
        of=lambda q, k: q.shape[-2]
    ),
    "it divides by the root of the first dimension: d_head is the last one, query.shape[-1]": only_if(
        in_heads, by(of=lambda q, k: q.shape[0])
    ),
    "rows do not sum to 1: softmax runs over the queries, and each *query* shares out 1 (dim=-1)": by(
        hide=partial(emptied, dim=-2)
    ),
    "softmax runs over the first dimension: over the keys, the last one, is asked for": only_if(
        in_heads, by(hide=partial(emptied, dim=0))
    ),
    "softmax runs over dimension 1, which are the keys for one head alone: they are the last one, dim=-1": by(
        hide=partial(emptied, dim=1)
    ),
    "there is no softmax: scores are not shares": by(hide=lambda scores, mask: scores.masked_fill(~mask, 0.0)),
    "it divides the weights by √d_head: divide the scores, before softmax": scaled_after,
    "it takes the best key alone: softmax gives every open key a share": by(hide=best_alone),
    "the keys are mixed: the weights choose among the values": lambda q, k, v, m: attend(q, k, k, m),
    "the values are compared: a query's score comes from the keys": lambda q, k, v, m: attend(q, v, v, m),
    "the mask is not used": lambda q, k, v, m: attend(q, k, v, torch.ones_like(m)),
    "the mask is upside down: True is where a query may look": flipped,
    "it closes the open keys, and where all are open nothing is left, hence nan: True is where a query may look": (
        lambda q, k, v, m: mixed(q, k, v, ~m)
    ),
    "a closed key's score becomes 0, and e^0 = 1 is a share, too: it must become −∞": by(
        hide=partial(hidden_first, closed=0.0)
    ),
    "the mask comes after softmax: the open keys' shares no longer sum to 1": by(hide=hidden_last),
    "the mask is added to the scores: True counts as 1, and closes nothing": by(
        hide=lambda scores, mask: (scores + mask).softmax(-1)
    ),
    "a query that may look at nothing becomes nan: softmax of nothing but −∞ is 0 / 0. Put zeros there": mixed,
    "a query that may look at nothing takes the average of all: its weights must be 0": by(
        hide=partial(hidden_first, closed=-1e9)
    ),
    "a closed key's score becomes −100, which is not below all others: it must become −∞": by(
        hide=lambda scores, mask: hidden_first(scores, mask, closed=-100.0) * mask.any(-1, keepdim=True)
    ),
    "it takes off the largest score of closed keys, too: far above the open ones, it leaves nothing of these": by(
        hide=below_the_largest_of_all
    ),
    "it makes its own causal mask, and does not use the one that it is given": lambda q, k, v, m: attend(
        q, k, v, past(q.shape[-2], k.shape[-2])
    ),
    "it gives the weights: they have to mix the values yet": the_weights,
}


# ---- read_row -------------------------------------------------------------------------------------

WORDS = ("the", "dog", "ran", "up", "hill", "mia", "has", "red", "ball", "omar", "blue", "kite")


def read(weights, tokens, position, share):
    return first_tokens(weights[position].tolist(), tokens, share)


def order_of(row):
    return sorted(range(len(row)), key=lambda place: -row[place])


def first_tokens(row, tokens, share, extra=0):
    order, total = order_of(row), 0.0
    for n, place in enumerate(order, 1):
        total += row[place]
        if total >= share:
            return [tokens[place] for place in order[: n + extra]]
    return [tokens[place] for place in order]


def table(random, n, position, tie=False):
    """Causal weights in 64ths, so that sums are exact; the asked row has at least three unequal weights.

    The columns say something else than the rows, and the largest weights do not stand in the order of the text.
    """
    weights = torch.zeros(n, n)
    for query in range(n):
        parts = torch.ones(query + 1)
        cuts = torch.multinomial((torch.arange(query + 1) + 1.0).flip(0), 63 - query, True, generator=random)
        parts += torch.bincount(cuts, minlength=query + 1)
        parts = parts[torch.randperm(query + 1, generator=random)]
        weights[query, : query + 1] = parts / parts.sum()
    row = [3.0, 9.0, 20.0, 5.0, 14.0, 1.0] if not tie else [4.0, 12.0, 20.0, 4.0, 12.0, 1.0]
    row = row[: position + 1] if position < 6 else row + [1.0] * (position - 5)
    row[-1] += 64 - sum(row) if position >= 5 else 0
    weights[position] = 0
    weights[position, : len(row)] = torch.tensor(row) / sum(row)
    return weights


def some_words(random, n):
    return [WORDS[i] for i in torch.randperm(len(WORDS), generator=random)[:n].tolist()]


def most(read, random):
    """the tokens that hold most of it, the largest first"""
    given = []
    for n, position, share in ((6, 4, 0.6), (7, 4, 0.8), (9, 6, 0.7)):
        given.append((table(random, n, position), some_words(random, n), position, share))
    read.compare(given)


def as_few_as_possible(read, random):
    """it stops as soon as the share is reached, exactly, too; one token may be enough"""
    weights, tokens = torch.zeros(5, 5), some_words(random, 5)
    weights[0, 0] = 1
    weights[1, :2] = torch.tensor([0.75, 0.25])
    weights[2, :3] = torch.tensor([0.125, 0.625, 0.25])
    weights[3, :4] = torch.tensor([0.125, 0.5, 0.125, 0.25])
    weights[4] = torch.tensor([0.25, 0.0625, 0.5, 0.0625, 0.125])
    read.compare([(weights, tokens, p, s) for p, s in ((3, 0.75), (2, 0.5), (4, 0.75), (4, 0.875), (0, 0.9), (3, 0.4))])
    read.compare([(weights[:1, :1], tokens[:1], 0, 0.5), (weights, tokens, 2, 1.0), (weights, tokens, 0, 1.0)])
    near = torch.zeros(4, 4)
    near[3] = torch.tensor([819.0, 820.0, 821.0, 1636.0]) / 4096
    read.compare([(near, tokens[:4], 3, share) for share in (0.3, 0.5, 0.75)])


def equal_weights(read, random):
    """of two equal weights, the earlier token first"""
    given = []
    for n, share, alphabetical in ((6, 0.85, False), (7, 0.85, True), (8, 0.95, False)):
        tokens = some_words(random, n)
        for one, other in ((1, 4), (0, 3)):  # equal weights stand here
            tokens[one], tokens[other] = sorted((tokens[one], tokens[other]), reverse=not alphabetical)
        given.append((table(random, n, 4, tie=True), tokens, 4, share))
    read.compare(given)


def the_same_word_twice(read, random):
    """a word that comes twice is two tokens"""
    given = []
    for n, share in ((6, 0.5), (7, 0.8), (6, 0.35)):
        tokens = some_words(random, n)
        tokens[1] = tokens[2]  # places with large weights
        given.append((table(random, n, 4), tokens, 4, share))
    read.compare(given)


def by_column(weights, tokens, position, share):
    return first_tokens(weights[:, position].tolist(), tokens, share)


def above(weights, tokens, position, share):
    row = weights[position].tolist()
    return [tokens[place] for place in order_of(row) if row[place] >= share]


def in_text_order(weights, tokens, position, share):
    row, total, chosen = weights[position].tolist(), 0.0, []
    for place in order_of(row):
        chosen.append(place)
        total += row[place]
        if total >= share:
            break
    return [tokens[place] for place in sorted(chosen)]


def from_the_left(weights, tokens, position, share):
    total = 0.0
    for n, weight in enumerate(weights[position].tolist(), 1):
        total += weight
        if total >= share:
            return tokens[:n]
    return list(tokens)


def smallest_first(weights, tokens, position, share):
    row = weights[position]
    return first_tokens_of(sorted(range(len(row)), key=lambda i: row[i].item()), row, tokens, share)


def first_tokens_of(order, row, tokens, share, more_than=False):
    total, chosen = 0.0, []
    for place in order:
        chosen.append(tokens[place])
        total += row[place].item()
        if total > share or (total == share and not more_than):
            break
    return chosen


def later_first(weights, tokens, position, share):
    row = weights[position].tolist()
    return first_tokens_of(sorted(range(len(row)), key=lambda i: (-row[i], -i)), weights[position], tokens, share)


def strictly_more(weights, tokens, position, share):
    return first_tokens_of(order_of(weights[position].tolist()), weights[position], tokens, share, more_than=True)


def without_itself(weights, tokens, position, share):
    row = weights[position].clone()
    row[position] = -1.0
    order = [place for place in order_of(row.tolist()) if place != position]
    return first_tokens_of(order, weights[position], tokens, share)


def merged(weights, tokens, position, share):
    held = {}
    for token, weight in zip(tokens, weights[position].tolist(), strict=True):
        held[token] = held.get(token, 0.0) + weight
    row = list(held.values())
    return first_tokens(row, list(held), share)


def overwritten(weights, tokens, position, share):
    held = dict(zip(tokens, weights[position].tolist(), strict=True))
    return first_tokens(list(held.values()), list(held), share)


def no_repeats(weights, tokens, position, share):
    return list(dict.fromkeys(read(weights, tokens, position, share)))


def by_value(weights, tokens, position, share):
    """Looks each weight up again, and finds the first of two equal ones both times."""
    row, total, chosen = weights[position].tolist(), 0.0, []
    for weight in sorted(row, reverse=True):
        chosen.append(tokens[row.index(weight)])
        total += weight
        if total >= share:
            break
    return chosen


def alphabetical(weights, tokens, position, share):
    row = weights[position].tolist()
    order = sorted(range(len(row)), key=lambda i: (row[i], tokens[i]), reverse=True)
    return first_tokens_of(order, weights[position], tokens, share)


READ_MISTAKES = {
    "it reads the column: what is taken *from* this token. What it takes itself is its row, weights[position]": (
        by_column
    ),
    "it reads the row of the token before: positions count from 0": lambda w, t, p, s: (
        read(w, t, max(p - 1, 0), s) if p else read(w, t, -1, s)
    ),
    "it reads the last token's row, whichever was asked for": lambda w, t, p, s: read(w, t, -1, s),
    "it wants `share` from each token by itself: those listed hold it together": above,
    "the right tokens in the order of the text: the largest weight comes first": in_text_order,
    "it adds up from the left: begin with the largest weight": from_the_left,
    "it begins with the smallest weights": smallest_first,
    "it stops one token too early: those listed must hold `share`": lambda w, t, p, s: read(w, t, p, s)[:-1],
    "it lists one token too many: stop as soon as those listed hold `share`": lambda w, t, p, s: first_tokens(
        w[p].tolist(), t, s, 1
    ),
    "it goes on when the share is reached exactly: at least `share` is enough": strictly_more,
    "it lists every token that has a weight, and never stops": lambda w, t, p, s: [
        t[i] for i in order_of(w[p].tolist()) if w[p, i] > 0
    ],
    "it lists all tokens, and never stops": lambda w, t, p, s: [t[i] for i in order_of(w[p].tolist())],
    "it lists the largest weight's token alone": lambda w, t, p, s: [t[int(w[p].argmax())]],
    "it leaves out the token itself: a token may take from itself, too": without_itself,
    "of two equal weights it puts the later token first": later_first,
    "of two equal weights it puts the word that is later in the alphabet first": alphabetical,
    "it looks for a weight's place by its value, and finds the first of two equal ones twice": by_value,
    "it adds up the weights of a word that comes twice: they are two tokens": merged,
    "a word that comes twice overwrites itself: keep places, and not words": overwritten,
    "it lists a word once where it comes twice: they are two tokens": no_repeats,
}


def tokens_of(learner, random):
    """a list of words"""
    weights, tokens = table(random, 6, 4), some_words(random, 6)
    answer = learner.answer(weights, tokens, 4, 0.6)
    if not isinstance(answer, list) or all(type(word) is str for word in answer):
        return  # the next check has something to say about it
    if all(type(pair) is tuple and len(pair) == 2 for pair in answer):
        raise Wrong("its list holds pairs: the tokens alone are asked for", describe(answer))
    raise Wrong("its list holds something else than words: tokens[place] is the word at a place", describe(answer))


EXERCISES = (
    Exercise(
        name="causal_mask",
        lesson="05",
        title="who may look at whom",
        oracle=lambda n_query, n_key: attention.causal_mask(n_query, n_key),
        checks={"square": (truth_values, square), "cached": (after_a_cache,)},
        mistakes=MASK_MISTAKES,
        hints=(
            "The queries stand at the positions n_key − n_query to n_key − 1, the keys at 0 to n_key − 1. "
            "A query may look at a key whose position is not larger than its own.",
            "`torch.arange(n_key)` are the keys' positions. Put the queries' positions into a column, with "
            "`[:, None]`: comparing a column with a row gives a table.",
            "`torch.arange(n_key) <= torch.arange(n_key - n_query, n_key)[:, None]`",
        ),
    ),
    Exercise(
        name="scaled_dot_product_attention",
        lesson="05",
        title="queries, keys, values: the mix",
        oracle=attend,
        checks={
            "open": (mixed_alone, one_head),
            "masked": (with_a_causal_mask, with_any_mask),
            "many": (
                crash_said(
                    many_heads,
                    ("must match", "Expected size", "t() expects", "mismatch", "cannot be multiplied"),
                    "with more than two dimensions it ends in an error: is it the last two that change places, "
                    "key.transpose(-2, -1)?",
                ),
                nothing_to_look_at,
                crash_said(large_scores, ("NaN (not",), OVERFLOWS),
            ),
        },
        mistakes=ATTENTION_MISTAKES,
        hints=(
            "Four steps: scores (every query with every key, divided by √d_head), the mask, softmax over the keys, "
            "the mix of the values. `key.transpose(-2, -1)` exchanges the last two dimensions and no others.",
            "`scores.masked_fill(~mask, -torch.inf)` closes what is not allowed, before softmax. A row in which "
            "everything is closed becomes nan: fill with 0 once more, after it.",
            "`scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5`, then "
            "`weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).masked_fill(~mask, 0.0)`, "
            "and `weights @ value`.",
        ),
    ),
    Exercise(
        name="read_row",
        lesson="05",
        title="from whom a token takes most",
        oracle=read,
        checks={
            "most": (tokens_of, most, as_few_as_possible),
            "same_words": (equal_weights, the_same_word_twice),
        },
        mistakes=READ_MISTAKES,
        hints=(
            "What one token takes is a row: `weights[position]`. Its weights sum to 1. Take the largest first, and "
            "count how much you hold.",
            "Sort the *places*, not the words: `sorted(range(len(row)), key=lambda place: -row[place])`. For equal "
            "weights `sorted` keeps the order it found, so the earlier place stays first.",
            "Walk through the sorted places: append `tokens[place]`, add `row[place]` to a total, and stop as soon as "
            "`total >= share`.",
        ),
    ),
)
