"""Folders that `transformers` saves load into our Transformer, and give its logits to 1e-5."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPT2Model, LlamaConfig, LlamaForCausalLM

from course_lib.pretrained.checkpoints import INDEX, neighbours_to_halves, transformer_from_folder
from course_lib.pretrained.names import config_from_hugging_face
from course_lib.transformer_block.transformer import Transformer

IDS = torch.randint(90, (2, 11), generator=torch.Generator().manual_seed(0))


def llama(**settings):
    torch.manual_seed(1)
    shape = dict(
        vocab_size=90, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=32, rope_parameters=dict(rope_type="default", rope_theta=5e3),
    )  # fmt: skip
    return loud(LlamaForCausalLM(LlamaConfig(**(shape | settings))))


def gpt2(kind=GPT2LMHeadModel, **settings):
    torch.manual_seed(2)
    shape = dict(vocab_size=90, n_embd=48, n_layer=3, n_head=4, n_positions=32)
    return loud(kind(GPT2Config(**(shape | settings))))


def loud(model):
    """Random weights large enough that no part's mistake could hide below the tolerance; norms and biases too."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.05, std=0.15)
    return model.eval()


def agree(ours: Transformer, theirs, tolerance=1e-5):
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "model",
    [
        llama(tie_word_embeddings=True),
        llama(tie_word_embeddings=False),
        llama(head_dim=10, attention_bias=True, mlp_bias=True),
        gpt2(),
        gpt2(activation_function="relu", n_inner=56, tie_word_embeddings=False),
    ],
    ids=["llama tied", "llama untied", "llama biased", "gpt2", "gpt2 untied"],
)
@pytest.mark.parametrize("shards", [False, True])
def test_logits_equal_transformers(model, shards, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="40KB" if shards else "1GB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 if shards else True
    ours = transformer_from_folder(tmp_path)
    agree(ours, model)
    assert ours.n_parameters() == sum(p.numel() for p in model.parameters())


def test_a_base_model_without_its_head_loads(tmp_path):
    base = gpt2(GPT2Model)
    base.save_pretrained(tmp_path)
    head = GPT2LMHeadModel(base.config)
    head.transformer = base
    head.tie_weights()
    agree(transformer_from_folder(tmp_path), head.eval())


def test_half_precision_is_widened(tmp_path):
    model = llama().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    ours = transformer_from_folder(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    agree(ours, model.float())


def test_both_layouts_of_rotary_pairs(tmp_path):
    """The same model, its query and key rows in either order: each order works with its own way of pairing only."""
    model = llama()
    model.save_pretrained(tmp_path)
    halves = transformer_from_folder(tmp_path)

    settings = dict(vars(halves.config), rope_pairs="neighbours")
    neighbours = Transformer(type(halves.config)(**settings)).eval()
    weights = halves.state_dict()
    for name, weight in weights.items():
        for kind, n_heads in (("query", 6), ("key", 2)):
            if f"attention.{kind}" in name:  # the other direction: (2, d/2) → (d/2, 2)
                weights[name] = weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)
                assert torch.equal(neighbours_to_halves(weights[name], n_heads), weight)
    neighbours.load_state_dict(weights)
    agree(neighbours, model)

    wrong = Transformer(halves.config).eval()
    wrong.load_state_dict(weights)
    with pytest.raises(AssertionError):
        agree(wrong, model, tolerance=1e-3)


def test_broken_folders_are_one_sentence(tmp_path):
    model = llama(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)

    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        transformer_from_folder(tmp_path)
    save_file(tensors | {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, weights)
    with pytest.raises(ValueError, match=r"have no place in this model, model.layers.0.self_attn.q_norm.weight first"):
        transformer_from_folder(tmp_path)
    save_file({name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up" not in name}, weights)
    with pytest.raises(ValueError, match=r"lack model.layers.1.mlp.up_proj.weight"):
        transformer_from_folder(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no .safetensors file"):
        transformer_from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        transformer_from_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no config.json"):
        transformer_from_folder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(model_type="t5"), "describes a 't5' model"),
        (dict(model_type="llama", hidden_act="tanh"), "asks for the activation 'tanh'"),
        (dict(model_type="llama", rope_scaling=dict(rope_type="llama3")), r"rope type 'llama3'"),
        (dict(model_type="llama", attention_bias=True), "attention_bias and mlp_bias differ"),
        (dict(model_type="gpt2", scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
        (dict(model_type="gpt2", scale_attn_weights=False), "scale_attn_weights"),
    ],
)
def test_parts_that_are_not_built_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        config_from_hugging_face(settings)


def test_old_llama_configs_keep_theta_at_the_top():
    settings = json.loads(llama().config.to_json_string())
    del settings["rope_parameters"]
    assert config_from_hugging_face(settings | {"rope_theta": 7e4}).rope_theta == 7e4
    assert config_from_hugging_face(settings).rope_theta == 1e4


NOT_SIZES = [None, "x", "3", True, [], {}, -1, 0, 1.5, 10**12, 10**400, float("nan"), float("inf")]
NOT_POSITIVE = [None, "x", True, [], {}, -1, 0, 10**400, float("nan"), float("inf"), float("-inf")]
NOT_TRUTH = [None, "x", 1, 0, [], {}]
NOT_ROPE = ["x", True, 2.0, [1], {"factor": 2.0}, {"type": "spiral"}, {"rope_type": 3}, {"rope_theta": -1}, {"x": {}}]
KINDS = {
    "llama": {
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"): NOT_SIZES,
        ("max_position_embeddings",): NOT_SIZES,
        ("num_key_value_heads", "head_dim"): NOT_SIZES[1:],
        ("rms_norm_eps",): [*NOT_POSITIVE, 1, 1e30],
        ("rope_theta",): NOT_POSITIVE,
        ("tie_word_embeddings", "attention_bias", "mlp_bias"): NOT_TRUTH,
        ("rope_scaling", "rope_parameters"): NOT_ROPE,
        ("hidden_act", "model_type"): [None, "x", 3, [], {}],
        ("quantization_config",): [{"quant_method": "fp8"}],
    },
    "gpt2": {
        ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"): NOT_SIZES,
        ("n_inner",): NOT_SIZES[1:],
        ("layer_norm_epsilon",): NOT_POSITIVE,
        ("tie_word_embeddings",): NOT_TRUTH,
        ("reorder_and_upcast_attn",): [*NOT_TRUTH[:2], True, 1],
        ("scale_attn_weights",): [*NOT_TRUTH[:2], False, 0],
    },
}


@pytest.mark.parametrize("family", KINDS)
def test_every_entry_of_config_json_is_checked(family):
    good = json.loads((llama() if family == "llama" else gpt2()).config.to_json_string())
    for names, bad in KINDS[family].items():
        for name in names:
            for value in bad:
                with pytest.raises(ValueError, match=r"^config\.json|^this model stretches"):
                    config_from_hugging_face(good | {name: value})
            if bad is NOT_SIZES:
                with pytest.raises(ValueError, match=f"^config.json lacks {name}$"):
                    config_from_hugging_face({key: value for key, value in good.items() if key != name})
    with pytest.raises(ValueError, match="a width of 48 cannot be shared by 5 heads"):
        config_from_hugging_face(good | {"num_attention_heads": 5, "n_head": 5, "head_dim": None})


def test_the_largest_shape_that_a_config_may_ask_for_is_refused_by_its_weights_at_once(tmp_path):
    llama().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    most = dict.fromkeys(("hidden_size", "vocab_size", "intermediate_size", "max_position_embeddings"), 2**24)
    most |= dict(num_hidden_layers=1000, num_attention_heads=4096, num_key_value_heads=4096, head_dim=2**12)
    (tmp_path / "config.json").write_text(json.dumps(settings | most))
    with pytest.raises(ValueError, match="where the model's configuration needs"):
        transformer_from_folder(tmp_path)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_head_that_is_stored_is_used_though_config_json_ties_it(make, tmp_path):
    make(tie_word_embeddings=False).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": True}))
    agree(transformer_from_folder(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path).eval())
    assert not transformer_from_folder(tmp_path).config.tie_embeddings

    tensors = load_file(tmp_path / "model.safetensors")
    same = tensors["model.embed_tokens.weight" if make is llama else "transformer.wte.weight"]
    save_file(tensors | {"lm_head.weight": same.clone()}, tmp_path / "model.safetensors")
    assert transformer_from_folder(tmp_path).config.tie_embeddings


def test_only_the_files_are_read_that_transformers_reads(tmp_path):
    """An old shard, or another copy, beside the files that count."""
    model = llama()
    wrong = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    for shards, folder in (("1GB", tmp_path / "one"), ("40KB", tmp_path / "several")):
        model.save_pretrained(folder, max_shard_size=shards)
        for name in ("zzz.safetensors", "model-00009-of-00009.safetensors"):
            save_file(wrong, folder / name)
        agree(transformer_from_folder(folder), model)
    (tmp_path / "several" / INDEX).unlink()
    with pytest.raises(ValueError, match="and so does another file: remove the wrong one"):
        transformer_from_folder(tmp_path / "several")


def test_an_index_is_held_against_its_files(tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="40KB")
    right = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    first, second, *_ = sorted(set(right.values()))
    name = next(name for name, file in right.items() if file == first)

    def refuse(weight_map, sentence, error=ValueError):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(error, match=sentence):
            transformer_from_folder(tmp_path)

    refuse(right | {name: second}, rf"promises {name} in {second}, which lacks it")
    refuse(right | {"model.extra": second}, rf"promises model.extra in {second}, which lacks it")
    refuse(right | {name: "no.safetensors"}, "names no.safetensors, which .* does not hold", FileNotFoundError)
    for bad in (None, 3, [], "x", {name: 3}, {name: None}):
        refuse(bad, rf"^{INDEX}: weight_map")
    save_file({name: torch.ones(1)}, tmp_path.parent / "outside.safetensors")
    outside = tmp_path.parent / "outside.safetensors"
    for away in (f"../{outside.name}", str(outside), rf"..\{outside.name}", f"C:{outside.name}", "pytorch_model.bin"):
        refuse(right | {name: away}, "' must be the name of a .safetensors file in the folder")


class _Trap:
    """Whoever unpickles it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_folder_is_executed(tmp_path):
    """Neither a pickle nor the code that `auto_map` names."""
    folder, sprung = tmp_path / "model", tmp_path / "sprung"
    model, trap = llama(), pickle.dumps(_Trap(sprung))
    model.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(settings | {"auto_map": auto_map}))
    (folder / "evil.py").write_text(f"import pathlib; pathlib.Path({str(sprung)!r}).touch()")
    (folder / "pytorch_model.bin").write_bytes(trap)
    agree(transformer_from_folder(folder), model)
    (folder / "model.safetensors").write_bytes(trap)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        transformer_from_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"pickled .bin weights are not read"):
        transformer_from_folder(folder)
    assert not sprung.exists()
    pickle.loads(trap)
    assert sprung.exists()


def test_whole_numbers_in_place_of_weights_are_refused(tmp_path):
    llama().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].to(torch.int8)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"up_proj.weight is stored as torch.int8, a form of quantization"):
        transformer_from_folder(tmp_path)
