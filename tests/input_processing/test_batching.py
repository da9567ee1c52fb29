"""Padding and packing lose nothing, add what they say, and keep documents apart."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from course_lib.input_processing.batching import document_numbers, keep_last, pack, pad, padding_share, same_document

END = 0
IDS = st.lists(st.integers(1, 99), max_size=9)
TEXTS = st.lists(IDS, min_size=1, max_size=6)


@given(TEXTS, st.sampled_from(["right", "left"]))
def test_padding_is_pytorchs(sequences, side):
    ids, real = pad(sequences, 100, side)
    theirs = pad_sequence([torch.tensor(s, dtype=torch.long) for s in sequences], True, 100, side)
    assert ids.equal(theirs) and real.equal(theirs != 100)
    assert [row[mask].tolist() for row, mask in zip(ids, real, strict=True)] == sequences
    assert ids.dtype == torch.long and real.dtype == torch.bool


def test_padding_may_be_an_id_that_also_occurs():
    ids, real = pad([[7, 7], [7]], 7)
    assert ids.tolist() == [[7, 7], [7, 7]] and real.tolist() == [[True, True], [True, False]]


@given(TEXTS, st.integers(1, 12))
def test_packing_loses_nothing(documents, length):
    ids, real = pack(documents, length, END)
    chain = [id for document in documents for id in (*document, END)]
    assert ids[real].tolist() == chain
    assert ids.shape[1] == length and (ids.numel() - length) < len(chain) <= ids.numel()
    assert (ids[~real] == END).all()
    assert real.flatten().tolist() == [i < len(chain) for i in range(ids.numel())]


@given(TEXTS, st.integers(1, 12))
def test_each_position_knows_its_document(documents, length):
    ids, _ = pack(documents, length, END)
    numbers = document_numbers(ids, END)
    # in the whole chain, in one row, the numbers are the documents' own
    own = [number for number, document in enumerate(documents) for _ in (*document, END)]
    whole = document_numbers(ids.view(1, -1), END)[0]
    assert whole[: len(own)].tolist() == own
    assert (numbers[:, 0] == 0).all()
    mask, flat = same_document(numbers), whole.view(ids.shape)
    for row in range(len(ids)):
        assert mask[row].tolist() == [[a == b for b in flat[row].tolist()] for a in flat[row].tolist()]


def test_by_hand():
    ids, real = pack([[5, 6, 7], [8]], 4, END)
    assert ids.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert real.tolist() == [[True] * 4, [True, True, False, False]]
    assert document_numbers(torch.tensor([[5, 6, 0, 8, 0, 9]]), END).tolist() == [[0, 0, 0, 1, 1, 2]]
    assert padding_share(real) == 0.25
    assert keep_last([1, 2, 3], 2) == [2, 3] and keep_last([1, 2], 5) == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pad([], 0), "sequences is empty"),
        (lambda: pad([[1]], 0, "top"), "side must be"),
        (lambda: pack([], 4, 0), "documents is empty"),
        (lambda: pack([[1]], 0, 0), "length must be at least 1"),
        (lambda: keep_last([1], 0), "window must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
