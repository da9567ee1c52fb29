"""Lesson 04: what enters the first block, and batches of unequal texts."""

import torch
import torch.nn.functional as F

from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.input_processing import batching
from course_lib.lessons.tools import draw

# ---- input_embedding ------------------------------------------------------------------------------


def embedding(ids, token_table, position_table, start=0):
    return F.embedding(ids, token_table) + position_table[start : start + ids.shape[1]]


def entrance(random, batch, n, start=None, rows=12):
    """Ids, two tables of whole numbers that no two sums share, and a start where one is asked for."""
    d_model = draw(random, 3, 4)  # tables too large to be printed in full
    ids = torch.randint(rows, (batch, n), generator=random)
    tokens = torch.randint(-40, 41, (rows, d_model), generator=random) / 2
    positions = torch.randint(-40, 41, (rows, d_model), generator=random) / 8
    return (ids, tokens, positions) if start is None else (ids, tokens, positions, start)


def as_many_as_prompts(ids, tokens, positions, start=0):
    return tokens[ids] + positions[start : start + len(ids)]


def all_from_start(ids, tokens, positions, start=0):
    return tokens[ids] + positions[start:]


def up_to_n(ids, tokens, positions, start=0):
    return tokens[ids] + positions[start : ids.shape[1]]


def counted_up_to_n(ids, tokens, positions, start=0):
    return tokens[ids] + positions[torch.arange(start, ids.shape[1])]


PROMPTS_COUNTED = "it slices len(ids) rows, which is the number of prompts: the positions are ids.shape[1]"
ALL_FROM_START = "it takes all rows of the position table from `start` on: take one for each position of ids"
ENDS_AT_N = "its positions end at n: they end at start + n, where the first stands at `start`"
SLIPS = {
    PROMPTS_COUNTED: as_many_as_prompts,
    ALL_FROM_START: all_from_start,
    ENDS_AT_N: up_to_n,
    "its positions are counted from `start` up to n: up to start + n": counted_up_to_n,
}


def prompts(embed, random):
    """each token's row plus its position's row, in one prompt and in several"""
    shapes = ((1, 2), (2, 2), (1, 5), (2, 3), (3, 3), (4, 2), (2, 6))
    embed.compare([entrance(random, *shape) for shape in shapes], crashes=SLIPS)


def single(embed, random):
    """a single token"""
    embed.compare([entrance(random, batch, 1) for batch in (1, 3)], crashes=SLIPS)
    for id in (0, 11):  # the table's ends
        _, tokens, positions = entrance(random, 1, 1)
        embed.compare([(torch.tensor([[id]]), tokens, positions), (torch.tensor([[id]]), tokens, positions, 0)])


def later(embed, random):
    """tokens that come after others: the first of them stands at position `start`"""
    sizes = ((1, 2, 1), (1, 1, 5), (2, 3, 4), (3, 3, 2))
    embed.compare([entrance(random, *size) for size in sizes], crashes=SLIPS)


def to_the_end(embed, random):
    """up to the last row of the position table"""
    embed.compare([entrance(random, 2, n, 12 - n) for n in (1, 4, 7)], crashes=SLIPS)


def run_through(ids, tokens, positions, start=0):
    return tokens[ids] + positions[start : start + ids.numel()].view(*ids.shape, -1)


INPUT_EMBEDDING = Exercise(
    name="input_embedding",
    lesson="04",
    title="token row plus position row: what enters the first block",
    oracle=embedding,
    checks={"sum": (prompts, single), "start": (later, to_the_end)},
    mistakes={
        "it gives the tokens' rows alone: the positions' rows are not in": lambda i, t, p, s=0: t[i],
        "it gives the positions' rows alone: the tokens' rows are not in": lambda i, t, p, s=0: embedding(
            i, t * 0, p, s
        ),
        "it looks the positions up by the token ids: a position is the place in the prompt, 0, 1, 2, …": (
            lambda i, t, p, s=0: t[i] + p[i]
        ),
        "it takes `start` for the position of every token: the next one stands at start + 1": (
            lambda i, t, p, s=0: t[i] + p[s]
        ),
        "it does not use `start`: after 5 cached tokens the next one stands at position 5": (
            lambda i, t, p, s=0: embedding(i, t, p)
        ),
        "its positions are one too high: the first of all is 0": lambda i, t, p, s=0: embedding(i, t, p, s + 1),
        "its positions are one too low: the first new token stands at `start` itself": (
            lambda i, t, p, s=0: embedding(i, t, p, s - 1)
        ),
        "it adds `start` to the ids, too: only positions begin there": (
            lambda i, t, p, s=0: embedding((i + s) % len(t), t, p, s)
        ),
        "it gives each *prompt* a position: every token of a prompt has its own": (
            lambda i, t, p, s=0: t[i] + p[s : s + len(i), None]
        ),
        "it counts positions on from one prompt to the next: each prompt begins at `start`": run_through,
        PROMPTS_COUNTED: as_many_as_prompts,
        ALL_FROM_START: all_from_start,
        ENDS_AT_N: up_to_n,
        "it takes the last rows of the position table: the first token stands at `start`": (
            lambda i, t, p, s=0: t[i] + p[-i.shape[1] :]
        ),
        "its positions run backwards: the first token has the first row": (
            lambda i, t, p, s=0: t[i] + p[s : s + i.shape[1]].flip(0)
        ),
        "the id 0 is a token like any other: its row is missing": lambda i, t, p, s=0: embedding(
            i, t * (torch.arange(len(t)) > 0)[:, None], p, s
        ),
        "it multiplies the two rows: add them": lambda i, t, p, s=0: t[i] * p[s : s + i.shape[1]],
        "it takes the mean of the two rows: add them": lambda i, t, p, s=0: embedding(i, t, p, s) / 2,
        "it scales the tokens by √d_model, as the 2017 transformer did: here the rows are added as they are": (
            lambda i, t, p, s=0: embedding(i, t * t.shape[1] ** 0.5, p, s)
        ),
    },
    hints=(
        "`token_table[ids]` exchanges every id for its row: (batch, position) becomes (batch, position, d_model). "
        "How many positions are there, and which rows of the position table are theirs?",
        "The positions are start, start + 1, …, one for each column of ids: n = ids.shape[1] of them. Their rows are a "
        "slice of the position table, (n, d_model).",
        "Add the two: PyTorch gives the slice (n, d_model) to every prompt of the batch by itself. "
        "`token_table[ids] + position_table[start : start + n]`.",
    ),
)


# ---- pad_batch ------------------------------------------------------------------------------------


def texts(random, *lengths, pad_id=None):
    """Sequences of these lengths; with `pad_id`, that id also stands at the end of some and inside others."""
    sequences = [torch.randint(3, 40, (length,), generator=random).tolist() for length in lengths]
    if pad_id is not None:
        for sequence in sequences:
            if len(sequence) > 1:
                sequence[-1] = pad_id
                sequence[0] = pad_id
    return sequences


def two_tensors(pad, random):
    """two tensors: ids are whole numbers, the mask is True and False"""
    sequences = texts(random, 2, 1)
    answer = pad.answer(sequences, 0)
    shown = f"pad_batch({sequences}, 0)"
    if isinstance(answer, torch.Tensor):
        raise Wrong("it returns one tensor: the ids and the mask are asked for, `return ids, mask`", shown)
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        pad.compare([(sequences, 0)])
        return
    for name, value in zip(("ids", "mask"), answer, strict=True):
        if not isinstance(value, torch.Tensor):
            raise Wrong(f"its {name} are not a tensor but an object of type {type(value).__name__}", shown)
    ids, mask = answer
    if ids.dtype is torch.bool and mask.dtype is not torch.bool:
        raise Wrong("ids and mask have changed places: the ids come first", shown)
    if ids.is_floating_point() or ids.is_complex():
        raise Wrong(f"its ids are of type {ids.dtype}: a table cannot be read at 3.0, only at 3", shown)
    if mask.dtype is not torch.bool:
        raise Wrong(f"its mask is of type {mask.dtype}: True and False (torch.bool) are asked for", shown)
    if ids.ndim != 2 or ids.shape != mask.shape:
        raise Wrong(
            f"ids have the shape {tuple(ids.shape)} and the mask {tuple(mask.shape)}: both are (batch, position)", shown
        )


def right(pad, random):
    """short rows are filled up on the right"""
    pads = [draw(random, 0, 2), draw(random, 41, 50)]
    pad.compare((texts(random, *lengths), id) for lengths in ((2, 1), (1, 3), (4, 2, 3)) for id in pads)


def alike(pad, random):
    """nothing is added where all are equally long"""
    pad.compare((texts(random, *lengths), 2) for lengths in ((3,), (2, 2), (4, 4, 4)))
    pad.compare([([[0]], 9), ([[0, 5], [0, 0]], 9), ([[7]], 0)])


def pad_id_is_real(pad, random):
    """a real token may have the padding's id: the mask still tells them apart"""
    pad.compare((texts(random, *lengths, pad_id=2), 2) for lengths in ((2, 1), (3, 2), (2, 4, 3)))


def empty(pad, random):
    """an empty prompt becomes a row of padding"""
    pad.compare((texts(random, *lengths), 1) for lengths in ((0, 2), (3, 0, 1)))
    pad.compare([([[0, 4], [], [0]], 9)])
    ids, mask = pad.answer([[], []], 3) if type(pad.answer([[], [0]], 3)) in (tuple, list) else (None, None)
    if not torch.is_tensor(ids) or not torch.is_tensor(mask) or not ids.shape == mask.shape == (2, 0):
        raise Wrong("where all prompts are empty, both tensors have the shape (batch, 0)", "pad_batch([[], []], 3)")


def left(pad, random):
    """side="left" puts the padding first"""
    pads = [draw(random, 0, 2), draw(random, 41, 50)]
    pad.compare((texts(random, *lengths), id, "left") for lengths in ((2, 1), (1, 3), (4, 2, 3)) for id in pads)


def left_empty(pad, random):
    """on the left, too: empty prompts, equally long ones, and the padding's id as a real token"""
    inputs = [(texts(random, *lengths, pad_id=2), 2, "left") for lengths in ((0, 2), (2, 2), (3, 0, 4))]
    pad.compare(inputs, crashes={MINUS_ZERO: from_minus_length})
    pad.compare([([[0], [5, 0, 6], [0, 7]], 9, "left")])


MINUS_ZERO = "`-len(s)` is -0 for an empty prompt, and [-0:] is the whole row: begin at width - len(s)"


def from_minus_length(sequences, pad_id, side="left"):
    """Left padding that writes each sequence into row[-len(sequence):]."""
    ids, real = batching.pad(sequences, pad_id, side)
    for row, sequence in zip(ids, sequences, strict=True):
        row[-len(sequence) :] = torch.tensor(sequence)
    return ids, real


def all_real_where_empty(ids, real, sequences, pad_id, side):
    empty = torch.tensor([not sequence for sequence in sequences])
    return real | empty[:, None] if side == "left" else real


def padded(ids=None, mask=None, fit=None):
    """A formula of somebody who pads all right but for one thing."""

    def formula(sequences, pad_id, side="right"):
        if fit:
            sequences, pad_id, side = fit(sequences, pad_id, side)
        right_ids, real = batching.pad(sequences, pad_id, side)
        return (
            ids(right_ids, real, sequences, pad_id, side) if ids else right_ids,
            mask(right_ids, real, sequences, pad_id, side) if mask else real,
        )

    return formula


def unflipped(sequences, pad_id, side="right"):
    """Left padding by padding the reversed sequences on the right, without turning the rows back."""
    if side == "right":
        return batching.pad(sequences, pad_id)
    return batching.pad([s[::-1] for s in sequences], pad_id)


def reversed_rows(sequences, pad_id, side="right"):
    """Left padding by turning right-padded rows around: the padding is left, the tokens are backwards."""
    ids, real = batching.pad(sequences, pad_id)
    return (ids, real) if side == "right" else (ids.flip(1), real.flip(1))


def cut_to_shortest(sequences, pad_id, side="right"):
    n = min(map(len, sequences))
    return batching.pad([s[:n] for s in sequences], pad_id, side)


def one_wider(sequences, pad_id, side="right"):
    ids, real = batching.pad([*sequences, [pad_id] * (1 + max(map(len, sequences)))], pad_id, side)
    return ids[:-1], real[:-1]


def zero_is_none(sequences, pad_id, side="right"):
    ids, real = batching.pad(sequences, pad_id, side)
    nothing = real & (ids == 0)
    return ids.masked_fill(nothing, pad_id), real & ~nothing


PAD_BATCH = Exercise(
    name="pad_batch",
    lesson="04",
    title="prompts of unequal length as one rectangle, with a mask",
    list_will_do=True,
    oracle=lambda sequences, pad_id, side="right": batching.pad(sequences, pad_id, side),
    checks={"right": (two_tensors, right, alike, empty), "mask": (pad_id_is_real,), "left": (left, left_empty)},
    mistakes={
        "its mask is upside down: True is for real tokens, False for padding": padded(mask=lambda i, real, *_: ~real),
        "its mask is True everywhere: padding is not real": padded(mask=lambda i, real, *_: torch.ones_like(real)),
        "it finds padding by its id, and so takes a real token with this id for padding: count lengths instead": padded(
            mask=lambda ids, real, s, pad_id, side: ids != pad_id
        ),
        "it does not use `side`: the padding is still on the right": padded(fit=lambda s, p, side: (s, p, "right")),
        "right and left are swapped": padded(fit=lambda s, p, side: (s, p, "left" if side == "right" else "right")),
        "the mask does not move with the tokens: on the left, the first positions are padding": padded(
            mask=lambda i, real, s, p, side: batching.pad(s, p)[1]
        ),
        "the tokens do not move with the mask: on the left, they end at the last position": padded(
            ids=lambda i, real, s, p, side: batching.pad(s, p)[0]
        ),
        "the tokens of a row run backwards: padding on the left leaves their order alone": reversed_rows,
        "it reverses the rows, pads, and does not turn them back": unflipped,
        "an empty prompt's mask is True on the left: a slice from -len(s) is the whole row there": padded(
            mask=all_real_where_empty
        ),
        "it stops at the id 0, or takes it for padding: 0 is an id like any other": zero_is_none,
        "it pads with 0: the padding's id is `pad_id`": padded(fit=lambda s, p, side: (s, 0, side)),
        "it cuts all prompts to the shortest: none of their tokens may get lost": cut_to_shortest,
        "its rows are one wider than the longest prompt: that one needs no padding": one_wider,
        "it leaves out empty prompts: each has a row, all padding": padded(
            fit=lambda s, p, side: ([x for x in s if x], p, side)
        ),
        "its first row is not the first prompt: it has sorted them": padded(
            fit=lambda s, p, side: (sorted(s, key=len), p, side)
        ),
        "its first row is not the first prompt: it has sorted them, the longest first": padded(
            fit=lambda s, p, side: (sorted(s, key=len, reverse=True), p, side)
        ),
    },
    hints=(
        "Make the rectangle first: `torch.full((rows, width), pad_id)` for the ids, and `torch.zeros(rows, width, "
        "dtype=torch.bool)` for the mask. How wide is it?",
        "Then write each sequence into its row: on the right side from column 0, on the left side from column "
        "width − len(sequence). Set the same columns of the mask to True.",
        "For row r: `start = 0 if side == 'right' else width - len(s)`, then `ids[r, start : start + len(s)] = "
        "torch.tensor(s, dtype=torch.long)` and `mask[r, start : start + len(s)] = True`.",
    ),
)


# ---- pack_documents -------------------------------------------------------------------------------


def packed(documents, length, end_id):
    return batching.pack(documents, length, end_id)[0]


def library(random, lengths):
    return [torch.randint(10, 60, (length,), generator=random).tolist() for length in lengths]


def one_document(pack, random):
    """one document in one row"""
    pack.compare((library(random, (n,)), n + 1, draw(random, 1, 9)) for n in (2, 4))
    pack.compare([([[0]], 2, 9), ([[0, 5, 0]], 4, 9), ([[7]], 2, 0)])


def full_rows(pack, random):
    """several documents that fill their rows exactly"""
    end = draw(random, 1, 9)
    pack.compare(
        (library(random, lengths), n, end)
        for lengths, n in (((1, 2), 5), ((2, 2), 2), ((5, 1), 4), ((3, 1, 3), 5), ((2, 4, 3), 4))
    )


def with_an_empty_one(pack, random):
    """an empty document is an end token alone"""
    end = draw(random, 1, 9)
    pack.compare((library(random, lengths), n, end) for lengths, n in (((0, 2), 4), ((1, 0, 2), 6), ((2, 0, 0, 1), 7)))
    pack.compare([([[]], 1, end), ([[]], 3, end), ([[], []], 2, end), ([[0], [], [0]], 5, end)])


def end_tokens_inside(pack, random):
    """a document that holds the end token, or ends with it, is a document like any other"""
    end = draw(random, 1, 9)
    inputs = [([[20, end]], 3), ([[end]], 2), ([[20, end, 30], [end, 40]], 4), ([[end, end], [20]], 3)]
    pack.compare((documents, length, end) for documents, length in inputs)


def across(pack, random):
    """a document longer than a row goes on in the next one"""
    pack.compare((library(random, lengths), n, draw(random, 1, 9)) for lengths, n in (((5,), 2), ((7, 3), 3)))


def filled(pack, random):
    """the last row is filled up with end tokens"""
    end = draw(random, 1, 9)
    pack.compare(
        (library(random, lengths), n, end) for lengths, n in (((1,), 4), ((2, 3), 5), ((6, 2, 5), 4), ((3, 3), 6))
    )


def after_the_last(pack, random):
    """the last document, too, is followed by an end token, even if that begins a new row"""
    pack.compare((library(random, lengths), n, draw(random, 1, 9)) for lengths, n in (((2,), 2), ((3, 2), 3)))


def chained(documents, end_id):
    return [id for document in documents for id in (*document, end_id)]


def rows_of(chain, length, fill):
    """The chain in rows, the last one filled up."""
    rows = -(-len(chain) // length)
    return torch.tensor(chain + [fill] * (rows * length - len(chain)), dtype=torch.long).view(rows, length)


def drop_last(documents, length, end_id):
    chain = chained(documents, end_id)
    return torch.tensor(chain[: len(chain) // length * length], dtype=torch.long).view(-1, length)


def between(documents, length, end_id):
    return rows_of(chained(documents, end_id)[:-1], length, end_id)


def before(documents, length, end_id):
    return rows_of([id for document in documents for id in (end_id, *document)], length, end_id)


def both_sides(documents, length, end_id):
    return rows_of([id for document in documents for id in (end_id, *document, end_id)], length, end_id)


def without_ends(documents, length, end_id):
    return rows_of([id for document in documents for id in document], length, end_id)


def only_at_the_end(documents, length, end_id):
    return rows_of([*(id for document in documents for id in document), end_id], length, end_id)


def one_row_each(documents, length, end_id):
    return torch.cat([rows_of([*document, end_id], length, end_id) for document in documents])


def one_row_each_if_short(documents, length, end_id):
    """A new row for each document, closed by an end token only where there is room."""
    return torch.cat([rows_of(document, length, end_id) for document in documents])


def without_empty(documents, length, end_id):
    return rows_of(chained([d for d in documents if d], end_id), length, end_id)


def cut_to_the_row(documents, length, end_id):
    return torch.tensor([[*document, *[end_id] * length][:length] for document in documents])


def by_columns(documents, length, end_id):
    ids = packed(documents, length, end_id)
    return ids.reshape(length, len(ids)).T


def a_row_too_many(documents, length, end_id):
    ids = packed(documents, length, end_id)
    chain = chained(documents, end_id)
    return torch.cat([ids, torch.full((1, length), end_id)]) if len(chain) % length == 0 else ids


def end_in_each_row(documents, length, end_id):
    """Rows of length − 1 tokens with an end token at the end of each row."""
    rows = rows_of([id for document in documents for id in document], length - 1, end_id)
    return torch.cat([rows, torch.full((len(rows), 1), end_id)], dim=1)


PACK_DOCUMENTS = Exercise(
    name="pack_documents",
    lesson="04",
    title="documents back to back in rows without waste",
    oracle=packed,
    checks={
        "chain": (one_document, full_rows, across, with_an_empty_one, end_tokens_inside),
        "last_row": (filled, after_the_last),
    },
    mistakes={
        "it puts no second end token where a document ends with one: that one is part of the document": (
            lambda documents, length, end: rows_of(
                [id for d in documents for id in (d if d and d[-1] == end else [*d, end])], length, end
            )
        ),
        "it drops the end token inside a document: what a document holds stays": lambda documents, length, end: packed(
            [[id for id in document if id != end] for document in documents], length, end
        ),
        "it puts nothing between two documents: an end token follows each": without_ends,
        "its end token comes before each document: it follows each": before,
        "it puts end tokens on both sides of a document: one follows each": both_sides,
        "its only end token is the very last: one follows each document": only_at_the_end,
        "the last document has no end token: one follows each, the last too": between,
        "it drops the last row where that is not full: no token may get lost": drop_last,
        "it fills the last row with 0: fill it with `end_id`": lambda d, n, e: rows_of(chained(d, e), n, 0),
        "it begins a new row for each document, which is padding again: they follow each other at once": one_row_each,
        "a document that fills its row has no end token (and each begins a row of its own): one follows each": (
            one_row_each_if_short
        ),
        "it leaves out empty documents: of such a one the end token stays": without_empty,
        "it cuts each document to one row: what is too long goes on in the next row": cut_to_the_row,
        "it reads the rows down the columns: the chain goes along a row, then on to the next": by_columns,
        "it adds a whole row of end tokens where the last row is full already": a_row_too_many,
        "it ends each *row* with an end token: it ends each document": end_in_each_row,
    },
    hints=(
        "First one long list: each document's ids, then end_id, then the next one's. `chain += [*document, end_id]`.",
        "How many ids are missing to a full last row? `-len(chain) % length` says so (0 where nothing is missing). "
        "Add that many end tokens.",
        "Now the chain is a whole number of rows: `torch.tensor(chain).view(-1, length)`.",
    ),
)

EXERCISES = (INPUT_EMBEDDING, PAD_BATCH, PACK_DOCUMENTS)
