"""Each homework from release to marks: nothing for a blank, little for what looks right, all for the solutions."""

import ast
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from lessons.proof import called, proofs

from course_lib.classroom import grade
from course_lib.classroom.grading import release
from course_lib.classroom.location import LESSONS, ROOT
from course_lib.classroom.workspace import learners_version
from course_lib.lessons import exercises

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
