"""Hill World's probabilities held against enumeration of a smaller world, and against a million sampled words."""

import importlib.util
import math
import random
import re
from collections import Counter, defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.text_worlds import hill_world
from course_lib.text_worlds.hill_world import (
    KINDS,
    VOCABULARY,
    decode,
    encode,
    entropy_per_word,
    log_probability,
    next_word_distribution,
    stories,
    text,
)

MILLION = 1_000_000


@pytest.fixture(scope="module")
def sampled():
    """The words of a million sampled words' stories, story by story."""
    taken, n_words = [], 0
    for story in stories(seed=2024):
        taken.append(story.split())
        n_words += len(taken[-1])
        if n_words >= MILLION:
            return taken


def another_world(**tables):
    """A fresh copy of the module, so that tables can be changed before its first use."""
    spec = importlib.util.spec_from_file_location("another_world", hill_world.__file__)
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    for name, table in tables.items():
        getattr(world, name).clear()
        getattr(world, name).update(table)
    return world


def small_world():
    return another_world(
        SENTENCES_PER_STORY={1: 0.2, 2: 0.3, 3: 0.1, 4: 0.4},
        DOERS={"dog": 0.7, "mia": 0.3},
        DEEDS={
            "dog": {"ran up": {"hill": 0.9, "road": 0.1}},
            "child": {"sat on": {"road": 1.0}},
        },
        CHILDREN={"mia": 0.8, "ben": 0.2},
        THINGS={"ball": 0.6, "kite": 0.4},
        COLOURS={"ball": {"red": 1.0}, "kite": {"red": 0.25, "blue": 0.75}},
    )


# ── What was promised ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "before",
    [
        "",
        "mia has a red ball . ",
        "the cat ran up the tree . mia has a red ball . the dog ran up the road . who has the ball ? mia . ",
        "the dog ran up the hill . ben has a red hat . the hat is red . <end> ",
    ],
)
def test_where_the_dog_ran(before):
    chances = next_word_distribution(before + "the dog ran up the")
    promised = {"hill": 0.72, "road": 0.08, "yard": 0.06, "path": 0.02}
    assert {word: chances[word] for word in promised} == pytest.approx(promised, abs=1e-12)
    assert next(iter(chances)) == "hill" and all(KINDS[word] == "place" for word in chances)


def test_the_last_two_words_do_not_tell_the_place():
    def distance(one, other):
        one, other = next_word_distribution(one), next_word_distribution(other)
        return sum(abs(one.get(word, 0) - other.get(word, 0)) for word in VOCABULARY) / 2

    assert distance("the dog ran up the", "the cat ran up the") > 0.5
    assert distance("the dog ran up the", "the dog ran down the") > 0.5
    assert distance("the horse walked up the", "mia walked up the") > 0.5


def test_two_words_back_are_worse_than_the_truth(sampled):
    pairs, singles = Counter(), Counter()
    for words in sampled:
        pairs.update(zip(["<end>", *words], words, strict=False))
        singles.update(words)
    n = sum(singles.values())
    bigram = -sum(count / n * math.log(count / singles[before]) for (before, _), count in pairs.items())
    assert bigram > 1.25 * entropy_per_word()


def test_what_is_answered_was_told(sampled):
    answers = 0
    for words in sampled[:3000]:
        story = " ".join(words)
        told = {thing: (who, colour) for who, colour, thing in re.findall(r"(\w+) has a (\w+) (\w+) \.", story)}
        for thing, colour in re.findall(r"what colour is the (\w+) \? (\w+) \.", story):
            assert told[thing][1] == colour
            answers += 1
        for thing, colour in re.findall(r"the (\w+) is (\w+) \.", story):
            assert told[thing][1] == colour
            answers += 1
        for thing, who in re.findall(r"who has the (\w+) \? (\w+) \.", story):
            assert told[thing][0] == who
            answers += 1
    assert answers > 3000


# ── Exact ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_entropy_of_a_small_world_by_listing_all_its_stories():
    world = small_world()
    total, nats, words, pending = 0.0, 0.0, 0.0, [((), 1.0)]
    while pending:
        begun, p = pending.pop()
        for word, chance in world.next_word_distribution(begun).items():
            if word == "<end>":
                total += p * chance
                nats -= p * chance * math.log(p * chance)
                words += p * chance * (len(begun) + 1)
                assert world.log_probability((*begun, word)) == pytest.approx(math.log(p * chance), abs=1e-9)
            else:
                pending.append(((*begun, word), p * chance))
    assert total == pytest.approx(1, abs=1e-9)
    assert world._expected(0, 0)[1] == pytest.approx(words, abs=1e-9)
    assert world.entropy_per_word() == pytest.approx(nats / words, abs=1e-9)


def test_a_story_in_a_small_world_by_hand():
    world = small_world()
    world.SENTENCES.update({"did": 0.3, "has": 0.2, "colour": 0.1, "is": 0.15, "who": 0.25})
    steps = [
        0.3 / (0.3 + 0.2) * 0.7 * 0.9,  # the dog ran up the hill . (nobody has anything to look back at)
        0.8,  # the story goes on
        0.2 / (0.3 + 0.2) * 0.8 * 0.4 * 0.75,  # mia has a blue kite .
        0.5 / 0.8,  # goes on
        0.2 * 1.0 * 1.0 * 1.0,  # ben has a red ball . (ben and the ball are all that is left, and it is always red)
        0.4 / 0.5,  # goes on
        0.15 / 0.8 * 1 / 2,  # the kite is blue . (nobody is left to get something; the ball was as likely)
        1.0,  # ends, as all stories of four sentences do
    ]
    story = "the dog ran up the hill . mia has a blue kite . ben has a red ball . the kite is blue . <end>"
    assert world.log_probability(story) == pytest.approx(sum(map(math.log, steps)), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_words=st.integers(0, 120))
def test_the_chain_rule(seed, n_words):
    words = text(n_words, seed).split()
    total = 0.0
    for i, word in enumerate(words):
        chances = next_word_distribution(words[:i])
        assert sum(chances.values()) == pytest.approx(1, abs=1e-12) and min(chances.values()) > 0
        assert list(chances.values()) == sorted(chances.values(), reverse=True)
        total += math.log(chances[word])
    assert log_probability(words) == pytest.approx(total, abs=1e-9)
    assert log_probability(" ".join(words)) == log_probability(words)


# ── Against samples ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_next_words_of_a_million_sampled_words(sampled):
    """Every beginning of a story that came 200 times or more: what followed, against what should (chi-square)."""
    followed = defaultdict(Counter)
    for words in sampled:
        for i in range(min(len(words), 14)):
            followed[tuple(words[:i])][words[i]] += 1
    square, freedom, beginnings = 0.0, 0, 0
    for begun, counts in followed.items():
        n = counts.total()
        if n < 200:
            continue
        chances = next_word_distribution(begun)
        assert counts.keys() <= chances.keys(), f"after {' '.join(begun)!r} came what cannot come"
        bins = [(counts[word], n * p) for word, p in chances.items() if n * p >= 5]
        rare = n - sum(expected for _, expected in bins)
        if rare >= 5:
            bins.append((n - sum(count for count, _ in bins), rare))
        one = sum((count - expected) ** 2 / expected for count, expected in bins)
        assert one < len(bins) + 6 * math.sqrt(2 * len(bins)) + 6, f"{' '.join(begun)!r}: {counts} against {chances}"
        square, freedom, beginnings = square + one, freedom + len(bins) - 1, beginnings + 1
    assert beginnings > 120
    assert abs(square - freedom) < 4 * math.sqrt(2 * freedom)


def test_next_words_deep_in_stories(sampled):
    """Each word: how often it came, against the sum of its chances, within 4.5 standard deviations."""
    surplus, variance = Counter(), Counter()
    for words in random.Random(1).sample(sampled, 150):
        for i, word in enumerate(words):
            surplus[word] += 1
            for other, p in next_word_distribution(words[:i]).items():
                surplus[other] -= p
                variance[other] += p * (1 - p)
    assert {word for word in surplus if abs(surplus[word]) > 4.5 * math.sqrt(variance[word]) + 1e-6} == set()


def test_entropy_of_a_million_sampled_words(sampled):
    floor, n = entropy_per_word(), len(sampled)
    nats, lengths = [-log_probability(words) for words in sampled], [len(words) for words in sampled]
    # A story's nats less its words' share have mean 0; so the ratio's error is that of a mean over stories.
    off = [a - floor * b for a, b in zip(nats, lengths, strict=True)]
    error = math.sqrt(sum(x * x for x in off) / n) / math.sqrt(n) / (sum(lengths) / n)
    assert abs(sum(nats) / sum(lengths) - floor) < 4 * error < 0.005
    words_of_a_story = hill_world._expected(0, 0)[1]
    deviation = math.sqrt(sum((b - words_of_a_story) ** 2 for b in lengths) / n)
    assert abs(sum(lengths) / n - words_of_a_story) < 4 * deviation / math.sqrt(n)


# ── Stories ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_same_seed_tells_the_same_stories():
    assert list(islice(stories(7), 50)) == list(islice(stories(7), 50))
    assert list(islice(stories(7), 50)) != list(islice(stories(8), 50))
    assert text(1000, seed=7) == " ".join(" ".join(islice(stories(7), 100)).split()[:1000])
    assert text(0) == ""


def test_stories_are_distinct():
    told = list(islice(stories(0), 20_000))
    assert len(set(told)) > 0.99 * len(told)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_words(sampled):
    assert 80 <= len(VOCABULARY) == len(set(VOCABULARY)) <= 150
    assert {word for words in sampled for word in words} == set(VOCABULARY)
    expected = {"mia": "person", "dog": "animal", "hill": "place", "red": "colour", "ball": "thing", "ran": "verb"}
    assert {word: KINDS[word] for word in expected} == expected
    assert KINDS["up"] == "preposition" and KINDS["the"] == "article" and KINDS["<end>"] == KINDS["."] == "mark"
    some = text(500, seed=3)
    assert decode(encode(some)) == some and encode(some) == encode(some.split())
    assert encode(VOCABULARY) == list(range(len(VOCABULARY)))


TOLD = "the dog ran up the hill . mia has a red ball . "


@pytest.mark.parametrize(
    "say, message",
    [
        (lambda: encode("the zebra"), "'zebra' is not one of Hill World's"),
        (lambda: encode("The dog"), "write it in small letters"),
        (lambda: encode("the dog."), "put a space before it"),
        (lambda: decode([0, 500]), "ids must be whole numbers from 0 to"),
        (lambda: decode([-1]), "got -1"),
        (lambda: text(-1), "n_words must be 0 or more, got -1"),
        (lambda: next_word_distribution("the dog ran hill"), r"'hill' \(word 4\) cannot stand .* come down, up"),
        (lambda: next_word_distribution("dog ran up"), r"'dog' \(word 1\) cannot .*beginning: .*mia"),
        (lambda: next_word_distribution("the dog ran up the moon"), "word 6.*'moon' is not one of"),
        (lambda: log_probability(TOLD + "the ball is blue ."), r"'blue' \(word 17\).*there can come red"),
        (lambda: log_probability(TOLD + "ben has a blue ball ."), r"'ball' \(word 18\).*boat, "),
        (lambda: log_probability(TOLD + "mia has"), r"'has' \(word 15\)"),
        (lambda: log_probability(TOLD + "the hat"), r"'hat' \(word 15\).* come ball, cat"),
        (lambda: log_probability(TOLD + "<end>"), r"'<end>' \(word 14\)"),
        (lambda: log_probability("<end>"), r"'<end>' \(word 1\)"),
        (lambda: log_probability("the dog ran up the hill . what"), r"'what' \(word 8\)"),
    ],
)
def test_what_it_cannot_say(say, message):
    with pytest.raises(ValueError, match=message):
        say()


def test_no_story_is_longer_than_the_longest():
    world = small_world()
    longest = "mia has a red ball . " + "the ball is red . " * 3
    assert world.next_word_distribution(longest) == {"<end>": 1}
    with pytest.raises(ValueError, match=r"'the' \(word 22\) cannot stand .* there can come <end>"):
        world.next_word_distribution(longest + "the")


@pytest.mark.parametrize(
    "table, change, message",
    [
        ("SENTENCES", {"did": 0.9}, "SENTENCES must be chances above 0 that sum to 1, they sum to 1.56"),
        ("DOERS", {"dog": 0.0, "cat": 0.34}, "DOERS must be chances above 0"),
        ("THINGS", {"ball": 0.1, "shoe": 0.1}, "COLOURS has no row for shoe"),
    ],
)
def test_a_world_that_does_not_add_up(table, change, message):
    world = another_world()
    getattr(world, table).update(change)
    with pytest.raises(ValueError, match=message):
        next(world.stories())
