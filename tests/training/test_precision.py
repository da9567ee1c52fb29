"""Which precision a machine gets: a pure function of the machine and the environment."""

import pytest
import torch

from course_lib.training.precision import choose_precision, pick_precision

OLD, ZEN5, INTEL = {"avx2": True, "avx512_bf16": False}, {"avx512_bf16": True}, {"amx_bf16": True}


@pytest.mark.parametrize(
    ("device", "capabilities", "environment", "expected"),
    [
        ("cpu", OLD, {}, "float32"),
        ("cpu", {}, {}, "float32"),
        ("cpu", ZEN5, {}, "bfloat16"),
        ("cpu", INTEL, {}, "bfloat16"),
        ("cuda", True, {}, "bfloat16"),
        ("cuda", False, {}, "float32"),
        ("mps", ZEN5, {}, "float32"),
        ("cpu", ZEN5, {"ATEN_CPU_CAPABILITY": "default"}, "float32"),
        ("cpu", ZEN5, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "float32"),
        ("cuda", True, {"ATEN_CPU_CAPABILITY": "default"}, "bfloat16"),
        ("cpu", ZEN5, {"COURSE_PRECISION": "float32"}, "float32"),
        ("cpu", OLD, {"COURSE_PRECISION": "bfloat16"}, "bfloat16"),
        ("cpu", ZEN5, {"COURSE_PRECISION": ""}, "bfloat16"),
        ("cpu", OLD, {"COURSE_PRECISION": "auto"}, "float32"),
    ],
)
def test_auto(device, capabilities, environment, expected):
    assert choose_precision("auto", device, capabilities, environment) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_argument_wins(precision):
    assert choose_precision(precision, "cpu", OLD, {"COURSE_PRECISION": "float32"}) == precision


def test_what_is_no_precision(bad_input):
    with pytest.raises(ValueError, match="precision must be 'auto', 'float32' or 'bfloat16', got 'float16'"):
        choose_precision("float16", "cpu", OLD, {})
    with pytest.raises(ValueError, match=r"COURSE_PRECISION must be .*, got 'half'"):
        choose_precision("auto", "cpu", OLD, {"COURSE_PRECISION": "half"})


def test_this_machine(monkeypatch):
    for name in ("COURSE_PRECISION", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    has = torch.cpu.get_capabilities()
    fast = has.get("avx512_bf16", False) or has.get("amx_bf16", False)
    assert pick_precision() == ("bfloat16" if fast else "float32")
    monkeypatch.setenv("COURSE_PRECISION", "float32")
    assert pick_precision() == "float32"
