"""What homework 4 shows: a spoilt model, and an answer from the file by the learner's functions."""

import torch

from course_lib.classroom import guard
from course_lib.classroom.exercise import NotDone, Wrong
from course_lib.lessons.homework_4.chat import END, START, smollm2_tokens
from course_lib.lessons.homework_4.file import file, smollm2, tokenizer
from course_lib.lessons.homework_4.model import settings_of_smollm2
from course_lib.lessons.lesson_14 import exercises as lesson_14
from course_lib.transformer_block.forward_pass import Pass

SPOILT_LAYER = 11


def spoilt_and_right(text):
    """What comes out of every stage of SmolLM2 on a text, with one half of one layer spoilt, and as it should be.

    Two dicts, name of the stage → (position, d_model).
    """
    network = smollm2()
    ids = torch.tensor([tokenizer().encode(text)])
    run = network.begin(ids.shape[1])
    theta, d_head = network.config.rope_theta, network.config.d_head
    wrong_base = Pass(run.positions, rotations={theta: run.rotation(10_000.0, d_head)})

    def readings(spoilt):
        x = network.embed(ids)
        yield "look-up", x[0]
        for i, part in enumerate(network.blocks):
            x = x + part.attention(part.attention_norm(x), wrong_base if spoilt and i == SPOILT_LAYER else run)
            yield f"layer {i}, attention", x[0]
            x = x + part.feed_forward(part.feed_forward_norm(x))
            yield f"layer {i}, feed-forward", x[0]

    with torch.no_grad():
        return dict(readings(True)), dict(readings(False))


def shown(function, *arguments):
    """Print what a learner's function gives; a sentence where it is not done, or fails."""
    try:
        print(f"{function.__name__}: {_of_learner(function, *arguments)!r}")
    except NotDone:
        print(f"{function.__name__}: not done yet")
    except Wrong as wrong:
        print(wrong.sentence)


def answer_from_the_file(question, functions):
    """Unpack the file, build the ids, run the model and write the answer by a learner's functions; print what comes."""
    own = {function.__name__: function for function in functions}
    packed = {"Q4_1": ("unpack_q4_1", 20), "Q8_0": ("unpack_q8_0", 34)}
    tensors = {}
    try:
        for name, entry in file().tensors.items():
            unpack, width = packed.get(entry.tensor_type.name, (None, None))
            if unpack is None:
                tensors[name] = file().tensor(name)
                continue
            raw = torch.from_numpy(entry.data).reshape(-1, width)
            tensors[name] = _of_learner(own[unpack], raw).reshape(entry.shape)
        print(f"unpacked: {sum(tensor.numel() for tensor in tensors.values()):,} numbers")

        special = {name: tokenizer().special_tokens[name] for name in (START, END)}
        messages = [{"role": "user", "content": question}]
        ids = _of_learner(own["chat_ids"], messages, lesson_14.SYSTEM, smollm2_tokens, special)
        print(f"the question: {len(ids)} ids")

        settings = settings_of_smollm2()

        def scores_of(ids):
            return own["model_scores"](torch.tensor(ids), tensors.__getitem__, settings)

        _of_learner(own["model_scores"], torch.tensor(ids[:1]), tensors.__getitem__, settings)  # is it written at all?
        new = _of_learner(own["answer_ids"], scores_of, ids, {special[END], 0}, 20, smollm2().config.context_length)
        print(f"the answer: {tokenizer().decode(new)}")
    except NotDone as error:
        print(f"{error}: not done yet")
    except Wrong as wrong:
        print(wrong.sentence)


ENOUGH = 60.0  # seconds for one call


def _of_learner(function, *arguments):
    """The function's answer, its prints held back.

    Raises:
        NotDone: it is not written yet; the message is its name.
        Wrong: it fails, takes too long, or gives nothing.
    """
    try:
        with torch.no_grad():
            answer = guard.call(function, arguments, ENOUGH, guard.Sink())
    except NotDone as error:
        raise NotDone(str(error) or function.__name__) from None
    except Wrong as wrong:
        raise Wrong(f"{function.__name__}: {wrong.sentence}") from None
    if answer is None and function.__name__ != "find_fault":
        raise NotDone(function.__name__)
    return answer
