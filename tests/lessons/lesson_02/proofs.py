import torch
import torch.nn.functional as F
from lessons.proof import Proof

# ---- look_up --------------------------------------------------------------------------------------

look_up = Proof("look_up")


@look_up.right
def by_index(ids, table):
    return table[ids]


@look_up.right
def by_product(ids, table):
    return F.one_hot(ids, len(table)).float() @ table


@look_up.right
def by_select(ids, table):
    return table.index_select(0, ids.reshape(-1)).reshape(*ids.shape, table.shape[1])


@look_up.right
def row_by_row(ids, table):
    return torch.stack([table[id] for id in ids.flatten().tolist()]).view(*ids.shape, -1)


@look_up.right
def by_comparison(ids, table):
    return (ids.unsqueeze(-1) == torch.arange(table.size(0))).to(table.dtype).matmul(table)


@look_up.wrong("it takes the row before")
def counted_from_one(ids, table):
    return table[ids - 1]


@look_up.wrong("it takes the row after")
def one_row_late(ids, table):
    return table.roll(-1, 0)[ids]


@look_up.wrong("in the order of the vocabulary")
def each_once(ids, table):
    return table[sorted(set(ids.flatten().tolist()))]


@look_up.wrong("mixes the vectors")
def mean_of_the_sentence(ids, table):
    return table[ids].mean(dim=-2)


@look_up.wrong("adds the vectors of the sentence up")
def counts_of_words(ids, table):
    return F.one_hot(ids, len(table)).float().sum(-2) @ table


@look_up.wrong("the shape of the ids must stay")
def flat(ids, table):
    return F.one_hot(ids.flatten(), len(table)).float() @ table


@look_up.wrong("only at the first sentence")
def first_sentence(ids, table):
    return table[ids[0]] if ids.ndim > 1 else table[ids]


@look_up.wrong("the one-hot vectors themselves")
def only_one_hot(ids, table):
    return F.one_hot(ids, num_classes=len(table)).float()


@look_up.wrong("copies that no longer know their table")
def through_a_list(ids, table):
    numbers = table.tolist()
    return torch.tensor([numbers[id] for id in ids.flatten().tolist()]).reshape(*ids.shape, table.shape[1])


@look_up.wrong("keep the ids a tensor")
def by_a_list(ids, table):
    return table[ids.tolist()]


@look_up.wrong("cannot be multiplied")
def one_hot_of_unknown_width(ids, table):
    return F.one_hot(ids).float() @ table


@look_up.wrong("a 0-d tensor")
def loop_over_ids(ids, table):
    def rows(ids):
        return torch.stack([rows(id) if ids.ndim > 1 else table[id] for id in ids])

    return rows(ids)


@look_up.wrong("a list of")
def list_of_rows(ids, table):
    return [table[id] for id in ids.flatten()]


# ---- nearest_by_cosine ----------------------------------------------------------------------------

nearest = Proof("nearest_by_cosine")


@nearest.right
def with_unit_rows(table, id, k):
    unit = table / table.norm(dim=1, keepdim=True)
    cosines = unit @ unit[id]
    cosines[id] = -torch.inf
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


@nearest.right
def with_pytorchs_own(table, id, k):
    cosines = F.cosine_similarity(table, table[id : id + 1])
    others = [other for other in range(len(table)) if other != id]
    return sorted(others, key=lambda other: -cosines[other])[:k]


@nearest.right
def the_querys_length_does_not_matter(table, id, k):
    scores = (table @ table[id] / table.norm(dim=1)).tolist()
    ranking = sorted(range(len(scores)), key=lambda other: (-scores[other], other))
    ranking.remove(id)
    return ranking[:k]


@nearest.right
def by_the_distance_of_unit_rows(table, id, k):
    unit = F.normalize(table, dim=1)
    far = (unit - unit[id]).square().sum(1)
    far[id] = torch.inf
    return far.argsort(stable=True)[:k].tolist()


def rank(scores, id, k):
    scores = scores.clone()
    scores[id] = -torch.inf
    return scores.sort(descending=True, stable=True).indices[:k].tolist()


def cosines_of(table, id):
    return table @ table[id] / table.norm(dim=1) / table[id].norm()


@nearest.wrong("its own nearest neighbour")
def itself_too(table, id, k):
    return cosines_of(table, id).sort(descending=True, stable=True).indices[:k].tolist()


@nearest.wrong("one of the k places")
def one_too_few(table, id, k):
    ranking = cosines_of(table, id).sort(descending=True, stable=True).indices[:k].tolist()
    return [other for other in ranking if other != id]


@nearest.wrong("the cosines themselves")
def cosines_not_ids(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = -torch.inf
    return cosines.sort(descending=True).values[:k].tolist()


@nearest.wrong("least similar come first")
def ascending(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = torch.inf
    return cosines.argsort()[:k].tolist()


@nearest.wrong("counted the others")
def among_the_others(table, id, k):
    others = table[torch.arange(len(table)) != id]
    cosines = F.normalize(others, dim=1) @ F.normalize(table[id], dim=0)
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


@nearest.wrong("long rows win")
def only_the_query_normalized(table, id, k):
    return rank(table @ (table[id] / table[id].norm()), id, k)


@nearest.wrong("ranks by the distance")
def by_distance(table, id, k):
    return rank(-torch.cdist(table[id : id + 1], table)[0], id, k)


@nearest.wrong("divides the columns")
def wrong_axis(table, id, k):
    unit = table / table.norm(dim=0, keepdim=True)
    return rank(unit @ unit[id], id, k)


@nearest.wrong("the length squared")
def forgot_the_root(table, id, k):
    return rank(table @ table[id] / (table**2).sum(1), id, k)


@nearest.wrong("by the sum of the numbers")
def sum_of_sizes(table, id, k):
    return rank(F.normalize(table, p=1, dim=1) @ table[id], id, k)


@nearest.wrong("−0.9 for as near")
def without_a_sign(table, id, k):
    return rank(cosines_of(table, id).abs(), id, k)


@nearest.wrong("the cosine 0")
def own_zero(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = 0
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


@nearest.wrong("the cosine −1")
def own_minus_one(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = -1
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


@nearest.wrong("which need not be the token itself")
def without_the_first(table, id, k):
    return cosines_of(table, id).sort(descending=True, stable=True).indices[1 : k + 1].tolist()


@nearest.wrong("the highest id first")
def last_of_ties_first(table, id, k):
    cosines = cosines_of(table, id).tolist()
    others = [other for other in range(len(table)) if other != id]
    return sorted(others, key=lambda other: (cosines[other], other), reverse=True)[:k]


@nearest.wrong("`topk` promises no order")
def topk(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = -torch.inf
    return cosines.topk(k).indices.tolist()


@nearest.wrong("it returns a tensor of shape")
def a_tensor(table, id, k):
    cosines = cosines_of(table, id)
    cosines[id] = -torch.inf
    return cosines.sort(descending=True, stable=True).indices[:k]


@nearest.wrong("it changes what it was given")
def normalizes_in_place(table, id, k):
    table /= table.norm(dim=1, keepdim=True)
    return rank(table @ table[id], id, k)


# ---- embedding_gradient ---------------------------------------------------------------------------

gradient = Proof("embedding_gradient")


@gradient.right
def in_a_loop(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    for id, arrived in zip(ids.flatten().tolist(), upstream.reshape(-1, upstream.shape[-1]), strict=True):
        table[id] += arrived
    return table


@gradient.right
def one_hot_on_its_side(ids, upstream, vocab_size):
    one_hot = F.one_hot(ids.flatten(), vocab_size).float()
    return one_hot.T @ upstream.flatten(0, -2)


@gradient.right
def asked_of_autograd(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1], requires_grad=True)
    F.embedding(ids, table).backward(upstream)
    return table.grad


@gradient.right
def index_put(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    return table.index_put((ids,), upstream, accumulate=True)


@gradient.right
def einsum(ids, upstream, vocab_size):
    return torch.einsum("...v,...d->vd", F.one_hot(ids, vocab_size).to(upstream.dtype), upstream)


def sums(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    return table.index_add(0, ids.flatten(), upstream.reshape(-1, upstream.shape[-1]))


@gradient.wrong("only what arrives last")
def plus_equals(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    table[ids] += upstream
    return table


@gradient.wrong("only what arrives first")
def first_only(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    seen = set()
    for id, arrived in zip(ids.flatten().tolist(), upstream.reshape(-1, upstream.shape[-1]), strict=True):
        if id not in seen:
            table[id] = arrived
        seen.add(id)
    return table


@gradient.wrong("gets the mean")
def mean(ids, upstream, vocab_size):
    uses = torch.bincount(ids.flatten(), minlength=vocab_size).clamp(min=1)
    return sums(ids, upstream, vocab_size) / uses[:, None]


@gradient.wrong("a row for each place")
def as_it_arrives(ids, upstream, vocab_size):
    return upstream


@gradient.wrong("leaves out the rows that were not used")
def used_rows_only(ids, upstream, vocab_size):
    return sums(ids, upstream, vocab_size)[ids.flatten().unique()]


@gradient.wrong("ends with the largest id")
def as_long_as_the_largest_id(ids, upstream, vocab_size):
    return F.one_hot(ids.flatten()).float().T @ upstream.reshape(-1, upstream.shape[-1])


@gradient.wrong("lies on its side")
def transposed(ids, upstream, vocab_size):
    return upstream.reshape(-1, upstream.shape[-1]).T @ F.one_hot(ids.flatten(), vocab_size).float()


@gradient.wrong("at all places together")
def everything_to_everyone(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    table[ids.flatten()] = upstream.reshape(-1, upstream.shape[-1]).sum(0)
    return table


@gradient.wrong("forgets what arrives")
def counts(ids, upstream, vocab_size):
    return sums(ids, torch.ones_like(upstream), vocab_size)


@gradient.wrong("starts from ones")
def from_ones(ids, upstream, vocab_size):
    table = torch.ones(vocab_size, upstream.shape[-1])
    return table.index_add(0, ids.flatten(), upstream.reshape(-1, upstream.shape[-1]))


@gradient.wrong("it takes a step with it")
def a_step(ids, upstream, vocab_size):
    return torch.zeros(vocab_size, upstream.shape[-1]) - sums(ids, upstream, vocab_size)


@gradient.wrong("its loop runs over the sentences")
def without_flattening(ids, upstream, vocab_size):
    table = torch.zeros(vocab_size, upstream.shape[-1])
    for id, arrived in zip(ids, upstream, strict=True):
        table[id] = table[id] + arrived
    return table


@gradient.wrong("it stops with")
def one_sentence_only(ids, upstream, vocab_size):
    return torch.zeros(vocab_size, upstream.shape[-1]).index_add(0, ids, upstream)


class Once(torch.autograd.Function):
    """The rows, and a gradient that `back` makes of what arrives."""

    @staticmethod
    def forward(context, ids, table, back):
        context.ids, context.back, context.shape = ids, back, table.shape
        return table[ids]

    @staticmethod
    def backward(context, arrived):
        return None, context.back(context.ids, arrived, context.shape), None


@look_up.wrong("no gradient comes back to row 0")
def zero_is_padding(ids, table):
    return F.embedding(ids, table, padding_idx=0)


@look_up.wrong("divided by how often")
def scaled_by_frequency(ids, table):
    return F.embedding(ids, table, scale_grad_by_freq=True)


@look_up.wrong("from one place alone")
def last_place_wins(ids, table):
    def back(ids, arrived, shape):
        gradient = torch.zeros(shape)
        for id, row in zip(ids.flatten().tolist(), arrived.reshape(-1, shape[1]), strict=True):
            gradient[id] = row
        return gradient

    return Once.apply(ids, table, back)


@look_up.wrong("another gradient comes back")
def twice_the_gradient(ids, table):
    return 2 * table[ids] - table[ids].detach()


@nearest.wrong("gives another value than it should")
def in_half_precision(table, id, k):
    unit = F.normalize(table, dim=1).bfloat16()
    cosines = (unit @ unit[id]).float()
    cosines[id] = -torch.inf
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


@gradient.wrong("only the first one is wrong")
def no_row_0(ids, upstream, vocab_size):
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    for id, arrived in zip(ids.flatten().tolist(), upstream.reshape(-1, upstream.shape[-1]), strict=True):
        if id:
            gradient[id] += arrived
    return gradient


@gradient.wrong("only the last one is wrong")
def no_last_row(ids, upstream, vocab_size):
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    flat = upstream.reshape(-1, upstream.shape[-1])
    for id in range(vocab_size - 1):
        gradient[id] = flat[ids.flatten() == id].sum(0)
    return gradient
