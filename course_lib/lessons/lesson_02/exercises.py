"""Lesson 02: looking a vector up, finding its neighbours, and what comes back to the table."""

import torch
import torch.nn.functional as F

from course_lib.classroom.answers import describe, same
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing import embeddings
from course_lib.lessons.tools import draw

# ---- look_up --------------------------------------------------------------------------------------


def rounded(*shape, random):
    """Numbers of one digit after the point, none of them 0: easy to read, and sums of different ones differ."""
    numbers = torch.randint(1, 80, shape, generator=random) / 10
    return numbers * (1 - 2 * torch.randint(0, 2, shape, generator=random))


NARROW = ((4, 2), (5, 3), (7, 4), (30, 8))  # (vocab, d_model)


def tables(random, sizes):
    for vocab, d_model in sizes:
        yield rounded(vocab, d_model, random=random)


WIDE = ((4, 5), (5, 6), (7, 8), (30, 32))  # an id is a column of these tables, too


def prompts(random, shape=(4,), sizes=NARROW):
    """Ids and a table; each prompt has the first token, the last one, and one of them twice."""
    for table in tables(random, sizes):
        last = len(table) - 1
        ids = torch.randint(1, last, shape, generator=random)
        places = torch.randperm(ids.numel(), generator=random)
        ids.view(-1)[places[:3]] = torch.tensor([last, 0, last])
        yield ids, table


def rows(look_up, random):
    """one row of the table for each id, in the order of the ids"""
    look_up.compare(prompts(random))


def some_tokens_only(look_up, random):
    """also when the last tokens of the vocabulary do not occur"""
    look_up.compare((ids % 2, table) for ids, table in prompts(random))


def batches(look_up, random):
    """ids of two dimensions give vectors of three: (batch, position, d_model)"""
    look_up.compare(prompts(random, (2, 3), WIDE))


def any_shape(look_up, random):
    """ids of any shape, also a single id without a dimension"""
    one = [(torch.tensor(id), table) for _, table in prompts(random) for id in (0, 1, len(table) - 1)]
    ids, table = next(iter(prompts(random, (3, 2))))
    several = [*prompts(random, (2, 1, 3)), (ids[:1, :1], table), (ids[:, :1], table)]
    look_up.compare([*one, *prompts(random, (1, 3)), *several])


def gradient_flows(look_up, random):
    """the rows are still tied to the table: a gradient finds its way back"""
    for ids, table in (*prompts(random), *prompts(random, (2, 3))):
        look_up.compare([(ids, table)])
        upstream = rounded(*ids.shape, table.shape[1], random=random)
        arrived, right = (
            look_up.gradient(ids, table, to=1, upstream=upstream),
            GRADIENT.oracle(ids, upstream, len(table)),
        )
        if arrived is None:
            raise Wrong(
                "its numbers are copies that no longer know their table, so nothing could be learned: "
                "stay with tensors, without tolist(), item(), detach() or torch.tensor(…)",
                "the table asks for gradients, and none arrives there",
            )
        if fault := said_of_gradient(ids, arrived, right, upstream):
            row = int((arrived - right).abs().sum(1).argmax())
            shown = f"ids {ids.tolist()}: row {row} gets {describe(arrived[row])}; right is {describe(right[row])}"
            raise Wrong(fault, shown)


def said_of_gradient(ids, arrived, right, upstream):
    """What is wrong with the gradient that came back to the table; empty where nothing is."""
    if same(arrived, right):
        return ""
    if same(arrived[0], 0 * right[0]) and same(arrived[1:], right[1:]):
        return "no gradient comes back to row 0: id 0 is a token like any other, and no padding"
    often = torch.bincount(ids.flatten(), minlength=len(right)).clamp(min=1)[:, None]
    if same(arrived, right / often):
        return "the gradient of a row is divided by how often it was looked up: what comes back is added up"
    if same(arrived, first_kept(ids, upstream, len(right))) or same(arrived, overwritten(ids, upstream, len(right))):
        return "a row that was looked up twice gets a gradient from one place alone: what comes back is added up"
    return "another gradient comes back to the table than its rows were given"


def by_a_list(ids, table):
    """`table[ids.tolist()]`: a list of two lists is an index for the rows and one for the columns."""
    ids = ids.tolist()
    return table[tuple(ids) if type(ids) is list and type(ids[0]) is list else ids]


LOOK_UP = Exercise(
    name="look_up",
    lesson="02",
    title="a row of the table for each id",
    oracle=F.embedding,
    checks={"rows": (rows, some_tokens_only), "shapes": (batches, any_shape), "gradient": (gradient_flows,)},
    mistakes={
        "it takes columns: the vector of a token is a row of the table": lambda ids, table: table[:, ids],
        "it takes the row before: ids count from 0": lambda ids, table: table[ids - 1],
        "it takes the row after: ids count from 0": lambda ids, table: table[(ids + 1) % len(table)],
        "it gives each different token once, in the order of the vocabulary: a token that stands at several places "
        "is looked up at each": lambda ids, table: table[ids.unique()],
        "it mixes the vectors of the sentence into one: each token keeps its own": lambda ids, table: table[ids].mean(
            -2
        ),
        "it adds the vectors of the sentence up: each token keeps its own": lambda ids, table: table[ids].sum(-2),
        "it puts all tokens into one long row of tokens: the shape of the ids must stay": lambda ids, table: table[
            ids.flatten()
        ],
        "it turns the ids into lists, and lists in a list mean rows and columns to a tensor: keep the ids a "
        "tensor": by_a_list,
        "it looks only at the first sentence of the batch": lambda ids, table: table[ids[0]],
        "it gives the one-hot vectors themselves: they still have to meet the table": lambda ids, table: F.one_hot(
            ids, len(table)
        ).float(),
    },
    hints=(
        "An id is the number of a row. `table[3]` is the row of token 3.",
        "An index may be a tensor: `table[torch.tensor([3, 0, 3])]` is three rows.",
        "The index keeps its shape, and each id in it becomes a row: `table[ids]` has the shape "
        "`(*ids.shape, d_model)`. The other way, with a product: `F.one_hot(ids, len(table)).float() @ table`.",
    ),
)


# ---- nearest_by_cosine ----------------------------------------------------------------------------


def neighbours(table, id, k):
    return embeddings.nearest(table[id], table, k, without=[id])[0]


def clear(table) -> bool:
    """Whether no two cosines, signs apart, are so near each other, or one so near 0, that rounding could swap them;
    nor two of the quotients that somebody gets who divides by the sum of the numbers."""
    cosines = embeddings.cosine_similarity(table, table).abs()
    by_sums = (table @ table.T) / table.abs().sum(1)
    return all(bool((scores.sort(-1).values.diff(dim=-1) > 1e-3).all()) for scores in (F.pad(cosines, (1, 0)), by_sums))


def directions(random, sizes=((4, 2), (5, 3), (6, 3), (9, 4)), times=6):
    """A table with rows of quite different lengths, a token, and a k."""
    for vocab, d_model in sizes:
        for _ in range(times):
            table = torch.zeros(vocab, d_model)
            while not clear(table):
                table = rounded(vocab, d_model, random=random) * 2.0 ** torch.randint(
                    -2, 3, (vocab, 1), generator=random
                )
            id = draw(random, 0, vocab - 1)
            yield table, id, draw(random, 1, vocab - 2)


def ranking(nearest, random):
    """the k rows with the largest cosines, the nearest first"""
    nearest.compare(directions(random))
    ends = [(table, id, k) for table, _, k in directions(random, times=1) for id in (0, len(table) - 1)]
    nearest.compare([*ends, *(hardly_apart(random) for _ in range(3))])


def hardly_apart(random):
    """Cosines that differ by a few thousandths of a percent: enough for 32 bits, and for no rounding."""
    slopes = torch.tensor([0.0, 0.03, 0.01, 0.02, 0.015, 0.025])
    table = torch.stack([torch.ones(6), slopes], dim=1) * 2.0 ** torch.randint(-2, 3, (6, 1), generator=random)
    return table, 0, draw(random, 3, 5)


def negative(nearest, random):
    """also when all cosines with the other rows are below 0"""
    tables = (opposite(table, id) for table, id, _ in directions(random))
    nearest.compare((table, id, len(table) - 1) for table, id in tables)


def opposite(table, id):
    """The table with every other row turned so that its cosine with row `id` is negative."""
    sign = torch.where(table @ table[id] > 0, -1.0, 1.0)
    sign[id] = 1.0
    return table * sign[:, None], id


def all_others(nearest, random):
    """also when all other rows are asked for"""
    nearest.compare((table, id, len(table) - 1) for table, id, _ in directions(random))


def corners(random, d=4):
    """Rows of ±1, some of them longer, with many equal cosines that no rounding touches; small tables first."""
    for n in (6, 6, 6, 10, 10, 10, 10, 10):
        id = draw(random, 2, n - 3)
        table = 1.0 - 2 * torch.randint(0, 2, (n, d), generator=random)
        table[0] = table[id]  # the same direction, before the token and after
        table[n - 1] = table[id]
        table[1] = -table[id]
        table[n - 2] = -table[id]
        yield table * 2.0 ** torch.randint(0, 3, (n, 1), generator=random), id


def twins(nearest, random):
    """another row in exactly the same direction is a neighbour, the token itself is not"""
    dropped = "it drops the first of the ranking, which need not be the token itself: leave out row `id`"
    nearest.compare((one_twin(*corner) for corner in corners(random)), {dropped: best_dropped})


def one_twin(table, id):
    """The one nearest row of this table is row 0, which points exactly where row `id` does."""
    same = cosine(table, id) > 0.99
    same[[0, id]] = False
    return torch.where(same[:, None], -table, table), id, 1


def equal(nearest, random):
    """of equally near rows, the one with the lowest id first"""
    nearest.compare((table, id, len(table) - 1) for table, id in corners(random))


def ranked(score, own=-torch.inf):
    """A formula that ranks by another score, stable and without the token itself."""

    def formula(table, id, k):
        scores = score(table, id).clone()
        scores[id] = own
        return scores.sort(descending=True, stable=True).indices[:k].tolist()

    return formula


def cosine(table, id):
    return embeddings.cosine_similarity(table[id], table)


def of_the_rest(table, id, k):
    rest = torch.cat([table[:id], table[id + 1 :]])
    return embeddings.cosine_similarity(table[id], rest).sort(descending=True, stable=True).indices[:k].tolist()


def best_dropped(table, id, k):
    return cosine(table, id).sort(descending=True, stable=True).indices[1 : k + 1].tolist()


def by_topk(table, id, k):
    scores = cosine(table, id)
    scores[id] = -torch.inf
    return scores.topk(k).indices.tolist()


def highest_id_first(table, id, k):
    scores = cosine(table, id)
    scores[id] = -torch.inf
    return (len(table) - 1 - scores.flip(0).sort(descending=True, stable=True).indices)[:k].tolist()


NEAREST = Exercise(
    name="nearest_by_cosine",
    lesson="02",
    title="the rows that point the same way",
    oracle=neighbours,
    checks={"ranking": (ranking, negative, all_others), "itself": (twins,), "ties": (equal,)},
    mistakes={
        "the token is its own nearest neighbour: leave row `id` out": ranked(cosine, own=2.0),
        "one neighbour is missing: the row itself takes one of the k places": lambda table, id, k: ranked(
            cosine, own=2.0
        )(table, id, k)[1:],
        "it gives the cosines themselves: the ids of their rows are asked for": lambda table, id, k: cosine(table, id)[
            neighbours(table, id, k)
        ].tolist(),
        "the least similar come first: sort from the largest cosine down": ranked(lambda t, i: -cosine(t, i)),
        "the ids above the token's own are one too low: it removed row `id` and counted the others": of_the_rest,
        "it ranks by the dot product, and long rows win: divide by the length of each row": ranked(
            lambda t, i: t @ t[i]
        ),
        "it ranks by the distance: a row twice as long has the same cosine": ranked(
            lambda t, i: -(t - t[i]).norm(dim=1)
        ),
        "it divides the columns by their length: the rows are the vectors": ranked(
            lambda t, i: (F.normalize(t, dim=0) @ F.normalize(t, dim=0).T)[i]
        ),
        "it divides by the length squared: the length is the root of the sum of squares": ranked(
            lambda t, i: t @ t[i] / t.square().sum(1)
        ),
        "it divides by the sum of the numbers: the length is the root of the sum of squares": ranked(
            lambda t, i: t @ t[i] / t.abs().sum(1)
        ),
        "it takes −0.9 for as near as 0.9: that row points the opposite way": ranked(lambda t, i: cosine(t, i).abs()),
        "it gives the token itself the cosine 0, which is more than a negative one: use −∞": ranked(cosine, own=0.0),
        "it gives the token itself the cosine −1, which a row that points the opposite way has, too: use −∞": ranked(
            cosine, own=-1.0
        ),
        "of equally near rows it puts the highest id first": highest_id_first,
        "of equally near rows it takes any: `topk` promises no order among equals, "
        "`sort(descending=True, stable=True)` does": by_topk,
    },
    hints=(
        "The cosine of two vectors is their dot product divided by both lengths. `table.norm(dim=1)` is the length of "
        "each row.",
        "Divide each row by its length first: `unit = table / table.norm(dim=1, keepdim=True)`. Then `unit @ unit[id]` "
        "is the cosine of each row with row `id`. Put −∞ (`-torch.inf`) in the token's own place.",
        "`cosines.sort(descending=True, stable=True).indices` are the ids, the nearest first, and equally near ones "
        "in order of their ids. Return the first k of them as a list: `[:k].tolist()`.",
    ),
)


# ---- embedding_gradient ---------------------------------------------------------------------------


def arriving(random, shape=(4,), repeats=True):
    """Ids, a gradient for each of them, and how many rows the table has; the last rows are not used."""
    for vocab, d_model in ((6, 2), (8, 3), (9, 3), (30, 5)):
        n = torch.Size(shape).numel()
        if repeats:  # one token three times, the last token of the sentence only once
            ids = 1 + torch.randperm(vocab - 2, generator=random)[:n].repeat(n)[:n]
            ids[: min(3, n)] = ids[0]
            ids = torch.cat([ids[:-1][torch.randperm(n - 1, generator=random)], ids[-1:]])
        else:
            ids = 1 + torch.randperm(vocab - 2, generator=random)[:n]
        yield ids.view(shape), rounded(*shape, d_model, random=random), vocab


def used_once(gradient, random):
    """each row that is used once gets what arrives at its place, all other rows exactly 0"""
    gradient.compare(arriving(random, repeats=False))
    gradient.compare(
        (torch.tensor(ids), rounded(len(ids), 3, random=random), 5) for ids in ([0], [4], [4, 0, 2], [0, 3, 0, 4, 4])
    )


def used_often(gradient, random):
    """a row that is used several times gets the sum"""
    gradient.compare(arriving(random, (5,)))


def always_the_same(gradient, random):
    """one token alone, again and again"""
    gradient.compare((ids * 0 + 2, upstream, vocab) for ids, upstream, vocab in arriving(random))


def in_batches(gradient, random):
    """the same for ids of shape (batch, position)"""
    gradient.compare(arriving(random, (2, 3)))
    gradient.compare([*arriving(random, (1, 3)), *arriving(random, (2, 1, 2))])


def overwritten(ids, upstream, vocab_size):
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    for id, arrived in zip(ids.flatten().tolist(), upstream.reshape(-1, upstream.shape[-1]), strict=True):
        gradient[id] = arrived
    return gradient


def first_kept(ids, upstream, vocab_size):
    return overwritten(ids.flatten().flip(0), upstream.reshape(-1, upstream.shape[-1]).flip(0), vocab_size)


def by_sentence(ids, upstream, vocab_size):
    """`for id, arrived in zip(ids, upstream)`: with ids of two dimensions, each `id` is a whole sentence."""
    gradient = torch.zeros(vocab_size, upstream.shape[-1])
    for id, arrived in zip(ids, upstream, strict=True):
        gradient[id] += arrived
    return gradient


def counts(ids, vocab_size):
    return torch.bincount(ids.flatten(), minlength=vocab_size)[:, None]


GRADIENT = Exercise(
    name="embedding_gradient",
    lesson="02",
    title="what comes back to the table",
    oracle=embeddings.embedding_gradient,
    checks={"rows": (used_once,), "repeats": (used_often, always_the_same), "batches": (in_batches,)},
    mistakes={
        "a token that stands at several places gets only what arrives last: the places add up (and "
        "`gradient[ids] += …` adds once for each row, not for each place)": overwritten,
        "a token that stands at several places gets only what arrives first: the places add up": first_kept,
        "a token that stands at several places gets the mean: the places add up": lambda ids, upstream, n: (
            embeddings.embedding_gradient(ids, upstream, n) / counts(ids, n).clamp(min=1)
        ),
        "for ids of shape (batch, position) its loop runs over the sentences, and of a token that stands in one twice "
        "only the last place counts: flatten the ids and what arrives first": by_sentence,
        "it gives a row for each place: the table has a row for each token": lambda ids, upstream, n: upstream,
        "it leaves out the rows that were not used: they are there, and 0": lambda ids, upstream, n: (
            embeddings.embedding_gradient(ids, upstream, n)[ids.unique()]
        ),
        "it ends with the largest id that occurs: the vocabulary has more rows": lambda ids, upstream, n: (
            embeddings.embedding_gradient(ids, upstream, int(ids.max()) + 1)
        ),
        "the table lies on its side: a token has a row": lambda ids, upstream, n: (
            embeddings.embedding_gradient(ids, upstream, n).T
        ),
        "each row that is used gets what arrives at all places together: only its own places count": lambda ids, u, n: (
            (counts(ids, n) > 0) * u.reshape(-1, u.shape[-1]).sum(0)
        ),
        "it counts the places and forgets what arrives there": lambda ids, upstream, n: (
            counts(ids, n) * torch.ones(upstream.shape[-1])
        ),
        "it starts from ones: what was not used must come out as 0": lambda ids, upstream, n: (
            1 + embeddings.embedding_gradient(ids, upstream, n)
        ),
        "it takes a step with it: the gradient itself is asked for": lambda ids, upstream, n: (
            -embeddings.embedding_gradient(ids, upstream, n)
        ),
    },
    hints=(
        "Start from a table of zeros, `torch.zeros(vocab_size, upstream.shape[-1])`. Most rows stay so.",
        "Go through all places: what arrives at a place is *added* to the row of the token that stands there. For ids "
        "of any shape, make them flat first: `ids.flatten()` and `upstream.reshape(-1, upstream.shape[-1])`.",
        "`for id, arrived in zip(ids.flatten().tolist(), upstream.reshape(-1, d_model)): gradient[id] += arrived`. "
        "(In one line: `gradient.index_add_(0, flat_ids, flat_upstream)`.)",
    ),
)

EXERCISES = (LOOK_UP, NEAREST, GRADIENT)
