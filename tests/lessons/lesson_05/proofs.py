import math

import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- causal_mask ----------------------------------------------------------------------------------

causal_mask = Proof("causal_mask")


@causal_mask.right
def by_tril(n_query, n_key):
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query)


@causal_mask.right
def last_rows_of_the_square(n_query, n_key):
    return torch.tril(torch.ones(n_key, n_key)).bool()[n_key - n_query :]


@causal_mask.right
def by_a_loop(n_query, n_key):
    mask = torch.zeros(n_query, n_key, dtype=torch.bool)
    for i in range(n_query):
        mask[i, : n_key - n_query + i + 1] = True
    return mask


@causal_mask.right
def not_the_future(n_query, n_key):
    return ~torch.triu(torch.ones(n_query, n_key, dtype=torch.bool), diagonal=n_key - n_query + 1)


@causal_mask.wrong("a token does not see itself")
def strictly_before(n_query, n_key):
    return torch.arange(n_key) < torch.arange(n_key - n_query, n_key)[:, None]


@causal_mask.wrong("upside down")
def true_is_closed(n_query, n_key):
    return torch.ones(n_query, n_key).triu(n_key - n_query + 1).bool()


@causal_mask.wrong("it looks ahead")
def triu_for_tril(n_query, n_key):
    return torch.triu(torch.ones(n_query, n_key, dtype=torch.bool), n_key - n_query)


@causal_mask.wrong("one token too many")
def one_ahead(n_query, n_key):
    return torch.arange(n_key) <= torch.arange(n_key - n_query, n_key)[:, None] + 1


@causal_mask.wrong("every query sees everything")
def all_open(n_query, n_key):
    return torch.ones(n_query, n_key, dtype=torch.bool)


@causal_mask.wrong("itself alone")
def identity(n_query, n_key):
    return torch.eye(n_key, dtype=torch.bool)[n_key - n_query :]


@causal_mask.wrong("puts the queries at the beginning")
def from_the_first_key(n_query, n_key):
    return torch.ones(n_query, n_key, dtype=torch.bool).tril()


@causal_mask.wrong("see too little")
def difference_the_wrong_way(n_query, n_key):
    return torch.ones(n_query, n_key, dtype=torch.bool).tril(n_query - n_key)


@causal_mask.wrong("square mask of all keys")
def keys_alone(n_query, n_key):
    return torch.ones(n_key, n_key, dtype=torch.bool).tril()


@causal_mask.wrong("square mask of the queries")
def queries_alone(n_query, n_key):
    return torch.ones(n_query, n_query, dtype=torch.bool).tril()


@causal_mask.wrong("all queries see the same keys")
def one_row_for_all(n_query, n_key):
    return (torch.arange(n_key) <= n_key - n_query).expand(n_query, n_key)


@causal_mask.wrong("True and False (torch.bool) are asked for")
def ones_and_zeros(n_query, n_key):
    return torch.ones(n_query, n_key).tril(n_key - n_query)


@causal_mask.wrong("it returns a list")
def lists(n_query, n_key):
    return by_tril(n_query, n_key).tolist()


# ---- scaled_dot_product_attention -----------------------------------------------------------------

attention = Proof("scaled_dot_product_attention")


@attention.right
def by_steps(query, key, value, mask):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * query.size(-1) ** -0.5
    largest = scores.masked_fill(~mask, -1e38).amax(-1, keepdim=True)
    powers = torch.where(mask, torch.exp(torch.where(mask, scores - largest, 0.0)), 0.0)
    total = powers.sum(-1, keepdim=True)
    return powers / torch.where(total == 0, 1, total) @ value


@attention.right
def nan_to_zero(query, key, value, mask):
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores = torch.where(mask, scores, torch.tensor(float("-inf")))
    return torch.nan_to_num(torch.softmax(scores, -1)) @ value


@attention.right
def fused(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@attention.right
def very_negative_and_masked_again(query, key, value, mask):
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    weights = scores.masked_fill(mask.logical_not(), -1e9).softmax(-1)
    return (weights * mask) @ value


def scores_of(query, key, divisor=None):
    return query @ key.transpose(-2, -1) / (query.shape[-1] ** 0.5 if divisor is None else divisor)


def finish(scores, value, mask):
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).masked_fill(~mask, 0) @ value


@attention.wrong("not divided by √d_head")
def no_scale(query, key, value, mask):
    return finish(scores_of(query, key, 1), value, mask)


@attention.wrong("by its square root")
def by_d(query, key, value, mask):
    return finish(scores_of(query, key, query.shape[-1]), value, mask)


@attention.wrong("it multiplies by √d_head")
def multiplies(query, key, value, mask):
    return finish(query @ key.transpose(-2, -1) * query.shape[-1] ** 0.5, value, mask)


@attention.wrong("√n_key")
def root_of_keys(query, key, value, mask):
    return finish(scores_of(query, key, key.shape[-2] ** 0.5), value, mask)


@attention.wrong("√n_query")
def root_of_queries(query, key, value, mask):
    return finish(scores_of(query, key, query.shape[-2] ** 0.5), value, mask)


@attention.wrong("softmax runs over the queries")
def over_queries(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, -torch.inf).softmax(-2).masked_fill(~mask, 0) @ value


@attention.wrong("softmax runs over the first dimension")
def over_batch(query, key, value, mask):
    scores = scores_of(query, key).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1) if query.ndim == 2 else scores.softmax(0)
    return weights.masked_fill(~mask, 0) @ value


@attention.wrong("which are the keys for one head alone")
def over_dimension_1(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, -torch.inf).softmax(1).masked_fill(~mask, 0) @ value


@attention.wrong("there is no softmax")
def raw_scores(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, 0) @ value


@attention.wrong("it divides the weights")
def scale_too_late(query, key, value, mask):
    return finish(scores_of(query, key, 1), value, mask) / query.shape[-1] ** 0.5


@attention.wrong("the best key alone")
def hardmax(query, key, value, mask):
    scores = scores_of(query, key).masked_fill(~mask, -torch.inf)
    return F.one_hot(scores.argmax(-1), key.shape[-2]).float().masked_fill(~mask, 0) @ value


@attention.wrong("the keys are mixed")
def mixes_keys(query, key, value, mask):
    return finish(scores_of(query, key), key, mask)


@attention.wrong("the values are compared")
def compares_values(query, key, value, mask):
    return finish(scores_of(query, value), value, mask)


@attention.wrong("the mask is not used")
def no_mask(query, key, value, mask):
    return scores_of(query, key).softmax(-1) @ value


@attention.wrong("hence nan")
def closes_the_open(query, key, value, mask):
    return scores_of(query, key).masked_fill(mask, -torch.inf).softmax(-1) @ value


@attention.wrong("the mask is upside down")
def closes_the_open_carefully(query, key, value, mask):
    return finish(scores_of(query, key), value, ~mask)


@attention.wrong("e^0 = 1 is a share, too")
def times_the_mask(query, key, value, mask):
    return (scores_of(query, key) * mask).softmax(-1) @ value


@attention.wrong("the mask comes after softmax")
def masks_weights(query, key, value, mask):
    return scores_of(query, key).softmax(-1).masked_fill(~mask, 0) @ value


@attention.wrong("the mask is added to the scores")
def adds_the_mask(query, key, value, mask):
    return (scores_of(query, key) + mask).softmax(-1) @ value


@attention.wrong("becomes nan")
def nan_in_a_closed_row(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, -torch.inf).softmax(-1) @ value


@attention.wrong("takes the average of all")
def average_in_a_closed_row(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, -1e9).softmax(-1) @ value


@attention.wrong("is it the last two that change places")
def two_dimensions_only(query, key, value, mask):
    return finish(query @ key.t() / query.shape[-1] ** 0.5, value, mask)


@attention.wrong("its own causal mask")
def always_causal(query, key, value, mask):
    n, m = query.shape[-2], key.shape[-2]
    return finish(scores_of(query, key), value, torch.ones(n, m, dtype=torch.bool).tril(m - n))


@attention.wrong("it returns several things")
def weights_too(query, key, value, mask):
    weights = scores_of(query, key).masked_fill(~mask, -torch.inf).softmax(-1)
    return weights @ value, weights


@attention.wrong("it gives the weights")
def weights_alone(query, key, value, mask):
    return scores_of(query, key).masked_fill(~mask, -torch.inf).softmax(-1)


# ---- read_row -------------------------------------------------------------------------------------

read_row = Proof("read_row")


@read_row.right
def by_stable_sort(weights, tokens, position, share):
    row, order = weights[position].sort(descending=True, stable=True)
    n = int((row.cumsum(0) < share).sum()) + 1
    return [tokens[i] for i in order[:n].tolist()]


@read_row.right
def one_at_a_time(weights, tokens, position, share):
    row = weights[position].tolist()
    chosen, total = [], 0
    while total < share:
        place = max((i for i in range(len(row)) if i not in chosen), key=lambda i: row[i])
        chosen.append(place)
        total += row[place]
    return [tokens[place] for place in chosen]


@read_row.right
def pairs(weights, tokens, position, share):
    chosen = []
    for weight, place in sorted((-w, i) for i, w in enumerate(weights[position].tolist())):
        chosen.append(tokens[place])
        share += weight
        if share <= 0:
            return chosen


def walk(row, tokens, share, order=None):
    order = sorted(range(len(row)), key=lambda i: -row[i]) if order is None else order
    chosen, total = [], 0.0
    for place in order:
        chosen.append(place)
        total += row[place]
        if total >= share:
            break
    return chosen


@read_row.wrong("it reads the column")
def column(weights, tokens, position, share):
    row = weights[:, position].tolist()
    return [tokens[i] for i in walk(row, tokens, share)]


@read_row.wrong("the row of the token before")
def counted_from_one(weights, tokens, position, share):
    return one_at_a_time(weights, tokens, position - 1, share)


@read_row.wrong("the last token's row")
def last_row(weights, tokens, position, share):
    return one_at_a_time(weights, tokens, -1, share)


@read_row.wrong("from each token by itself")
def each_by_itself(weights, tokens, position, share):
    row = weights[position].tolist()
    return [tokens[i] for i in sorted(range(len(row)), key=lambda i: -row[i]) if row[i] >= share]


@read_row.wrong("in the order of the text")
def sorted_places(weights, tokens, position, share):
    return [tokens[i] for i in sorted(walk(weights[position].tolist(), tokens, share))]


@read_row.wrong("adds up from the left")
def left_to_right(weights, tokens, position, share):
    return [tokens[i] for i in walk(weights[position].tolist(), tokens, share, range(len(tokens)))]


@read_row.wrong("the smallest weights")
def ascending(weights, tokens, position, share):
    return [tokens[i] for i in walk(weights[position].tolist(), tokens, share, weights[position].argsort().tolist())]


@read_row.wrong("one token too early")
def stops_before(weights, tokens, position, share):
    row, total, chosen = weights[position].tolist(), 0.0, []
    for place in sorted(range(len(row)), key=lambda i: -row[i]):
        if total + row[place] >= share:
            break
        chosen.append(tokens[place])
        total += row[place]
    return chosen


@read_row.wrong("one token too many")
def checks_too_late(weights, tokens, position, share):
    row, total, chosen = weights[position].tolist(), 0.0, []
    for place in sorted(range(len(row)), key=lambda i: -row[i]):
        chosen.append(tokens[place])
        if total >= share:
            break
        total += row[place]
    return chosen


@read_row.wrong("at least `share` is enough")
def more_than(weights, tokens, position, share):
    row, total, chosen = weights[position].tolist(), 0.0, []
    for place in sorted(range(len(row)), key=lambda i: -row[i]):
        chosen.append(tokens[place])
        total += row[place]
        if total > share:
            break
    return chosen


@read_row.wrong("every token that has a weight")
def all_with_weight(weights, tokens, position, share):
    row = weights[position].tolist()
    return [tokens[i] for i in sorted(range(len(row)), key=lambda i: -row[i]) if row[i] > 0]


@read_row.wrong("it lists all tokens")
def all_of_them(weights, tokens, position, share):
    row = weights[position].tolist()
    return [tokens[i] for i in sorted(range(len(row)), key=lambda i: -row[i])]


@read_row.wrong("token alone")
def largest(weights, tokens, position, share):
    return [tokens[int(weights[position].argmax())]]


@read_row.wrong("leaves out the token itself")
def others_only(weights, tokens, position, share):
    row = weights[position].tolist()
    order = [i for i in sorted(range(len(row)), key=lambda i: -row[i]) if i != position]
    return [tokens[i] for i in walk(row, tokens, share, order)]


@read_row.wrong("it puts the later token first")
def reversed_sort(weights, tokens, position, share):
    row = weights[position].tolist()
    order = sorted(range(len(row)), key=lambda i: row[i])[::-1]
    return [tokens[i] for i in walk(row, tokens, share, order)]


@read_row.wrong("later in the alphabet")
def sorted_pairs_of_words(weights, tokens, position, share):
    pairs = sorted(zip(weights[position].tolist(), tokens, strict=True), reverse=True)
    chosen, total = [], 0.0
    for weight, token in pairs:
        chosen.append(token)
        total += weight
        if total >= share:
            break
    return chosen


@read_row.wrong("finds the first of two equal ones twice")
def by_index(weights, tokens, position, share):
    row, total, chosen = weights[position].tolist(), 0.0, []
    for weight in sorted(row, reverse=True):
        chosen.append(tokens[row.index(weight)])
        total += weight
        if total >= share:
            break
    return chosen


@read_row.wrong("adds up the weights of a word that comes twice")
def summed_by_word(weights, tokens, position, share):
    held = {}
    for token, weight in zip(tokens, weights[position].tolist(), strict=True):
        held[token] = held.get(token, 0) + weight
    row = list(held.values())
    return [list(held)[i] for i in walk(row, tokens, share)]


@read_row.wrong("overwrites itself")
def dictionary(weights, tokens, position, share):
    held = {token: weights[position, i].item() for i, token in enumerate(tokens)}
    chosen, total = [], 0.0
    for token in sorted(held, key=held.get, reverse=True):
        chosen.append(token)
        total += held[token]
        if total >= share:
            break
    return chosen


@read_row.wrong("lists a word once where it comes twice")
def no_word_twice(weights, tokens, position, share):
    chosen = []
    for i in walk(weights[position].tolist(), tokens, share):
        if tokens[i] not in chosen:
            chosen.append(tokens[i])
    return chosen


@read_row.wrong("something else than words")
def places(weights, tokens, position, share):
    return walk(weights[position].tolist(), tokens, share)


@read_row.wrong("its list holds pairs")
def with_weights(weights, tokens, position, share):
    row = weights[position].tolist()
    return [(tokens[i], row[i]) for i in walk(row, tokens, share)]


@read_row.wrong("it changes what it was given")
def crosses_out(weights, tokens, position, share):
    row, total, chosen = weights[position], 0.0, []
    while total < share:
        place = int(row.argmax())
        chosen.append(tokens[place])
        total += row[place].item()
        row[place] = 0
    return chosen


@attention.wrong("NaN comes out where scores are large")
def powers_as_they_are(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    powers = scores.exp().masked_fill(~mask, 0.0)
    total = powers.sum(-1, keepdim=True)
    return torch.where(total > 0, powers / total, 0 * powers) @ value


@attention.wrong("of closed keys, too")
def largest_of_all_keys(query, key, value, mask):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * query.size(-1) ** -0.5
    powers = torch.exp(scores - scores.amax(-1, keepdim=True)) * mask
    total = powers.sum(-1, keepdim=True)
    return powers / torch.where(total == 0, 1, total) @ value


@attention.wrong("becomes −100")
def minus_a_hundred(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, -100).softmax(-1)
    return (weights * mask.any(-1, keepdim=True)) @ value


@read_row.wrong("gives another value")
def rounded_to_two_digits(weights, tokens, position, share):
    row = [round(weight, 2) for weight in weights[position].tolist()]
    order = sorted(range(len(row)), key=lambda place: -row[place])
    chosen, total = [], 0.0
    for place in order:
        chosen.append(tokens[place])
        total += weights[position, place].item()
        if total >= share:
            break
    return chosen
