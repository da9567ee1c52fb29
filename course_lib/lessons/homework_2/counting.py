"""Homework 2: how many parameters a model has, from its published shape."""

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import draw


def tally(shape):
    """How many numbers each thing has, all layers together."""
    d_model, layers, n_experts = shape["d_model"], shape["n_layers"], shape["n_experts"]
    expert = layers * 3 * d_model * shape["d_ff"]
    queries, keys = (layers * d_model * shape[name] * shape["d_head"] for name in ("n_heads", "n_kv_heads"))
    return {
        "table": shape["vocab_size"] * d_model,
        "query": queries,
        "key": keys,
        "value": keys,
        "output": queries,
        "expert": expert,
        "experts": n_experts * expert,
        "active": shape["n_active_experts"] * expert,
        "router": layers * d_model * n_experts if n_experts > 1 else 0,
        "norms": layers * 2 * d_model,
        "final": d_model,
        "head": 0 if shape["tied"] else shape["vocab_size"] * d_model,
    }


def counted(change=lambda shape, of: {}, active=lambda shape, of: {}, shape_as=lambda shape: shape):
    """One who counts something else in both numbers, or in the active one alone."""

    def answer(shape):
        shape = shape_as(shape)
        of = tally(shape) | change(shape, tally(shape))
        fixed = ("table", "query", "key", "value", "output", "router", "norms", "final", "head")
        used = of | active(shape, of)
        return sum(of[name] for name in fixed) + of["experts"], sum(used[name] for name in fixed) + used["active"]

    return answer


count_by_shape = counted()


def as_many(name, times):
    """A change of one thing, for all of `counted`'s."""
    return lambda shape, of: {name: times(shape, of)}


def two_matrices(shape, of):
    return {name: of[name] * 2 // 3 for name in ("expert", "experts", "active")}


def one_layer_only(shape, of):
    layers = shape["n_layers"]
    names = ("query", "key", "value", "output", "experts", "active", "router", "norms")
    return {name: of[name] // layers for name in names}


SMOLLM2 = dict(
    vocab_size=49_152, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, d_head=64, d_ff=1536,
    n_experts=1, n_active_experts=1, tied=True,
)  # fmt: skip


def shapes(random, tied, number=6, experts=(1,)):
    """Shapes whose numbers tell each slip from the others. Mixtures have as many key heads as query heads, and heads
    that are d_model wide together: who has miscounted the attention of a dense model may still count their experts."""
    for i in range(number):
        n_kv_heads, d_head, groups = draw(random, 2, 4), 2 * draw(random, 2, 6), draw(random, 2, 4)
        n_heads, n_experts = n_kv_heads * groups, experts[i % len(experts)]
        d_model = n_heads * (d_head + (2 if n_experts == 1 else 0))
        yield dict(
            vocab_size=draw(random, 300, 900),
            d_model=d_model,
            n_layers=draw(random, 2, 5),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads if n_experts == 1 else n_heads,
            d_head=d_head,
            d_ff=draw(random, 30, 90),
            n_experts=n_experts,
            n_active_experts=1 if n_experts == 1 else draw(random, 2, n_experts - 2),
            tied=tied[i % len(tied)],
        )


def compare_whole(count, inputs):
    """As `count.compare`; and the numbers have to be whole ones, as a float is exact only up to 2⁵³."""
    for shape in inputs:
        answer = count.answer(shape)
        if isinstance(answer, tuple) and any(isinstance(number, float) for number in answer):
            raise Wrong(
                "its numbers are floats: whole numbers are asked for, and `//` divides without making a float",
                f"for one shape it gave {answer}",
            )
    count.compare(inputs)


def dense(count, random):
    """a dense model, its two embedding tables tied or not"""
    compare_whole(count, [*shapes(random, tied=(True, False))])


def real_one(count, random):
    """SmolLM2, to the last number"""
    compare_whole(count, [SMOLLM2, dict(reversed(SMOLLM2.items()))])


def mixtures(count, random):
    """a mixture of experts: all of its numbers, and those that one token passes"""
    compare_whole(count, [*shapes(random, tied=(False,), experts=(5, 8, 16))])
    pairs = [
        one | dict(n_experts=2, n_active_experts=active)
        for active, one in enumerate(shapes(random, (True, False), 2, experts=(5, 8)), 1)
    ]
    compare_whole(count, [*pairs, pairs[0] | dict(n_experts=7, n_active_experts=1)])


COUNT_BY_SHAPE = Exercise(
    name="count_by_shape",
    lesson="hw2",
    title="a model's parameters, from its published shape",
    oracle=count_by_shape,
    may_call=(),
    checks={"dense": (dense, real_one), "mixture": (mixtures,)},
    mistakes={
        "keys and values have fewer heads than queries, and so smaller matrices": counted(
            lambda shape, of: {"key": of["query"], "value": of["query"]}
        ),
        "it takes d_model / n_heads for the width of a head: the shape says d_head": counted(
            shape_as=lambda shape: shape | {"d_head": shape["d_model"] // shape["n_heads"]}
        ),
        "the matrix of the output is missing: attention has four": counted(as_many("output", lambda shape, of: 0)),
        "the matrix of the output has n_heads · d_head columns and d_model rows; it takes d_model · d_model": counted(
            as_many("output", lambda shape, of: shape["n_layers"] * shape["d_model"] ** 2)
        ),
        "the gated feed-forward network has three matrices: gate, up and down": counted(two_matrices),
        "a tied table is counted twice: it is one table": counted(as_many("head", lambda shape, of: of["table"])),
        "where the tables are not tied, the output head is a second one": counted(as_many("head", lambda shape, of: 0)),
        "the table of the embedding is missing": counted(as_many("table", lambda shape, of: 0)),
        "the norms are missing: each learns d_model numbers": counted(lambda shape, of: {"norms": 0, "final": 0}),
        "the final norm is missing, after the last block": counted(as_many("final", lambda shape, of: 0)),
        "a block has two norms": counted(as_many("norms", lambda shape, of: of["norms"] // 2)),
        "only the final norm is counted: each block has two more": counted(as_many("norms", lambda shape, of: 0)),
        "it counts one block: there are n_layers": counted(one_layer_only),
        "a dense model has no router": counted(
            as_many("router", lambda shape, of: shape["n_layers"] * shape["d_model"] * shape["n_experts"])
        ),
        "the routers are missing: each has d_model · n_experts numbers": counted(
            as_many("router", lambda shape, of: 0)
        ),
        "there is a router in each block": counted(
            as_many("router", lambda shape, of: of["router"] // shape["n_layers"])
        ),
        "a router scores all experts, not only the active ones": counted(
            as_many("router", lambda shape, of: of["router"] // shape["n_experts"] * shape["n_active_experts"])
        ),
        "a token passes the router as well: all of it is active": counted(
            active=as_many("router", lambda shape, of: 0)
        ),
        "the active number has only the active experts' part of the router: a token meets all of it": counted(
            active=as_many("router", lambda shape, of: shape["n_layers"] * shape["d_model"] * shape["n_active_experts"])
        ),
        "it counts all experts as active: a token passes n_active_experts": counted(
            active=as_many("active", lambda shape, of: of["experts"])
        ),
        "it counts one expert as active: a token passes n_active_experts": counted(
            active=as_many("active", lambda shape, of: of["expert"])
        ),
        "the total has one expert only: all n_experts are there": counted(
            as_many("experts", lambda shape, of: of["expert"])
        ),
        "the tables count as active, too: whole, as the makers count them": counted(
            active=lambda shape, of: {"table": 0, "head": 0}
        ),
        "the embedding's table counts as active, too: whole, as the makers count it": counted(
            active=as_many("table", lambda shape, of: 0)
        ),
        "the two numbers are swapped: the total comes first": lambda shape: count_by_shape(shape)[::-1],
    },
    hints=(
        "Count one block first: four matrices of attention, the three of the feed-forward network, two norms. Then "
        "n_layers blocks, one norm after them, and the tables.",
        "Queries: d_model · (n_heads · d_head). Keys: d_model · (n_kv_heads · d_head), values alike. Output: from "
        "n_heads · d_head back to d_model. In a mixture each expert has three matrices, and the router one.",
        "The two numbers differ in one thing alone, the experts: n_experts of them, or n_active_experts. All else is "
        "in both: tables, attention, norms, routers. A dense model is a mixture of one, without a router.",
    ),
)
