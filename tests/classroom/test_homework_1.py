"""Homework 1 from release to marks: nothing for a blank, little for what looks right, all of it for the solutions."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
import torch
from classroom.proofs import called, proofs

from course_lib.classroom import grade
from course_lib.classroom.exercises import exercises, homework_1
from course_lib.classroom.grading import release
from course_lib.classroom.workspace import LESSONS, ROOT, learners_version
from course_lib.input_processing.bpe_training import train_bpe
from course_lib.input_processing.patterns import split_words

NAME = "hw1_input_processing"
HOMEWORK = LESSONS / "homework" / NAME / f"{NAME}.ipynb"
STUB = "    # YOUR CODE HERE\n    raise NotImplementedError()"
FUNCTIONS = {name: exercise for name, exercise in exercises().items() if exercise.lesson == "hw1"}

# the first wrong answer of each function in tests/classroom/proofs, as a learner writes it into the cell
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
}


def nbgrader(cell):
    return cell.metadata.get("nbgrader", {})


def graded_cells():
    return [cell for cell in nbformat.read(HOMEWORK, 4).cells if nbgrader(cell).get("grade")]


def handed_in(answers):
    """A learner's copy with these functions written."""
    notebook = nbformat.reads(learners_version(HOMEWORK).decode(), 4)
    for cell in notebook.cells:
        if answer := answers.get(nbgrader(cell).get("grade_id")):
            assert STUB in cell.source
            cell.source = cell.source.replace(STUB, answer.strip("\n"))
    return notebook


def solutions():
    found = {}
    for cell in nbformat.read(HOMEWORK, 4).cells:
        if nbgrader(cell).get("solution"):
            body = cell.source.split("### BEGIN SOLUTION\n")[1].split("    ### END SOLUTION")[0]
            found[nbgrader(cell).grade_id] = body.rstrip()
    return found


def test_ten_parts_and_a_hundred_points():
    parts = [(nbgrader(cell).grade_id, nbgrader(cell).points) for cell in graded_cells()]
    assert [name for name, _ in parts] == [
        f"{name}_{part}" for name, exercise in FUNCTIONS.items() for part in exercise.checks
    ]
    assert len(parts) == 10 and sum(points for _, points in parts) == 100
    table = next(cell.source for cell in nbformat.read(HOMEWORK, 4).cells if "| part |" in cell.source)
    rows = [[entry.strip() for entry in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [int(row[3]) for row in rows[2:12]] == [points for _, points in parts]
    assert rows[12][3:] == ["**100**", f"**{sum(int(row[4]) for row in rows[2:12])}**"] == ["**100**", "**150**"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_wrong_answer_gets_more_than_a_part(name):
    """So the best of all combinations of wrong answers can be summed up."""
    points = {nbgrader(cell).grade_id: nbgrader(cell).points for cell in graded_cells()}
    best = 0
    for function, _ in proofs()[name].wrongs:
        gained = 0
        for part in FUNCTIONS[name].checks:
            try:
                grade(called(name, function), part)
                gained += points[f"{name}_{part}"]
            except AssertionError:
                pass
        best = max(best, gained)
    # with 8 for best_pair and 12 for encode_text, no wrong homework gets more than 20 of the 100
    assert best <= {"best_pair": 8, "encode_text": 12}.get(name, 0)


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    """student → (score, score of each graded cell), after release, handing in and autograde."""
    root = tmp_path_factory.mktemp("an instructor's")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    assert release(NAME, root=root).is_file()
    for student, answers in {"blank": {}, "plausible": WRONG, "solved": solutions()}.items():
        folder = root / "grading/submitted" / student / NAME
        folder.mkdir(parents=True)
        nbformat.write(handed_in(answers), folder / f"{NAME}.ipynb")
    command = [sys.executable, "-m", "nbgrader", "autograde", NAME]
    subprocess.run(command, cwd=root, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root / 'grading/gradebook.db'}", "from-prompt-to-response") as gradebook:
        assert gradebook.find_assignment(NAME).max_score == 100
        return {
            submission.student.id: (
                submission.score,
                {one.name: one.score for one in submission.notebooks[0].grades},
            )
            for submission in gradebook.assignment_submissions(NAME)
        }


def test_a_blank_gets_nothing_and_the_solutions_everything(marks):
    assert marks["blank"][0] == 0
    assert marks["solved"][0] == 100


def test_plausible_wrong_answers_get_little(marks):
    score, parts = marks["plausible"]
    assert score < 40
    # what is right in them is paid for: ties after a wrong count, merges where special tokens are ignored
    assert {name for name, points in parts.items() if points} == {"best_pair_ties", "encode_text_merges"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_wrong_answers_are_the_first_of_the_proofs(name, capsys):
    """The same diagnosis, word for word."""
    from course_lib.classroom import check

    scope = {}
    for cell in nbformat.read(HOMEWORK, 4).cells:
        if cell.cell_type == "code":
            imports = [line for line in cell.source.splitlines() if line.startswith(("import ", "from "))]
            exec("\n".join(imports), scope)
    header = handed_in({name: WRONG[name]})
    [source] = [cell.source for cell in header.cells if nbgrader(cell).get("grade_id") == name]
    exec(source, scope)
    check(scope[name])
    assert proofs()[name].wrongs[0][1] in capsys.readouterr().out


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
