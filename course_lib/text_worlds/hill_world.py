"""Hill World: a tiny language whose every probability is known.

Its stories are told in lower-case words with a space between them:

    mia has a red ball . the dog ran up the hill . omar has a blue kite . what colour is the ball ? red . <end>

A story is a walk through the tables below. A sentence either *tells* something new (who did what where, who has what)
or *looks back* at something that a child has in the same story (what colour is the ball), so that the right word is
known only to a reader who remembers. Since all the chances are written down here, the chance of each next word and the
entropy of the language are computed, not measured: a model trained on the stories can be held against the truth.

`<end>` marks a story's end, as `<|endoftext|>` does in GPT-2's training text. It is a word of its own: a text of many
stories is one row of words, a model must learn where stories end, and the entropy counts it. Nothing is remembered
past it.
"""

import math
import random
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Literal, NamedTuple

from course_lib.arguments import Whole, instance, several, shown, whole

# ── The world, as numbers ────────────────────────────────────────────────────────────────────────────────────────────
# All of these are chances. Change one and all below follows; `_check_the_world` says when a row does not sum to 1.

# How many sentences a story has.
SENTENCES_PER_STORY = {3: 0.15, 4: 0.20, 5: 0.25, 6: 0.20, 7: 0.12, 8: 0.08}

# Which kind of sentence comes next. A kind that cannot come (nobody has anything yet, or every child has something) is
# left out, and the chances of the others grow in proportion.
SENTENCES = {
    "did": 0.34,  # the dog ran up the hill .
    "has": 0.26,  # mia has a red ball .
    "colour": 0.12,
    "is": 0.12,
    "who": 0.16,
}

# The last three look back at what some child has; each that has something is as likely as the others.
LOOKING_BACK = {
    "colour": "what colour is the {thing} ? {colour} .",
    "is": "the {thing} is {colour} .",
    "who": "who has the {thing} ? {who} .",
}

# Who does something …
DOERS = {
    "dog": 0.20, "cat": 0.14, "duck": 0.09, "frog": 0.09, "hen": 0.08, "fox": 0.08, "horse": 0.08, "mouse": 0.06,
    "mia": 0.03, "omar": 0.03, "yuki": 0.03, "ravi": 0.03, "zola": 0.03, "ben": 0.03,
}  # fmt: skip

# … and what, and where. Each line of an animal is as likely as its other lines. All children play alike.
DEEDS = {
    "dog": {
        "ran up": dict(hill=0.72, road=0.08, yard=0.06, lane=0.04, stairs=0.03, bank=0.03, path=0.02, field=0.02),
        "ran down": dict(road=0.45, path=0.25, hill=0.15, stairs=0.10, lane=0.05),
        "jumped over": dict(fence=0.50, stream=0.25, log=0.15, wall=0.10),
        "slept under": dict(table=0.60, tree=0.20, cart=0.15, bench=0.05),
    },
    "cat": {
        "ran up": dict(tree=0.60, stairs=0.25, ladder=0.10, hill=0.05),
        "sat on": dict(wall=0.50, roof=0.30, bench=0.15, fence=0.05),
        "crept into": dict(kitchen=0.55, barn=0.35, cart=0.10),
        "slept under": dict(bench=0.45, cart=0.30, table=0.25),
    },
    "duck": {
        "swam across": dict(pond=0.65, river=0.25, stream=0.10),
        "walked round": dict(pond=0.55, barn=0.30, yard=0.15),
        "flew over": dict(river=0.50, field=0.30, bridge=0.20),
    },
    "frog": {
        "jumped into": dict(pond=0.70, stream=0.20, river=0.10),
        "jumped over": dict(log=0.60, stone=0.40),
        "sat on": dict(stone=0.55, log=0.40, bridge=0.05),
    },
    "hen": {
        "ran round": dict(yard=0.70, barn=0.20, tree=0.10),
        "sat on": dict(fence=0.45, cart=0.30, roof=0.25),
        "walked into": dict(garden=0.60, kitchen=0.30, yard=0.10),
    },
    "fox": {
        "crept round": dict(barn=0.65, garden=0.25, field=0.10),
        "ran down": dict(hill=0.50, bank=0.30, path=0.20),
        "slept under": dict(tree=0.70, bridge=0.20, log=0.10),
    },
    "horse": {
        "ran round": dict(field=0.75, hill=0.15, pond=0.10),
        "walked up": dict(lane=0.55, road=0.35, hill=0.10),
        "jumped over": dict(wall=0.45, stream=0.30, fence=0.25),
    },
    "mouse": {
        "ran up": dict(clock=0.70, ladder=0.15, stairs=0.10, wall=0.05),
        "crept under": dict(stairs=0.45, clock=0.30, stone=0.25),
        "slept on": dict(clock=0.50, table=0.30, roof=0.20),
    },
    "child": {
        "walked up": dict(hill=0.40, path=0.30, stairs=0.20, bank=0.10),
        "climbed up": dict(tree=0.50, ladder=0.35, wall=0.15),
        "ran across": dict(bridge=0.45, field=0.35, yard=0.20),
        "sat under": dict(tree=0.70, bridge=0.20, table=0.10),
    },
}

# Who has something, what, and of which colour. In a story a child gets one thing, and there is one of each thing: those
# that have been told of are left out, and the chances of the others grow in proportion.
CHILDREN = {"mia": 0.25, "omar": 0.15, "yuki": 0.15, "ravi": 0.15, "zola": 0.15, "ben": 0.15}
THINGS = {
    "ball": 0.20, "kite": 0.15, "boat": 0.15, "hat": 0.15, "drum": 0.10, "scarf": 0.10, "cup": 0.08, "lamp": 0.07,
}  # fmt: skip
COLOURS = {
    "ball": dict(red=0.40, blue=0.20, green=0.15, yellow=0.15, white=0.05, black=0.05),
    "kite": dict(red=0.25, blue=0.20, green=0.15, yellow=0.30, white=0.05, black=0.05),
    "boat": dict(red=0.20, blue=0.30, green=0.10, yellow=0.05, white=0.30, black=0.05),
    "hat": dict(red=0.15, blue=0.15, green=0.15, yellow=0.10, white=0.10, black=0.35),
    "drum": dict(red=0.40, blue=0.20, green=0.10, yellow=0.10, white=0.05, black=0.15),
    "scarf": dict(red=0.20, blue=0.20, green=0.25, yellow=0.15, white=0.10, black=0.10),
    "cup": dict(red=0.10, blue=0.30, green=0.15, yellow=0.10, white=0.30, black=0.05),
    "lamp": dict(red=0.10, blue=0.05, green=0.20, yellow=0.35, white=0.20, black=0.10),
}

END = "<end>"
MOST_WORDS = 100_000_000  # of `text`: half a gigabyte


# ── Its words ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _kinds() -> dict[str, str]:
    deeds = [deed.split() for rows in DEEDS.values() for deed in rows]
    places = [place for rows in DEEDS.values() for row in rows.values() for place in row]
    groups = {
        "mark": [END, ".", "?"],
        "article": ["the", "a"],
        "question": ["what", "who", "colour"],
        "verb": ["is", "has", *(verb for verb, _ in deeds)],
        "preposition": [preposition for _, preposition in deeds],
        "person": CHILDREN,
        "animal": [who for who in DOERS if who not in CHILDREN],
        "thing": THINGS,
        "colour": [colour for row in COLOURS.values() for colour in row],
        "place": places,
    }
    return {word: kind for kind, words in groups.items() for word in words}


KINDS: dict[str, str] = _kinds()  # each word's kind: "animal", "place", "verb", …
VOCABULARY: tuple[str, ...] = tuple(KINDS)  # a word's id is its place here
_IDS = {word: id for id, word in enumerate(VOCABULARY)}


def encode(text: str | Sequence[str]) -> list[int]:
    """The id of each word, its place in VOCABULARY.

    Raises:
        ValueError: a word that Hill World does not have.
    """
    try:
        return list(map(_IDS.__getitem__, _words(text)))
    except KeyError as error:
        raise ValueError(_unknown(error.args[0])) from None


def decode(ids: Sequence[int]) -> str:
    """The words of these ids, with a space between them.

    Raises:
        ValueError: a number that is no word's id.
    """
    words = []
    for id in several("ids", ids, "a list of token ids"):
        try:
            words.append(VOCABULARY[whole("id", id, 0, len(VOCABULARY) - 1)])
        except ValueError:
            raise ValueError(f"ids must be whole numbers from 0 to {len(VOCABULARY) - 1}, got {shown(id)}") from None
    return " ".join(words)


def _words(text: str | Sequence[str]) -> list[str]:
    if isinstance(text, str):
        return text.split()
    words = several("text", text, "words with a space between them, or a list of words")
    return [instance("each word of text", word, str) for word in words]


def _unknown(word: str) -> str:
    hint = ": write it in small letters" if word.lower() in KINDS else ""
    hint = hint or (": put a space before it" if word[-1:] in ".?" else "; VOCABULARY lists all that there are")
    return f"{word!r} is not one of Hill World's {len(VOCABULARY)} words{hint}"


# ── Its sentences ────────────────────────────────────────────────────────────────────────────────────────────────────
class Telling(NamedTuple):
    """A sentence that tells something new."""

    sentence: str
    probability: float  # among the sentences of its kind, while nobody has anything
    fact: dict[str, str]  # what a later sentence can look back at: who has which thing of what colour


class Story:
    """What a story has told so far: all that the chances of its next word depend on."""

    def __init__(self):
        self.length = 0  # sentences
        self.facts: list[dict[str, str]] = []
        self.taken: set[str] = set()  # the children that have something, and their things

    def add(self, telling: Telling | None) -> None:
        """One more sentence, and what it told, if it told something new."""
        self.length += 1
        if telling is not None and telling.fact:
            self.facts.append(telling.fact)
            self.taken.update((telling.fact["who"], telling.fact["thing"]))

    def end(self) -> float:
        """The chance that the story ends here."""
        return _end_probability(self.length)

    def kinds(self) -> dict[str, float]:
        """The chance of each kind of sentence, if one comes."""
        return _kind_probabilities(len(self.facts))

    def can(self, telling: Telling) -> bool:
        """Whether the child that it tells of has nothing yet, and the thing is nobody's."""
        return not telling.fact or self.taken.isdisjoint(telling.fact.values())

    def share(self, kind: str) -> float:
        """Of this kind's tellings, weighed by their chances: the part that can still come."""
        if kind == "did":
            return 1.0
        return math.prod(sum(p for name, p in cast.items() if name not in self.taken) for cast in (CHILDREN, THINGS))


@cache
def _tellings() -> dict[str, list[Telling]]:
    """All the sentences that tell something new, by kind."""
    _check_the_world()
    did = []
    for who, chance in DOERS.items():
        name, rows = (who, DEEDS["child"]) if who in CHILDREN else (f"the {who}", DEEDS[who])
        for deed, places in rows.items():
            for place, p in places.items():
                did.append(Telling(f"{name} {deed} the {place} .", chance / len(rows) * p, {}))
    has = [
        Telling(f"{who} has a {colour} {thing} .", p * q * r, dict(who=who, colour=colour, thing=thing))
        for who, p in CHILDREN.items()
        for thing, q in THINGS.items()
        for colour, r in COLOURS[thing].items()
    ]
    return {"did": did, "has": has}


@cache
def _by_sentence() -> dict[str, tuple[str, Telling]]:
    return {telling.sentence: (kind, telling) for kind, tellings in _tellings().items() for telling in tellings}


@cache
def _end_probability(length: int) -> float:
    """The chance that a story which has `length` sentences has no more."""
    at_least = sum(p for n, p in SENTENCES_PER_STORY.items() if n >= length)
    return SENTENCES_PER_STORY.get(length, 0.0) / at_least if length < max(SENTENCES_PER_STORY) else 1.0


@cache
def _kind_probabilities(have: int) -> dict[str, float]:
    """The chance of each kind of sentence when `have` children have something."""
    impossible = {*LOOKING_BACK} if have == 0 else {"has"} if have == min(len(CHILDREN), len(THINGS)) else set()
    possible = {kind: p for kind, p in SENTENCES.items() if kind not in impossible}
    return {kind: p / sum(possible.values()) for kind, p in possible.items()}


def _sentences(story: Story) -> dict[str, float]:
    """Every sentence that can come next, and its chance. What is missing to 1 is the chance that the story ends."""
    chances = {}
    for kind, p in story.kinds().items() if story.end() < 1 else ():
        p *= 1 - story.end()
        if kind in LOOKING_BACK:
            chances |= {LOOKING_BACK[kind].format(**fact): p / len(story.facts) for fact in story.facts}
        else:
            p /= story.share(kind)
            chances |= {new.sentence: p * new.probability for new in _tellings()[kind] if story.can(new)}
    return chances


# ── What comes next ──────────────────────────────────────────────────────────────────────────────────────────────────
def next_word_distribution(prefix: str | Sequence[str] = "") -> dict[str, float]:
    """The exact chance of each word that can follow `prefix`, the likeliest first.

    `prefix` begins where a story begins and may run over several stories; "" is a story's beginning. The chances follow
    from the tables: every sentence that can stand here and begins with the words of the unfinished one is weighed.

    Raises:
        ValueError: Hill World cannot say this; the message names the first word that cannot stand where it stands.
    """
    story, begun, _ = _follow(_words(prefix))
    return _next_words(story, begun)


def log_probability(text: str | Sequence[str]) -> float:
    """ln P(text), exact, in nats: divide by the number of words for nats per word.

    `text` begins where a story begins. It may run over several stories and break off anywhere. A model's loss on the
    same words, less −log_probability(text) / words, is what the model has not learned.

    Raises:
        ValueError: as in `next_word_distribution`.
    """
    story, begun, total = _follow(_words(text))
    if begun:
        total += math.log(sum(p for sentence, p in _sentences(story).items() if _begins(sentence, begun)))
    return total


def _follow(words: list[str]) -> tuple[Story, list[str], float]:
    """The story after these words, the words of its unfinished sentence, and ln P of all that is finished."""
    story, begun, total = Story(), [], 0.0
    for position, word in enumerate(words):
        if word == END and not begun and story.end() > 0:
            total += math.log(story.end())
            story = Story()
            continue
        begun.append(word)
        if word == ".":
            p, telling = _recognise(" ".join(begun), story)
            if p == 0:
                raise ValueError(_cannot_stand(words[: position + 1], len(begun), story))
            total += math.log(p)
            story.add(telling)
            begun = []
    if begun and not any(_begins(sentence, begun) for sentence in _sentences(story)):
        raise ValueError(_cannot_stand(words, len(begun), story))
    return story, begun, total


def _recognise(sentence: str, story: Story) -> tuple[float, Telling | None]:
    """The sentence's chance, as in `_sentences(story)` but found far faster; and what it tells, if it does."""
    goes_on, kinds = 1 - story.end(), story.kinds()
    if sentence in _by_sentence():
        kind, telling = _by_sentence()[sentence]
        possible = kind in kinds and story.can(telling)
        return goes_on * kinds[kind] * telling.probability / story.share(kind) if possible else 0.0, telling
    for kind, pattern in LOOKING_BACK.items():
        if any(pattern.format(**fact) == sentence for fact in story.facts):
            return goes_on * kinds[kind] / len(story.facts), None
    return 0.0, None


def _next_words(story: Story, begun: list[str]) -> dict[str, float]:
    chances = {} if begun else {END: story.end()}
    for sentence, p in _sentences(story).items():
        if _begins(sentence, begun):
            word = sentence.split(" ", len(begun) + 1)[len(begun)]
            chances[word] = chances.get(word, 0.0) + p
    total = sum(chances.values())
    return {word: p / total for word, p in sorted(chances.items(), key=lambda pair: -pair[1]) if p > 0}


def _begins(sentence: str, begun: list[str]) -> bool:
    return not begun or sentence.startswith(" ".join(begun) + " ")


def _cannot_stand(words: list[str], begun: int, story: Story) -> str:
    """The first word that cannot stand where it stands lies in the last `begun` words; what could stand there?"""
    for position in range(len(words) - begun, len(words)):
        possible = _next_words(story, words[len(words) - begun : position])
        if words[position] not in possible:
            break
    word, before = words[position], " ".join(words[max(0, position - 8) : position])
    if word not in KINDS:
        return f"prefix has, as word {position + 1}, something that cannot stand there: {_unknown(word)}"
    where = f"after {'… ' if position > 8 else ''}{before!r}" if position else "at a story's beginning"
    return f"{word!r} (word {position + 1}) cannot stand {where}: there can come {', '.join(sorted(possible))}"


# ── Stories ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def stories(seed: Whole = 0) -> Iterator[str]:
    """Stories without end, each closed by <end>; the same for the same seed, on every machine."""
    draw = random.Random(whole("seed", seed)).random  # Python promises this method's sequence for ever
    tellings = {kind: (new, _heap_up(telling.probability for telling in new)) for kind, new in _tellings().items()}

    def choose(options: list, heaped: list[float]):
        return options[bisect(heaped, draw())]

    while True:
        story, sentences = Story(), []
        while draw() >= story.end():
            kind, telling = choose(*_kinds_heaped_up(len(story.facts))), None
            if kind in LOOKING_BACK:
                fact = story.facts[int(draw() * len(story.facts))]
                sentences.append(LOOKING_BACK[kind].format(**fact))
            else:
                telling = choose(*tellings[kind])
                while not story.can(telling):  # to draw again is to scale the chances of the others up
                    telling = choose(*tellings[kind])
                sentences.append(telling.sentence)
            story.add(telling)
        yield " ".join([*sentences, END])


def text(n_words: Whole, seed: Whole = 0) -> str:
    """The first `n_words` words of stories(seed), one story after the other; the last one may break off.

    Raises:
        ValueError: n_words is negative, or more than fit into a text.
    """
    if (n_words := whole("n_words", n_words)) < 0:
        raise ValueError(f"n_words must be 0 or more, got {n_words}")
    if n_words > MOST_WORDS:
        raise ValueError(f"n_words must be at most {MOST_WORDS:,}, got {n_words}: stories(seed) gives them one by one")
    words, source = [], stories(seed)
    while len(words) < n_words:
        words += next(source).split()
    return " ".join(words[:n_words])


@cache
def _kinds_heaped_up(have: int) -> tuple[list[str], list[float]]:
    chances = _kind_probabilities(have)
    return list(chances), _heap_up(chances.values())


def _heap_up(chances: Iterable[float]) -> list[float]:
    """Running sums. The last is 1 even where rounding left a little less: every draw below 1 finds its place."""
    sums = list(accumulate(chances))
    return [*sums[:-1], 1.0]


# ── Entropy ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@cache
def entropy_per_word() -> float:
    """How many nats one word of Hill World carries on average, <end> counted: no model's loss can stay below.

    Exact: (expected −ln P of a story) / (expected words of a story), which is what the mean −ln P of a long text tends
    to. There is one way to make a given story, so its −ln P is a sum over the choices made, and the expectation is a
    sum of entropies of choices. `_expected` adds them up backwards from a story's end. The kinds of sentence that can
    come depend only on how many children have something; which children they are changes who can come next, and there
    `_draws` averages over every set of them.
    """
    nats, words = _expected(0, 0)
    return nats / words


@cache
def _expected(length: int, have: int) -> tuple[float, float]:
    """Expected nats and words to a story's end, after `length` sentences, when `have` children have something."""
    end = _end_probability(length)
    nats, words = _entropy((end, 1 - end)), end
    kinds = _kind_probabilities(have) if end < 1 else {}
    nats += (1 - end) * _entropy(kinds.values())
    for kind, p in kinds.items():
        of_this, of_the_rest = _expected_of(kind, have), _expected(length + 1, have + (kind == "has"))
        nats += (1 - end) * p * (of_this[0] + of_the_rest[0])
        words += (1 - end) * p * (of_this[1] + of_the_rest[1])
    return nats, words


@cache
def _expected_of(kind: str, have: int) -> tuple[float, float]:
    """Expected nats and words of one sentence of this kind, when `have` children have something."""
    if kind in LOOKING_BACK:
        return math.log(have), _count(LOOKING_BACK[kind])  # each {…} of the pattern stands for one word
    if kind == "did":
        did = _tellings()["did"]
        return _entropy(new.probability for new in did), sum(new.probability * _count(new.sentence) for new in did)
    who, thing = _draws("children")[have], _draws("things")[have]
    colour = sum(p * _entropy(COLOURS[name].values()) for name, p in thing.chances.items())
    return who.nats + thing.nats + colour, _count("{who} has a {colour} {thing} .")


class Draw(NamedTuple):
    """One of several draws without putting back, averaged over all that may have been drawn before it."""

    nats: float  # its entropy
    chances: dict[str, float]  # of each to be drawn in it


@cache
def _draws(cast: Literal["children", "things"]) -> list[Draw]:
    """The first, second, … of the children that are told to have something; or of their things."""
    chances = {"children": CHILDREN, "things": THINGS}[cast]
    draws, sets = [], {frozenset(): 1.0}  # every set that may have been drawn, and its chance
    for _ in chances:
        nats, average, larger = 0.0, dict.fromkeys(chances, 0.0), {}
        for drawn, p in sets.items():
            left = {name: chance for name, chance in chances.items() if name not in drawn}
            total = sum(left.values())
            nats += p * _entropy(chance / total for chance in left.values())
            for name, chance in left.items():
                q = p * chance / total
                average[name] += q
                larger[drawn | {name}] = larger.get(drawn | {name}, 0.0) + q
        draws.append(Draw(nats, average))
        sets = larger
    return draws


def _count(sentence: str) -> int:
    return len(sentence.split())


def _entropy(chances: Iterable[float]) -> float:
    return -sum(p * math.log(p) for p in chances if p > 0)


# ── Is it a world? ───────────────────────────────────────────────────────────────────────────────────────────────────
def _check_the_world() -> None:
    """Every row of chances sums to 1, and names only what the other tables know.

    Raises:
        ValueError: one does not.
    """
    rows = {"SENTENCES_PER_STORY": SENTENCES_PER_STORY, "SENTENCES": SENTENCES, "DOERS": DOERS}
    rows |= {"CHILDREN": CHILDREN, "THINGS": THINGS}
    rows |= {f"COLOURS[{thing!r}]": row for thing, row in COLOURS.items()}
    rows |= {f"DEEDS[{who!r}][{deed!r}]": row for who, deeds in DEEDS.items() for deed, row in deeds.items()}
    for name, row in rows.items():
        if not math.isclose(sum(row.values()), 1, abs_tol=1e-9) or min(row.values()) <= 0:
            raise ValueError(f"{name} must be chances above 0 that sum to 1, they sum to {sum(row.values()):.6g}")
    for name, missing in {
        "DEEDS": {who for who in DOERS if who not in CHILDREN} - DEEDS.keys(),
        "COLOURS": THINGS.keys() - COLOURS.keys(),
        "LOOKING_BACK": SENTENCES.keys() - LOOKING_BACK.keys() - {"did", "has"},
    }.items():
        if missing:
            raise ValueError(f"{name} has no row for {', '.join(sorted(missing))}")
