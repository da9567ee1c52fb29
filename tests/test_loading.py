"""Folders and files as people have them, whole: what `transformers` makes of them, or a sentence."""

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib import load

ROWS = 320  # of the embedding; the tokenizer has fewer tokens
PROMPT = "the dog ran"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A tiny Llama with a start token, as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([PROMPT + " up the hill user assistant"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    config = LlamaConfig(vocab_size=ROWS, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, **shape)
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(scope="module")
def ours(saved):
    return load(saved, on="cpu")


@pytest.fixture(scope="module")
def theirs(saved):
    return LlamaForCausalLM.from_pretrained(saved).eval(), AutoTokenizer.from_pretrained(saved)


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


# ---- as transformers has it ----------------------------------------------------------------------


def test_a_start_token_stands_before_every_prompt(ours, theirs):
    model, tokenizer = theirs
    for prompt in (PROMPT, "<s>the", ""):
        assert ours.prompt_ids(prompt) == tokenizer(prompt).input_ids
        with torch.no_grad():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        torch.testing.assert_close(ours.logits(prompt), logits, atol=1e-5, rtol=1e-5)
    trace = ours.trace(PROMPT)
    assert trace.ids == tokenizer(PROMPT).input_ids and trace.tokens[0] == "<s>"


def test_a_chat_is_read_as_transformers_reads_it(ours, theirs):
    _, tokenizer = theirs
    messages = [{"role": "user", "content": "the dog"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.chat_ids(messages) == ours.chat_ids("the dog") == expected
    assert ours.render_chat("the dog") == tokenizer.decode(expected)
    ids, ends = ours.chat_ids("a<|im_end|>"), ours.tokenizer.special_tokens["<|im_end|>"]
    assert ids.count(ends) == 1 and ours.tokenizer.encode(ours.render_chat("a<|im_end|>")).count(ends) == 2


def test_chat_goes_on_after_these_ids(ours, monkeypatch):
    seen = []
    hidden_states = ours.transformer.hidden_states
    monkeypatch.setattr(
        ours.transformer, "hidden_states", lambda ids, *rest: seen.append(ids.tolist()[0]) or hidden_states(ids, *rest)
    )
    ours.chat("a<|im_end|>", max_new_tokens=1)
    assert seen == [ours.chat_ids("a<|im_end|>")]


def test_an_id_without_a_token_writes_nothing_and_the_model_goes_on(ours, theirs):
    model, tokenizer = theirs
    ids = tokenizer(PROMPT, return_tensors="pt")
    expected = model.generate(**ids, max_new_tokens=30, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert any(id >= len(tokenizer) for id in expected) and len(tokenizer) < ROWS
    text = tokenizer.decode(expected, skip_special_tokens=False).removesuffix("</s>")
    for said in (
        ours.generate(PROMPT, 30, temperature=0),
        "".join(ours.stream(PROMPT, 30, temperature=0)),
        *ours.generate_batch([PROMPT, PROMPT], 30, temperature=0),
    ):
        assert said == text
    assert len(ours.next_token_probabilities(PROMPT, ROWS)) == len(ours.trace(PROMPT).top(50)) + ROWS - 50 == ROWS
    for seed in range(2):
        ours.generate(PROMPT, 30, temperature=3.0, seed=seed)


def test_a_token_without_a_row_is_a_sentence(folder):
    file = json.loads((folder / "tokenizer.json").read_text())
    first = len(file["model"]["vocab"])
    template = file["added_tokens"][0]
    file["added_tokens"] += [template | {"content": f"<{id}>", "id": id} for id in range(first, ROWS + 2)]
    (folder / "tokenizer.json").write_text(json.dumps(file))
    llm = load(folder, on="cpu")
    assert llm.generate(PROMPT, 2, seed=1) is not None
    for call in (llm.logits, llm.generate, llm.trace, llm.chat_ids):
        template, llm.chat_template = llm.chat_template, "<321>"
        with pytest.raises(
            ValueError, match=r"the model has no vector for '<32[01]>': its id is 32[01], and there are 320"
        ):
            call("x<321>")
        llm.chat_template = template


def test_a_home_folder_is_found(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.parent))
    monkeypatch.setenv("USERPROFILE", str(saved.parent))
    assert load(f"~/{saved.name}", on="cpu").prompt_ids(PROMPT)


@pytest.mark.parametrize("name", ["~nobody-has-this-name/x", "a\0b", "x" * 5000, "/", None, 3, b"x", 1.5, [], ""])
def test_what_is_no_model_is_a_sentence(name, tmp_path, monkeypatch, bad_input):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"there is no model|holds no tokenizer"):
        load(name)


@pytest.mark.parametrize("on", ["toaster", "cuda:99", "", [], 1.5])
def test_a_device_that_is_none_is_a_sentence(saved, on, bad_input):
    with pytest.raises(ValueError, match=r"the device on=.* cannot be used on this machine"):
        load(saved, on=on)


# ---- which ids end a text ------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_end_ids(folder, file):
    for ends, expected in ((None, set()), (3, {3}), ([1, 5], {1, 5})):
        change(folder / file, eos_token_id=ends)
        if file == "config.json":
            (folder / "generation_config.json").unlink(missing_ok=True)
        assert load(folder, on="cpu").end_ids - {1, 3} == expected - {1, 3}  # these two are ends by their names
    for bad in ("x", 1.5, -1, 1e12, 10**12, True, [1, "x"], [[1]], {"a": 1}, float("nan")):
        change(folder / file, eos_token_id=bad)
        with pytest.raises(ValueError, match=rf"^{file}: eos_token_id"):
            load(folder, on="cpu")
    change(folder / file, eos_token_id=50256)  # the default of another model: it never comes
    with pytest.warns(UserWarning, match="the id 50256 is to end a text, and the model has 320 tokens"):
        load(folder, on="cpu")


# ---- damage --------------------------------------------------------------------------------------

FILES = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "model.safetensors", "model.safetensors.index.json",
]  # fmt: skip
CONTENTS = {
    "a list": b"[1]", "null": b"null", "a number": b"3", "brackets": b"[" * 100_000, "nothing": b"",
    "bytes": b"\xff\xfe",
    "half": b'{"a": ',
    "objects": b'{"a":' * 100_000, "nan": b"NaN", "digits": b"9" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_something_else_is_a_sentence(folder, file):
    if file.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    for content in CONTENTS.values():
        (folder / file).write_bytes(content)
        if file.endswith(".jinja"):
            try:
                load(folder, on="cpu").render_chat("x")
            except ValueError as error:
                assert str(error).count(file.split(".")[0]) or "chat template" in str(error)
            continue
        with pytest.raises(ValueError, match=file.split(".")[0]):
            load(folder, on="cpu")


@pytest.mark.parametrize("file", [file for file in FILES if file != "special_tokens_map.json"][:6])
def test_a_file_that_is_none(folder, file, tmp_path):
    """A folder, or a pipe nobody writes to, in its place: as if there were none, or a sentence; it does not hang."""
    for make in (Path.mkdir, os.mkfifo if hasattr(os, "mkfifo") else Path.mkdir):
        (folder / file).unlink(missing_ok=True) if not (folder / file).is_dir() else (folder / file).rmdir()
        make(folder / file)
        try:
            load(folder, on="cpu")
        except (ValueError, FileNotFoundError) as error:
            assert file.split("_")[0].split(".")[0] in str(error)


@pytest.mark.parametrize("entry", ["chat_template", "bos_token", "eos_token", "pad_token"])
def test_tokenizer_config_is_checked(folder, entry):
    (folder / "chat_template.jinja").unlink()
    for bad in (3, True, [1], {"a": 1}, {"content": 3}, [{"name": "x"}], [{"name": 1, "template": "x"}], 1.5):
        change(folder / "tokenizer_config.json", **{entry: bad})
        with pytest.raises(ValueError, match=rf"^tokenizer_config.json: .*({entry}|named)"):
            load(folder, on="cpu")


@pytest.mark.parametrize("at", [0, 4, 8, 9, 40, 200, 2000, -1])
def test_a_flipped_or_cut_safetensors_file(folder, at):
    """A bit of the header: a sentence; of a weight: nobody can see it."""
    whole = bytearray((folder / "model.safetensors").read_bytes())
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at:][1:], whole + b"\0" * 8):
        (folder / "model.safetensors").write_bytes(damaged)
        try:
            load(folder, on="cpu")
        except ValueError as error:
            assert "safetensors" in str(error) or "place in this model" in str(error) or "shape" in str(error)


def test_no_warning_for_an_ordinary_folder(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved, on="cpu")
