from collections import Counter, defaultdict
from itertools import pairwise

from lessons.proof import Proof

# ---- count_pairs --------------------------------------------------------------------------------

count_pairs = Proof("count_pairs")


@count_pairs.right
def with_a_counter(words):
    counts = Counter()
    for word, times in words.items():
        for i in range(len(word) - 1):
            counts[word[i], word[i + 1]] += times
    return counts


@count_pairs.right
def with_a_defaultdict(words):
    counts = defaultdict(int)
    for word in words:
        for pair in pairwise(word):
            counts[pair] += words[word]
    return counts


@count_pairs.right
def by_writing_words_out(words):
    text = [word for word, times in words.items() for _ in range(times)]
    pairs = [(word[i - 1], word[i]) for word in text for i in range(1, len(word))]
    return {pair: pairs.count(pair) for pair in pairs}


@count_pairs.wrong("it counts each word once")
def unweighted(words):
    return dict(Counter(pair for word in words for pair in pairwise(word)))


@count_pairs.wrong("it forgets what it has counted")
def overwritten(words):
    counts = {}
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] = times
    return counts


@count_pairs.wrong("across the edge of two words")
def one_stream(words):
    stream = []
    for word, times in words.items():
        stream.extend(word * times)
    return dict(Counter(pairwise(stream)))


@count_pairs.wrong("it misses the last pair of each word")
def stops_early(words):
    counts = Counter()
    for word, times in words.items():
        for i in range(len(word) - 2):
            counts[word[i], word[i + 1]] += times
    return dict(counts)


@count_pairs.wrong("it misses the first pair of each word")
def starts_late(words):
    counts = Counter()
    for word, times in words.items():
        for i in range(1, len(word) - 1):
            counts[word[i], word[i + 1]] += times
    return dict(counts)


@count_pairs.wrong("two by two")
def without_overlap(words):
    counts = Counter()
    for word, times in words.items():
        for i in range(0, len(word) - 1, 2):
            counts[word[i], word[i + 1]] += times
    return dict(counts)


@count_pairs.wrong("it counts a pair once in a word where it stands twice")
def set_of_pairs(words):
    counts = Counter()
    for word, times in words.items():
        for pair in set(pairwise(word)):
            counts[pair] += times
    return dict(counts)


@count_pairs.wrong("it counts no pair that overlaps")
def as_text_does(words):
    """str.count counts without overlaps."""
    counts = {}
    for word, times in words.items():
        text = "".join(map(chr, word))
        for left, right in set(pairwise(word)):
            counts[left, right] = counts.get((left, right), 0) + times * text.count(chr(left) + chr(right))
    return counts


@count_pairs.wrong("for the same pair")
def unordered(words):
    counts = Counter()
    for word, times in words.items():
        for left, right in pairwise(word):
            counts[min(left, right), max(left, right)] += times
    return dict(counts)


@count_pairs.wrong("turned round")
def turned(words):
    counts = Counter()
    for word, times in words.items():
        for left, right in pairwise(word):
            counts[right, left] += times
    return dict(counts)


@count_pairs.wrong("single tokens")
def tokens(words):
    counts = Counter()
    for word, times in words.items():
        for id in word:
            counts[id] += times
    return dict(counts)


@count_pairs.wrong("with every later one")
def all_pairs(words):
    counts = Counter()
    for word, times in words.items():
        for i in range(len(word)):
            for j in range(i + 1, len(word)):
                counts[word[i], word[j]] += times
    return dict(counts)


@count_pairs.wrong("it returns a list")
def a_list_of_pairs(words):
    return [pair for word in words for pair in pairwise(word)]


@count_pairs.wrong("its keys are sums")
def joined_as_text_is(words):
    """The lesson's own line: with ids it adds up."""
    return Counter(left + right for word in words for left, right in pairwise(word))


@count_pairs.wrong("its keys are texts")
def keys_as_text(words):
    counts = {}
    for word, times in words.items():
        for left, right in pairwise(word):
            counts[f"{left}{right}"] = counts.get(f"{left}{right}", 0) + times
    return counts


# ---- merge_pair ---------------------------------------------------------------------------------

merge_pair = Proof("merge_pair")


@merge_pair.right
def with_a_stack(ids, pair, new_id):
    merged = []
    used = True  # whether the last one in `merged` is a merge already
    for id in ids:
        if not used and (merged[-1], id) == pair:
            merged[-1] = new_id
            used = True
        else:
            merged.append(id)
            used = False
    return merged


@merge_pair.right
def as_characters(ids, pair, new_id):
    text = "".join(map(chr, ids)).replace(chr(pair[0]) + chr(pair[1]), chr(new_id))
    return [ord(sign) for sign in text]


@merge_pair.right
def on_a_copy(ids, pair, new_id):
    ids = list(ids)
    i = 0
    while i < len(ids) - 1:
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


@merge_pair.wrong("it replaces the first occurrence alone")
def first_only(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


@merge_pair.wrong("the right id of the pair is still there")
def no_skip(ids, pair, new_id):
    merged = []
    for i, id in enumerate(ids):
        merged.append(new_id if tuple(ids[i : i + 2]) == pair else id)
    return merged


@merge_pair.wrong("the two ids are still there")
def inserted(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged += [*pair, new_id]
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("it loses the last id")
def loses_last(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("it uses an id in two merges")
def overlapping(ids, pair, new_id):
    merged, covered = [], -1
    for i in range(len(ids)):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            covered = i + 1
        elif i > covered:
            merged.append(ids[i])
    return merged


@merge_pair.wrong("it merges from the right")
def from_the_right(ids, pair, new_id):
    ids = list(ids)
    i = len(ids) - 2
    while i >= 0:
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new_id]
            i -= 1
        i -= 1
    return ids


@merge_pair.wrong("it looks at the left id alone")
def left_only(ids, pair, new_id):
    return [new_id if id == pair[0] else id for id in ids if id != pair[1]]


@merge_pair.wrong("in either order")
def either_order(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if sorted(ids[i : i + 2]) == sorted(pair):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("it compares digits")
def digits(ids, pair, new_id):
    text = ",".join(map(str, ids)).replace(",".join(map(str, pair)), str(new_id))
    return [int(number) for number in text.split(",")] if text else []


@merge_pair.wrong("is a list compared with a tuple")
def never_equal(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if ids[i : i + 2] == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge_pair.wrong("it changes what it was given")
def in_place(ids, pair, new_id):
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


@merge_pair.wrong("it stops with IndexError: list index out of range")
def past_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


# ---- encode_by_rank -----------------------------------------------------------------------------

encode_by_rank = Proof("encode_by_rank")


@encode_by_rank.right
def by_replaying(parts, ranks):
    """Every merge in order, over the whole word: the lesson's way."""
    for left, right in sorted(ranks, key=ranks.get):
        merged, i = [], 0
        while i < len(parts):
            if i + 1 < len(parts) and (parts[i], parts[i + 1]) == (left, right):
                merged.append(left + right)
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        parts = merged
    return parts


@encode_by_rank.right
def all_places_of_the_best_pair(parts, ranks):
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, float("inf")))
        if best not in ranks:
            break
        merged = []
        for part in parts:
            if merged and (merged[-1], part) == best:
                merged[-1] += part
            else:
                merged.append(part)
        parts = merged
    return parts


@encode_by_rank.right
def recursively(parts, ranks):
    known = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
    if not known:
        return list(parts)
    _, i = min(known)
    return recursively([*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]], ranks)


@encode_by_rank.wrong("it merges once and stops")
def once(parts, ranks):
    known = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
    if not known:
        return parts
    _, i = min(known)
    return [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]


@encode_by_rank.wrong("at one place only")
def each_merge_once(parts, ranks):
    parts = list(parts)
    for pair in sorted(ranks, key=ranks.get):
        pairs = list(pairwise(parts))
        if pair in pairs:
            i = pairs.index(pair)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("it merges the first pair it finds")
def first_found(parts, ranks):
    parts = list(parts)
    i = 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) in ranks:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i = 0
        else:
            i += 1
    return parts


@encode_by_rank.wrong("it sweeps from left to right")
def sweeps(parts, ranks):
    while True:
        merged, i = [], 0
        while i < len(parts):
            if i + 1 < len(parts) and (parts[i], parts[i + 1]) in ranks:
                merged.append(parts[i] + parts[i + 1])
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        if len(merged) == len(parts):
            return merged
        parts = merged


@encode_by_rank.wrong("it merges the last pair it finds")
def last_found(parts, ranks):
    parts = list(parts)
    while True:
        place = None
        for i in range(len(parts) - 1):
            if (parts[i], parts[i + 1]) in ranks:
                place = i
        if place is None:
            return parts
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@encode_by_rank.wrong("it takes the highest rank first")
def highest(parts, ranks):
    parts = list(parts)
    while known := [(ranks[pair], -i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = -max(known)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("it cuts off the longest token that fits")
def longest_match(parts, ranks):
    tokens = {left + right for left, right in ranks} | set(parts)
    word, found = b"".join(parts), []
    while word:
        for size in range(len(word), 0, -1):
            if word[:size] in tokens:
                found.append(word[:size])
                word = word[size:]
                break
    return found


@encode_by_rank.wrong("of equal pairs that overlap it merges the right one")
def rightmost(parts, ranks):
    parts = list(parts)
    while known := [(ranks[pair], -i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = -min(known)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("it merges nothing")
def nothing_merges(parts, ranks):
    return [part for part in parts if part not in ranks]


@encode_by_rank.wrong("into one token")
def joined(parts, ranks):
    return [b"".join(parts)] if parts else []


@encode_by_rank.wrong("it changes what it was given")
def merges_in_place(parts, ranks):
    while known := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        i = min(known)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("it stops with KeyError")
def unknown_pair(parts, ranks):
    parts = list(parts)
    while len(parts) > 1:
        i = min(range(len(parts) - 1), key=lambda i: ranks[parts[i], parts[i + 1]])
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("in the order of the dict")
def replays_the_dict(parts, ranks):
    """Never looks at a rank."""
    for left, right in ranks:
        merged, i = [], 0
        while i < len(parts):
            if i + 1 < len(parts) and (parts[i], parts[i + 1]) == (left, right):
                merged.append(left + right)
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        parts = merged
    return parts


@encode_by_rank.wrong("it stops after one look")
def one_sweep(parts, ranks):
    merged, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) in ranks:
            merged.append(parts[i] + parts[i + 1])
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


@encode_by_rank.wrong("it merges one pair, and stops")
def the_best_pair_alone(parts, ranks):
    known = [pair for pair in pairwise(parts) if pair in ranks]
    if not known:
        return list(parts)
    best = min(known, key=ranks.get)
    merged, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == best:
            merged.append(parts[i] + parts[i + 1])
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


@encode_by_rank.wrong("counts as rank 0")
def unknown_is_best(parts, ranks):
    parts = list(parts)
    while len(parts) > 1:
        i = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), 0))
        if (parts[i], parts[i + 1]) not in ranks:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@encode_by_rank.wrong("goes before all others")
def unknown_is_best_everywhere(parts, ranks):
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, 0))
        if best not in ranks:
            break
        merged = []
        for part in parts:
            if merged and (merged[-1], part) == best:
                merged[-1] += part
            else:
                merged.append(part)
        parts = merged
    return parts


@encode_by_rank.wrong("has no rank: `ranks.get` gives None")
def compares_with_none(parts, ranks):
    parts = list(parts)
    while len(parts) > 1:
        best = min(pairwise(parts), key=ranks.get)
        if best not in ranks:
            break
        i = list(pairwise(parts)).index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


# ---- prompt_cost --------------------------------------------------------------------------------

prompt_cost = Proof("prompt_cost")


@prompt_cost.right
def in_steps(n_prompt, n_answer, price_in, price_out, context):
    if n_prompt >= context:
        return 0
    out = n_answer
    if n_prompt + out > context:
        out = context - n_prompt
    return n_prompt / 1_000_000 * price_in + out / 1_000_000 * price_out


@prompt_cost.right
def token_by_token_prices(n_prompt, n_answer, price_in, price_out, context):
    each_in, each_out = price_in * 1e-6, price_out * 1e-6
    total = min(n_prompt + n_answer, context)
    return 0.0 if n_prompt >= context else n_prompt * each_in + (total - n_prompt) * each_out


@prompt_cost.wrong("a million times too high")
def not_divided(n, m, p, q, c):
    return n * p + min(m, c - n) * q if n < c else 0.0


@prompt_cost.wrong("a thousand times too high")
def per_thousand(n, m, p, q, c):
    return (n * p + min(m, c - n) * q) / 1000 if n < c else 0.0


@prompt_cost.wrong("the two prices are swapped")
def swapped(n, m, p, q, c):
    return (n * q + min(m, c - n) * p) / 1e6 if n < c else 0.0


@prompt_cost.wrong("it counts everything at price_in")
def one_price(n, m, p, q, c):
    return min(n + m, c) * p / 1e6 if n < c else 0.0


@prompt_cost.wrong("it counts everything at price_out")
def other_price(n, m, p, q, c):
    return min(n + m, c) * q / 1e6 if n < c else 0.0


@prompt_cost.wrong("it leaves out the answer")
def prompt_only(n, m, p, q, c):
    return n * p / 1e6 if n < c else 0.0


@prompt_cost.wrong("it leaves out the prompt")
def answer_only(n, m, p, q, c):
    return min(m, c - n) * q / 1e6 if n < c else 0.0


@prompt_cost.wrong("it pays for all of an answer")
def answer_uncut(n, m, p, q, c):
    if n >= c:
        return 0.0
    return (n * p + m * q) / 1e6


@prompt_cost.wrong("it lets the answer have the whole context")
def answer_cut_at_the_context(n, m, p, q, c):
    if n >= c:
        return 0.0
    return (n * p + min(m, c) * q) / 1e6


@prompt_cost.wrong("it refuses a prompt whose answer does not fit")
def refuses_too_much(n, m, p, q, c):
    return (n * p + m * q) / 1e6 if n + m <= c else 0.0


@prompt_cost.wrong("it gives nothing for an answer that does not fit")
def drops_the_answer(n, m, p, q, c):
    if n >= c:
        return 0.0
    return (n * p + (m if n + m <= c else 0) * q) / 1e6


@prompt_cost.wrong("it charges for a prompt that is refused")
def charges_for_refused(n, m, p, q, c):
    room = max(c - n, 0)
    return (n * p + min(m, room) * q) / 1e6


@prompt_cost.wrong("makes it cheaper")
def negative_room(n, m, p, q, c):
    return (n * p + min(m, c - n) * q) / 1e6


@prompt_cost.wrong("it ignores the context")
def no_context(n, m, p, q, c):
    return (n * p + m * q) / 1e6


@prompt_cost.wrong("it cuts a prompt that does not fit")
def cuts_the_prompt(n, m, p, q, c):
    n = min(n, c)
    return (n * p + min(m, c - n) * q) / 1e6


@prompt_cost.wrong("fills the context exactly")
def exactly_full(n, m, p, q, c):
    return (n * p + min(m, c - n) * q) / 1e6 if n <= c else 0.0


@prompt_cost.wrong("it rounds to cents")
def rounded(n, m, p, q, c):
    return round((n * p + min(m, c - n) * q) / 1e6, 2) if n < c else 0.0


@prompt_cost.wrong("// drops what comes after the point")
def whole_division(n, m, p, q, c):
    return (n * p + min(m, c - n) * q) // 1_000_000 if n < c else 0.0


@count_pairs.wrong("gives another value")
def an_id_of_0_is_nothing(words):
    counts = {}
    for word, times in words.items():
        for left, right in pairwise(word):
            if left and right:
                counts[left, right] = counts.get((left, right), 0) + times
    return counts


@count_pairs.wrong("is a float, and a whole number is asked for")
def counts_as_floats(words):
    counts = {}
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0.0) + times
    return counts


@merge_pair.wrong("the first one is missing")
def drops_the_id_0(ids, pair, new_id):
    merged, left = [], None
    for id in ids:
        if left is not None and (left, id) == pair:
            merged.append(new_id)
            left = None
        else:
            if left:
                merged.append(left)
            left = id
    return merged + [left] * (left is not None)


@merge_pair.wrong("the very object that it was given")
def the_same_list(ids, pair, new_id):
    if pair not in pairwise(ids):
        return ids
    merged = []
    for id in ids:
        if merged and (merged[-1], id) == pair:
            merged[-1] = new_id
        else:
            merged.append(id)
    return merged


@prompt_cost.wrong("it rounds: a token or two")
def to_four_digits(n_prompt, n_answer, price_in, price_out, context):
    room = context - n_prompt
    return round((n_prompt * price_in + min(n_answer, room) * price_out) / 1e6, 4) if room > 0 else 0.0
