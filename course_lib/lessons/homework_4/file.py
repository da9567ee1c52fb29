"""Homework 4, the file: SmolLM2 as it lies on the disk, and its 4- and 8-bit numbers unpacked."""

import functools
from functools import partial

import torch

from course_lib import assets
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.lessons.tools import draw
from course_lib.pretrained.checkpoints import transformer_from_gguf
from course_lib.pretrained.gguf import read_gguf
from course_lib.pretrained.vocabularies import tokenizer_from_gguf_metadata

# ---- the file ------------------------------------------------------------------------------------


@functools.cache
def file():
    return read_gguf(assets.path("smollm2-135m"))


@functools.cache
def smollm2():
    """The model that the library makes of the file."""
    return transformer_from_gguf(file())


@functools.cache
def tokenizer():
    return tokenizer_from_gguf_metadata(file().metadata)


# ---- bytes to numbers ----------------------------------------------------------------------------


def half(two_bytes):
    """Numbers of 16 bits, (blocks, 2) bytes → (blocks, 1)."""
    return two_bytes.contiguous().view(torch.float16).float()


def swapped_bytes(two_bytes):
    return half(two_bytes.flip(1))


def brain_floats(two_bytes):
    return two_bytes.contiguous().view(torch.bfloat16).float()


def whole_number(two_bytes):
    return two_bytes.contiguous().view(torch.int16).float()


def low(packed):
    return packed & 0x0F


def high(packed):
    return packed >> 4


def q4_1(
    raw, places=(slice(0, 2), slice(2, 4)), bytes_at=slice(4, 20), read=half,
    order=lambda packed: torch.cat((low(packed), high(packed)), 1), shift=lambda q: q,
    number=lambda d, m, q: d * q + m,
):  # fmt: skip
    d, m = (read(raw[:, place]) for place in places)
    return number(d, m, shift(order(raw[:, bytes_at]).float()))


def q8_0(
    raw, place=slice(0, 2), bytes_at=slice(2, 34), read=half, signed=lambda q: q.view(torch.int8).float(),
    number=lambda d, q: d * q,
):  # fmt: skip
    return number(read(raw[:, place]), signed(raw[:, bytes_at].contiguous()))


def half_numbers(random, n, low, high):
    """n numbers from low to high as they stand in a file, two bytes each."""
    return (low + (high - low) * torch.rand(n, 1, generator=random)).half().view(torch.uint8)


def some_bytes(random, n, width):
    return torch.randint(256, (n, width), generator=random, dtype=torch.uint8)


def blocks_of_16(random, n):
    """Blocks of 20 bytes: a scale from 0.05 to 0.1, a smallest number from −0.6 to −0.3, 16 bytes."""
    parts = half_numbers(random, n, 0.05, 0.1), half_numbers(random, n, -0.6, -0.3), some_bytes(random, n, 16)
    return torch.cat(parts, dim=1)


def blocks_of_32(random, n):
    return torch.cat((half_numbers(random, n, 0.01, 0.02), some_bytes(random, n, 32)), dim=1)


def stored(random, name, width, n=50):
    """n neighbouring blocks of a tensor of SmolLM2, as they stand in the file."""
    raw = torch.from_numpy(file().tensors[name].data).reshape(-1, width)
    start = draw(random, 0, len(raw) - n)
    return raw[start : start + n].clone()


def compare_float32(unpack, inputs):
    """As `unpack.compare`, for floats of 32 bits and no others."""
    inputs = list(inputs)
    answer = unpack.answer(inputs[0])
    if isinstance(answer, torch.Tensor) and answer.is_floating_point() and answer.dtype is not torch.float32:
        raise Wrong(f"it returns numbers of type {str(answer.dtype).removeprefix('torch.')}: float32 is asked for")
    unpack.compare(inputs)


def one_block(unpack, random):
    """one block of 20 bytes: a scale, a smallest number, and 32 numbers of 4 bits"""
    compare_float32(unpack, (blocks_of_16(random, 1) for _ in range(3)))


def many_blocks(unpack, random):
    """many blocks, each with its own scale and smallest number"""
    compare_float32(unpack, (blocks_of_16(random, 3), blocks_of_16(random, draw(random, 5, 9))))


def from_the_file(unpack, random):
    """blocks of SmolLM2's file"""
    compare_float32(unpack, [stored(random, f"blk.{draw(random, 0, 29)}.attn_k.weight", 20)])


UNPACK_Q4_1 = Exercise(
    name="unpack_q4_1",
    lesson="hw4",
    title="four bits a number, unpacked",
    oracle=q4_1,
    may_call=(),
    checks={"numbers": (one_block, many_blocks, from_the_file)},
    mistakes={
        "the low and the high half of a byte come out side by side: first the low halves of all 16 bytes": partial(
            q4_1, order=lambda packed: torch.stack((low(packed), high(packed)), dim=2).flatten(1)
        ),
        "the high halves come first: numbers 0 to 15 are the low halves": partial(
            q4_1, order=lambda packed: torch.cat((high(packed), low(packed)), 1)
        ),
        "scale and smallest number have changed places: the scale stands first": partial(
            q4_1, places=(slice(2, 4), slice(0, 2))
        ),
        "scale and smallest number are read from the same two bytes: 0 and 1, 2 and 3": partial(
            q4_1, places=(slice(0, 2), slice(0, 2))
        ),
        "it looks for scale and smallest number in the last four bytes: they stand first": partial(
            q4_1, places=(slice(16, 18), slice(18, 20)), bytes_at=slice(0, 16)
        ),
        "it looks for the smallest number in the last two bytes: it stands behind the scale": partial(
            q4_1, places=(slice(0, 2), slice(18, 20)), bytes_at=slice(2, 18)
        ),
        "the packed numbers are read from the wrong bytes: 4 to 19": partial(q4_1, bytes_at=slice(3, 19)),
        "the packed numbers are read from the bytes 2 to 17: they are in 4 to 19": partial(q4_1, bytes_at=slice(2, 18)),
        "the smallest number is taken off: it is added": partial(q4_1, number=lambda d, m, q: d * q - m),
        "the smallest number is missing": partial(q4_1, number=lambda d, m, q: d * q),
        "the scale is missing": partial(q4_1, number=lambda d, m, q: q + m),
        "the smallest number is multiplied by the scale, too: d·q + m": partial(
            q4_1, number=lambda d, m, q: d * (q + m)
        ),
        "it takes 8 off the four bits: in this format they count from 0 to 15": partial(q4_1, shift=lambda q: q - 8),
        "it reads four bits above 7 as negative: in this format they count from 0 to 15": partial(
            q4_1, shift=lambda q: torch.where(q > 7, q - 16, q)
        ),
        "the low half still has the high half in front: `& 15` cuts it off": partial(
            q4_1, order=lambda packed: torch.cat((packed, high(packed)), 1)
        ),
        "the high half is 16 times too large: `>> 4` moves it down": partial(
            q4_1, order=lambda packed: torch.cat((low(packed), packed & 0xF0), 1)
        ),
        "the low halves come twice, the high ones not at all": partial(
            q4_1, order=lambda packed: torch.cat((low(packed), low(packed)), 1)
        ),
        "it reads the two bytes of a scale as a whole number: they are a float16, `.view(torch.float16)`": partial(
            q4_1, read=whole_number
        ),
        "it reads the two bytes of a scale as a bfloat16: they are a float16": partial(q4_1, read=brain_floats),
        "the two bytes of a scale are taken in the wrong order: they are a float16 as they stand": partial(
            q4_1, read=swapped_bytes
        ),
        "all blocks get the first block's scale: each has its own": lambda raw: q4_1(
            torch.cat((raw[:1, :4].expand(len(raw), 4), raw[:, 4:]), 1)
        ),
        "it calculates in float16, and that rounds: turn scale and smallest number into float32 first": lambda raw: (
            q4_1(raw, number=lambda d, m, q: (d.half() * q.half() + m.half()).float())
        ),
    },
    hints=(
        "Take a block apart into its three pieces, by columns: bytes 0 and 1, bytes 2 and 3, bytes 4 to 19. Work on "
        "all blocks at once.",
        "`raw[:, 0:2].contiguous().view(torch.float16).float()` is the scale of every block, shape (blocks, 1). A "
        "byte's low half is `byte & 15`, its high half `byte >> 4`.",
        "`torch.cat` puts the 16 low halves in front of the 16 high ones: shape (blocks, 32). Turn them into floats, "
        "multiply by the scales and add the smallest numbers: a column of shape (blocks, 1) goes with every row.",
    ),
)


def one_wide_block(unpack, random):
    """one block of 34 bytes: a scale and 32 numbers of 8 bits, half of them negative"""
    compare_float32(unpack, (blocks_of_32(random, 1) for _ in range(3)))


def many_wide_blocks(unpack, random):
    """many blocks, each with its own scale"""
    compare_float32(unpack, (blocks_of_32(random, 3), blocks_of_32(random, draw(random, 5, 9))))


def from_the_table(unpack, random):
    """rows of SmolLM2's table of tokens"""
    compare_float32(unpack, [stored(random, "token_embd.weight", 34)])


UNPACK_Q8_0 = Exercise(
    name="unpack_q8_0",
    lesson="hw4",
    title="eight bits a number, unpacked",
    oracle=q8_0,
    may_call=(),
    checks={"numbers": (one_wide_block, many_wide_blocks, from_the_table)},
    mistakes={
        "it reads the bytes as 0 to 255: they are signed, −128 to 127": partial(q8_0, signed=lambda q: q.float()),
        "it takes 128 off each byte: they are signed, `.view(torch.int8)`": partial(
            q8_0, signed=lambda q: q.float() - 128
        ),
        "it divides by the scale: multiply": partial(q8_0, number=lambda d, q: q / d),
        "the scale is missing": partial(q8_0, number=lambda d, q: q.clone()),
        "it divides by 127, too: the scale has that in it": partial(q8_0, number=lambda d, q: d * q / 127),
        "it looks for the scale in the last two bytes: it stands first": partial(
            q8_0, place=slice(32, 34), bytes_at=slice(0, 32)
        ),
        "it reads the two bytes of the scale as a whole number: they are a float16, `.view(torch.float16)`": partial(
            q8_0, read=whole_number
        ),
        "it reads the two bytes of the scale as a bfloat16: they are a float16": partial(q8_0, read=brain_floats),
        "the two bytes of the scale are taken in the wrong order: they are a float16 as they stand": partial(
            q8_0, read=swapped_bytes
        ),
        "all blocks get the first block's scale: each has its own": lambda raw: q8_0(
            torch.cat((raw[:1, :2].expand(len(raw), 2), raw[:, 2:]), 1)
        ),
    },
    hints=(
        "As in part 1, with one piece less: bytes 0 and 1 are the scale, bytes 2 to 33 the numbers.",
        "A byte of 255 stands for −1, one of 128 for −128. `.view(torch.int8)` reads the same bytes as signed numbers.",
        "The scales are read as in part 1: shape (blocks, 1). The columns from 2 on are read as int8, shape "
        "(blocks, 32). Their product, in floats, is the answer.",
    ),
)
