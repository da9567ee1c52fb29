import struct

import torch
import torch.nn.functional as F
from lessons.proof import Proof

from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.pretrained import gguf

unpack_q4_1 = Proof("unpack_q4_1")
unpack_q8_0 = Proof("unpack_q8_0")
chat_ids = Proof("chat_ids")
turn_heads = Proof("turn_heads")
attention_half = Proof("attention_half")
model_scores = Proof("model_scores")
answer_ids = Proof("answer_ids")
find_fault = Proof("find_fault")

# ---- unpack_q4_1 ---------------------------------------------------------------------------------


def floats(two):
    return two.contiguous().view(torch.float16).float()


@unpack_q4_1.right
def by_columns(raw):
    scale, least, packed = floats(raw[:, :2]), floats(raw[:, 2:4]), raw[:, 4:]
    return scale * torch.cat((packed % 16, packed // 16), dim=1) + least


@unpack_q4_1.right
def number_by_number(raw):
    rows = []
    for block in raw:
        data = bytes(block.tolist())
        d, m = struct.unpack("<2e", data[:4])
        rows.append([d * (b & 15) + m for b in data[4:]] + [d * (b >> 4) + m for b in data[4:]])
    return torch.tensor(rows)


def four_bits(raw, packed):
    return floats(raw[:, :2]) * packed + floats(raw[:, 2:4])


@unpack_q4_1.wrong("come out side by side")
def byte_after_byte(raw):
    packed = raw[:, 4:]
    return four_bits(raw, torch.stack((packed & 15, packed >> 4), -1).view(len(raw), 32))


@unpack_q4_1.wrong("it calls `dequantize_q4_1`")
def the_librarys(raw):
    return gguf.dequantize_q4_1(raw)


@unpack_q4_1.wrong("the high halves come first")
def high_first(raw):
    packed = raw[:, 4:]
    return four_bits(raw, torch.cat((packed >> 4, packed & 15), 1))


@unpack_q4_1.wrong("have changed places")
def least_first(raw):
    packed = torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1)
    return floats(raw[:, 2:4]) * packed + floats(raw[:, :2])


@unpack_q4_1.wrong("it is added")
def subtracts(raw):
    packed = torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1)
    return floats(raw[:, :2]) * packed - floats(raw[:, 2:4])


@unpack_q4_1.wrong("the smallest number is missing")
def scale_alone(raw):
    return floats(raw[:, :2]) * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1)


@unpack_q4_1.wrong("multiplied by the scale, too")
def in_brackets(raw):
    return floats(raw[:, :2]) * (torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1) + floats(raw[:, 2:4]))


@unpack_q4_1.wrong("it takes 8 off")
def around_zero(raw):
    return four_bits(raw, torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1).float() - 8)


@unpack_q4_1.wrong("`& 15` cuts it off")
def not_cut_off(raw):
    return four_bits(raw, torch.cat((raw[:, 4:], raw[:, 4:] >> 4), 1))


@unpack_q4_1.wrong("`>> 4` moves it down")
def not_moved_down(raw):
    return four_bits(raw, torch.cat((raw[:, 4:] & 15, raw[:, 4:] & 240), 1))


@unpack_q4_1.wrong("the low halves come twice")
def low_twice(raw):
    return four_bits(raw, (raw[:, 4:] & 15).repeat(1, 2))


@unpack_q4_1.wrong("as a whole number")
def int16(raw):
    d, m = (raw[:, place].contiguous().view(torch.int16) for place in (slice(0, 2), slice(2, 4)))
    return d * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1).float() + m


@unpack_q4_1.wrong("as a bfloat16")
def bfloat16(raw):
    d, m = raw[:, :4].contiguous().view(torch.bfloat16).float().split(1, dim=1)
    return d * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1) + m


@unpack_q4_1.wrong("the first block's scale")
def one_scale(raw):
    return floats(raw[:1, :2]) * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1) + floats(raw[:1, 2:4])


@unpack_q4_1.wrong("it calculates in float16")
def in_half_precision(raw):
    d, m = raw[:, :4].contiguous().view(torch.float16).split(1, dim=1)
    return (d * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1) + m).float()


@unpack_q4_1.wrong("from the same two bytes")
def one_number_twice(raw):
    packed = torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1)
    return floats(raw[:, :2]) * packed + floats(raw[:, :2])


@unpack_q4_1.wrong("in the last four bytes")
def numbers_first(raw):
    packed = torch.cat((raw[:, :16] & 15, raw[:, :16] >> 4), 1)
    return floats(raw[:, 16:18]) * packed + floats(raw[:, 18:])


@unpack_q4_1.wrong("in the last two bytes")
def least_last(raw):
    packed = torch.cat((raw[:, 2:18] & 15, raw[:, 2:18] >> 4), 1)
    return floats(raw[:, :2]) * packed + floats(raw[:, 18:])


@unpack_q4_1.wrong("from the wrong bytes: 4 to 19")
def one_byte_early(raw):
    return four_bits(raw, torch.cat((raw[:, 3:19] & 15, raw[:, 3:19] >> 4), 1))


@unpack_q4_1.wrong("from the bytes 2 to 17")
def two_bytes_early(raw):
    return four_bits(raw, torch.cat((raw[:, 2:18] & 15, raw[:, 2:18] >> 4), 1))


@unpack_q4_1.wrong("numbers of type float16: float32")
def never_widened(raw):
    d, m = raw[:, :4].contiguous().view(torch.float16).split(1, dim=1)
    return d * torch.cat((raw[:, 4:] & 15, raw[:, 4:] >> 4), 1) + m


@unpack_q4_1.wrong("numbers of type float64: float32")
def doubles(raw):
    return by_columns(raw).double()


# ---- unpack_q8_0 ---------------------------------------------------------------------------------


@unpack_q8_0.right
def signed(raw):
    return floats(raw[:, :2]) * raw[:, 2:].view(torch.int8)


@unpack_q8_0.right
def by_twos_complement(raw):
    q = raw[:, 2:].float()
    return (q - 256 * (q > 127)) * floats(raw[:, :2])


@unpack_q8_0.wrong("it reads the bytes as 0 to 255")
def unsigned(raw):
    return floats(raw[:, :2]) * raw[:, 2:]


@unpack_q8_0.wrong("it takes 128 off each byte")
def around_128(raw):
    return floats(raw[:, :2]) * (raw[:, 2:].float() - 128)


@unpack_q8_0.wrong("it divides by the scale")
def divides(raw):
    return raw[:, 2:].view(torch.int8) / floats(raw[:, :2])


@unpack_q8_0.wrong("the scale is missing")
def bare(raw):
    return raw[:, 2:].contiguous().view(torch.int8).float()


@unpack_q8_0.wrong("it divides by 127, too")
def by_127(raw):
    return floats(raw[:, :2]) * raw[:, 2:].view(torch.int8) / 127


@unpack_q8_0.wrong("in the last two bytes")
def scale_last(raw):
    return floats(raw[:, -2:]) * raw[:, :-2].contiguous().view(torch.int8)


@unpack_q8_0.wrong("as a bfloat16")
def brain_scale(raw):
    return raw[:, :2].contiguous().view(torch.bfloat16).float() * raw[:, 2:].view(torch.int8)


@unpack_q8_0.wrong("the first block's scale")
def first_scale(raw):
    return floats(raw[:1, :2]) * raw[:, 2:].view(torch.int8)


@unpack_q8_0.wrong("numbers of type float64: float32")
def wide(raw):
    return raw[:, :2].view(torch.float16).double() * raw[:, 2:].view(torch.int8)


@unpack_q8_0.wrong("numbers of type float16: float32")
def narrow(raw):
    return raw[:, :2].view(torch.float16) * raw[:, 2:].view(torch.int8)


# ---- chat_ids ------------------------------------------------------------------------------------

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"


def one_message(message, encode, special, line="{role}\n{content}"):
    return [special[OPEN], *encode(line.format(**message)), special[CLOSE], *encode("\n")]


def with_default(messages, system):
    return messages if messages[0]["role"] == "system" else [{"role": "system", "content": system}, *messages]


def all_messages(messages, encode, special, one=one_message):
    return [id for message in messages for id in one(message, encode, special)]


def the_end(encode, special):
    return [special[OPEN], *encode("assistant\n")]


@chat_ids.right
def message_by_message(messages, system, encode, special):
    ids = []
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    for message in messages:
        ids.append(special["<|im_start|>"])
        ids += encode(message["role"] + "\n" + message["content"])
        ids.append(special["<|im_end|>"])
        ids += encode("\n")
    return [*ids, special["<|im_start|>"], *encode("assistant\n")]


@chat_ids.right
def texts_and_ids_in_turn(messages, system, encode, special):
    parts = []
    for message in with_default(messages, system):
        parts += [special[OPEN], f"{message['role']}\n{message['content']}", special[CLOSE], "\n"]
    parts += [special[OPEN], "assistant\n"]
    return [id for part in parts for id in ([part] if isinstance(part, int) else encode(part))]


@chat_ids.wrong("a marker that a user typed")
def text_first(messages, system, encode, special):
    text = "".join(f"{OPEN}{m['role']}\n{m['content']}{CLOSE}\n" for m in with_default(messages, system))
    text += f"{OPEN}assistant\n"
    ids = []
    while text:
        places = [(text.find(marker), marker) for marker in (OPEN, CLOSE) if marker in text]
        place, marker = min(places, default=(len(text), ""))
        ids += encode(text[:place]) if place else []
        ids += [special[marker]] if marker else []
        text = text[place + len(marker) :]
    return ids


@chat_ids.wrong("the markers are encoded as text")
def one_text(messages, system, encode, special):
    text = "".join(f"{OPEN}{m['role']}\n{m['content']}{CLOSE}\n" for m in with_default(messages, system))
    return encode(text + f"{OPEN}assistant\n")


@chat_ids.wrong("role and text are encoded apart")
def header_apart(messages, system, encode, special):
    ids = []
    for m in with_default(messages, system):
        ids += [special[OPEN], *encode(m["role"] + "\n"), *encode(m["content"]), special[CLOSE], *encode("\n")]
    return ids + the_end(encode, special)


@chat_ids.wrong("the default system message is missing")
def no_default(messages, system, encode, special):
    return all_messages(messages, encode, special) + the_end(encode, special)


@chat_ids.wrong("in front of the messages' own")
def always_default(messages, system, encode, special):
    messages = [{"role": "system", "content": system}, *messages]
    return all_messages(messages, encode, special) + the_end(encode, special)


@chat_ids.wrong("a system message anywhere")
def any_system(messages, system, encode, special):
    if not any(m["role"] == "system" for m in messages):
        messages = [{"role": "system", "content": system}, *messages]
    return all_messages(messages, encode, special) + the_end(encode, special)


@chat_ids.wrong("the end is missing")
def no_end(messages, system, encode, special):
    return all_messages(with_default(messages, system), encode, special)


@chat_ids.wrong("the line break after the last `assistant`")
def no_last_break(messages, system, encode, special):
    ids = all_messages(with_default(messages, system), encode, special)
    return [*ids, special[OPEN], *encode("assistant")]


@chat_ids.wrong("the line break after `<|im_end|>`")
def no_breaks(messages, system, encode, special):
    ids = []
    for m in with_default(messages, system):
        ids += [special[OPEN], *encode(m["role"] + "\n" + m["content"]), special[CLOSE]]
    return ids + the_end(encode, special)


@chat_ids.wrong("a space stands behind the role")
def space(messages, system, encode, special):
    def one(message, encode, special):
        return one_message(message, encode, special, "{role} {content}")

    return all_messages(with_default(messages, system), encode, special, one) + the_end(encode, special)


def with_contents(messages, system, encode, special, change):
    messages = [{**m, "content": change(m["content"])} for m in messages]
    return message_by_message(messages, system, encode, special)


@chat_ids.wrong("it strips what was said")
def stripped(messages, system, encode, special):
    return with_contents(messages, system, encode, special, str.strip)


@chat_ids.wrong("it strips the end of what was said")
def stripped_at_the_end(messages, system, encode, special):
    return with_contents(messages, system, encode, special, str.rstrip)


@chat_ids.wrong("it strips role and content together")
def stripped_lines(messages, system, encode, special):
    parts = []
    for message in with_default(messages, system):
        parts += [special[OPEN], f"{message['role']}\n{message['content']}".strip(), special[CLOSE], "\n"]
    parts += [special[OPEN], "assistant\n"]
    return [id for part in parts for id in ([part] if isinstance(part, int) else encode(part))]


@chat_ids.wrong("it takes the line breaks off the end")
def without_last_breaks(messages, system, encode, special):
    return with_contents(messages, system, encode, special, lambda content: content.rstrip("\n"))


@chat_ids.wrong("the markers that somebody typed are deleted")
def markers_deleted(messages, system, encode, special):
    return with_contents(messages, system, encode, special, lambda text: text.replace(OPEN, "").replace(CLOSE, ""))


# ---- turn_heads ----------------------------------------------------------------------------------


@turn_heads.right
def by_complex_numbers(x, theta):
    d = x.shape[-1]
    angles = torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(0, d, 2) / d)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@turn_heads.right
def pair_by_pair(x, theta):
    out = torch.empty_like(x)
    d = x.shape[-1]
    for position in range(x.shape[-2]):
        for i in range(d // 2):
            angle = torch.tensor(position * theta ** (-2 * i / d))
            a, b = x[..., position, 2 * i], x[..., position, 2 * i + 1]
            out[..., position, 2 * i] = a * angle.cos() - b * angle.sin()
            out[..., position, 2 * i + 1] = a * angle.sin() + b * angle.cos()
    return out


def angles_for(x, theta, first=0):
    place = torch.arange(first, first + x.shape[-2])
    return place[:, None] * theta ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])


def turned(x, angles, sign=1):
    cos, sin = angles.cos(), sign * angles.sin()
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


@turn_heads.wrong("in this file neighbours are pairs")
def halves(x, theta):
    angles = angles_for(x, theta)
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1)


@turn_heads.wrong("it calls `rotat")
def ready_made(x, theta):
    return rotate(x, rotation_angles(torch.arange(x.shape[-2]), x.shape[-1], theta), "neighbours")


@turn_heads.wrong("come out as halves")
def out_as_halves(x, theta):
    angles = angles_for(x, theta)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1)


@turn_heads.wrong("the other way round")
def backwards(x, theta):
    return turned(x, angles_for(x, theta), -1)


@turn_heads.wrong("the positions count from 1")
def from_one(x, theta):
    return turned(x, angles_for(x, theta, first=1))


@turn_heads.wrong("the base is always 10,000")
def own_base(x, theta):
    return turned(x, angles_for(x, 10_000.0))


@turn_heads.wrong("all pairs turn by the first pair's angle")
def one_angle(x, theta):
    return turned(x, torch.arange(x.shape[-2])[:, None].float().expand(-1, x.shape[-1] // 2))


@turn_heads.wrong("too slowly")
def slowly(x, theta):
    d = x.shape[-1]
    return turned(x, torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(d // 2) / d))


@turn_heads.wrong("too fast")
def fast(x, theta):
    d = x.shape[-1]
    return turned(x, torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(0, d, 2) / (d / 2)))


@turn_heads.wrong("later pairs turn faster")
def grows(x, theta):
    d = x.shape[-1]
    return turned(x, torch.arange(x.shape[-2])[:, None] * theta ** (torch.arange(0, d, 2) / d))


@turn_heads.wrong("taken as degrees")
def degrees(x, theta):
    return turned(x, angles_for(x, theta) * torch.pi / 180)


@turn_heads.wrong("after it has changed")
def in_place(x, theta):
    x, angles = x.clone(), angles_for(x, theta)
    x[..., ::2] = x[..., ::2] * angles.cos() - x[..., 1::2] * angles.sin()
    x[..., 1::2] = x[..., ::2] * angles.sin() + x[..., 1::2] * angles.cos()
    return x


# ---- attention_half ------------------------------------------------------------------------------


def normed(x, weight, eps):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def heads_of(rows, matrix, n):
    return (rows @ matrix.T).unflatten(-1, (n, -1)).transpose(0, 1)


def causal(scores):
    past = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~past, -torch.inf).softmax(-1)


def shared(heads, n):
    return heads.repeat_interleave(n // len(heads), dim=0)


def gathered(rows, w, settings, turn, root=None, share=shared, weigh=causal, keys="attn_k", values="attn_v"):
    n, n_kv = settings["n_heads"], settings["n_kv_heads"]
    query = turn(heads_of(rows, w["attn_q.weight"], n))
    key = share(turn(heads_of(rows, w[f"{keys}.weight"], n_kv)), n)
    value = share(heads_of(rows, w[f"{values}.weight"], n_kv), n)
    scores = query @ key.transpose(1, 2) / (query.shape[-1] ** 0.5 if root is None else root)
    return (weigh(scores) @ value).transpose(0, 1).flatten(1) @ w["attn_output.weight"].T


def rows_of(x, w, settings):
    return normed(x, w["attn_norm.weight"], settings["eps"])


@attention_half.right
def step_by_step(x, weights, settings, turn):
    return x + gathered(rows_of(x, weights, settings), weights, settings, turn)


@attention_half.right
def by_pytorch(x, weights, settings, turn):
    rows = F.rms_norm(x, x.shape[-1:], weights["attn_norm.weight"], settings["eps"])
    sizes = {"attn_q": settings["n_heads"], "attn_k": settings["n_kv_heads"], "attn_v": settings["n_kv_heads"]}
    query, key, value = (heads_of(rows, weights[f"{name}.weight"], n)[None] for name, n in sizes.items())
    mixed = F.scaled_dot_product_attention(turn(query), turn(key), value, is_causal=True, enable_gqa=True)
    return x + F.linear(mixed[0].transpose(0, 1).flatten(1), weights["attn_output.weight"])


@attention_half.wrong("the stream is lost")
def lost(x, weights, settings, turn):
    return gathered(rows_of(x, weights, settings), weights, settings, turn)


@attention_half.wrong("added to the normalized rows")
def on_the_rows(x, weights, settings, turn):
    rows = rows_of(x, weights, settings)
    return rows + gathered(rows, weights, settings, turn)


@attention_half.wrong("attention reads x as it is")
def without_norm(x, weights, settings, turn):
    return x + gathered(x, weights, settings, turn)


@attention_half.wrong("eps is always 1e-5")
def own_eps(x, weights, settings, turn):
    return x + gathered(normed(x, weights["attn_norm.weight"], 1e-5), weights, settings, turn)


@attention_half.wrong("keys and values are swapped")
def values_for_keys(x, weights, settings, turn):
    rows = rows_of(x, weights, settings)
    return x + gathered(rows, weights, settings, turn, keys="attn_v", values="attn_k")


@attention_half.wrong("the groups go wrong")
def in_turns(x, weights, settings, turn):
    rows = rows_of(x, weights, settings)
    return x + gathered(rows, weights, settings, turn, share=lambda heads, n: heads.repeat(n // len(heads), 1, 1))


@attention_half.wrong("the future is not hidden")
def sees_all(x, weights, settings, turn):
    rows = rows_of(x, weights, settings)
    return x + gathered(rows, weights, settings, turn, weigh=lambda scores: scores.softmax(-1))


@attention_half.wrong("not divided by the root of d_head")
def no_root(x, weights, settings, turn):
    return x + gathered(rows_of(x, weights, settings), weights, settings, turn, root=1)


@attention_half.wrong("the root of d_model:")
def wide_root(x, weights, settings, turn):
    return x + gathered(rows_of(x, weights, settings), weights, settings, turn, root=x.shape[-1] ** 0.5)


@attention_half.wrong("nothing is turned")
def no_positions(x, weights, settings, turn):
    return x + gathered(rows_of(x, weights, settings), weights, settings, lambda heads: heads)


@attention_half.wrong("the output matrix is the wrong way round")
def transposed_output(x, weights, settings, turn):
    weights = weights | {"attn_output.weight": weights["attn_output.weight"].T}
    return x + gathered(rows_of(x, weights, settings), weights, settings, turn)


@attention_half.wrong("eps is added after the root")
def eps_outside(x, weights, settings, turn):
    rows = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + settings["eps"]) * weights["attn_norm.weight"]
    return x + gathered(rows, weights, settings, turn)


@attention_half.wrong("it divides by the length of the row")
def sum_for_mean(x, weights, settings, turn):
    rows = x / (x.pow(2).sum(-1, keepdim=True) + settings["eps"]).sqrt() * weights["attn_norm.weight"]
    return x + gathered(rows, weights, settings, turn)


@attention_half.wrong("it takes the mean away first")
def by_layer_norm(x, weights, settings, turn):
    rows = F.layer_norm(x, x.shape[-1:], weights["attn_norm.weight"], eps=settings["eps"])
    return x + gathered(rows, weights, settings, turn)


@attention_half.wrong("PyTorch's LayerNorm, with an eps of its own")
def by_layer_norm_as_it_is(x, weights, settings, turn):
    rows = F.layer_norm(x, x.shape[-1:], weights["attn_norm.weight"])
    return x + gathered(rows, weights, settings, turn)


@attention_half.wrong("the values are made of x as it is")
def values_of_x(x, weights, settings, turn):
    n, n_kv, rows = settings["n_heads"], settings["n_kv_heads"], rows_of(x, weights, settings)
    query, key = (turn(heads_of(rows, weights[f"attn_{one}.weight"], size)) for one, size in (("q", n), ("k", n_kv)))
    key, value = shared(key, n), shared(heads_of(x, weights["attn_v.weight"], n_kv), n)
    mixed = causal(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5) @ value
    return x + mixed.transpose(0, 1).flatten(1) @ weights["attn_output.weight"].T


def cut_and_attend(x, weights, settings, turn, cut, root=None):
    n, rows = settings["n_heads"], rows_of(x, weights, settings)
    query, key, value = (cut(rows @ weights[f"attn_{one}.weight"].T) for one in "qkv")
    key, value = (heads.repeat_interleave(n // settings["n_kv_heads"], 0) for heads in (turn(key), value))
    mixed = causal(turn(query) @ key.transpose(1, 2) / (root or query.shape[-1] ** 0.5)) @ value
    return x + mixed.transpose(0, 1).flatten(1) @ weights["attn_output.weight"].T


@attention_half.wrong("mixed from several tokens")
def viewed(x, weights, settings, turn):
    d_head = len(weights["attn_q.weight"]) // settings["n_heads"]
    return cut_and_attend(x, weights, settings, turn, lambda rows: rows.view(-1, len(x), d_head))


@attention_half.wrong("divided by the root of d_model / n_heads")
def root_of_a_share(x, weights, settings, turn):
    root = (x.shape[-1] / settings["n_heads"]) ** 0.5
    return x + gathered(rows_of(x, weights, settings), weights, settings, turn, root=root)


@attention_half.wrong("its heads are d_model / n_heads wide")
def narrow_heads(x, weights, settings, turn):
    d_head = x.shape[-1] // settings["n_heads"]
    return cut_and_attend(x, weights, settings, turn, lambda rows: rows.unflatten(-1, (-1, d_head)).transpose(0, 1))


@attention_half.wrong("where n_heads · d_head is not d_model, it stops with")
def as_many_narrow_heads(x, weights, settings, turn):
    n, d_head = settings["n_heads"], x.shape[-1] // settings["n_heads"]

    def cut(rows):
        heads = n if rows.shape[-1] == len(weights["attn_q.weight"]) else settings["n_kv_heads"]
        return rows.view(len(x), heads, d_head).transpose(0, 1)

    return cut_and_attend(x, weights, settings, turn, cut)


def not_written(rows, weight, eps):
    raise NotImplementedError()


@attention_half.wrong("it calls `not_written`, which is not done yet")
def with_a_missing_norm(x, weights, settings, turn):
    rows = not_written(x, weights["attn_norm.weight"], settings["eps"])
    return x + gathered(rows, weights, settings, turn)


# ---- model_scores --------------------------------------------------------------------------------


def fed(x, w, eps):
    rows = normed(x, w["ffn_norm.weight"], eps)
    return x + (F.silu(rows @ w["ffn_gate.weight"].T) * (rows @ w["ffn_up.weight"].T)) @ w["ffn_down.weight"].T


LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")


def run_layer(x, tensor, i, settings, turn=None):
    w = {f"{name}.weight": tensor(f"blk.{i}.{name}.weight") for name in LAYER}
    turn = turn or (lambda heads: by_complex_numbers(heads, settings["theta"]))
    return fed(step_by_step(x, w, settings, turn), w, settings["eps"])


def exit_of(x, tensor, settings, norm=normed, table=None):
    table = table or ("token_embd" if settings["tied"] else "output")
    return norm(x, tensor("output_norm.weight"), settings["eps"]) @ tensor(f"{table}.weight").T


def stream_of(ids, tensor, settings, layers=None, run=run_layer):
    x = tensor("token_embd.weight")[ids]
    for i in range(settings["n_layers"]) if layers is None else layers:
        x = run(x, tensor, i, settings)
    return x


@model_scores.right
def half_by_half(ids, tensor, settings):
    return exit_of(stream_of(ids, tensor, settings), tensor, settings)


@model_scores.right
def with_pytorchs_parts(ids, tensor, settings):
    x = F.embedding(ids, tensor("token_embd.weight"))
    for i in range(settings["n_layers"]):
        w = {name: tensor(f"blk.{i}.{name}.weight") for name in LAYER}
        rows = F.rms_norm(x, x.shape[-1:], w["attn_norm"], settings["eps"])
        sizes = {"attn_q": settings["n_heads"], "attn_k": settings["n_kv_heads"], "attn_v": settings["n_kv_heads"]}
        q, k, v = (F.linear(rows, w[name]).unflatten(-1, (n, -1)).transpose(0, 1) for name, n in sizes.items())
        q, k = (turned(heads, angles_for(heads, settings["theta"])) for heads in (q, k))
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
        x = x + F.linear(mixed.transpose(0, 1).flatten(1), w["attn_output"])
        rows = F.rms_norm(x, x.shape[-1:], w["ffn_norm"], settings["eps"])
        x = x + F.linear(F.silu(F.linear(rows, w["ffn_gate"])) * F.linear(rows, w["ffn_up"]), w["ffn_down"])
    x = F.rms_norm(x, x.shape[-1:], tensor("output_norm.weight"), settings["eps"])
    return F.linear(x, tensor("token_embd.weight" if settings["tied"] else "output.weight"))


@model_scores.wrong("the last norm is missing")
def no_last_norm(ids, tensor, settings):
    return exit_of(stream_of(ids, tensor, settings), tensor, settings, norm=lambda x, weight, eps: x)


@model_scores.wrong("the table of the entrance at the exit")
def always_tied(ids, tensor, settings):
    return exit_of(stream_of(ids, tensor, settings), tensor, settings, table="token_embd")


@model_scores.wrong("in the reverse order")
def last_first(ids, tensor, settings):
    layers = reversed(range(settings["n_layers"]))
    return exit_of(stream_of(ids, tensor, settings, layers), tensor, settings)


@model_scores.wrong("every layer has layer 0's tensors")
def first_again(ids, tensor, settings):
    return exit_of(stream_of(ids, tensor, settings, [0] * settings["n_layers"]), tensor, settings)


@model_scores.wrong("the last layer is missing")
def one_layer_less(ids, tensor, settings):
    return exit_of(stream_of(ids, tensor, settings, range(settings["n_layers"] - 1)), tensor, settings)


@model_scores.wrong("the pairs are halves")
def paired_halves(ids, tensor, settings):
    def run(x, tensor, i, settings):
        return run_layer(x, tensor, i, settings, lambda heads: halves(heads, settings["theta"]))

    return exit_of(stream_of(ids, tensor, settings, run=run), tensor, settings)


@model_scores.wrong("theta is always 10,000")
def customary_theta(ids, tensor, settings):
    return half_by_half(ids, tensor, settings | {"theta": 10_000.0})


@model_scores.wrong("eps is always 1e-5")
def customary_eps(ids, tensor, settings):
    return half_by_half(ids, tensor, settings | {"eps": 1e-5})


@model_scores.wrong("the feed-forward halves are missing")
def attention_alone(ids, tensor, settings):
    def run(x, tensor, i, settings):
        w = {f"{name}.weight": tensor(f"blk.{i}.{name}.weight") for name in LAYER}
        return step_by_step(x, w, settings, lambda heads: by_complex_numbers(heads, settings["theta"]))

    return exit_of(stream_of(ids, tensor, settings, run=run), tensor, settings)


@model_scores.wrong("multiplied by √d_model")
def scaled_vectors(ids, tensor, settings):
    x = tensor("token_embd.weight")[ids]
    x = x * x.shape[-1] ** 0.5
    for i in range(settings["n_layers"]):
        x = run_layer(x, tensor, i, settings)
    return exit_of(x, tensor, settings)


@model_scores.wrong("these are probabilities")
def softmaxed(ids, tensor, settings):
    return half_by_half(ids, tensor, settings).softmax(-1)


@model_scores.wrong("the last position alone")
def last_position(ids, tensor, settings):
    return half_by_half(ids, tensor, settings)[-1]


def in_layers(change, settings, tensor, ids):
    """As `half_by_half`; `change` gets x, its nine tensors and what to do with them in the first and second half."""

    def run(x, tensor, i, settings):
        w = {f"{name}.weight": tensor(f"blk.{i}.{name}.weight") for name in LAYER}
        turn = lambda heads: by_complex_numbers(heads, settings["theta"])  # noqa: E731
        first = lambda x: step_by_step(x, w, settings, turn)  # noqa: E731
        return change(x, w, first, settings["eps"])

    return exit_of(stream_of(ids, tensor, settings, run=run), tensor, settings)


def network(rows, w, gate="ffn_gate", up="ffn_up"):
    return (F.silu(rows @ w[f"{gate}.weight"].T) * (rows @ w[f"{up}.weight"].T)) @ w["ffn_down.weight"].T


@model_scores.wrong("gate and up are swapped")
def up_for_gate(ids, tensor, settings):
    def change(x, w, first, eps):
        x = first(x)
        return x + network(normed(x, w["ffn_norm.weight"], eps), w, "ffn_up", "ffn_gate")

    return in_layers(change, settings, tensor, ids)


@model_scores.wrong("the feed-forward half reads x as it is")
def network_of_the_stream(ids, tensor, settings):
    def change(x, w, first, eps):
        x = first(x)
        return x + network(x, w)

    return in_layers(change, settings, tensor, ids)


@model_scores.wrong("the feed-forward half reads x as it was before attention")
def both_read_x(ids, tensor, settings):
    return in_layers(
        lambda x, w, first, eps: first(x) + network(normed(x, w["ffn_norm.weight"], eps), w), settings, tensor, ids
    )


@model_scores.wrong("after attention the stream is lost")
def attention_without_x(ids, tensor, settings):
    return in_layers(lambda x, w, first, eps: fed(first(x) - x, w, eps), settings, tensor, ids)


@model_scores.wrong("after the feed-forward half the stream is lost")
def network_without_x(ids, tensor, settings):
    def change(x, w, first, eps):
        return network(normed(first(x), w["ffn_norm.weight"], eps), w)

    return in_layers(change, settings, tensor, ids)


@model_scores.wrong("attn_norm is at work twice")
def first_norm_twice(ids, tensor, settings):
    return half_by_half(ids, lambda name: tensor(name.replace("ffn_norm", "attn_norm")), settings)


@model_scores.wrong("ffn_norm is at work twice")
def second_norm_twice(ids, tensor, settings):
    return half_by_half(ids, lambda name: tensor(name.replace("attn_norm", "ffn_norm")), settings)


@model_scores.wrong("divided by the root of d_model / n_heads")
def root_of_a_share_everywhere(ids, tensor, settings):
    def change(x, w, first, eps):
        return fed(root_of_a_share(x, w, settings, lambda heads: by_complex_numbers(heads, settings["theta"])), w, eps)

    return in_layers(change, settings, tensor, ids)


@model_scores.wrong("it calls `not_written_yet`, which is not done yet")
def with_a_missing_half(ids, tensor, settings):
    return in_layers(lambda x, w, first, eps: fed(not_written_yet(x), w, eps), settings, tensor, ids)


def not_written_yet(x):
    raise NotImplementedError()


@model_scores.wrong("SmolLM2 gets other scores than in the library")
def clipped(ids, tensor, settings):
    """Right in every made-up model, whose scores stay small."""
    scores = half_by_half(ids, tensor, settings)
    return scores.clamp(max=19.0)


# ---- answer_ids ----------------------------------------------------------------------------------


@answer_ids.right
def while_there_is_room(scores_of, ids, end_ids, limit, context):
    new = []
    while len(new) < limit and len(ids) + len(new) < context:
        best = int(scores_of([*ids, *new])[-1].argmax())
        if best in end_ids:
            break
        new.append(best)
    return new


@answer_ids.right
def on_one_list(scores_of, ids, end_ids, limit, context):
    text = list(ids)
    end = min(len(ids) + limit, context)
    while len(text) < end:
        row = scores_of(text)[-1].tolist()
        best = row.index(max(row))
        if best in end_ids:
            return text[len(ids) :]
        text.append(best)
    return text[len(ids) :]


def loop(scores_of, ids, end_ids, limit, context, best=lambda scores: int(scores[-1].argmax())):
    return while_there_is_room(lambda text: torch.eye(23)[best(scores_of(text))][None], ids, end_ids, limit, context)


@answer_ids.wrong("the prompt is in the answer, too")
def with_prompt(scores_of, ids, end_ids, limit, context):
    return ids + loop(scores_of, ids, end_ids, limit, context)


@answer_ids.wrong("the end id is in the answer")
def with_end(scores_of, ids, end_ids, limit, context):
    new = []
    while len(new) < limit and len(ids) + len(new) < context:
        new.append(int(scores_of(ids + new)[-1].argmax()))
        if new[-1] in end_ids:
            break
    return new


@answer_ids.wrong("the first position's scores")
def first_row(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit, context, lambda scores: int(scores[0].argmax()))


@answer_ids.wrong("all positions' scores")
def any_row(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit, context, lambda scores: int(scores.max(0).values.argmax()))


@answer_ids.wrong("the last id alone")
def last_id(scores_of, ids, end_ids, limit, context):
    return loop(lambda text: scores_of(text[-1:]), ids, end_ids, limit, context)


@answer_ids.wrong("it does not end at an end id")
def never_ends(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, (), limit, context)


@answer_ids.wrong("the limit counts the prompt, too")
def limit_of_all(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit - len(ids), context)


@answer_ids.wrong("one id too many")
def one_more(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit + 1, context)


@answer_ids.wrong("it ignores the context")
def no_context(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit, 10**9)


@answer_ids.wrong("it goes one id past the context")
def past_the_context(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit, context + 1)


@answer_ids.wrong("of equal scores it takes the last")
def last_of_equals(scores_of, ids, end_ids, limit, context):
    def best(scores):
        row = scores[-1].tolist()
        return max(range(len(row)), key=lambda id: (row[id], id))

    return loop(scores_of, ids, end_ids, limit, context, best)


@answer_ids.wrong("it ends because an end id stands in the prompt")
def any_end(scores_of, ids, end_ids, limit, context):
    text = list(ids)
    while len(text) < min(len(ids) + limit, context) and not any(id in end_ids for id in text):
        text.append(int(scores_of(text)[-1].argmax()))
    new = text[len(ids) :]
    return new[:-1] if new and new[-1] in end_ids else new


@answer_ids.wrong("it ends because the prompt's last id is an end id")
def last_is_an_end(scores_of, ids, end_ids, limit, context):
    text = list(ids)
    while len(text) < min(len(ids) + limit, context) and text[-1] not in end_ids:
        text.append(int(scores_of(text)[-1].argmax()))
    return [id for id in text[len(ids) :] if id not in end_ids]


@answer_ids.wrong("it takes the best score for the id")
def score_for_id(scores_of, ids, end_ids, limit, context):
    return loop(scores_of, ids, end_ids, limit, context, lambda scores: int(scores[-1].max()))


@answer_ids.wrong("handed a list with an object of type Tensor in it")
def ids_as_tensors(scores_of, ids, end_ids, limit, context):
    new = []
    while len(new) < limit and len(ids) + len(new) < context:
        best = scores_of(ids + new)[-1].argmax()
        if best in end_ids:
            break
        new.append(best)
    return new


@answer_ids.wrong("handed an object of type Tensor")
def text_as_a_tensor(scores_of, ids, end_ids, limit, context):
    return loop(lambda text: scores_of(torch.tensor(text)), ids, end_ids, limit, context)


# ---- find_fault ----------------------------------------------------------------------------------


def shares(readings, reference):
    for name, other in reference.items():
        one = readings[name]
        yield name, (one - other).norm(dim=-1) / other.norm(dim=-1)


@find_fault.right
def first_not_well(readings, reference, tolerance):
    for name, share in shares(readings, reference):
        if not (share <= tolerance).all():
            return name


@find_fault.right
def row_by_row(readings, reference, tolerance):
    for name, tensor in readings.items():
        for row, other in zip(tensor.tolist(), reference[name].tolist(), strict=True):
            off = sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) ** 0.5
            if off != off or off > tolerance * sum(b * b for b in other) ** 0.5:
                return name
    return None


def above(readings, reference, tolerance, size=lambda share: share.nan_to_num(nan=1e9).max().item()):
    return {name: size(share) for name, share in shares(readings, reference) if size(share) > tolerance}


@find_fault.wrong("the stage that is off most")
def worst(readings, reference, tolerance):
    found = above(readings, reference, tolerance)
    return max(found, key=found.get, default=None)


@find_fault.wrong("the last stage that is off")
def last(readings, reference, tolerance):
    return ([None, *above(readings, reference, tolerance)])[-1]


@find_fault.wrong("it names all stages that are off")
def every_one(readings, reference, tolerance):
    return list(above(readings, reference, tolerance))


@find_fault.wrong("it gives the stage's number")
def its_number(readings, reference, tolerance):
    for number, (_, share) in enumerate(shares(readings, reference)):
        if not (share <= tolerance).all():
            return number


@find_fault.wrong("in the order of the alphabet")
def alphabetical(readings, reference, tolerance):
    return min(above(readings, reference, tolerance), default=None)


@find_fault.wrong("the largest difference itself")
def absolute(readings, reference, tolerance):
    for name, one in readings.items():
        other = reference[name]
        if not (one - other).abs().max() <= tolerance:
            return name


@find_fault.wrong("it takes all rows together")
def whole_norm(readings, reference, tolerance):
    for name, one in readings.items():
        other = reference[name]
        if not (one - other).norm() / other.norm() <= tolerance:
            return name


@find_fault.wrong("it takes the rows' mean")
def mean_of_rows(readings, reference, tolerance):
    for name, share in shares(readings, reference):
        if not share.mean() <= tolerance:
            return name


@find_fault.wrong("it compares lengths")
def lengths(readings, reference, tolerance):
    for name, one in readings.items():
        other = reference[name]
        if not ((one.norm(dim=-1) / other.norm(dim=-1) - 1).abs() <= tolerance).all():
            return name


@find_fault.wrong("NaN passes")
def greater_than(readings, reference, tolerance):
    for name, share in shares(readings, reference):
        if (share > tolerance).any():
            return name


@find_fault.wrong("it wants every number the same")
def equal(readings, reference, tolerance):
    for name, one in readings.items():
        other = reference[name]
        if not torch.equal(one, other):
            return name


def measured(readings, reference, tolerance, share):
    for name, one in readings.items():
        if not (share(one, reference[name]) <= tolerance).all():
            return name


@find_fault.wrong("its tolerance is always 0.01:")
def one_percent(readings, reference, tolerance):
    return first_not_well(readings, reference, 1e-2)


@find_fault.wrong("its tolerance is always 0.001:")
def one_thousandth(readings, reference, tolerance):
    return first_not_well(readings, reference, 1e-3)


@find_fault.wrong("the share is of the reading's length")
def of_the_reading(readings, reference, tolerance):
    return measured(readings, reference, tolerance, lambda one, other: (one - other).norm(dim=-1) / one.norm(dim=-1))


@find_fault.wrong("the distance is a sum of sizes, and the length a root")
def sum_over_root(readings, reference, tolerance):
    return measured(readings, reference, tolerance, lambda one, other: (one - other).abs().sum(-1) / other.norm(dim=-1))


@find_fault.wrong("distance and length are sums of sizes")
def sum_over_sum(readings, reference, tolerance):
    return measured(
        readings, reference, tolerance, lambda one, other: (one - other).abs().sum(-1) / other.abs().sum(-1)
    )


@find_fault.wrong("distance and length are a row's largest number alone")
def largest_over_largest(readings, reference, tolerance):
    return measured(
        readings, reference, tolerance, lambda one, other: (one - other).abs().amax(-1) / other.abs().amax(-1)
    )


@find_fault.wrong("the distance is the largest difference alone")
def largest_over_length(readings, reference, tolerance):
    return measured(
        readings, reference, tolerance, lambda one, other: (one - other).abs().amax(-1) / other.norm(dim=-1)
    )


@find_fault.wrong("the distance is the root of a mean, and the length")
def mean_over_length(readings, reference, tolerance):
    return measured(
        readings, reference, tolerance, lambda one, other: (one - other).pow(2).mean(-1).sqrt() / other.norm(dim=-1)
    )


@find_fault.wrong("it compares the root of the mean square itself")
def root_mean_square(readings, reference, tolerance):
    return measured(readings, reference, tolerance, lambda one, other: (one - other).pow(2).mean(-1).sqrt())


@find_fault.wrong("it compares squares")
def squares(readings, reference, tolerance):
    return measured(
        readings, reference, tolerance, lambda one, other: (one - other).pow(2).sum(-1) / other.pow(2).sum(-1)
    )


@find_fault.wrong("it compares directions")
def cosine(readings, reference, tolerance):
    return measured(readings, reference, tolerance, lambda one, other: 1 - F.cosine_similarity(one, other, dim=-1))


@find_fault.wrong("None says that all is well")
def ten_times_the_tolerance(readings, reference, tolerance):
    return first_not_well(readings, reference, 1000 * tolerance)
