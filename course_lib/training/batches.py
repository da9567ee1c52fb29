"""From one long row of tokens to batches: short windows of it, each with the same window one token later.

A row that is too long for memory stays in a file: `save_tokens` writes it, `open_tokens` gives a tensor whose parts
are read when a window needs them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from course_lib.arguments import Whole, instance, path_of, refused, whole
from course_lib.files import replacing

MOST_IN_A_STEP = 2**26  # tokens: the largest models were trained with a quarter of that (Llama 3, section 3.4.1)


def random_batch(
    tokens: Integer[Tensor, " token"], batch_size: Whole, context_length: Whole, generator: torch.Generator
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """(inputs, targets): windows of `tokens` that begin at random places.

    targets[b, p] is the token that follows inputs[b, p] in `tokens`. The generator lives on the CPU, so that the same
    seed draws the same windows wherever the tokens are.

    Raises:
        ValueError: `tokens` is not one row of whole numbers, or shorter than one window and its next token; a size is
            less than 1.
    """
    context_length = whole("context_length", context_length)
    check_tokens(tokens, context_length)
    batch_size = check_batch(batch_size, context_length)
    instance("generator", generator, torch.Generator)
    return windows(tokens, random_starts(tokens, batch_size, context_length, generator), context_length)


def random_starts(
    tokens: Integer[Tensor, " token"],
    batch_size: Whole,
    context_length: Whole,
    generator: torch.Generator,
    places: Int[Tensor, " place"] | None = None,
) -> Int[Tensor, " batch"]:
    """Where the windows of a batch begin: one of `places`, or anywhere; each that fits is equally likely."""
    if places is not None:
        return places[torch.randint(len(places), (batch_size,), generator=generator)]
    return torch.randint(len(tokens) - context_length, (batch_size,), generator=generator)


def places_of(token: int, tokens: Integer[Tensor, " token"], context_length: Whole) -> Int[Tensor, " place"]:
    """Where `token` stands in `tokens` with a whole window, and the token after it, from there on.

    Raises:
        ValueError: nowhere.
    """
    last = len(tokens) - context_length  # of them, the first place from which a window does not fit
    found = [start + (part.long() == token).nonzero().flatten() for start, part in _parts(tokens)]
    places = torch.cat(found).cpu()
    places = places[places < last]
    if len(places) == 0:
        raise ValueError(
            f"begin_with must be a token of the text, with {context_length} more after it, and {token} is nowhere such"
        )
    return places


def windows(
    tokens: Integer[Tensor, " token"], starts: Int[Tensor, " batch"], context_length: Whole
) -> tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"]]:
    """(inputs, targets) of the windows that begin at `starts`."""
    places = (starts[:, None] + torch.arange(context_length + 1)).to(tokens.device)  # (batch, position + 1)
    taken = tokens[places].long()
    return taken[:, :-1], taken[:, 1:]


def check_tokens(tokens: Tensor, context_length: Whole) -> None:
    """Raises:
    ValueError: no window of `context_length` tokens, with its next token, can be cut out of `tokens`.
    """
    if context_length < 1:
        raise ValueError(f"context_length must be at least 1, got {context_length}")
    check_row(tokens)
    if len(tokens) <= context_length:
        raise ValueError(
            f"tokens must be more than context_length={context_length}, for a window and the token after it, "
            f"got {len(tokens)}: take a longer text or a shorter context_length"
        )


def check_row(tokens: Tensor) -> None:
    """Raises:
    ValueError: `tokens` is not a tensor with one row of whole numbers.
    """
    if not isinstance(tokens, Tensor) or tokens.layout != torch.strided or tokens.is_meta:
        raise refused("tokens", "one row of whole numbers, as a tensor", tokens)
    if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(
            f"tokens must be one row of whole numbers, got shape {tuple(tokens.shape)} of {tokens.dtype}: "
            "put all texts into one row, one after the other"
        )


def check_batch(batch_size: Whole, context_length: int) -> int:
    """The batch size.

    Raises:
        ValueError: it is less than 1, or a step would read more than any training run does.
    """
    if (batch_size := whole("batch_size", batch_size)) < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size * context_length > MOST_IN_A_STEP:
        raise ValueError(
            f"batch_size × context_length must be at most {MOST_IN_A_STEP:,} tokens a step, "
            f"got {batch_size} × {context_length}"
        )
    return batch_size


# ---- in a file ------------------------------------------------------------------------------------


def save_tokens(path: str | Path, tokens: Sequence[int] | Tensor, vocab_size: Whole) -> None:
    """Write a row of ids as a NumPy file (.npy): two bytes a token for up to 65,536 kinds of token, else four.

    The file takes its place in one step, and is the same on every machine (little-endian).

    Raises:
        ValueError: `tokens` is not one row of whole numbers, or one is not from 0 to vocab_size − 1.
        OSError: the file cannot be written, or the disk is full; an older one there is untouched.
    """
    if not isinstance(tokens, Tensor):
        try:
            tokens = torch.as_tensor(tokens)
        except Exception:  # what is wrong inside shows in any of a dozen ways
            raise refused("tokens", "one row of whole numbers", tokens) from None
    check_row(tokens)
    if len(tokens) == 0:
        raise ValueError("tokens must be one row of whole numbers, at least one, and is empty")
    path, vocab_size = path_of("path", path), whole("vocab_size", vocab_size, 1, 2**32)
    low, high = lowest_and_highest(tokens)
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"tokens must be from 0 to vocab_size − 1, {vocab_size - 1}, got {low if low < 0 else high}: "
            "encode the text with the vocabulary whose size you give"
        )
    try:
        with replacing(path) as beside, open(beside, "wb") as file:
            np.save(file, tokens.cpu().numpy().astype(_kind(vocab_size)))
    except OSError as error:
        raise OSError(f"the tokens could not be written to {path} ({error.strerror or error})") from error


def open_tokens(path: str | Path) -> Integer[Tensor, " token"]:
    """The row that `save_tokens` wrote, as a tensor on the file itself: nothing is read before it is used.

    It works wherever a row of tokens does. What is written into it stays in memory; the file never changes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, or is not a row of tokens.
    """
    path = path_of("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of tokens at {path}: save_tokens writes one")
    try:
        tokens = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not a whole file of tokens ({error}): write it again with save_tokens") from error
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype not in (np.uint16, np.uint32):
        raise ValueError(f"{path} holds something else than a row of tokens: write it with save_tokens")
    return torch.from_numpy(tokens)


def _kind(vocab_size: Whole) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def lowest_and_highest(tokens: Integer[Tensor, " token"]) -> tuple[int, int]:
    """The lowest and the highest id, a part at a time: PyTorch has no minimum for the unsigned kinds of a file."""
    parts = [part.long().aminmax() for _, part in _parts(tokens)]
    return min(int(part.min) for part in parts), max(int(part.max) for part in parts)


def _parts(tokens: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(place, the tokens from there on), so many at a time that copies of them are small."""
    for start in range(0, len(tokens), 2**22):
        yield start, tokens[start : start + 2**22]
