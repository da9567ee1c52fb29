"""Lesson 01: the steps of byte-pair encoding, and what tokens cost."""

from itertools import pairwise

import torch

from course_lib.classroom.answers import describe
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.bpe_training import train_bpe
from course_lib.lessons.tools import draw


def numbers(random, size, low, high):
    return torch.randint(low, high + 1, (size,), generator=random).tolist()


# ---- count_pairs --------------------------------------------------------------------------------


def count(words):
    counts = {}
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + times
    return counts


def counted(words, weigh=lambda word, times: times, pairs=pairwise, step=None):
    """`count` with one thing done otherwise."""
    counts = {}
    for word, times in words.items():
        for pair in list(pairs(word))[::step]:
            counts[pair] = counts.get(pair, 0) + weigh(word, times)
    return counts


def last_one_wins(words):
    counts = {}
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] = times
    return counts


def once_a_word(words):
    return counted(words, pairs=lambda word: dict.fromkeys(pairwise(word)))


def over_the_edges(words):
    stream = [id for word, times in words.items() for id in word * times]
    return counted({tuple(stream): 1})


def without_overlaps(words):
    counts = {}
    for word, times in words.items():
        before = None  # the pair just counted, where its right token is the left one of this pair
        for pair in pairwise(word):
            if pair == before:
                before = None
                continue
            counts[pair] = counts.get(pair, 0) + times
            before = pair
    return counts


def pairs_by_hand(count_pairs, random):
    """every pair of neighbours in a word, and none across two words"""
    answer = count_pairs.answer(words := {(7, 8): 1})
    if isinstance(answer, dict) and any(type(key) is str for key in answer):
        shown = f"count_pairs({describe(words)}) gave {describe(dict(answer))}; right is {describe(count(words))}"
        raise Wrong("its keys are texts: a key is the pair itself, (left, right)", shown)
    for _ in range(4):
        a, b, c, d, e = (torch.randperm(400, generator=random)[:5]).tolist()
        count_pairs.compare(
            [
                {(a, b): 1},
                {(a, b, c): 1},
                {(a, b, c, d): 1, (d, a, e): 1},
                {(a, b): 1, (b, a): 1, (c,): 1},
                {(a, b, a, b, c): 1, (e, a, b): 1},
                {(0, a, 0, 0): 1, (0,): 1, (a, 0): 1},
            ]
        )


def nothing_to_count(count_pairs, random):
    """words of one token, and no words, have no pairs"""
    count_pairs.compare([{(draw(random, 0, 400),): 1}, {}, {(7, 8): 1, (9,): 1}])


def weighted(count_pairs, random):
    """a pair weighs as much as its word occurs, and adds up over words"""
    for _ in range(4):
        a, b, c, d = (torch.randperm(400, generator=random)[:4]).tolist()
        n, m, k = (torch.randperm(7, generator=random)[:3] + 2).tolist()
        count_pairs.compare(
            [{(a, b): n}, {(a, b): n, (a, b, c): m}, {(a, b, c, d): n, (c, d, a): m, (b, c): k, (a,): 9}]
        )


def repeats_count(count_pairs, random):
    """a pair twice in one word counts twice, also where it overlaps itself"""
    a, b = (torch.randperm(400, generator=random)[:2]).tolist()
    n = draw(random, 2, 9)
    count_pairs.compare([{(a, b, a, b): n}, {(a, a, a): n}, {(a, a, a, a, b): n, (b, a): 1}])


# ---- merge_pair ---------------------------------------------------------------------------------


def merge(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        hit = tuple(ids[i : i + 2]) == tuple(pair)
        merged.append(new_id if hit else ids[i])
        i += 1 + hit
    return merged


def keeps_the_right_one(ids, pair, new_id):
    hits = [tuple(ids[i : i + 2]) == tuple(pair) for i in range(len(ids))]
    return [new_id if hit else id for id, hit in zip(ids, hits, strict=True)]


def keeps_both(ids, pair, new_id):
    merged = []
    for id in merge(ids, pair, new_id):
        merged += [*pair, id] if id == new_id else [id]
    return merged


def overlapping(ids, pair, new_id):
    """Each place where the pair stands gives a new id, and what belongs to no pair stays."""
    hits = [tuple(ids[i : i + 2]) == tuple(pair) for i in range(len(ids))]
    merged = []
    for i, id in enumerate(ids):
        if hits[i]:
            merged.append(new_id)
        elif i == 0 or not hits[i - 1]:
            merged.append(id)
    return merged


def loses_the_last(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        hit = tuple(ids[i : i + 2]) == tuple(pair)
        merged.append(new_id if hit else ids[i])
        i += 1 + hit
    return merged


def only_the_first(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if tuple(ids[i : i + 2]) == tuple(pair):
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return list(ids)


def as_text(ids, pair, new_id):
    left, right = pair
    return [int(n) for n in " ".join(map(str, ids)).replace(f"{left} {right}", str(new_id)).split()]


def replaced(merge_pair, random):
    """every occurrence of the pair is replaced, and all else stays"""
    for _ in range(4):
        a, b, c, d = (torch.randperm(90, generator=random)[:4] + 10).tolist()
        new = draw(random, 256, 400)
        merge_pair.compare(
            [
                ([a, b], (a, b), new),
                ([a, b, c], (a, b), new),
                ([c, a, b], (a, b), new),
                ([a, b, c, a, b, d], (a, b), new),
                ([a, b, a, b, b, a], (a, b), new),
                ([d, c, a, c, b, d, a, b], (a, b), new),
            ]
        )


def nothing_to_replace(merge_pair, random):
    """where the pair does not stand, the list stays as it is; a list may also be empty"""
    a, b, c = (torch.randperm(90, generator=random)[:3] + 10).tolist()
    new = draw(random, 256, 400)
    merge_pair.compare([([b, a], (a, b), new), ([a, c, b], (a, b), new), ([a], (a, b), new), ([], (a, b), new)])
    merge_pair.compare([([0], (0, a), new), ([0, a, b], (a, b), new), ([a, b, 0], (a, b), new), ([0, a], (0, a), new)])


def digits_are_no_ids(merge_pair, random):
    """ids are compared as numbers, not digit by digit"""
    a, b = draw(random, 1, 9), draw(random, 1, 9)
    new = draw(random, 256, 400)
    merge_pair.compare(
        [
            ([10 * draw(random, 1, 9) + a, b], (a, b), new),
            ([a, 10 * b + draw(random, 0, 9)], (a, b), new),
        ]
    )


def repeats_from_the_left(merge_pair, random):
    """in 5 5 5 the left two are merged, and no id is used twice"""
    a, b = (torch.randperm(90, generator=random)[:2] + 10).tolist()
    new = draw(random, 256, 400)
    merge_pair.compare(([id] * n, (id, id), new) for id in (a, 0) for n in (2, 3, 4, 5))
    merge_pair.compare([([b, a, a, a, b, a, a], (a, a), new), ([a, a, a, b], (a, b), new)])


# ---- encode_by_rank -----------------------------------------------------------------------------


def encode(parts, ranks, choose=lambda places, parts, ranks: min(places, key=lambda i: (ranks[parts[i : i + 2]], i))):
    """Merge the place that `choose` picks until no pair has a rank. `parts` is a tuple inside."""
    parts = tuple(parts)
    while places := [i for i in range(len(parts) - 1) if parts[i : i + 2] in ranks]:
        i = choose(places, parts, ranks)
        parts = (*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :])
    return list(parts)


def first_found(parts, ranks):
    return encode(parts, ranks, lambda places, parts, ranks: places[0])


def last_found(parts, ranks):
    return encode(parts, ranks, lambda places, parts, ranks: places[-1])


def highest_rank(parts, ranks):
    return encode(parts, ranks, lambda places, parts, ranks: max(places, key=lambda i: ranks[parts[i : i + 2]]))


def rightmost_of_equals(parts, ranks):
    return encode(parts, ranks, lambda places, parts, ranks: min(places, key=lambda i: (ranks[parts[i : i + 2]], -i)))


def one_merge_only(parts, ranks):
    places = [i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) in ranks]
    if not places:
        return list(parts)
    i = min(places, key=lambda i: ranks[parts[i], parts[i + 1]])
    return [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]


def best_pair_alone(parts, ranks):
    known = [pair for pair in pairwise(parts) if pair in ranks]
    return merged(parts, min(known, key=ranks.get)) if known else list(parts)


def merged(parts, pair):
    """Every place of the pair is merged, from left to right."""
    after, i = [], 0
    while i < len(parts):
        hit = tuple(parts[i : i + 2]) == pair
        after.append(b"".join(parts[i : i + 1 + hit]))
        i += 1 + hit
    return after


def in_the_order_of_the_dict(parts, ranks):
    for pair in ranks:
        parts = merged(parts, pair)
    return list(parts)


def unknown_is_rank_0(parts, ranks):
    parts = list(parts)
    while len(parts) > 1:
        i = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), 0))
        if (parts[i], parts[i + 1]) not in ranks:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def unknown_goes_first(parts, ranks):
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, 0))
        if best not in ranks:
            break
        parts = merged(parts, best)
    return list(parts)


def each_rank_once(parts, ranks):
    parts = list(parts)
    for pair in sorted(ranks, key=ranks.get):
        for i in range(len(parts) - 1):
            if (parts[i], parts[i + 1]) == pair:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
                break
    return parts


def longest_token(parts, ranks):
    tokens = {left + right for left, right in ranks}
    data, found = b"".join(parts), []
    while data:
        size = next((n for n in range(len(data), 1, -1) if data[:n] in tokens), 1)
        found.append(data[:size])
        data = data[size:]
    return found


def one_sweep(parts, ranks):
    """Once from left to right, merging whatever may merge."""
    after, i = [], 0
    while i < len(parts):
        hit = tuple(parts[i : i + 2]) in ranks
        after.append(b"".join(parts[i : i + 1 + hit]))
        i += 1 + hit
    return after


def sweep(parts, ranks):
    """The same again, until nothing merges."""
    while (after := one_sweep(parts, ranks)) != list(parts):
        parts = after
    return after


def bytes_of(text):
    return [bytes([byte]) for byte in text.encode()]


def letters(random, size):
    """That many different small letters."""
    places = torch.randperm(26, generator=random)[:size].tolist()
    return ["abcdefghijklmnopqrstuvwxyz"[place] for place in places]


def ranks_of(random, *merges):
    """ "a b" … in order → ranks, in any order: who goes by the order of the dict is wrong."""
    return shuffled(random, [tuple(part.encode() for part in merge.split()) for merge in merges])


def shuffled(random, merges):
    return {merges[rank]: rank for rank in torch.randperm(len(merges), generator=random).tolist()}


def compare(encode_by_rank, inputs):
    try:
        encode_by_rank.compare(inputs)
    except Wrong as wrong:
        if "'NoneType' and" not in wrong.sentence and "and 'NoneType'" not in wrong.sentence:
            raise
        sentence = "a pair that is not in `ranks` has no rank: `ranks.get` gives None for it, and None has no place"
        raise Wrong(f"{sentence} in an order. Leave such pairs out", wrong.shown) from None


def one_merge(encode_by_rank, random):
    """a pair that has a rank is merged, wherever it stands"""
    for _ in range(3):
        a, b, c, d = letters(random, 4)
        ranks = ranks_of(random, f"{a} {b}", f"{c} {d}")
        texts = (a + b, a + b + c, c + a + b, a + b + c + d, a + b + c + a + b, c + d + a + b + a + b)
        compare(encode_by_rank, [(bytes_of(text), ranks) for text in texts])


def no_merge(encode_by_rank, random):
    """where nothing may merge, the bytes stay as they are"""
    a, b, c = letters(random, 3)
    ranks = ranks_of(random, f"{a} {b}")
    compare(encode_by_rank, [(bytes_of(b + a), ranks), (bytes_of(c), ranks), ([], ranks), (bytes_of("犬"), {})])


def merges_of_merges(encode_by_rank, random):
    """what was merged merges on, until no pair in the word has a rank"""
    for _ in range(3):
        a, b, c, d = letters(random, 4)
        ranks = ranks_of(random, f"{a} {b}", f"{a + b} {c}", f"{a + b + c} {d}")
        first_one_first = dict(sorted(ranks.items(), key=lambda entry: entry[1]))
        last_one_first = dict(reversed(first_one_first.items()))
        texts = (a + b + c, a + b + c + d, d + a + b + c + a + b)
        compare(
            encode_by_rank, [(bytes_of(text), ranks) for ranks in (first_one_first, last_one_first) for text in texts]
        )


def by_rank(encode_by_rank, random):
    """the lowest rank goes first: not the first pair found, nor the longest"""
    for _ in range(3):
        a, b, c, d, e = letters(random, 5)
        later_first = ranks_of(random, f"{b} {c}", f"{a} {b}")
        earlier_first = ranks_of(random, f"{a} {b}", f"{b} {c}")
        out_of_reach = ranks_of(random, f"{a} {b}", f"{b} {c}", f"{a} {b + c}")  # abc is a token, but ab comes first
        right_side = ranks_of(random, f"{c} {d}", f"{a} {b}", f"{a + b} {c}")
        deep = ranks_of(random, f"{d} {e}", f"{a} {b}", f"{c} {d}", f"{a + b} {c + d}", f"{b} {c}")
        compare(
            encode_by_rank,
            [
                (bytes_of(a + b + c), later_first),
                (bytes_of(a + b + c), earlier_first),
                (bytes_of(a + b + c), out_of_reach),
                (bytes_of(c + a + b + c + d), later_first),
                (bytes_of(a + b + c + d), right_side),
                (bytes_of(a + b + c + d + e), deep),
                (bytes_of(a + b + c + d), deep),
                (bytes_of(b + c + d + e + a), deep),
            ],
        )


def leftmost(encode_by_rank, random):
    """of equal pairs that overlap, the left one"""
    a, b = letters(random, 2)
    ranks = ranks_of(random, f"{a} {a}", f"{b} {b}")
    compare(encode_by_rank, [(bytes_of(text), ranks) for text in (a * 3, b + a * 3, a * 5 + b * 3)])


def trained(encode_by_rank, random):
    """merges that were learned from a text"""
    alphabet = letters(random, 4)

    def word():
        return "".join(alphabet[i] for i in numbers(random, draw(random, 4, 8), 0, 3))

    merges = train_bpe(" ".join(word() for _ in range(60)), vocab_size=256 + 24)
    ranks, words = shuffled(random, merges), [bytes_of(" " + word()) for _ in range(60)]
    others = (first_found, sweep, longest_token)
    telling = [parts for parts in words if all(other(parts, ranks) != encode(parts, ranks) for other in others)]
    compare(encode_by_rank, [(parts, ranks) for parts in [*telling[:6], *words[:6]]])


# ---- prompt_cost --------------------------------------------------------------------------------


def cost(n_prompt, n_answer, price_in, price_out, context):
    room = context - n_prompt
    return (n_prompt * price_in + min(n_answer, room) * price_out) / 1e6 if room > 0 else 0.0


def prices(random):
    """Two prices for a million tokens, the second one higher, and not by a round factor."""
    price_in = draw(random, 3, 9) / 2
    return price_in, price_in * 4 + draw(random, 1, 5)


def price(prompt_cost, random):
    """tokens in and tokens out, each at its price, for a million"""
    for _ in range(3):
        price_in, price_out = prices(random)
        n, m = draw(random, 3000, 6000), draw(random, 1000, 2000)
        prompt_cost.compare(
            [
                (1_000_000, 0, price_in, price_out, 2_000_000),
                (1_000, 1_000_000, price_in, price_out, 2_000_000),
                (1, 0, price_in, price_out, 8_000),
                (0, 1, price_in, price_out, 8_000),
                (3, 2, price_in, price_out, 8_000),
                (n, m, price_in, price_out, 128_000),
                (m, n, price_in, price_out, 128_000),
            ]
        )


def answer_is_cut(prompt_cost, random):
    """an answer ends where the context is full, and what does not come out is not paid"""
    for _ in range(3):
        price_in, price_out = prices(random)
        context = draw(random, 8, 32) * 1000
        n, room = context // 2, context - context // 2
        prompt_cost.compare(
            [
                (n, 2 * context, price_in, price_out, context),
                (n, context - 500, price_in, price_out, context),  # fits alone, not beside the prompt
                (n, room, price_in, price_out, context),  # fits to the last token
                (context - 1, 4000, price_in, price_out, context),
                (context + 1000, 2 * context, price_in, price_out, context),
            ]
        )


def refused(prompt_cost, random):
    """a prompt that leaves no room is refused, and costs nothing"""
    price_in, price_out = prices(random)
    context = draw(random, 8, 32) * 1000
    more = draw(random, 500, 5000)
    prompt_cost.compare(
        [(context + more, 1000, price_in, price_out, context), (context, 1000, price_in, price_out, context)]
    )


EXERCISES = (
    Exercise(
        name="count_pairs",
        lesson="01",
        title="how often each pair of neighbours occurs",
        oracle=count,
        checks={"pairs": (pairs_by_hand, nothing_to_count), "weights": (weighted, repeats_count)},
        mistakes={
            "it counts each word once: a pair weighs as much as its word occurs": lambda words: counted(
                words, weigh=lambda word, times: 1
            ),
            "it forgets what it has counted: a pair that comes again starts anew, instead of adding up": last_one_wins,
            "it counts pairs across the edge of two words: merges never cross a cut": over_the_edges,
            "it misses the last pair of each word": lambda words: counted(
                words, pairs=lambda word: pairwise(word[:-1])
            ),
            "it misses the first pair of each word": lambda words: counted(
                words, pairs=lambda word: pairwise(word[1:])
            ),
            "it takes the tokens two by two: each token but the outer ones is in two pairs": lambda words: counted(
                words, step=2
            ),
            "it counts a pair once in a word where it stands twice": once_a_word,
            "it counts no pair that overlaps the same pair: in 5 5 5 the pair (5, 5) stands twice": without_overlaps,
            "it takes (a, b) and (b, a) for the same pair": lambda words: counted(
                words, pairs=lambda word: map(tuple, map(sorted, pairwise(word)))
            ),
            "its pairs are turned round: left comes first": lambda words: counted(
                words, pairs=lambda word: zip(word[1:], word, strict=False)
            ),
            "its keys are sums: left + right adds two ids up; a key is the pair (left, right)": lambda words: counted(
                words, pairs=lambda word: map(sum, pairwise(word))
            ),
            "it counts single tokens, not pairs": lambda words: counted(words, pairs=lambda word: word),
            "it counts each token with every later one, not with its neighbour alone": lambda words: counted(
                words, pairs=lambda word: ((a, b) for i, a in enumerate(word) for b in word[i + 1 :])
            ),
        },
        hints=(
            "`for word, times in words.items()` gives each word with its number. `zip(word, word[1:])` gives its "
            "pairs of neighbours.",
            "Begin with an empty dict. For each pair, add `times` to what the dict has for it so far; where it has "
            "nothing yet, that is 0.",
            "`counts[pair] = counts.get(pair, 0) + times`, inside both loops; after them, `return counts`.",
        ),
    ),
    Exercise(
        name="merge_pair",
        lesson="01",
        title="every occurrence of a pair becomes one id",
        oracle=merge,
        gives_new=True,
        checks={"replace": (replaced, nothing_to_replace, digits_are_no_ids), "repeats": (repeats_from_the_left,)},
        mistakes={
            "it replaces the first occurrence alone": only_the_first,
            "the right id of the pair is still there: after a merge, go on behind both": keeps_the_right_one,
            "the two ids are still there beside the new one": keeps_both,
            "it loses the last id: where no pair begins at the end, the last id stays": loses_the_last,
            "it uses an id in two merges: in 5 5 5 the middle one can go into one pair only": overlapping,
            "it merges from the right: in 5 5 5 the left two come first": lambda ids, pair, new_id: merge(
                ids[::-1], pair[::-1], new_id
            )[::-1],
            "it looks at the left id alone: the right one must be there as well": lambda ids, pair, new_id: [
                new_id if id == pair[0] else id for id in ids if id != pair[1]
            ],
            "it merges the pair in either order: (a, b) is not (b, a)": lambda ids, pair, new_id: merge(
                merge(ids, pair, new_id), pair[::-1], new_id
            ),
            "it compares digits: in the text “15 2” the ids 5 and 2 do not stand side by side": as_text,
            "nothing is merged: is a list compared with a tuple? [1, 2] == (1, 2) is False": lambda ids, pair, new_id: (
                list(ids)
            ),
        },
        hints=(
            "Walk through the ids with `while i < len(ids)` and put what comes out into a new list. A `for` loop "
            "cannot skip the right id of a pair.",
            "At each place: if `i + 1` is still inside, and `ids[i]` and `ids[i + 1]` are the pair, append `new_id` "
            "and go two on. Else append `ids[i]` and go one on.",
            "`if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair: merged.append(new_id); i += 2`, and "
            "`else: merged.append(ids[i]); i += 1`.",
        ),
    ),
    Exercise(
        name="encode_by_rank",
        lesson="01",
        title="a word's tokens, the lowest rank first",
        oracle=encode,
        checks={"merge": (one_merge, no_merge, merges_of_merges), "order": (by_rank, leftmost, trained)},
        mistakes={
            "it merges once and stops: look again until no pair has a rank": one_merge_only,
            "it stops after one look: what was merged may merge again": one_sweep,
            "it merges one pair, and stops: look again until no pair has a rank": best_pair_alone,
            "a pair that is not in `ranks` counts as rank 0: it has no rank, and never merges": unknown_is_rank_0,
            "a pair that is not in `ranks` goes before all others: it has no rank, and never merges": (
                unknown_goes_first
            ),
            "it merges each pair at one place only: the same pair may stand in the word again": each_rank_once,
            "it merges the first pair it finds: the one of lowest rank goes first": first_found,
            "it sweeps from left to right and merges whatever may: the lowest rank in the whole word goes first": sweep,
            "of equal pairs that overlap it merges the right one: in aaa the left two go first": rightmost_of_equals,
            "it merges the last pair it finds: the one of lowest rank goes first": last_found,
            "it takes the highest rank first: rank 0 was learned first, and goes first": highest_rank,
            "it merges in the order of the dict: the rank is the number that stands beside the pair": (
                in_the_order_of_the_dict
            ),
            "it cuts off the longest token that fits: the merges decide, by rank": longest_token,
            "it merges nothing": lambda parts, ranks: list(parts),
            "it puts all bytes into one token: only pairs that have a rank may merge": lambda parts, ranks: (
                [b"".join(parts)] if parts else []
            ),
        },
        hints=(
            "In each round, look at all neighbours `(parts[i], parts[i + 1])`. Those in `ranks` may merge. Which of "
            "them has the lowest rank?",
            "Collect the places: `places = [i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) in ranks]`. "
            "None: return the parts. Else merge one, and begin again.",
            "Work on a copy, `parts = list(parts)`, in a `while True:` loop. "
            "`i = min(places, key=lambda i: ranks[parts[i], parts[i + 1]])` is the place, and "
            "`parts[i : i + 2] = [parts[i] + parts[i + 1]]` merges there.",
        ),
    ),
    Exercise(
        name="prompt_cost",
        lesson="01",
        title="what a prompt and its answer cost",
        oracle=cost,
        tolerance=0.0,
        checks={"price": (price,), "context": (answer_is_cut, refused)},
        mistakes={
            "it is a million times too high: the prices are for a million tokens": lambda n, m, p, q, c: (
                1e6 * cost(n, m, p, q, c)
            ),
            "it is a thousand times too high: the prices are for a million tokens": lambda n, m, p, q, c: (
                1e3 * cost(n, m, p, q, c)
            ),
            "the two prices are swapped: price_in is for the prompt": lambda n, m, p, q, c: cost(n, m, q, p, c),
            "it counts everything at price_in: what comes out has a price of its own": lambda n, m, p, q, c: cost(
                n, m, p, p, c
            ),
            "it counts everything at price_out: what goes in has a price of its own": lambda n, m, p, q, c: cost(
                n, m, q, q, c
            ),
            "it leaves out the answer": lambda n, m, p, q, c: cost(n, 0, p, q, c),
            "it leaves out the prompt": lambda n, m, p, q, c: cost(n, m, 0, q, c),
            "it pays for all of an answer: the answer ends where the context is full": lambda n, m, p, q, c: (
                (n * p + m * q) / 1e6 if n < c else 0.0
            ),
            "it lets the answer have the whole context: the prompt is in it, too": lambda n, m, p, q, c: (
                (n * p + min(m, c) * q) / 1e6 if n < c else 0.0
            ),
            "it refuses a prompt whose answer does not fit: such an answer is cut": lambda n, m, p, q, c: (
                (n * p + m * q) / 1e6 if n + m <= c else 0.0
            ),
            "it gives nothing for an answer that does not fit: as much of it as fits comes out": lambda n, m, p, q, c: (
                (n * p + (m if n + m <= c else 0) * q) / 1e6 if n < c else 0.0
            ),
            "it charges for a prompt that is refused: such a prompt costs nothing": lambda n, m, p, q, c: (
                (n * p + max(0, min(m, c - n)) * q) / 1e6
            ),
            "a prompt longer than the context makes it cheaper: the room is below 0 then": lambda n, m, p, q, c: (
                (n * p + min(m, c - n) * q) / 1e6
            ),
            "it gives whole numbers: // drops what comes after the point, / keeps it": lambda n, m, p, q, c: (
                cost(n, m, p, q, c) // 1.0
            ),
            "it rounds: a token or two cost a millionth, which is no longer there": lambda n, m, p, q, c: round(
                cost(n, m, p, q, c), 4
            ),
            "it rounds to cents: a token costs less": lambda n, m, p, q, c: round(cost(n, m, p, q, c), 2),
            "it ignores the context": lambda n, m, p, q, c: (n * p + m * q) / 1e6,
            "it cuts a prompt that does not fit: such a prompt is refused": lambda n, m, p, q, c: (
                (min(n, c) * p + max(0, min(m, c - n)) * q) / 1e6
            ),
            "it charges for a prompt that fills the context exactly: there is no room for an answer, so it is "
            "refused": lambda n, m, p, q, c: (n * p + min(m, c - n) * q) / 1e6 if n <= c else 0.0,
        },
        hints=(
            "First the room that the prompt leaves: `context - n_prompt`. What comes out is the smaller of that "
            "and `n_answer`.",
            "Where the room is 0 or less, the prompt is refused: `return 0.0`. Else each number of tokens times "
            "its price, and the sum divided by a million.",
            "`room = context - n_prompt`; `if room <= 0: return 0.0`; then "
            "`return (n_prompt * price_in + min(n_answer, room) * price_out) / 1_000_000`.",
        ),
    ),
)
