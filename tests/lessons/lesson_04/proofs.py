import torch
import torch.nn.functional as F
from lessons.proof import Proof
from torch.nn.utils.rnn import pad_sequence

# ---- input_embedding ------------------------------------------------------------------------------

input_embedding = Proof("input_embedding")


@input_embedding.right
def by_index(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[torch.arange(start, start + ids.shape[1])]


@input_embedding.right
def by_one_hot(ids, token_table, position_table, start=0):
    batch, n = ids.shape
    positions = torch.arange(n).expand(batch, n) + start
    return (
        F.one_hot(ids, len(token_table)).to(token_table.dtype) @ token_table
        + F.one_hot(positions, len(position_table)).to(position_table.dtype) @ position_table
    )


@input_embedding.right
def by_loops(ids, token_table, position_table, start=0):
    rows = [
        [token_table[id] + position_table[start + place] for place, id in enumerate(prompt)] for prompt in ids.tolist()
    ]
    return torch.stack([torch.stack(row) for row in rows])


@input_embedding.wrong("the tokens' rows alone")
def no_positions(ids, token_table, position_table, start=0):
    return token_table[ids]


@input_embedding.wrong("the positions' rows alone")
def no_tokens(ids, token_table, position_table, start=0):
    return position_table[start : start + ids.shape[1]].expand(*ids.shape, -1)


@input_embedding.wrong("by the token ids")
def positions_by_id(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[ids]


@input_embedding.wrong("the position of every token")
def one_position_for_all(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start]


@input_embedding.wrong("does not use `start`")
def always_from_zero(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[: ids.shape[1]]


@input_embedding.wrong("one too high")
def counted_from_one(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[[start + 1 + i for i in range(ids.shape[1])]]


@input_embedding.wrong("one too low")
def start_is_the_last_cached(ids, token_table, position_table, start=0):
    first = max(start - 1, 0)
    return token_table[ids] + position_table[first : first + ids.shape[1]]


@input_embedding.wrong("adds `start` to the ids")
def ids_shifted(ids, token_table, position_table, start=0):
    return token_table[(ids + start) % len(token_table)] + position_table[start : start + ids.shape[1]]


@input_embedding.wrong("gives each *prompt* a position")
def a_position_a_prompt(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start : start + len(ids)].unsqueeze(1)


@input_embedding.wrong("from one prompt to the next")
def flattened(ids, token_table, position_table, start=0):
    places = (start + torch.arange(ids.numel())) % len(position_table)
    return token_table[ids] + position_table[places].view(*ids.shape, -1)


@input_embedding.wrong("the last rows of the position table")
def from_the_end(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[len(position_table) - ids.shape[1] :]


@input_embedding.wrong("run backwards")
def backwards(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start : start + ids.shape[1]].flip(0)


@input_embedding.wrong("multiplies the two rows")
def product(ids, token_table, position_table, start=0):
    return token_table[ids] * position_table[start : start + ids.shape[1]]


@input_embedding.wrong("the mean of the two rows")
def mean(ids, token_table, position_table, start=0):
    return (token_table[ids] + position_table[start : start + ids.shape[1]]) / 2


@input_embedding.wrong("scales the tokens")
def scaled(ids, token_table, position_table, start=0):
    return token_table[ids] * token_table.shape[1] ** 0.5 + position_table[start : start + ids.shape[1]]


@input_embedding.wrong("it returns the shape")
def side_by_side(ids, token_table, position_table, start=0):
    positions = position_table[start : start + ids.shape[1]].expand(*ids.shape, -1)
    return torch.cat((token_table[ids], positions), dim=-1)


@input_embedding.wrong("it slices len(ids) rows")
def prompts_for_positions(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start : start + len(ids)]


@input_embedding.wrong("all rows of the position table from `start` on")
def open_slice(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start:]


@input_embedding.wrong("its positions are counted from `start` up to n")
def range_ends_too_early(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[torch.arange(start, ids.shape[1])]


@input_embedding.wrong("its positions end at n")
def slice_ends_too_early(ids, token_table, position_table, start=0):
    return token_table[ids] + position_table[start : ids.shape[1]]


@input_embedding.wrong("it changes what it was given")
def writes_into_the_table(ids, token_table, position_table, start=0):
    token_table += position_table.mean(0)
    return token_table[ids] + position_table[start : start + ids.shape[1]]


# ---- pad_batch ------------------------------------------------------------------------------------

pad_batch = Proof("pad_batch")


@pad_batch.right
def rows_of_lists(sequences, pad_id, side="right"):
    width = max(len(s) for s in sequences)
    ids, mask = [], []
    for s in sequences:
        fill = width - len(s)
        real = [True] * len(s)
        ids.append([pad_id] * fill + list(s) if side == "left" else list(s) + [pad_id] * fill)
        mask.append([False] * fill + real if side == "left" else real + [False] * fill)
    return torch.tensor(ids), torch.tensor(mask)


@pad_batch.right
def by_pytorch(sequences, pad_id, side="right"):
    tensors = [torch.tensor(s, dtype=torch.long) for s in sequences]
    ids = pad_sequence(tensors, batch_first=True, padding_value=pad_id, padding_side=side)
    mask = pad_sequence(
        [torch.ones(len(s), dtype=torch.bool) for s in sequences],
        batch_first=True,
        padding_value=False,
        padding_side=side,
    )
    return ids, mask


@pad_batch.right
def mask_from_lengths(sequences, pad_id, side="right"):
    lengths = torch.tensor([len(s) for s in sequences])[:, None]
    width = int(lengths.max())
    places = torch.arange(width)[None]
    mask = places < lengths if side == "right" else places >= width - lengths
    ids = torch.full(mask.shape, pad_id)
    ids[mask] = torch.tensor([id for s in sequences for id in s], dtype=torch.long)
    return ids, mask


@pad_batch.wrong("upside down")
def true_is_padding(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return ids, ~mask


@pad_batch.wrong("True everywhere")
def all_real(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return ids, mask | True


@pad_batch.wrong("finds padding by its id")
def by_id(sequences, pad_id, side="right"):
    ids, _ = rows_of_lists(sequences, pad_id, side)
    return ids, ids != pad_id


@pad_batch.wrong("does not use `side`")
def right_always(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, pad_id)


@pad_batch.wrong("right and left are swapped")
def swapped(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, pad_id, "right" if side == "left" else "left")


@pad_batch.wrong("the mask does not move")
def mask_stays(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, pad_id, side)[0], rows_of_lists(sequences, pad_id)[1]


@pad_batch.wrong("the tokens do not move")
def tokens_stay(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, pad_id)[0], rows_of_lists(sequences, pad_id, side)[1]


@pad_batch.wrong("run backwards")
def flips_the_rectangle(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id)
    return (ids.flip(1), mask.flip(1)) if side == "left" else (ids, mask)


@pad_batch.wrong("does not turn them back")
def reversed_and_left_so(sequences, pad_id, side="right"):
    if side == "left":
        sequences = [list(reversed(s)) for s in sequences]
    return rows_of_lists(sequences, pad_id)


@pad_batch.wrong("[-0:] is the whole row")
def from_the_right_end(sequences, pad_id, side="right"):
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, s in enumerate(sequences):
        columns = slice(0, len(s)) if side == "right" else slice(-len(s), None)
        ids[row, columns] = torch.tensor(s, dtype=torch.long)
        mask[row, columns] = True
    return ids, mask


@pad_batch.wrong("an empty prompt's mask is True")
def mask_from_the_right_end(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    if side == "left":
        mask = torch.zeros_like(mask)
        for row, s in enumerate(sequences):
            mask[row, -len(s) :] = True
    return ids, mask


@pad_batch.wrong("it pads with 0")
def zeros(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, 0, side)


@pad_batch.wrong("cuts all prompts to the shortest")
def shortest(sequences, pad_id, side="right"):
    width = min(len(s) for s in sequences)
    return rows_of_lists([s[:width] for s in sequences], pad_id, side)


@pad_batch.wrong("one wider")
def too_wide(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists([*sequences, [pad_id] * (max(map(len, sequences)) + 1)], pad_id, side)
    return ids[:-1], mask[:-1]


@pad_batch.wrong("leaves out empty prompts")
def only_the_filled(sequences, pad_id, side="right"):
    return rows_of_lists([s for s in sequences if s], pad_id, side)


@pad_batch.wrong("it has sorted them, the longest first")
def longest_first(sequences, pad_id, side="right"):
    return rows_of_lists(sorted(sequences, key=len, reverse=True), pad_id, side)


@pad_batch.wrong("returns one tensor")
def ids_alone(sequences, pad_id, side="right"):
    return rows_of_lists(sequences, pad_id, side)[0]


@pad_batch.wrong("have changed places")
def mask_first(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return mask, ids


@pad_batch.wrong("its mask is of type")
def zeros_and_ones(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return ids, mask.long()


@pad_batch.wrong("its ids are of type")
def floats(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return ids.float(), mask


@pad_batch.wrong("not a tensor but")
def lists(sequences, pad_id, side="right"):
    ids, mask = rows_of_lists(sequences, pad_id, side)
    return ids.tolist(), mask.tolist()


@pad_batch.wrong("it changes what it was given")
def appends_to_the_input(sequences, pad_id, side="right"):
    width = max(map(len, sequences))
    mask = torch.tensor([[i < len(s) for i in range(width)] for s in sequences])
    for s in sequences:
        while len(s) < width:
            s.append(pad_id)
    return torch.tensor(sequences), mask


# ---- pack_documents -------------------------------------------------------------------------------

pack_documents = Proof("pack_documents")


def in_rows(chain, length, fill):
    while len(chain) % length:
        chain = [*chain, fill]
    return torch.tensor(chain, dtype=torch.long).view(-1, length)


@pack_documents.right
def by_slices(documents, length, end_id):
    chain = []
    for document in documents:
        chain.extend(document)
        chain.append(end_id)
    rows = [chain[i : i + length] for i in range(0, len(chain), length)]
    rows[-1] = rows[-1] + [end_id] * (length - len(rows[-1]))
    return torch.tensor(rows)


@pack_documents.right
def by_pytorch_too(documents, length, end_id):
    chain = torch.cat([torch.tensor([*document, end_id]) for document in documents])
    return F.pad(chain, (0, -len(chain) % length), value=end_id).reshape(-1, length)


@pack_documents.right
def token_by_token(documents, length, end_id):
    rows = [[]]
    for document in documents:
        for id in [*document, end_id]:
            if len(rows[-1]) == length:
                rows.append([])
            rows[-1].append(id)
    rows[-1] += [end_id] * (length - len(rows[-1]))
    return torch.tensor(rows)


@pack_documents.wrong("nothing between two documents")
def no_ends(documents, length, end_id):
    return in_rows([id for d in documents for id in d], length, end_id)


@pack_documents.wrong("comes before each document")
def ends_first(documents, length, end_id):
    return in_rows([id for d in documents for id in [end_id, *d]], length, end_id)


@pack_documents.wrong("both sides")
def ends_around(documents, length, end_id):
    return in_rows([id for d in documents for id in [end_id, *d, end_id]], length, end_id)


@pack_documents.wrong("only end token is the very last")
def one_end(documents, length, end_id):
    return in_rows([*(id for d in documents for id in d), end_id], length, end_id)


@pack_documents.wrong("the last document has no end token")
def ends_between(documents, length, end_id):
    chain = []
    for number, document in enumerate(documents):
        chain += [end_id] * (number > 0) + document
    return in_rows(chain, length, end_id)


@pack_documents.wrong("drops the last row")
def full_rows_only(documents, length, end_id):
    chain = [id for d in documents for id in [*d, end_id]]
    n = len(chain) // length
    return torch.tensor(chain[: n * length], dtype=torch.long).view(n, length)


@pack_documents.wrong("fills the last row with 0")
def fill_with_zero(documents, length, end_id):
    return in_rows([id for d in documents for id in [*d, end_id]], length, 0)


@pack_documents.wrong("a new row for each document")
def a_row_each(documents, length, end_id):
    return torch.cat([in_rows([*d, end_id], length, end_id) for d in documents])


@pack_documents.wrong("fills its row has no end token")
def a_row_each_end_if_room(documents, length, end_id):
    rows = []
    for d in documents:
        for i in range(0, len(d), length):
            rows.append(d[i : i + length] + [end_id] * (length - len(d[i : i + length])))
    return torch.tensor(rows)


@pack_documents.wrong("leaves out empty documents")
def only_filled(documents, length, end_id):
    return by_slices([d for d in documents if d], length, end_id)


@pack_documents.wrong("cuts each document to one row")
def cut(documents, length, end_id):
    return torch.tensor([([*d, end_id] + [end_id] * length)[:length] for d in documents])


@pack_documents.wrong("down the columns")
def columns(documents, length, end_id):
    rows = by_slices(documents, length, end_id)
    return rows.flatten().view(length, -1).T


@pack_documents.wrong("a whole row of end tokens")
def always_fills(documents, length, end_id):
    chain = [id for d in documents for id in [*d, end_id]]
    chain += [end_id] * (length - len(chain) % length)
    return torch.tensor(chain).view(-1, length)


@pack_documents.wrong("ends each *row*")
def end_of_row(documents, length, end_id):
    rows = in_rows([id for d in documents for id in d], length - 1, end_id)
    return torch.cat([rows, torch.full((len(rows), 1), end_id)], dim=1)


@pack_documents.wrong("a list of")
def nested_lists(documents, length, end_id):
    return by_slices(documents, length, end_id).tolist()


@pack_documents.wrong("it returns the shape")
def one_long_chain(documents, length, end_id):
    return by_slices(documents, length, end_id).flatten()


@input_embedding.wrong("the id 0 is a token like any other")
def no_row_for_id_0(ids, token_table, position_table, start=0):
    return F.embedding(ids, token_table) * (ids > 0)[..., None] + position_table[start : start + ids.shape[1]]


@pad_batch.wrong("stops at the id 0")
def real_where_not_0(sequences, pad_id, side="right"):
    width = max(map(len, sequences))
    fill = [[None] * (width - len(s)) for s in sequences]
    rows = [s + f if side == "right" else f + s for s, f in zip(sequences, fill, strict=True)]
    ids = torch.tensor([[id or pad_id for id in row] for row in rows], dtype=torch.long)
    mask = torch.tensor([[bool(id) for id in row] for row in rows], dtype=torch.bool)
    return ids.view(len(rows), width), mask.view(len(rows), width)


@pack_documents.wrong("it puts no second end token")
def one_end_is_enough(documents, length, end_id):
    chain = []
    for document in documents:
        chain += document if document and document[-1] == end_id else [*document, end_id]
    chain += [end_id] * (-len(chain) % length)
    return torch.tensor(chain).view(-1, length)


@pack_documents.wrong("the end token inside a document")
def cut_at_the_end_token(documents, length, end_id):
    chain = []
    for document in documents:
        chain += [*[id for id in document if id != end_id], end_id]
    chain += [end_id] * (-len(chain) % length)
    return torch.tensor(chain).view(-1, length)
