"""Folders that `transformers` saves load into our Transformer, and give its logits to 1e-5."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, LlamaConfig, LlamaForCausalLM

from course_lib.pretrained.checkpoints import neighbours_to_halves, transformer_from_folder
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
