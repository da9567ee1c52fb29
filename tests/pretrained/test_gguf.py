import struct

import gguf
import numpy as np
import pytest
import torch

from course_lib import assets
from course_lib.pretrained.chats import chats_from_gguf
from course_lib.pretrained.checkpoints import transformer_from_gguf
from course_lib.pretrained.gguf import Kind, read_gguf
from course_lib.pretrained.names import config_from_gguf


@pytest.fixture(scope="module")
def real():
    return read_gguf(assets.path("smollm2-135m"))


def write(path, tensors, **metadata):
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in metadata.items():
        writer.add_string(name, value)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_real_file_is_read_as_the_gguf_package_reads_it(real):
    oracle = gguf.GGUFReader(real.path)
    theirs = {name: field.contents() for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    assert real.metadata == theirs and len(theirs["tokenizer.ggml.tokens"]) == 49_152
    assert [tensor.name for tensor in oracle.tensors] == list(real.tensors)
    assert {kind.name: int(kind) for kind in Kind}.items() <= {
        k.name: int(k) for k in gguf.GGMLQuantizationType
    }.items()
    for tensor in oracle.tensors:
        weights, ours = gguf.dequantize(tensor.data, tensor.tensor_type), real.tensors[tensor.name]
        assert (ours.n_elements, ours.n_bytes) == (tensor.n_elements, tensor.n_bytes)
        assert np.array_equal(real.tensor(tensor.name).numpy().reshape(weights.shape), weights), tensor.name
    assert {stored.tensor_type.name for stored in real.tensors.values()} == {"Q4_1", "Q8_0", "F32"} and len(
        real.tensors
    ) == 272


def test_every_kind_of_metadata(tmp_path):
    values = {
        "string": ["a", "", "ä€😀"],
        "bool": [True, False],
        "int8": [-128],
        "uint8": [255],
        "int16": [-32768],
        "uint16": [65535],
        "int32": [-(2**31)],
        "uint32": [2**32 - 1],
        "int64": [-(2**63)],
        "uint64": [2**64 - 1],
        "float32": [0.5, -np.inf],
        "float64": [0.1],
    }
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_custom_alignment(64)
    for kind, (value, *_) in values.items():
        getattr(writer, f"add_{kind}")(f"one.{kind}", value)
    for kind, many in values.items():
        value_type = getattr(gguf.GGUFValueType, kind.upper())
        writer.add_key_value(f"many.{kind}", many, gguf.GGUFValueType.ARRAY, sub_type=value_type)
    writer.add_tensor("one", np.arange(3, dtype=np.float32))
    writer.add_tensor("other", np.arange(4, dtype=np.float32))  # begins at the next multiple of the alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(tmp_path / "a.gguf")
    for kind, many in values.items():
        assert (file.metadata[f"one.{kind}"], file.metadata[f"many.{kind}"]) == (many[0], many), kind
    assert file.tensor("one").tolist() == [0, 1, 2] and file.tensor("other").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32", "F16"])
def test_each_kind_on_random_numbers(tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    weights = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    stored = gguf.quantize(weights, kind)
    file = read_gguf(write(tmp_path / "a.gguf", {"w": (stored, kind)}))
    ours = file.tensor("w")
    assert ours.shape == (6, 96) and ours.dtype == torch.float32
    assert np.array_equal(ours.numpy(), gguf.dequantize(stored, kind))
    assert np.abs(ours.numpy() - weights).max() < 0.3


def test_a_truncated_file_is_one_sentence(tmp_path):
    whole = assets.path("smollm2-135m").read_bytes()
    for length in (5, 20, 200, 5_000, 400_000, 1_000_000, 1_784_000, 2_000_000, len(whole) - 1):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.gguf ends too early to be a whole GGUF file"):
            read_gguf(cut)


def test_not_a_gguf_file(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match="not a GGUF file"):
        read_gguf(tmp_path / "a.gguf")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_gguf(tmp_path / "b.gguf")
    for version in ((1).to_bytes(4, "little"), (3).to_bytes(4, "big")):
        (tmp_path / "c.gguf").write_bytes(b"GGUF" + version + bytes(16))
        with pytest.raises(ValueError, match=r"c.gguf is written in version \d+ of GGUF: versions 2 and 3 are read"):
            read_gguf(tmp_path / "c.gguf")
    header = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8)  # one tensor, no metadata
    tensor = (1).to_bytes(8, "little") + b"w" + bytes(4) + (99).to_bytes(4, "little") + bytes(8)
    (tmp_path / "d.gguf").write_bytes(header + tensor)
    with pytest.raises(ValueError, match=r"d.gguf stores w as kind 99, which is not known here"):
        read_gguf(tmp_path / "d.gguf")


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def header(n_tensors: int = 0, n_pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_pairs)


def tensor(kind: int, *sizes: int, offset: int = 0) -> bytes:
    return text(b"w") + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


ARRAY_OF_ARRAYS = struct.pack("<IQ", 9, 1)
DAMAGED = {
    "version 1": (b"GGUF" + struct.pack("<III", 1, 0, 0), "is written in version 1 of GGUF"),
    "version 99 alone": (b"GGUF" + struct.pack("<I", 99), "is written in version 99 of GGUF"),
    "arrays without end": (
        header(0, 1) + text(b"a") + struct.pack("<I", 9) + ARRAY_OF_ARRAYS * 100_000,
        "is a damaged GGUF file",
    ),
    "text that is none": (header(0, 1) + text(b"a") + struct.pack("<I", 8) + text(b"\xff"), "is a damaged GGUF file"),
    "strings without end": (header(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**62), "ends too early"),
    "numbers without end": (header(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 4, 2**62), "ends too early"),
    "too many sizes": (header(1) + text(b"w") + struct.pack("<I", 2**32 - 1) + bytes(64), "ends too early"),
    "too large": (header(1) + tensor(0, 2**40, 2**40) + bytes(200), "ends too early"),
    "too far": (header(1) + tensor(0, 4, offset=2**63) + bytes(200), "ends too early"),
    "half a block": (
        header(1) + tensor(8, 33) + bytes(200),
        r"stores w, \(33,\), as Q8_0, whose rows are of 32 numbers",
    ),
    "no size in blocks": (header(1) + tensor(8) + bytes(200), "as Q8_0, whose rows are of 32 numbers"),
    "a tensor twice": (header(2) + tensor(0, 4) * 2 + bytes(200), "holds an entry or a tensor twice"),
    "an entry twice": (header(0, 2) + (text(b"a") + struct.pack("<II", 4, 1)) * 2, "holds an entry or a tensor twice"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_a_sentence(case, tmp_path):
    content, sentence = DAMAGED[case]
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_gguf(tmp_path / "a.gguf")


def test_every_entry_of_a_llamas_metadata_is_checked(real):
    bad = {
        int: ["x", 1.5, True, [1], 0, -1, 2**40],
        float: ["x", [1.0], True, 0.0, -1.0, float("nan"), float("inf")],
    }
    for key, value in real.metadata.items():
        if key.startswith("llama.") and key != "llama.vocab_size":
            for wrong in bad[type(value)]:
                with pytest.raises(ValueError, match=f"the GGUF metadata: {key} is"):
                    config_from_gguf(real.metadata | {key: wrong}, set(real.tensors))
    for wrong in ("x", 1.5, -1, True, 49_152, 10**12):
        with pytest.raises(ValueError, match="the GGUF metadata"):
            chats_from_gguf(real.metadata | {"tokenizer.ggml.eos_token_id": wrong})
    for wrong in (3, [1], {}, True):
        with pytest.raises(ValueError, match="the GGUF metadata: template is"):
            chats_from_gguf(real.metadata | {"tokenizer.chat_template": wrong})


def test_what_a_file_says_about_chats(real):
    chats = chats_from_gguf(real.metadata | {"tokenizer.ggml.eot_token_id": 5, "tokenizer.chat_template.tool_use": "T"})
    assert chats.end_ids == {2, 5}
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    assert chats.special_tokens == named | {"pad_token": "<|im_end|>"}
    assert chats.template == {"default": real.metadata["tokenizer.chat_template"], "tool_use": "T"}


def test_what_is_not_read_is_said(tmp_path):
    kind = gguf.GGMLQuantizationType.Q5_0
    file = read_gguf(write(tmp_path / "a.gguf", {"w": (gguf.quantize(np.zeros((1, 32), np.float32), kind), kind)}))
    with pytest.raises(ValueError, match="stored as Q5_0, which is not read here: use a file with Q4_1"):
        file.tensor("w")
    with pytest.raises(ValueError, match="has no tensor 'v'"):
        file.tensor("v")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"general.architecture": "mamba"}, "holds a 'mamba' model"),
        ({"llama.rope.scaling.type": "yarn"}, "stretches its rotary positions"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.rope.dimension_count": 32}, "rotates a part of each head only"),
        ({"llama.embedding_length": None}, "lacks llama.embedding_length"),
        ({"llama.feed_forward_length": 1000}, r"has the shape \(1536, 576\) where .* needs \(1000, 576\)"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(real, change, sentence):
    altered = type(real)(real.path, real.metadata | change, real.tensors)
    with pytest.raises(ValueError, match=sentence):
        transformer_from_gguf(altered)


def test_a_tensor_without_a_place_is_refused(real):
    tensors = real.tensors | {"blk.0.attn_q.bias": real.tensors["blk.0.attn_norm.weight"]}
    with pytest.raises(ValueError, match=r"1 stored tensors have no place in this model, blk.0.attn_q.bias first"):
        transformer_from_gguf(type(real)(real.path, real.metadata, tensors))
