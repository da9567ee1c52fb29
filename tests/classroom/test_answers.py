"""What is said of a wrong answer where no mistake of the exercise explains it, and of one that a mistake does."""

import dataclasses

import pytest
import torch

from course_lib.classroom.answers import as_it_is_now, common, fault_of, first_difference
from course_lib.classroom.exercise import Exercise, Wrong
from course_lib.classroom.judging import Case, Learner, attempt
from course_lib.lessons import exercises

ROW = torch.tensor([[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]])
SQUARE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def said(*pairs):
    return common([Case((), answer, expected) for answer, expected in pairs])


@pytest.mark.parametrize(
    "pairs, sentence",
    [
        ([(ROW / 2, ROW)], "every value is 0.5 times what it should be"),
        ([(ROW + 1, ROW)], "every value is 1 too large"),
        ([(-ROW, ROW)], "the sign is wrong"),
        ([(5, 6), (7, 8), (1, 2)], "every value is 1 too small"),
        ([(0.2, 0.1), (0.4, 0.2), (0.8, 0.4)], "every value is 2 times"),
        ([(SQUARE.T, SQUARE)], "rows and columns have changed places"),
        ([(ROW.flip(0, 1), ROW)], "their order is not"),
        ([([3, 1, 2], [1, 2, 3]), (["a", "b"], ["b", "a"])], "their order is not"),
        ([([1, 2], [1, 2, 3]), ([], [5]), ([0], [0, 4])], ""),  # of a single one, the last is the first, too
        ([([1, 2], [1, 2, 3]), ([0], [0, 4])], "the last one is missing"),
        ([([2, 3], [1, 2, 3])], "the first one is missing"),
        ([([1, 2, 9], [1, 2])], "one too many at its end"),
        ([("ab", "abcd")], "it ends too early"),
        ([("abcd", "ab")], "it goes on too long"),
        ([("yes ", " yes")], "spaces or line breaks"),
        ([("Yes", "yes")], "upper and lower case"),
        ([(ROW > 2, ROW <= 2)], "True and False have changed places"),
        ([(torch.tensor([1.0, 2, 3, 9]), torch.tensor([1.0, 2, 3, 4]))], "only the last one is wrong"),
        ([([9, 2, 3], [1, 2, 3])], "only the first one is wrong"),
        ([(ROW / 2, ROW), (ROW, ROW)], ""),  # the other one would have to be halved, too
        ([(2.0, 1.0), (4.0, 2.0)], ""),  # two numbers may be chance
        ([(torch.zeros(3), ROW[0])], ""),
        ([(10**400, 6), (7, 8), (1, 2)], ""),
    ],
)
def test_what_all_wrong_answers_have_in_common_is_said(pairs, sentence):
    assert said(*pairs).startswith(sentence) if not sentence else sentence in said(*pairs)
    assert bool(said(*pairs)) is bool(sentence)


@pytest.mark.parametrize(
    "answer, expected, place",
    [
        (ROW, ROW.clone().index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(0.0)), ("[1, 2]", 7.0, 0.0)),
        ([1, [2, 3]], [1, [2, 4]], ("[1][1]", 3, 4)),
        ({"a": 1, "b": (1, 2)}, {"a": 1, "b": (0, 2)}, ("['b'][0]", 1, 0)),
        ([1, 2], [1, 2, 3], None),
    ],
)
def test_the_first_place_that_differs_is_found(answer, expected, place):
    assert first_difference(answer, expected) == place


@pytest.mark.parametrize(
    "answer, expected, fault",
    [
        ((torch.tensor([1.0]), 2), (torch.tensor([1]), 2), "its [0] has numbers of type float32"),
        ([1.0, 2.0], [1, 2], "its [0] is a float, and a whole number is asked for"),
        ({"a": 3.0}, {"a": 3}, "its ['a'] is a float"),
        ([[0, 1], [True]], [[0, 1], [1]], "its [1][0] is True or False"),
        ([0, 1], [0.0, 1.0], ""),
        ([0.0, 0.5], [0, 0.5], ""),  # an oracle's 0 among floats
    ],
)
def test_the_types_inside_are_looked_at(answer, expected, fault):
    assert fault in fault_of(answer, expected) and bool(fault) is bool(fault_of(answer, expected))


def test_an_answer_stays_as_it_was_when_it_was_given():
    inside = torch.zeros(2)
    answer = [inside, {"a": [1]}, (inside,)]
    answer.append(answer)
    kept = as_it_is_now(answer)
    inside += 1
    answer[1]["a"].append(2)
    assert kept[0].tolist() == [0, 0] and kept[1] == {"a": [1]} and kept[2][0].tolist() == [0, 0] and kept[3] is kept


def told(function, inputs, oracle, mistakes=None):
    exercise = Exercise(
        name="f", lesson="00", title="", oracle=oracle, checks={}, mistakes=mistakes or {}, hints=(), may_call=None
    )
    with pytest.raises(Wrong) as wrong:
        Learner(function, exercise, seed=0).compare(inputs)
    return wrong.value


def test_a_mistake_that_is_right_wherever_the_answer_is_wrong_explains_nothing():
    """It agrees with what the learner got right, and with a right value of another type."""
    absolute = {"it forgets the sign": abs}
    assert "sign" not in told(lambda x: [x], [2, 3], lambda x: x, absolute).sentence
    assert "a float" in told(lambda x: float(x), [2, 3], lambda x: x, absolute).sentence
    assert told(lambda x: abs(x), [2, -3], lambda x: x, absolute).sentence == "it forgets the sign"


def test_chance_and_what_is_kept_between_calls_are_told_apart():
    calls = []

    def counting(x):
        calls.append(x)
        return x + len(calls)

    assert "keeps something" in told(counting, [5, 7, 1, 9], lambda x: x).sentence
    assert "chance" in told(lambda x: x + torch.rand(()).item(), [5.0, 7.0], lambda x: x).sentence


def test_an_answer_too_long_to_read_is_shown_where_it_parts():
    right = torch.arange(20.0).view(4, 5)
    wrong = right.clone()
    wrong[2, 3] = -1
    assert "f(1)[2, 3] is -1.0; right is 13.0" in told(lambda x: wrong, [1], lambda x: right).shown


def test_a_case_knows_its_fault():
    assert Case((), 1, 1).fault == "" and Case((), 2, 1).fault and dataclasses.is_dataclass(Case)


@pytest.mark.parametrize("name", ["pad_batch", "route_top_k", "sample_batch", "adamw_update"])
def test_two_tensors_may_come_in_a_list(name):
    exercise = exercises()[name]
    found = list(attempt(exercise, lambda *given: list(exercise.oracle(*given)), seed=1))
    assert found and not any(wrong for _, wrong, _ in found)
