"""Batches are windows of the tokens, each with the same window one token later."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.training.batches import lowest_and_highest, open_tokens, random_batch, save_tokens, windows


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 30), st.integers(0, 10**6))
def test_windows_of_the_tokens(batch_size, context_length, more, seed):
    tokens = torch.randperm(context_length + more, generator=generator(seed))  # each token tells where it stands
    inputs, targets = random_batch(tokens, batch_size, context_length, generator(seed))
    assert inputs.shape == targets.shape == (batch_size, context_length)
    assert inputs.dtype == targets.dtype == torch.int64
    place = tokens.argsort()
    assert torch.equal(place[targets], place[inputs] + 1)
    assert (place[inputs].diff(dim=1) == 1).all()


def test_every_window_can_come():
    inputs, targets = random_batch(torch.arange(5), 500, 3, generator())
    assert set(inputs[:, 0].tolist()) == {0, 1} and set(targets[:, -1].tolist()) == {3, 4}


def test_the_same_seed_draws_the_same_windows_of_any_integers():
    tokens = torch.arange(100)
    one, other = random_batch(tokens, 4, 7, generator(3)), random_batch(tokens.to(torch.uint8), 4, 7, generator(3))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(one[0], random_batch(tokens, 4, 7, generator(4))[0])


@pytest.mark.parametrize(
    "tokens, batch_size, context_length, message",
    [
        (torch.arange(8), 2, 8, "tokens must be more than context_length=8, .* got 8: take a longer text"),
        (torch.arange(8), 0, 4, "batch_size must be at least 1, got 0"),
        (torch.arange(8), 2, 0, "context_length must be at least 1, got 0"),
        (torch.zeros(2, 8, dtype=torch.int64), 2, 4, r"one row of whole numbers, got shape \(2, 8\)"),
        (torch.zeros(8), 2, 4, "one row of whole numbers, got .* torch.float32"),
    ],
)
def test_what_cannot_be_cut(tokens, batch_size, context_length, message, bad_input):
    with pytest.raises(ValueError, match=message):
        random_batch(tokens, batch_size, context_length, generator())


# ---- in a file ------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2**32 - 1), st.lists(st.floats(0, 1), min_size=1, max_size=50), st.booleans())
def test_tokens_come_back_from_a_file(tmp_path_factory, vocab_size, places, as_list):
    path = tmp_path_factory.mktemp("tokens") / "some.npy"
    tokens = [int(place * (vocab_size - 1)) for place in places]
    save_tokens(path, tokens if as_list else torch.tensor(tokens), vocab_size)
    opened = open_tokens(path)
    assert opened.tolist() == tokens
    assert opened.dtype == (torch.uint16 if vocab_size <= 65_536 else torch.uint32)
    raw = path.read_bytes()[-len(tokens) * opened.element_size() :]
    assert int.from_bytes(raw[-opened.element_size() :], "little") == tokens[-1]
    assert lowest_and_highest(opened) == (min(tokens), max(tokens))


def test_batches_from_a_file_are_those_from_memory(tmp_path):
    tokens = torch.randint(70_000, (1000,), generator=generator())
    save_tokens(tmp_path / "deep" / "t.npy", tokens, 70_000)
    opened = open_tokens(tmp_path / "deep" / "t.npy")
    for one, other in zip(
        random_batch(tokens, 8, 9, generator(1)), random_batch(opened, 8, 9, generator(1)), strict=True
    ):
        assert torch.equal(one, other) and other.dtype == torch.int64


def test_a_file_larger_than_memory(tmp_path):
    """Six billion tokens, 12 GB, all but the last few in a hole of the file: nothing but the windows is read."""
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype="<u2", shape=(6_000_000_000,))[-3:] = [7, 8, 9]
    tokens = open_tokens(path)
    inputs, targets = windows(tokens, torch.tensor([0, len(tokens) - 3]), 2)
    assert inputs.tolist() == [[0, 0], [7, 8]] and targets.tolist() == [[0, 0], [8, 9]]
    assert random_batch(tokens, 4, 8, generator())[0].shape == (4, 8)


def test_the_file_is_never_written_to(tmp_path):
    save_tokens(tmp_path / "t.npy", [1, 2, 3], 9)
    before = (tmp_path / "t.npy").read_bytes()
    open_tokens(tmp_path / "t.npy")[0] = 5
    assert (tmp_path / "t.npy").read_bytes() == before and open_tokens(tmp_path / "t.npy").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[:-1], "is not a whole file of tokens"),
        (lambda whole: whole[:20], "is not a whole file of tokens"),
        (lambda whole: b"", "is not a whole file of tokens"),
        (lambda whole: b"the dog ran up the hill", "is not a whole file of tokens"),
        (lambda whole: b"\x80\x04N.", "is not a whole file of tokens"),  # a pickle
        (lambda whole: whole.replace(b"<u2", b"<f2"), "holds something else than a row of tokens"),
        (lambda whole: whole.replace(b"(3,)", b"(3,1)"), "holds something else than a row of tokens"),
    ],
)
def test_what_is_no_file_of_tokens(tmp_path, content, message):
    path = tmp_path / "t.npy"
    save_tokens(path, [1, 2, 3], 9)
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        open_tokens(path)
    assert "save_tokens" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file of tokens at .*t\.npy: save_tokens writes one"):
        open_tokens(tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 9], "tokens must be from 0 to vocab_size − 1, 8, got 9"),
        ([-1, 3], "got -1"),
        ([], "one row of whole numbers"),
        ([[1, 2]], "one row of whole numbers"),
        ([0.5], "one row of whole numbers"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, tokens, message, bad_input):
    save_tokens(tmp_path / "t.npy", [1, 2, 3], 9)
    with pytest.raises(ValueError, match=message):
        save_tokens(tmp_path / "t.npy", tokens, 9)
    assert open_tokens(tmp_path / "t.npy").tolist() == [1, 2, 3]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save_tokens(tmp_path / "t.npy", [1, 2, 3], 9)

    def full(file, *_):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_tokens(tmp_path / "t.npy", [4], 9)
    assert [path.name for path in tmp_path.iterdir()] == ["t.npy"]
    assert open_tokens(tmp_path / "t.npy").tolist() == [1, 2, 3]
