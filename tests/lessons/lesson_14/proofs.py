import torch
import torch.nn.functional as F
from lessons.proof import Proof

from course_lib.config import TransformerConfig
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.prediction.template_sandbox import render
from course_lib.transformer_block.normalization import rms_norm
from course_lib.transformer_block.transformer import Transformer

# ---- chat_prompt ----------------------------------------------------------------------------------

chat_prompt = Proof("chat_prompt")

# SmolLM2's own, with a name in the place of its default
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n' + system + '<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@chat_prompt.right
def piece_by_piece(messages, system):
    text = ""
    if messages[0]["role"] != "system":
        text += f"<|im_start|>system\n{system}<|im_end|>\n"
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    return text + "<|im_start|>assistant\n"


@chat_prompt.right
def with_the_default_as_a_message(messages, system):
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    turns = [m["role"] + "\n" + m["content"] for m in messages]
    return "<|im_start|>" + "<|im_end|>\n<|im_start|>".join([*turns, "assistant\n"])


@chat_prompt.right
def by_the_template_itself(messages, system):
    [(text, _)] = render(TEMPLATE, [{"messages": messages, "system": system, "add_generation_prompt": True}])
    return text


def turn(role, content):
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def turns(messages, end="<|im_start|>assistant\n", one=turn):
    return "".join(one(m["role"], m["content"]) for m in messages) + end


def in_front(messages, system):
    return messages if messages[0]["role"] == "system" else [{"role": "system", "content": system}, *messages]


@chat_prompt.wrong("the default system message is missing")
def no_default(messages, system):
    return turns(messages)


@chat_prompt.wrong("in front of the messages' own")
def always_a_default(messages, system):
    return turns([{"role": "system", "content": system}, *messages])


@chat_prompt.wrong("it looks for a system message anywhere")
def any_system_message(messages, system):
    if "system" not in [m["role"] for m in messages]:
        messages = [{"role": "system", "content": system}, *messages]
    return turns(messages)


@chat_prompt.wrong("stands before every message")
def default_inside_the_loop(messages, system):
    text = ""
    for message in messages:
        if messages[0]["role"] != "system":
            text += turn("system", system)
        text += turn(message["role"], message["content"])
    return text + "<|im_start|>assistant\n"


@chat_prompt.wrong("stands there bare")
def bare_default(messages, system):
    return ("" if messages[0]["role"] == "system" else system + "\n") + turns(messages)


@chat_prompt.wrong("the end is missing")
def no_end(messages, system):
    return turns(in_front(messages, system), end="")


@chat_prompt.wrong("opened and closed again")
def closed_end(messages, system):
    return turns([*in_front(messages, system), {"role": "assistant", "content": ""}], end="")


@chat_prompt.wrong("the line break after the last `assistant` is missing")
def end_without_break(messages, system):
    return turns(in_front(messages, system)).rstrip("\n")


@chat_prompt.wrong("where the assistant spoke last")
def no_end_after_the_assistant(messages, system):
    end = "" if messages[-1]["role"] == "assistant" else "<|im_start|>assistant\n"
    return turns(in_front(messages, system), end)


@chat_prompt.wrong("`<|im_end|>` is missing behind the messages")
def never_closed(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role}\n{content}\n")


@chat_prompt.wrong("the line break after `<|im_end|>` is missing")
def on_one_line(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role}\n{content}<|im_end|>")


@chat_prompt.wrong("the line break after the last message's `<|im_end|>` is missing")
def breaks_in_between(messages, system):
    lines = [turn(m["role"], m["content"]).removesuffix("\n") for m in in_front(messages, system)]
    return "\n".join(lines) + "<|im_start|>assistant\n"


@chat_prompt.wrong("and after the last `assistant` are missing")
def no_breaks_at_ends(messages, system):
    one = turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role}\n{content}<|im_end|>")
    return one.removesuffix("\n")


@chat_prompt.wrong("there is a line break before `<|im_end|>`")
def break_before_the_end(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: turn(role, content + "\n"))


@chat_prompt.wrong("two line breaks between messages")
def empty_lines(messages, system):
    blocks = [turn(m["role"], m["content"]) for m in in_front(messages, system)]
    return "\n".join([*blocks, "<|im_start|>assistant\n"])


@chat_prompt.wrong("a space stands behind the role")
def space_for_break(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role} {content}<|im_end|>\n")


@chat_prompt.wrong("a colon stands behind the role")
def colon_for_break(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role}: {content}<|im_end|>\n")


@chat_prompt.wrong("nothing stands between role and text")
def nothing_for_break(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>{role}{content}<|im_end|>\n")


@chat_prompt.wrong("the role is missing")
def no_roles(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: f"<|im_start|>\n{content}<|im_end|>\n")


@chat_prompt.wrong("every message is the user's")
def all_user(messages, system):
    text = "" if messages[0]["role"] == "system" else turn("system", system)
    return text + turns(messages, one=lambda role, content: turn("user", content))


@chat_prompt.wrong("role and text have changed places")
def swapped(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: turn(content, role))


@chat_prompt.wrong("it strips the texts")
def stripped(messages, system):
    return turns(in_front(messages, system), one=lambda role, content: turn(role, content.strip()))


@chat_prompt.wrong("it has the last message alone")
def last_alone(messages, system):
    front = [] if messages[0]["role"] == "system" else [{"role": "system", "content": system}]
    return turns([*front, messages[-1]])


@chat_prompt.wrong("in the reverse order")
def backwards(messages, system):
    front = "" if messages[0]["role"] == "system" else turn("system", system)
    return front + turns(messages[::-1])


@chat_prompt.wrong("messages without a word are left out")
def skips_empty(messages, system):
    text = "" if messages[0]["role"] == "system" else turn("system", system)
    return text + turns([m for m in messages if m["content"]])


@chat_prompt.wrong("where the assistant speaks first")
def default_before_users_alone(messages, system):
    front = turn("system", system) if messages[0]["role"] == "user" else ""
    return front + turns(messages)


# ---- llm_forward ----------------------------------------------------------------------------------

llm_forward = Proof("llm_forward")


def own(weights, i):
    start = f"blocks.{i}."
    return {name[len(start) :]: tensor for name, tensor in weights.items() if name.startswith(start)}


def angles_of(n, sizes, d_head=None, theta=None):
    return rotation_angles(torch.arange(n), d_head or sizes["d_head"], theta or sizes["theta"])


def through(x, weights, sizes, block, angles, order=None):
    for i in range(sizes["n_layers"]) if order is None else order:
        x = block(x, own(weights, i), angles, sizes["n_heads"], sizes["n_kv_heads"], sizes["eps"])
    return x


def end(x, weights, eps):
    return rms_norm(x, weights["final_norm.weight"], eps) @ weights["token_embedding.weight"].T


@llm_forward.right
def step_by_step(ids, weights, sizes, block):
    table = weights["token_embedding.weight"]
    x = table[ids]
    angles = rotation_angles(torch.arange(ids.shape[1]), sizes["d_head"], sizes["theta"])
    for i in range(sizes["n_layers"]):
        prefix = f"blocks.{i}."
        mine = {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
        x = block(x, mine, angles, sizes["n_heads"], sizes["n_kv_heads"], sizes["eps"])
    return rms_norm(x, weights["final_norm.weight"], sizes["eps"]) @ table.T


@llm_forward.right
def text_by_text_and_counted_from_one(ids, weights, sizes, block):
    """Only distances count, so the positions may begin anywhere."""
    scores = []
    for text in ids:
        x = F.embedding(text[None], weights["token_embedding.weight"])
        angles = rotation_angles(torch.arange(1, 1 + len(text)), sizes["d_head"], sizes["theta"])
        x = through(x, weights, sizes, block, angles)
        scores.append(end(x, weights, sizes["eps"]))
    return torch.cat(scores)


@llm_forward.right
def the_librarys_transformer(ids, weights, sizes, block):
    vocab, d_model = weights["token_embedding.weight"].shape
    config = TransformerConfig(
        vocab_size=vocab, context_length=99, d_model=d_model, n_layers=sizes["n_layers"], n_heads=sizes["n_heads"],
        n_kv_heads=sizes["n_kv_heads"], d_head=sizes["d_head"], rope_theta=sizes["theta"], norm_eps=sizes["eps"],
        d_ff=len(weights["blocks.0.feed_forward.up.weight"]),
    )  # fmt: skip
    model = Transformer(config)
    model.load_state_dict(weights)
    with torch.no_grad():
        return model(ids)


@llm_forward.right
def without_the_block_that_was_handed_in(ids, weights, sizes, block):
    def heads(rows, n):
        return rows.unflatten(-1, (n, -1)).transpose(1, 2)

    x, angles = weights["token_embedding.weight"][ids], angles_of(ids.shape[1], sizes)
    for i in range(sizes["n_layers"]):
        w = own(weights, i)
        rows = rms_norm(x, w["attention_norm.weight"], sizes["eps"])
        q = rotate(heads(rows @ w["attention.query.weight"].T, sizes["n_heads"]), angles)
        k = rotate(heads(rows @ w["attention.key.weight"].T, sizes["n_kv_heads"]), angles)
        v = heads(rows @ w["attention.value.weight"].T, sizes["n_kv_heads"])
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + mixed.transpose(1, 2).flatten(2) @ w["attention.output.weight"].T
        rows = rms_norm(x, w["feed_forward_norm.weight"], sizes["eps"])
        gate, up = rows @ w["feed_forward.gate.weight"].T, rows @ w["feed_forward.up.weight"].T
        x = x + (F.silu(gate) * up) @ w["feed_forward.down.weight"].T
    return end(x, weights, sizes["eps"])


def stream(ids, weights, sizes, block, **given):
    return through(
        weights["token_embedding.weight"][ids], weights, sizes, block, angles_of(ids.shape[1], sizes), **given
    )


@llm_forward.wrong("the last norm is missing")
def no_last_norm(ids, weights, sizes, block):
    return stream(ids, weights, sizes, block) @ weights["token_embedding.weight"].T


@llm_forward.wrong("the last norm's weights are missing")
def bare_norm(ids, weights, sizes, block):
    x = stream(ids, weights, sizes, block)
    return F.rms_norm(x, x.shape[-1:], eps=sizes["eps"]) @ weights["token_embedding.weight"].T


@llm_forward.wrong("takes the mean off (LayerNorm)")
def layer_norm_at_the_end(ids, weights, sizes, block):
    x = stream(ids, weights, sizes, block)
    return F.layer_norm(x, x.shape[-1:], weights["final_norm.weight"], None, sizes["eps"]) @ (
        weights["token_embedding.weight"].T
    )


@llm_forward.wrong("stands at the entrance instead")
def norm_first(ids, weights, sizes, block):
    x = rms_norm(weights["token_embedding.weight"][ids], weights["final_norm.weight"], sizes["eps"])
    return through(x, weights, sizes, block, angles_of(ids.shape[1], sizes)) @ weights["token_embedding.weight"].T


@llm_forward.wrong("stands at the entrance, too")
def norm_at_both_ends(ids, weights, sizes, block):
    x = rms_norm(weights["token_embedding.weight"][ids], weights["final_norm.weight"], sizes["eps"])
    return end(through(x, weights, sizes, block, angles_of(ids.shape[1], sizes)), weights, sizes["eps"])


@llm_forward.wrong("the last norm follows every block")
def norm_in_the_loop(ids, weights, sizes, block):
    x, angles = weights["token_embedding.weight"][ids], angles_of(ids.shape[1], sizes)
    for i in range(sizes["n_layers"]):
        x = through(x, weights, sizes, block, angles, [i])
        x = rms_norm(x, weights["final_norm.weight"], sizes["eps"])
    return x @ weights["token_embedding.weight"].T


@llm_forward.wrong("multiplied by √d_model at the entrance")
def scaled_entrance(ids, weights, sizes, block):
    x = weights["token_embedding.weight"][ids]
    x = through(x * x.shape[-1] ** 0.5, weights, sizes, block, angles_of(ids.shape[1], sizes))
    return end(x, weights, sizes["eps"])


@llm_forward.wrong("the blocks come in the reverse order")
def from_the_last(ids, weights, sizes, block):
    x = stream(ids, weights, sizes, block, order=reversed(range(sizes["n_layers"])))
    return end(x, weights, sizes["eps"])


@llm_forward.wrong("sorted as texts")
def sorted_names(ids, weights, sizes, block):
    layers = sorted({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    return end(stream(ids, weights, sizes, block, order=layers), weights, sizes["eps"])


@llm_forward.wrong("every block runs with block 0's tensors")
def one_for_all(ids, weights, sizes, block):
    return end(stream(ids, weights, sizes, block, order=[0] * sizes["n_layers"]), weights, sizes["eps"])


@llm_forward.wrong("the last block is missing")
def one_too_few(ids, weights, sizes, block):
    return end(stream(ids, weights, sizes, block, order=range(sizes["n_layers"] - 1)), weights, sizes["eps"])


@llm_forward.wrong("the first block is missing")
def counted_from_one(ids, weights, sizes, block):
    return end(stream(ids, weights, sizes, block, order=range(1, sizes["n_layers"])), weights, sizes["eps"])


@llm_forward.wrong("no block is run")
def nothing_in_between(ids, weights, sizes, block):
    return end(weights["token_embedding.weight"][ids], weights, sizes["eps"])


@llm_forward.wrong("it takes another block's tensors")
def prefix_without_its_dot(ids, weights, sizes, block):
    x, angles = weights["token_embedding.weight"][ids], angles_of(ids.shape[1], sizes)
    for i in range(sizes["n_layers"]):
        mine = {name.split(".", 2)[-1]: t for name, t in weights.items() if name.startswith(f"blocks.{i}")}
        x = block(x, mine, angles, sizes["n_heads"], sizes["n_kv_heads"], sizes["eps"])
    return end(x, weights, sizes["eps"])


@llm_forward.wrong("every block reads what came in")
def side_by_side(ids, weights, sizes, block):
    x, angles = weights["token_embedding.weight"][ids], angles_of(ids.shape[1], sizes)
    added = [through(x, weights, sizes, block, angles, [i]) - x for i in range(sizes["n_layers"])]
    return end(x + torch.stack(added).sum(0), weights, sizes["eps"])


@llm_forward.wrong("added to the stream once more")
def residual_twice(ids, weights, sizes, block):
    x, angles = weights["token_embedding.weight"][ids], angles_of(ids.shape[1], sizes)
    for i in range(sizes["n_layers"]):
        x = x + through(x, weights, sizes, block, angles, [i])
    return end(x, weights, sizes["eps"])


@llm_forward.wrong("the angles' base is always 10,000")
def default_theta(ids, weights, sizes, block):
    angles = rotation_angles(torch.arange(ids.shape[1]), sizes["d_head"])
    return end(through(weights["token_embedding.weight"][ids], weights, sizes, block, angles), weights, sizes["eps"])


@llm_forward.wrong("those of d_model / n_heads")
def guessed_width(ids, weights, sizes, block):
    x = weights["token_embedding.weight"][ids]
    angles = angles_of(ids.shape[1], sizes, d_head=x.shape[-1] // sizes["n_heads"])
    return end(through(x, weights, sizes, block, angles), weights, sizes["eps"])


@llm_forward.wrong("those of position 0")
def unturned(ids, weights, sizes, block):
    angles = torch.zeros(ids.shape[1], sizes["d_head"] // 2)
    return end(through(weights["token_embedding.weight"][ids], weights, sizes, block, angles), weights, sizes["eps"])


@llm_forward.wrong("counted from the end")
def backwards_positions(ids, weights, sizes, block):
    angles = angles_of(ids.shape[1], sizes).flip(0)
    return end(through(weights["token_embedding.weight"][ids], weights, sizes, block, angles), weights, sizes["eps"])


@llm_forward.wrong("eps is always 0.00001")
def own_eps(ids, weights, sizes, block):
    return step_by_step(ids, weights, sizes | {"eps": 1e-5}, block)


@llm_forward.wrong("the blocks do not get sizes['eps']")
def blocks_without_eps(ids, weights, sizes, block):
    def by_default(x, weights, angles, n_heads, n_kv_heads, eps):
        return block(x, weights, angles, n_heads, n_kv_heads)

    return step_by_step(ids, weights, sizes, by_default)


@llm_forward.wrong("the last norm does not use sizes['eps']")
def last_norm_without_eps(ids, weights, sizes, block):
    return end(stream(ids, weights, sizes, block), weights, 1e-5)


@llm_forward.wrong("they still have to meet the table")
def rows_alone(ids, weights, sizes, block):
    return rms_norm(stream(ids, weights, sizes, block), weights["final_norm.weight"], sizes["eps"])


@llm_forward.wrong("these are probabilities")
def softmaxed(ids, weights, sizes, block):
    return step_by_step(ids, weights, sizes, block).softmax(-1)


@llm_forward.wrong("logarithms of probabilities")
def log_softmaxed(ids, weights, sizes, block):
    return F.log_softmax(step_by_step(ids, weights, sizes, block), -1)


@llm_forward.wrong("the last position alone")
def last_position(ids, weights, sizes, block):
    return step_by_step(ids, weights, sizes, block)[:, -1]


@llm_forward.wrong("the likeliest ids")
def argmaxed(ids, weights, sizes, block):
    return step_by_step(ids, weights, sizes, block).argmax(-1)


@llm_forward.wrong("the first text alone")
def first_text(ids, weights, sizes, block):
    return step_by_step(ids, weights, sizes, block)[0]


@llm_forward.wrong("these are cosines")
def cosines(ids, weights, sizes, block):
    x = rms_norm(stream(ids, weights, sizes, block), weights["final_norm.weight"], sizes["eps"])
    return x @ F.normalize(weights["token_embedding.weight"], dim=-1).T
