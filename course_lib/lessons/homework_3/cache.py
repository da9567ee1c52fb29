"""Homework 3: attention with a KV cache."""

from functools import partial

import torch

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.parts import all_keys, before_itself, gated, mixed, past, rms
from course_lib.lessons.tools import vectors


def small_model(random, n_layers=2, n_heads=2, d_head=4, words=11):
    """A small random transformer, taken apart into the functions that the learner gets."""
    d_model = n_heads * d_head

    def matrix(d_out, d_in):
        return vectors(random, d_out, d_in) * 1.2 / d_in**0.5

    def layer():
        names = ("query", "key", "value", "output")
        weights = {name: matrix(d_model, d_model) for name in names}
        up, gate, down = matrix(2 * d_model, d_model), matrix(2 * d_model, d_model), matrix(d_model, 2 * d_model)
        first, last = (1 + vectors(random, d_model) / 3 for _ in range(2))

        def read(x):
            rows = rms(x, first, 1e-5)
            return tuple((rows @ weights[name].T).unflatten(-1, (n_heads, -1)).transpose(0, 1) for name in names[:3])

        def write(x, mixed):
            x = x + mixed.transpose(0, 1).flatten(1) @ weights["output"].T
            return x + gated(rms(x, last, 1e-5), gate, up, down)

        return read, write

    table = vectors(random, words, d_model)

    def embed(ids):
        return table[ids]

    def turn(rows, positions):
        return rotate(rows, rotation_angles(positions, d_head, 40.0), "halves")

    def unembed(x):
        return rms(x, 1.0, 1e-5) @ table.T

    return {"embed": embed, "layers": [layer() for _ in range(n_layers)], "turn": turn, "unembed": unembed}


def appended(old, new):
    return new if old is None else torch.cat([old, new], dim=1)


def run_with_cache(
    ids, cache, model,
    start=lambda n_kept: n_kept, see=past, add=appended, read_from=lambda layer: layer, turned=("query", "key"),
    turn_all=False, divide=None, keeps=lambda old, new, all: all, pair=lambda keys, values: (keys, values),
    rows=lambda logits: logits,
):  # fmt: skip
    """The logits of the new tokens, and the cache with them; the keywords are somebody's slips."""
    n_new, n_kept = len(ids), cache[0][0].shape[1] if cache else 0
    positions = torch.arange(n_new) + start(n_kept)
    x, kept = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        names = ("query", "key", "value")
        found = dict(zip(names, read(x), strict=True))
        found |= {name: model["turn"](found[name], positions) for name in turned}
        old = cache[read_from(number)] if cache else (None, None)
        keys, values = (add(one, found[name]) for one, name in zip(old, names[1:], strict=True))
        seen = model["turn"](keys, torch.arange(keys.shape[1])) if turn_all else keys
        x = write(x, mixed(found["query"], seen, values, see(n_new, keys.shape[1]), divide))
        own = cache[number] if cache else (None, None)
        new = (found["key"], found["value"])
        kept.append(pair(*(keeps(*three) for three in zip(own, new, (keys, values), strict=True))))
    return rows(model["unembed"](x)), kept


def kept_states(random, n_kept, n_new, **shape):
    """A model, a cache with so many tokens, and new ones."""
    model = small_model(random, **shape)
    ids = torch.randint(11, (n_kept + n_new,), generator=random)
    cache = run_with_cache(ids[:n_kept], [], model)[1] if n_kept else []
    return ids[n_kept:], cache, model


def nothing_kept(run, random):
    """an empty cache: a text from its beginning, all at once"""
    run.compare(
        [kept_states(random, 0, 3, n_layers=1), kept_states(random, 0, 4), kept_states(random, 0, 1, n_heads=1)]
    )


def one_new_token(run, random):
    """one new token after those that are kept: it stands after them, and sees them all"""
    run.compare([kept_states(random, 2, 1, n_layers=1), kept_states(random, 4, 1, n_layers=3)])


def several_new_tokens(run, random):
    """several new tokens at once: each sees what is kept, and the new ones up to itself"""
    run.compare([kept_states(random, 2, 2, n_layers=1), kept_states(random, 4, 3)])


def piece_by_piece(run, random):
    """a text in pieces of any size gives the logits of the whole text, within 1e-4"""
    for sizes in ((3, 1, 1), (1, 3, 2)):
        ids, _, model = kept_states(random, 0, sum(sizes))
        whole, _ = run_with_cache(ids, [], model)
        cache, pieces = [], []
        for piece in ids.split(list(sizes)):
            answer = run.answer(piece, cache, model)
            if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], torch.Tensor)):
                run.compare([(piece, cache, model)])
            pieces.append(answer[0])
            cache = answer[1]
        shapes = [tuple(piece.shape) for piece in pieces]
        if shapes != [(size, whole.shape[1]) for size in sizes]:
            raise Wrong("its logits have another shape than (new, vocab)", f"in pieces of {sizes}: {shapes}")
        apart = (torch.cat(pieces) - whole).abs().max().item()
        if not apart < 1e-4:
            raise Wrong(
                "a text in pieces gives other logits than the whole text at once",
                f"in pieces of {', '.join(map(str, sizes))} tokens they differ by up to {apart:.3g}",
            )


RUN_WITH_CACHE = Exercise(
    name="run_with_cache",
    lesson="hw3",
    title="a model that runs new tokens alone, with a KV cache",
    oracle=run_with_cache,
    may_call=("positions",),
    checks={"cache": (nothing_kept, one_new_token, several_new_tokens, piece_by_piece)},
    mistakes={
        "the new tokens are turned as if the text began with them: they stand after those that are kept": partial(
            run_with_cache, start=lambda n_kept: 0
        ),
        "the new tokens are turned one position too far: the first one's position is the number of those kept": partial(
            run_with_cache, start=lambda n_kept: n_kept + 1
        ),
        "the new tokens are turned one position too early: the first one's position is the number of those kept": (
            partial(run_with_cache, start=lambda n_kept: max(n_kept - 1, 0))
        ),
        "the mask lines the queries up with the first keys: the new tokens are the last ones": partial(
            run_with_cache, see=lambda n_new, n_all: all_keys(n_new, n_all).tril()
        ),
        "nothing is hidden: of several new tokens, each sees itself and those before it": partial(
            run_with_cache, see=all_keys
        ),
        "a new token does not see itself": partial(run_with_cache, see=before_itself),
        "the cache is not read: the new tokens see only one another": partial(run_with_cache, add=lambda old, new: new),
        "the new keys and values come before the old ones: they go to the end": partial(
            run_with_cache, add=lambda old, new: new if old is None else torch.cat([new, old], dim=1)
        ),
        "every layer reads the first layer's keys and values: each has its own": partial(
            run_with_cache, read_from=lambda layer: 0
        ),
        "the new keys and values are not kept: the cache comes back as it was": partial(
            run_with_cache, keeps=lambda old, new, all: new[:, :0] if old is None else old
        ),
        "the cache that comes back has the new keys and values only": partial(
            run_with_cache, keeps=lambda old, new, all: new
        ),
        "the keys that were kept are turned once more: they were turned when they came": partial(
            run_with_cache, turn_all=True
        ),
        "the keys are kept as they are before turning, and the others in the cache are turned": partial(
            run_with_cache, turned=("query",), turn_all=True
        ),
        "the keys are not turned: queries and keys both are": partial(run_with_cache, turned=("query",)),
        "the queries are not turned: queries and keys both are": partial(run_with_cache, turned=("key",)),
        "nothing is turned: queries and keys both are": partial(run_with_cache, turned=()),
        "the values are turned, too: positions concern the scores alone": partial(
            run_with_cache, turned=("query", "key", "value")
        ),
        "the scores are not divided by the root of d_head": partial(run_with_cache, divide=1),
        "keys and values come back swapped: (keys, values)": partial(
            run_with_cache, pair=lambda keys, values: (values, keys)
        ),
        "keys and values come back as a list: they are a tuple, (keys, values)": partial(
            run_with_cache, pair=lambda keys, values: [keys, values]
        ),
        "it gives the last token's logits only: one row for each new token is asked for": partial(
            run_with_cache, rows=lambda logits: logits[-1:]
        ),
        "the new cache is missing: logits and cache are asked for": lambda *given: run_with_cache(*given)[0],
    },
    hints=(
        "Layer by layer: `read` gives queries, keys and values of the new tokens; turn queries and keys; put the keys "
        "and values behind the kept ones; let the queries attend to all of them; `write`. Collect the longer keys and "
        "values in a new list.",
        "How many are kept: `cache[0][0].shape[1]`, or 0 if the cache is empty. The new tokens stand at that position "
        "and after. `torch.cat([old, new], dim=1)`: the dimensions are (heads, position, d_head).",
        "The mask has a row for each new token and a column for each key, old and new. New token i sees the columns "
        "up to n_kept + i: that is `torch.ones(n_new, n_all, dtype=torch.bool).tril(n_kept)`. Everything else as in "
        "lesson 05: divide by √d_head, −∞, softmax, times the values.",
    ),
)
