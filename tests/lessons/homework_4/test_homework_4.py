"""What the final homework holds answers against, itself held against the library; and what its notebook shows."""

import pytest
import torch
from lessons.proof import called

from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.lessons.homework_4 import demonstration
from course_lib.lessons.homework_4.chat import chat_cases, conversation, smollm2_tokens
from course_lib.lessons.homework_4.demonstration import SPOILT_LAYER, answer_from_the_file, shown, spoilt_and_right
from course_lib.lessons.homework_4.fault import find_fault as first_fault
from course_lib.lessons.homework_4.file import blocks_of_16, blocks_of_32, q4_1, q8_0, stored
from course_lib.lessons.homework_4.file import file as smollm2_file
from course_lib.lessons.homework_4.loop import answer_ids
from course_lib.lessons.homework_4.model import TEXTS, made_up, real_case, settings_of_smollm2, tensor_of_smollm2
from course_lib.lessons.homework_4.model import model as model_scores
from course_lib.lessons.homework_4.model import turned as turn_heads
from course_lib.pretrained import gguf
from course_lib.pretrained.names import GGUF, translate
from course_lib.transformer_block.transformer import Transformer


def random(seed=4):
    return torch.Generator().manual_seed(seed)


def test_blocks_are_unpacked_as_the_library_does():
    for _ in range(5):
        packed, wide = blocks_of_16(random(), 7), blocks_of_32(random(), 7)
        torch.testing.assert_close(q4_1(packed), gguf.dequantize_q4_1(packed), rtol=0, atol=0)
        torch.testing.assert_close(q8_0(wide), gguf.dequantize_q8_0(wide), rtol=0, atol=0)
    rows = stored(random(), "blk.3.attn_k.weight", 20)
    whole = smollm2_file().tensor("blk.3.attn_k.weight").reshape(-1, 32)
    assert (whole[None] == q4_1(rows)[:, None]).all(dim=-1).any(dim=1).all()


def test_a_conversation_is_the_template_as_ids(smollm2):
    for messages, system, encode, special in chat_cases(
        random(), ("user",), ("user", "assistant", "user"), ("system", "user"), encode=smollm2_tokens
    ):
        from course_lib.lessons.lesson_14.exercises import chat

        text = chat(messages, system)
        assert conversation(messages, system, encode, special) == smollm2.tokenizer.encode(text)
    question = [{"role": "user", "content": "Hi"}]
    from course_lib.lessons.lesson_14.exercises import SYSTEM

    assert chat(question, SYSTEM) == smollm2.render_chat(question)


def test_turning_is_rotation_of_neighbours():
    x = torch.randn(2, 3, 7, 8, generator=random())
    right = rotate(x, rotation_angles(torch.arange(7), 8, 30.0), "neighbours")
    torch.testing.assert_close(turn_heads(x, 30.0), right)


@pytest.mark.parametrize("tied, wider", [(True, 1), (False, 1), (True, 2)])
def test_a_made_up_model_is_the_librarys_transformer(tied, wider):
    ids, tensor, settings = made_up(random(), 5, 3, 4, 2, tied, wider)
    d_model = 16 // wider
    config = TransformerConfig(
        vocab_size=2 * d_model + 3, context_length=9, d_model=d_model, n_layers=3, n_heads=4, n_kv_heads=2, d_head=4,
        d_ff=10, norm_eps=settings["eps"], rope_theta=settings["theta"], rope_pairs="neighbours", tie_embeddings=tied,
    )  # fmt: skip
    model = Transformer(config)
    model.load_state_dict({name: tensor(translate(name, GGUF)) for name in model.state_dict()})
    with torch.no_grad():
        torch.testing.assert_close(model_scores(ids, tensor, settings), model(ids[None])[0])


def test_smollm2_is_within_a_tenth_of_what_the_check_allows():
    for text in TEXTS:
        ids, scores = real_case(text)
        with torch.no_grad():
            answer = model_scores(ids, tensor_of_smollm2, settings_of_smollm2())
        assert (answer - scores).abs().max() < 5e-4


def test_the_loop_is_the_librarys(smollm2):
    ids = smollm2.tokenizer.encode("The dog ran up the")

    def scores_of(ids):
        with torch.no_grad():
            return smollm2.transformer(torch.tensor([ids]))[0]

    written = smollm2.tokenizer.decode(answer_ids(scores_of, ids, smollm2.end_ids, 4, 8192))
    assert written == smollm2.generate("The dog ran up the", 4, temperature=0)


# ---- what the notebook shows ---------------------------------------------------------------------


def test_the_spoilt_half_is_the_first_that_is_off():
    spoilt, right = spoilt_and_right("The dog ran up the hill")
    assert list(spoilt) == list(right) and len(right) == 61
    named = f"layer {SPOILT_LAYER}, attention"
    for tolerance in (1e-2, 1e-3, 1e-4):
        assert first_fault(spoilt, right, tolerance) == named
    assert first_fault(right, right, 0.0) is None


def answer(capsys, **changed):
    right = dict(
        unpack_q4_1=q4_1, unpack_q8_0=q8_0, chat_ids=conversation,
        model_scores=model_scores, answer_ids=answer_ids,
    )  # fmt: skip
    functions = [called(name, function) for name, function in (right | changed).items()]
    answer_from_the_file("What is the capital of France?", functions)
    return capsys.readouterr().out.splitlines()


def test_from_the_file_to_the_answer(capsys):
    assert answer(capsys) == [
        "unpacked: 134,515,008 numbers",
        "the question: 37 ids",
        "the answer: The capital of France is Paris.",
    ]


def stub(*arguments):
    raise NotImplementedError()


def crash(*arguments):
    raise ValueError("boom")


def test_what_is_missing_or_wrong_is_said(capsys, monkeypatch):
    assert answer(capsys, unpack_q4_1=stub) == ["unpack_q4_1: not done yet"]
    assert answer(capsys, unpack_q8_0=crash)[-1].startswith("unpack_q8_0: it stops with ValueError: boom")
    monkeypatch.setattr(demonstration, "file", lambda: type("Empty", (), {"tensors": {}}))
    assert answer(capsys, chat_ids=lambda *given: None)[-1] == "chat_ids: not done yet"
    assert answer(capsys, model_scores=stub)[-1] == "model_scores: not done yet"
    assert answer(capsys, model_scores=lambda *given: stub(*given))[-1] == "stub: not done yet"


def test_shown_prints_an_answer_or_why_there_is_none(capsys):
    def find_fault(one, other, tolerance):
        return first_fault(one, other, tolerance)

    shown(find_fault, {"a": torch.ones(1, 2)}, {"a": torch.ones(1, 2)}, 0.1)
    stub.__name__ = crash.__name__ = "find_fault"
    shown(stub)
    shown(crash)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["find_fault: None", "find_fault: not done yet"]
    assert lines[2].startswith("find_fault: it stops with ValueError")
