"""Each homework from release to marks: nothing for a blank, little for what looks right, all for the solutions."""

import ast
import json
import math
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
import torch
from lessons.proof import called, proofs

from course_lib.classroom import grade
from course_lib.classroom.grading import release
from course_lib.classroom.workspace import LESSONS, ROOT, learners_version
from course_lib.config import TransformerConfig
from course_lib.input_processing.bpe_training import train_bpe
from course_lib.input_processing.patterns import split_words
from course_lib.input_processing.positions import rotate, rotation_angles
from course_lib.interpretation.heads import induction_scores
from course_lib.lessons import exercises
from course_lib.lessons.homework_1 import exercises as homework_1
from course_lib.lessons.homework_2 import exercises as homework_2
from course_lib.lessons.homework_3 import exercises as homework_3
from course_lib.pretrained.model_shape import count_active_parameters
from course_lib.pretrained.names import GGUF, translate
from course_lib.pretrained.zoo import ZOO
from course_lib.transformer_block.attention import causal_mask
from course_lib.transformer_block.block import Block

NAMES = ["hw1_input_processing", "hw2_transformer_block", "hw3_prediction_and_generation", "hw4_your_llm"]
STUB = "    # YOUR CODE HERE\n    raise NotImplementedError()"

# the first wrong answer of each function in tests/lessons, as a learner writes it into the cell
WRONG = {
    "byte_words": """
    counts = {}
    for word in words:
        counts[tuple(word)] = counts.get(tuple(word), 0) + 1
    return counts""",
    "best_pair": """
    from itertools import pairwise

    counts = {}
    for word in words:
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + 1
    return min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]), default=None)""",
    "learn_merges": """
    merges, ids = [], dict(ids)
    while len(merges) < n_merges and (pair := choose(words, ids)):
        merges.append(pair)
        ids[pair[0] + pair[1]] = len(ids)
    return merges""",
    "encode_text": """
    from itertools import pairwise
    from math import inf

    rank = {pair: place for place, pair in enumerate(merges)}
    found = []
    for word in split_words("gpt2")(text):
        parts = [bytes([value]) for value in word.encode()]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: rank.get(pair, inf))
            if best not in rank:
                break
            i = list(pairwise(parts)).index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        found += [ids[part] for part in parts]
    return found""",
    "decode_ids": """
    return "".join(tokens[id].decode(errors="replace") for id in ids)""",
    "chat_bills": """
    bills = {}
    for name, encode in encoders.items():
        asked = sum(len(encode(question)) for question, _ in turns)
        written = sum(len(encode(answer)) for _, answer in turns)
        cost = (asked * prices[name][0] + written * prices[name][1]) / 1e6 * chats
        bills[name] = cost if asked + written <= context else None
    return bills""",
    "apply_rope": """
    angles = positions[:, None] * theta ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    a, b = x[..., 0::2], x[..., 1::2]
    turned = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
    return torch.stack(turned, dim=-1).flatten(-2)""",
    "move_keys": """
    return rotate(keys, rotation_angles(torch.full((len(keys),), -shift), keys.shape[-1], theta))""",
    "masked_weights": """
    n_query, n_key = scores.shape[-2:]
    visible = torch.ones(n_query, n_key, dtype=torch.bool).tril()
    if window is not None:
        visible &= ~torch.ones(n_query, n_key, dtype=torch.bool).tril(-window)
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)""",
    "grouped_attention": """
    d_head = len(qkv) // (n_heads + 2 * n_kv_heads)
    heads = (x @ qkv.T).unflatten(-1, (-1, d_head)).transpose(1, 2)
    query, key, value = heads.split([n_heads, n_kv_heads, n_kv_heads], dim=1)
    group = n_heads // n_kv_heads
    key, value = turn(key).repeat(1, group, 1, 1), value.repeat(1, group, 1, 1)
    mixed = torch.nn.functional.scaled_dot_product_attention(turn(query), key, value, is_causal=True)
    return mixed.transpose(1, 2).flatten(2) @ output.T""",
    "feed_forward_half": """
    rows = x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * weight
    return (silu(rows @ gate.T) * (rows @ up.T)) @ down.T""",
    "run_layer": """
    w = {name.split(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"blk.{layer}.")}
    d_head = len(w["attn_q"]) // settings["n_heads"]
    angles = rotation_angles(torch.arange(x.shape[1]), d_head, settings["theta"])

    def norm(x, name):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], w[name], settings["eps"])

    rows = norm(x, "attn_norm")
    query, key, value = ((rows @ w[f"attn_{one}"].T).unflatten(-1, (-1, d_head)).transpose(1, 2) for one in "qkv")
    mixed = torch.nn.functional.scaled_dot_product_attention(
        rotate(query, angles), rotate(key, angles), value, is_causal=True, enable_gqa=True
    )
    x = x + mixed.transpose(1, 2).flatten(2) @ w["attn_output"].T
    rows = norm(x, "ffn_norm")
    return x + (silu(rows @ w["ffn_gate"].T) * (rows @ w["ffn_up"].T)) @ w["ffn_down"].T""",
    "find_induction_head": """
    n = attention.shape[-1] // 2
    query = torch.arange(n, 2 * n)
    scores = attention[:, :, query, query - n].mean(dim=-1)
    layer, head = divmod(scores.argmax().item(), scores.shape[1])
    return layer, head, scores[layer, head].item()""",
    "count_by_shape": """
    d_model, n_layers = shape["d_model"], shape["n_layers"]
    tables = shape["vocab_size"] * d_model * (1 if shape["tied"] else 2)
    attention = 4 * d_model * shape["n_heads"] * shape["d_head"]
    expert = 3 * d_model * shape["d_ff"]
    router = d_model * shape["n_experts"] if shape["n_experts"] > 1 else 0
    shared = tables + n_layers * (attention + router + 2 * d_model) + d_model
    return (
        shared + n_layers * shape["n_experts"] * expert,
        shared + n_layers * shape["n_active_experts"] * expert,
    )""",
    "repaired_block": """
    return broken_block(x, weights, n_heads, n_kv_heads, turn)""",
    "step_gradient": """
    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    for piece in pieces:
        total, n = loss(own, piece)
        (total / n / len(pieces)).backward()
    torch.nn.utils.clip_grad_norm_(own.values(), longest)
    return {name: weight.grad for name, weight in own.items()}""",
    "train_to_floor": """
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(budget // (16 * context)):
        rows = tokens[torch.randint(len(tokens) - context, (16, 1)) + torch.arange(context + 1)]
        cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
    return model""",
    "count_penalties": """
    scores = logits.clone()
    scores[ids] -= frequency
    scores[ids] -= presence
    return scores""",
    "forbid_repeats": """
    text, scores = ids.tolist(), logits.clone()
    for i in range(len(text) - n):
        if text[i : i + n] == text[-n:]:
            scores[text[i + n]] = -math.inf
    return scores""",
    "typical_tokens": """
    p = logits.softmax(-1)
    order = (-p.log() + (p * p.log()).nansum()).argsort(stable=True)
    kept = order[p[order].cumsum(-1) - p[order] < mass]
    scores = torch.full_like(logits, -math.inf)
    scores[kept] = logits[kept]
    return scores""",
    "top_n_sigma": """
    finite = logits[logits.isfinite()]
    return logits.masked_fill(logits < finite.mean() - n * finite.std(correction=0), -math.inf)""",
    "mirostat_step": """
    closed = -logits.log_softmax(-1) > mu
    closed[logits.argmax()] = False
    left = logits.masked_fill(closed, -math.inf)
    id = draw(left)
    return id, mu - eta * (-left.log_softmax(-1)[id].item() - tau)""",
    "run_with_cache": """
    x, longer = model["embed"](ids), []
    for number, (read, write) in enumerate(model["layers"]):
        query, key, value = read(x)
        query, key = (model["turn"](rows, torch.arange(len(ids))) for rows in (query, key))
        if cache:
            key, value = (torch.cat(pair, dim=1) for pair in zip(cache[number], (key, value)))
        longer.append((key, value))
        scores = query @ key.mT / query.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + key.shape[1] - len(ids))
        x = write(x, scores.masked_fill(hidden, -math.inf).softmax(-1) @ value)
    return model["unembed"](x), longer""",
    "where_it_stops": """
    text = ""
    for count, id in enumerate(ids, 1):
        if id in end_ids:
            return text, "end"
        for stop in sorted(stops, key=len, reverse=True):
            if stop in pieces[id]:
                return text + pieces[id].split(stop)[0], "stop"
        text += pieces[id]
        for m in range(1, count // 3 + 1):
            if 3 * m >= loop and ids[count - 3 * m : count] == ids[count - m : count] * 3:
                return text, "loop"
        if count == longest:
            return text, "length"
    return text, None""",
    "paired_study": """
    def grams(ids):
        return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]

    def repeated(texts):
        found = [gram for ids in texts for gram in grams(ids)]
        return 1 - len(set(found)) / len(found) if found else 0.0

    one, other = repeated(before), repeated(after)
    apart = [repeated([b]) - repeated([a]) for a, b in zip(before, after)]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    mean = other - one
    verdict = "less" if mean < -2 * error else "more" if mean > 2 * error else "open"
    return {"before": one, "after": other, "difference": mean, "error": error, "verdict": verdict}""",
    "unpack_q4_1": """
    step, smallest = raw[:, :4].contiguous().view(torch.float16).float().split(1, dim=1)
    packed = raw[:, 4:]
    return step * torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1) + smallest""",
    "unpack_q8_0": """
    return raw[:, :2].contiguous().view(torch.float16).float() * raw[:, 2:]""",
    "chat_ids": """
    import re

    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    text = "".join(f"<|im_start|>{m['role']}\\n{m['content']}<|im_end|>\\n" for m in messages)
    ids = []
    for piece in re.split(r"(<\\|im_start\\|>|<\\|im_end\\|>)", text + "<|im_start|>assistant\\n"):
        ids += [special[piece]] if piece in special else encode(piece)
    return ids""",
    "turn_heads": """
    d_head = x.shape[-1]
    angles = torch.arange(x.shape[-2])[:, None] * theta ** (-torch.arange(0, d_head, 2) / d_head)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)""",
    "attention_half": """
    rows = torch.nn.functional.rms_norm(x, x.shape[-1:], weights["attn_norm.weight"], settings["eps"])
    sizes = {"q": settings["n_heads"], "k": settings["n_kv_heads"], "v": settings["n_kv_heads"]}
    query, key, value = (
        (rows @ weights[f"attn_{name}.weight"].T).unflatten(-1, (n, -1)).transpose(0, 1)[None]
        for name, n in sizes.items()
    )
    mixed = torch.nn.functional.scaled_dot_product_attention(
        turn(query), turn(key), value, is_causal=True, enable_gqa=True
    )
    return mixed[0].transpose(0, 1).flatten(1) @ weights["attn_output.weight"].T""",
    "model_scores": """
    def norm(x, name):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], tensor(f"{name}.weight"), settings["eps"])

    def turn(x):
        d_head = x.shape[-1]
        angles = torch.arange(len(ids))[:, None] * settings["theta"] ** (-torch.arange(0, d_head, 2) / d_head)
        a, b = x[..., 0::2], x[..., 1::2]
        turned = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
        return torch.stack(turned, dim=-1).flatten(-2)

    x = tensor("token_embd.weight")[ids]
    sizes = {"q": settings["n_heads"], "k": settings["n_kv_heads"], "v": settings["n_kv_heads"]}
    for i in range(settings["n_layers"]):
        rows = norm(x, f"blk.{i}.attn_norm")
        query, key, value = (
            (rows @ tensor(f"blk.{i}.attn_{one}.weight").T).unflatten(-1, (n, -1)).transpose(0, 1)[None]
            for one, n in sizes.items()
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(
            turn(query), turn(key), value, is_causal=True, enable_gqa=True
        )
        x = x + mixed[0].transpose(0, 1).flatten(1) @ tensor(f"blk.{i}.attn_output.weight").T
        rows = norm(x, f"blk.{i}.ffn_norm")
        gate, up = (rows @ tensor(f"blk.{i}.ffn_{one}.weight").T for one in ("gate", "up"))
        x = x + (silu(gate) * up) @ tensor(f"blk.{i}.ffn_down.weight").T
    return x @ tensor("token_embd.weight" if settings["tied"] else "output.weight").T""",
    "answer_ids": """
    text = list(ids)
    while len(text) < min(len(ids) + limit, context):
        chosen = int(scores_of(text)[-1].argmax())
        if chosen in end_ids:
            break
        text.append(chosen)
    return text""",
    "find_fault": """
    off = {}
    for name, rows in readings.items():
        share = (rows - reference[name]).norm(dim=-1) / reference[name].norm(dim=-1)
        off[name] = float("inf") if share.isnan().any() else share.max().item()
    worst = max(off, key=off.get)
    return worst if off[worst] > tolerance else None""",
}
# what a wrong answer may get: the parts of its function that it does right, at most so many points
AT_MOST = {"best_pair": 8, "encode_text": 12, "count_by_shape": 8, "repaired_block": 11}
AT_MOST |= {"chat_ids": 6, "model_scores": 14}
RIGHT_PARTS = {  # of the answers above
    "hw1": {"best_pair_ties", "encode_text_merges"},
    "hw2": {"count_by_shape_mixture"},
    "hw3": set(),
    "hw4": {"chat_ids_layout"},
}


def nbgrader(cell):
    return cell.metadata.get("nbgrader", {})


def homework(name):
    return LESSONS / "homework" / name / f"{name}.ipynb"


def functions(name):
    return {key: exercise for key, exercise in exercises().items() if exercise.lesson == name[:3]}


def cells(name):
    return nbformat.read(homework(name), 4).cells


def graded_cells(name):
    return [cell for cell in cells(name) if nbgrader(cell).get("grade")]


def handed_in(name, answers):
    """A learner's copy with these functions written."""
    notebook = nbformat.reads(learners_version(homework(name)).decode(), 4)
    for cell in notebook.cells:
        if answer := answers.get(nbgrader(cell).get("grade_id")):
            assert STUB in cell.source
            cell.source = cell.source.replace(STUB, answer.strip("\n"))
    return notebook


def solutions(name):
    found = {}
    for cell in cells(name):
        if nbgrader(cell).get("solution"):
            body = cell.source.split("### BEGIN SOLUTION\n")[1].split("    ### END SOLUTION")[0]
            found[nbgrader(cell).grade_id] = body.rstrip()
    return found


each_homework = pytest.mark.parametrize("name", NAMES)
each_function = pytest.mark.parametrize(
    "name, function", [pytest.param(name, function, id=function) for name in NAMES for function in functions(name)]
)


@each_homework
def test_ten_parts_and_a_hundred_points(name):
    parts = [(nbgrader(cell).grade_id, nbgrader(cell).points) for cell in graded_cells(name)]
    assert [part for part, _ in parts] == [
        f"{function}_{part}" for function, exercise in functions(name).items() for part in exercise.checks
    ]
    assert len(parts) == 10 and sum(points for _, points in parts) == 100
    table = next(cell.source for cell in cells(name) if "| part |" in cell.source)
    rows = [[entry.strip() for entry in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [int(row[3]) for row in rows[2:12]] == [points for _, points in parts]
    assert rows[12][3:5] == ["**100**", f"**{sum(int(row[4]) for row in rows[2:12])}**"]


@each_homework
def test_no_wrong_homework_gets_more_than_twenty_points(name):
    assert sum(AT_MOST.get(function, 0) for function in functions(name)) <= 20


@pytest.mark.slow  # test_exercises sees that none gets all of them
@each_function
def test_no_wrong_answer_gets_more_than_some_parts(name, function):
    """So the best of all combinations of wrong answers can be summed up."""
    points = {nbgrader(cell).grade_id: nbgrader(cell).points for cell in graded_cells(name)}
    best = 0
    for wrong, _ in proofs()[function].wrongs:
        gained = 0
        for part in functions(name)[function].checks:
            try:
                grade(called(function, wrong), part)
                gained += points[f"{function}_{part}"]
            except AssertionError:
                pass
        best = max(best, gained)
    assert best <= AT_MOST.get(function, 0)


@pytest.fixture(scope="module", params=NAMES)
def marks(request, tmp_path_factory):
    """The homework, and student → (score, score of each graded cell) after release, handing in and autograde."""
    name, root = request.param, tmp_path_factory.mktemp("an instructor's")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    assert release(name, root=root).is_file()
    wrong = {function: WRONG[function] for function in functions(name)}
    for student, answers in {"blank": {}, "plausible": wrong, "solved": solutions(name)}.items():
        folder = root / "grading/submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(handed_in(name, answers), folder / f"{name}.ipynb")
    command = [sys.executable, "-m", "nbgrader", "autograde", name]
    subprocess.run(command, cwd=root, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root / 'grading/gradebook.db'}", "from-prompt-to-response") as gradebook:
        assert gradebook.find_assignment(name).max_score == 100
        return name, {
            submission.student.id: (
                submission.score,
                {one.name: one.score for one in submission.notebooks[0].grades},
            )
            for submission in gradebook.assignment_submissions(name)
        }


@pytest.mark.slow  # test_grading.py goes the same way with one exercise, and test_exercises.py grades these
def test_a_blank_gets_nothing_the_solutions_everything_and_plausible_wrong_answers_little(marks):
    name, students = marks
    assert students["blank"][0] == 0
    assert students["solved"][0] == 100
    score, parts = students["plausible"]
    assert score < 40
    # what is right in them is paid for: ties after a wrong count, the experts of one who has miscounted attention
    assert {part for part, points in parts.items() if points} == RIGHT_PARTS[name[:3]]


@each_function
def test_the_wrong_answers_are_the_first_of_the_proofs(name, function, capsys):
    """The same diagnosis, word for word."""
    from course_lib.classroom import check

    scope = {}
    for cell in handed_in(name, {function: WRONG[function]}).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        own = nbgrader(cell).get("grade_id") == function
        given = ("broken_block",)  # a function that is no exercise, and that an answer may use
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) or own or getattr(node, "name", "") in given:
                exec(compile(ast.Module([node], []), "<homework>", "exec"), scope)
    check(scope[function])
    assert proofs()[function].wrongs[0][1] in capsys.readouterr().out


# ---- what the checks hold answers against --------------------------------------------------------


def test_training_here_is_training_in_the_library():
    random = torch.Generator().manual_seed(5)
    for length in (400, 4_000, 20_000):
        text = homework_1.passage(random, length)
        words = homework_1.byte_words(split_words("gpt2")(text))
        ours = homework_1.learn_merges(words, homework_1.BASE_IDS, 120, homework_1.best_pair)
        assert ours == train_bpe(text, 256 + 120)


def test_and_in_tokenizers():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from course_lib.input_processing.bpe import bytes_to_unicode

    text = homework_1.passage(torch.Generator().manual_seed(6), 10_000)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=356, initial_alphabet=alphabet, show_progress=False)
    )
    value = {character: byte for byte, character in bytes_to_unicode().items()}
    theirs = [
        tuple(bytes(value[character] for character in token) for token in pair)
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
    words = homework_1.byte_words(split_words("gpt2")(text))
    assert homework_1.learn_merges(words, homework_1.BASE_IDS, 100, homework_1.best_pair) == theirs


def test_a_made_up_layer_is_the_librarys_block():
    """The oracles of homework 2 against the library's own block: attention, the halves, the layer, the repair."""
    random = torch.Generator().manual_seed(7)
    config = TransformerConfig(
        vocab_size=1, context_length=9, d_model=16, n_layers=1, n_heads=4, n_kv_heads=2, d_head=4, d_ff=10,
        norm_eps=1e-5, rope_theta=50.0, rope_pairs="neighbours",
    )  # fmt: skip
    tensors = homework_2.small_file(random, [3])
    settings = dict(n_heads=4, n_kv_heads=2, theta=50.0, eps=1e-5)
    block = Block(config, 0)
    ours = {translate(f"blocks.3.{name}", GGUF): name for name in block.state_dict()}
    block.load_state_dict({ours[name]: tensor for name, tensor in tensors.items()})
    x, angles = homework_2.vectors(random, 2, 6, 16), rotation_angles(torch.arange(6), 4, 50.0)
    with torch.no_grad():
        after = block(x, angles)[0]
        torch.testing.assert_close(homework_2.run_layer(x, tensors, 3, settings), after)

        weights = {one: tensors[f"blk.3.{theirs}.weight"] for one, theirs in homework_2.STORED.items()}
        turn = homework_2.turning(50.0, "neighbours")
        torch.testing.assert_close(homework_2.repaired_block(x, weights, 4, 2, turn), after)

        rows = block.attention_norm(x)
        qkv = torch.cat([weights[one] for one in ("query", "key", "value")])
        gathered = homework_2.grouped_attention(rows, qkv, weights["output"], 4, 2, turn)
        torch.testing.assert_close(gathered, block.attention(rows, angles)[0])
        half = [weights[one] for one in ("gate", "up", "down")]
        torch.testing.assert_close(
            homework_2.feed_forward_half(x + gathered, weights["feed_forward_norm"], 1e-5, *half), after
        )


def test_weights_and_induction_scores_are_the_librarys():
    random = torch.Generator().manual_seed(8)
    scores = homework_2.vectors(random, 2, 3, 7)
    values = homework_2.vectors(random, 2, 7, 4)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        torch.eye(3).expand(2, 3, 3), scores.transpose(1, 2), values, causal_mask(3, 7), scale=1.0
    )
    torch.testing.assert_close(homework_2.masked_weights(scores) @ values, theirs)
    for attention in homework_2.attentions_of_repeats(random, ((3, 4, 5), (2, 5, 9))):
        layer, head, score = homework_2.find_induction_head(attention)
        table = induction_scores(attention)
        assert table[layer, head] == table.max() == pytest.approx(score)


@pytest.mark.parametrize("name", ["smollm2-135m", "llama-3.2-1b", "llama-3.1-405b", "phi-4", "mixtral-8x7b"])
def test_parameters_are_the_published_ones(name):
    shape = ZOO[name]
    experts, attention = shape.experts, shape.attention
    table = dict(
        vocab_size=shape.vocab_size, d_model=shape.d_model, n_layers=shape.n_layers, tied=shape.tied,
        n_heads=attention.n_heads, n_kv_heads=attention.n_kv_heads, d_head=attention.d_head,
        d_ff=experts.d_expert if experts else shape.feed_forward.d_ff,
        n_experts=experts.n_experts if experts else 1, n_active_experts=experts.n_active if experts else 1,
    )  # fmt: skip
    total, active = homework_2.count_by_shape(table)
    assert f"{total:,}" == shape.published.parameters
    assert active == count_active_parameters(shape)


def test_every_layer_of_smollm2_agrees_and_no_slip_of_attention_does():
    """On each text: the check lets the right answer through everywhere, with two orders of magnitude to spare."""
    file, settings, streams = homework_2.smollm2()
    for layer in range(30):
        tensors = {name: file.tensor(name) for name in file.tensors if name.startswith(f"blk.{layer}.")}
        before, after = streams[layer % len(streams)][layer : layer + 2]

        def apart(run, before=before, after=after, tensors=tensors, layer=layer):
            answer = run(before, tensors, layer, settings)
            return ((answer - after).norm(dim=-1) / (after - before).norm(dim=-1)).max()

        assert apart(homework_2.run_layer) < 1e-5
        for slip in ("pairs", "theta"):
            assert apart(homework_2.running(**{"pairs": dict(pairs="halves"), "theta": dict(theta=1e4)}[slip])) > 5e-3


def test_a_batch_in_pieces_is_a_batch_at_once():
    random = torch.Generator().manual_seed(9)
    [(weights, loss, pieces, _)] = homework_3.steps(random, [(6, 12, 18)])
    whole = tuple(torch.cat(rows) for rows in zip(*pieces, strict=True))
    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    total, n = loss(own, whole)
    (total / n).backward()
    for longest in (0.1, 1e3):
        ours = homework_3.step_gradient(weights, loss, pieces, longest)
        torch.nn.utils.clip_grad_norm_(own.values(), longest)
        torch.testing.assert_close(ours, {name: weight.grad for name, weight in own.items()}, atol=1e-5, rtol=1e-4)
        for weight in own.values():
            weight.grad = None
        (loss(own, whole)[0] / n).backward()


def test_the_floor_is_hill_worlds():
    """Each place's chance after the words before it, as the library has it; the words' together make the sentence's."""
    from course_lib.text_worlds.hill_world import next_word_distribution

    words, listed, chances = homework_3.deeds()
    assert len(listed) == len({tuple(ids) for ids, _ in listed}) == 167 and chances.sum() == pytest.approx(1)
    for (ids, nats), p in zip(listed, chances.tolist(), strict=True):
        *said, place, _ = (words[id] for id in ids)
        assert next_word_distribution(said)[place] == pytest.approx(math.exp(-nats[-2]))
        assert sum(nats) == pytest.approx(-math.log(p), rel=1e-4)


def test_samplers_are_those_of_transformers():
    from transformers import NoRepeatNGramLogitsProcessor, TypicalLogitsWarper

    random = torch.Generator().manual_seed(10)
    for logits, ids, n in homework_3.texts(random, (2, 3, 4, 5), length=80):
        theirs = NoRepeatNGramLogitsProcessor(n)(ids[None], logits[None])[0]
        assert torch.equal(homework_3.forbid_repeats(logits, ids, n), theirs)
    for closed in (0, 3):
        for logits, mass in homework_3.distributions(random, (0.1, 0.3, 0.5, 0.6), closed=closed):
            theirs = TypicalLogitsWarper(mass)(torch.zeros(1, 1), logits[None])[0]
            assert torch.equal(homework_3.typical_tokens(logits, mass), theirs)


def test_top_n_sigma_keeps_the_same_at_every_temperature():
    logits = homework_3.vectors(torch.Generator().manual_seed(11), 1_000)
    kept = homework_3.top_n_sigma(logits, 1.5).isfinite()
    assert torch.equal(kept, logits >= logits.max() - 1.5 * logits.std(correction=0)) and 1 < kept.sum() < 200
    for temperature in (0.5, 3.0):
        assert torch.equal(homework_3.top_n_sigma(logits / temperature, 1.5).isfinite(), kept)


def test_mirostat_keeps_the_surprise_at_its_target():
    random = torch.Generator().manual_seed(12)
    mu, surprises = 8.0, []

    def draw(logits):
        id = int(torch.multinomial(logits.softmax(-1), 1, generator=random))
        surprises.append(homework_3.surprise(logits)[id].item())
        return id

    for _ in range(1_000):
        _, mu = homework_3.mirostat_step(2 * homework_3.vectors(random, 200), mu, 3.0, 0.1, draw)
    assert sum(surprises[100:]) / 900 == pytest.approx(3.0, abs=0.1)


def test_a_cache_is_the_librarys():
    """The oracle on the library's own Transformer, taken apart: its logits, and the keys and values of its KV cache."""
    from course_lib.prediction.generation import KVCache
    from course_lib.transformer_block.attention import repeat_kv
    from course_lib.transformer_block.transformer import Transformer

    config = TransformerConfig(
        vocab_size=20, context_length=12, d_model=16, n_layers=2, n_heads=4, n_kv_heads=4, d_head=4, d_ff=24
    )
    torch.manual_seed(13)
    transformer = Transformer(config)

    def layer(block):
        attention = block.attention

        def read(x):
            rows = block.attention_norm(x)
            parts = (attention.query, attention.key, attention.value)
            return tuple(repeat_kv(part(rows).unflatten(-1, (4, 4)).transpose(0, 1)[None], 4)[0] for part in parts)

        def write(x, mixed):
            x = x + attention.output(mixed.transpose(0, 1).flatten(1))
            return x + block.feed_forward(block.feed_forward_norm(x))

        return read, write

    def turn(rows, positions):
        return rotate(rows, transformer.position_embedding.angles(positions), config.rope_pairs)

    model = dict(
        embed=lambda ids: transformer.embed(ids[None])[0],
        layers=[layer(block) for block in transformer.blocks],
        turn=turn,
        unembed=lambda x: transformer.unembed(transformer.final_norm(x)),
    )
    ids, theirs, ours, logits = torch.randint(20, (9,)), KVCache(config, 9), [], []
    with torch.no_grad():
        for piece in ids.split([4, 1, 3, 1]):
            rows, ours = homework_3.run_with_cache(piece, ours, model)
            torch.testing.assert_close(rows, transformer(piece[None], theirs)[0])
            logits.append(rows)
        torch.testing.assert_close(torch.cat(logits), transformer(ids[None])[0], atol=1e-4, rtol=1e-4)
    for number, (keys, values) in enumerate(ours):
        torch.testing.assert_close(keys, theirs.keys[number, 0])
        torch.testing.assert_close(values, theirs.values[number, 0])


def test_stop_strings_are_the_librarys():
    from course_lib.prediction.generation import stop_at

    random = torch.Generator().manual_seed(14)
    for _ in range(200):
        pieces, name = homework_3.vocabulary(random)
        ids = homework_3.some(
            random, name("\nUs", "er:", " ST", "OP", "\n", "Us", "er", ":", "!\n\nUser: why", " dog"), 12
        )
        stops = homework_3.some(random, ["\nUser:", "STOP", "OP", "User", "er:"], 2)
        text, _ = homework_3.where_it_stops(ids, pieces, [], stops, 99, 99)
        assert text == "".join(stop_at((pieces[id] for id in ids), stops))


def test_the_error_of_a_study_is_the_one_of_a_paired_test():
    import numpy

    before, after, n = homework_3.studies(torch.Generator().manual_seed(15), "less", pairs=9)
    found = homework_3.paired_study(before, after, n)
    one, other = ([homework_3.repeated_share(ids, n) for ids in texts] for texts in (before, after))
    apart = numpy.array(other) - numpy.array(one)
    assert found["difference"] == pytest.approx(apart.mean())
    assert found["error"] == pytest.approx(apart.std(ddof=1) / 3)
