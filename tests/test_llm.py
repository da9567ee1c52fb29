"""The names a newcomer types, on the real model."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from course_lib import assets, load


def test_the_first_choice_after_the_dog_ran_up_the(smollm2):
    likeliest = smollm2.next_token_probabilities("The dog ran up the")
    assert [word for word, _ in likeliest[:2]] == [" hill", " stairs"]
    assert likeliest[0][1] == pytest.approx(0.238, abs=0.005)
    assert len(likeliest) == 5 and likeliest == sorted(likeliest, key=lambda pair: -pair[1])
    whole = smollm2.next_token_probabilities("The dog ran up the", k=10**6)
    assert len(whole) == 49_152 and sum(p for _, p in whole) == pytest.approx(1, abs=1e-4)


def test_generate_is_the_continuation_alone_and_greedy_is_repeatable(smollm2):
    text = smollm2.generate("Once upon a time, there was a little girl named", max_new_tokens=6, temperature=0)
    assert text == " Emma who loved to play in"
    assert text == smollm2.generate("Once upon a time, there was a little girl named", max_new_tokens=6, temperature=0)


def test_a_seed_repeats_the_draws(smollm2):
    def sample(seed):
        return smollm2.generate("My favourite animal is", max_new_tokens=8, top_p=0.95, seed=seed)

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_stream_is_generate_in_pieces(smollm2):
    settings = dict(max_new_tokens=20, temperature=0)
    pieces = list(smollm2.stream("Here is a smiling face:", **settings))
    assert len(pieces) > 5
    assert "".join(pieces) == smollm2.generate("Here is a smiling face:", **settings)


@pytest.mark.parametrize("settings", [dict(temperature=0), dict(stop=[", f", "."])])
def test_a_batch_says_what_each_prompt_alone_says(smollm2, settings):
    prompts = ["One, two, three,", "The dog ran up the", "Once upon a time, there was a little girl named"]
    prompts.append(smollm2.render_chat("What is the capital of France?"))  # the model ends this one by itself
    alone = [smollm2.generate(prompt, 8, seed=seed, **settings) for seed, prompt in enumerate(prompts)]
    assert smollm2.generate_batch(prompts, 8, seed=range(4), **settings) == alone
    if settings.get("temperature") == 0:
        assert alone[3] == "The capital of France is Paris."


def test_a_batch_that_cannot_be_is_refused(smollm2):
    for arguments, sentence in (
        (dict(prompts="Hello"), "prompts must be a list of prompts, got one string"),
        (dict(prompts=["Hello", "you"], seed=[1]), "one for each of the 2 prompts, got 1"),
        (dict(prompts=["Hello", ""]), "the prompt is empty"),
        (dict(prompts=["Hello"], seed=2.5), "seed must be a whole number .*, got 2.5"),
        (dict(prompts=["Hello"], seed="3"), "seed must be a whole number .*, got '3'"),
        (dict(prompts=["Hello"], stop=""), "stop holds an empty string"),
        (dict(prompts=[], seed=[1]), "prompts is empty: give at least one prompt"),
    ):
        with pytest.raises(ValueError, match=sentence):
            smollm2.generate_batch(**arguments)


def test_whole_numbers_may_be_numpys(smollm2):
    prompt, settings = "The dog ran up the", dict(max_new_tokens=3, top_k=40)
    said = smollm2.generate(prompt, seed=3, **settings)
    numpys = {name: np.int64(value) for name, value in settings.items()}
    assert smollm2.generate(prompt, seed=np.int64(3), **numpys) == said
    for seed in (np.int64(3), np.array(3), torch.tensor(3), np.array([3]), torch.tensor([3]), range(3, 4)):
        assert smollm2.generate_batch([prompt], seed=seed, **numpys) == [said]
    assert smollm2.next_token_probabilities(prompt, np.int64(2)) == smollm2.next_token_probabilities(prompt, 2)


def test_half_a_character_is_never_shown(smollm2):
    """The model is made to say a dog in four bytes: nothing appears before the last of them."""
    ids = smollm2.tokenizer.encode("🐕")
    assert len(ids) > 1
    pieces = list(smollm2._decode(iter(ids)))
    assert pieces[: len(ids) - 1] == [""] * (len(ids) - 1) and "".join(pieces) == "🐕"


def test_stop_strings(smollm2):
    free = smollm2.generate("One, two, three,", max_new_tokens=12, temperature=0)
    assert "five" in free
    assert smollm2.generate("One, two, three,", 12, temperature=0, stop="five") == free[: free.index("five")]
    assert smollm2.generate("One, two, three,", 12, temperature=0, stop=["nothing", ", f"]) == free[: free.index(", f")]


def test_the_model_ends_its_turn_by_itself(smollm2):
    answer = smollm2.chat([{"role": "user", "content": "What is the capital of France?"}])
    assert answer == "The capital of France is Paris."
    assert answer == smollm2.chat("What is the capital of France?")


def test_the_chat_template_is_the_files_own(smollm2):
    rendered = smollm2.render_chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert (
        rendered == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "You are a helpful AI assistant named SmolLM" in smollm2.render_chat("Hi")
    assert smollm2.tokenizer.encode(rendered)[0] == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(prompt=""), "the prompt is empty"),
        (dict(prompt="word " * 9000), r"the prompt has \d+ tokens, and the model's context holds 8192"),
        (dict(prompt="\ud800"), "surrogate"),
        (dict(top_p=0), r"top_p must be in \(0, 1\], got 0"),
        (dict(temperature=-1), "temperature must be above 0 .* got -1"),
        (dict(max_new_tokens=-3), "max_new_tokens must be a whole number of at least 0, got -3"),
        (dict(max_new_tokens=2.5), "max_new_tokens must be a whole number of at least 0, got 2.5"),
        (dict(max_new_tokens="3"), "max_new_tokens must be a whole number of at least 0, got '3'"),
        (dict(max_new_tokens=None), "max_new_tokens must be a whole number of at least 0, got None"),
        (dict(top_k=2.5), "top_k must be a whole number of at least 1, got 2.5"),
        (dict(seed=2**64), r"seed must be a whole number from -\d+ to \d+, got 18446744073709551616"),
        (dict(seed="3"), "seed must be a whole number .*, got '3'"),
        (dict(stop=["x", ""]), "stop holds an empty string"),
    ],
)
def test_bad_input_is_a_sentence(smollm2, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        smollm2.generate(**({"prompt": "Hello"} | settings))


def test_other_bad_input(smollm2, tmp_path):
    with pytest.raises(ValueError, match="there is no model 'smollm3': give one of smollm2-135m"):
        load("smollm3")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "absent.gguf")
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        smollm2.next_token_probabilities("Hello", k=0)
    with pytest.raises(ValueError, match="the prompt is empty"):
        smollm2.next_token_probabilities("")
    template, smollm2.chat_template = smollm2.chat_template, None
    try:
        with pytest.raises(ValueError, match="brings no chat template"):
            smollm2.chat("Hello")
    finally:
        smollm2.chat_template = template


def test_a_truncated_model_file_is_one_sentence(tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(assets.path("smollm2-135m").read_bytes()[:50_000_000])
    with pytest.raises(ValueError, match="ends too early to be a whole GGUF file"):
        load(cut)


def test_the_device_is_yours_to_choose(monkeypatch):
    from course_lib.device import pick

    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert pick() == torch.device("cpu")
    for wrong in ("toaster", "cuda:99"):
        monkeypatch.setenv("COURSE_DEVICE", wrong)
        with pytest.raises(ValueError, match=f"COURSE_DEVICE='{wrong}' cannot be used"):
            pick()


def test_apples_gpu_is_only_taken_when_asked_for(monkeypatch):
    from course_lib.device import pick

    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick() == torch.device("cpu")


def test_a_folder_in_hugging_faces_layout_loads_whole(smollm2, tmp_path):
    """A tiny Llama with SmolLM2's own tokenizer, saved by `transformers`, talks through our `load`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    theirs = LlamaForCausalLM(LlamaConfig(vocab_size=49_152, max_position_embeddings=64, eos_token_id=2, **shape))
    theirs.save_pretrained(tmp_path)
    file = assets.path("smollm2-135m")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(tmp_path)

    ours = load(tmp_path)
    prompt = "The dog ran up the 3 hills"
    ids = smollm2.tokenizer.encode(prompt)
    assert ours.tokenizer.encode(prompt) == ids
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(prompt), theirs(torch.tensor([ids])).logits[0, -1], atol=1e-5, rtol=1e-5)
    assert 2 in ours.end_ids
    assert ours.render_chat("Hi") == smollm2.render_chat("Hi")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
def test_loading_is_light():
    """The most memory of a fresh process that loads the model and says one word, over what `import torch` took.

    That is 0.2 GB with a CPU build and 0.5 with a CUDA build. VmHWM, not resource's ru_maxrss: that one starts at the
    size of the process that started this one.
    """
    script = """
import torch
def in_kb(what):
    return int(open("/proc/self/status").read().split(what + ":")[1].split()[0])
before = in_kb("VmRSS")
from course_lib import load
print(load("smollm2-135m", on="cpu").generate("The dog ran up the", max_new_tokens=1, temperature=0))
print(in_kb("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    word, taken_in_kb = done.stdout.splitlines()
    assert word == " hill"
    assert int(taken_in_kb) * 1024 < 1.0e9


def test_importing_the_library_is_quick_because_it_imports_nothing():
    script = "import sys, course_lib; print([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
