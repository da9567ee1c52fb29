import re
import unicodedata

import pytest

from course_lib.text_worlds.samples import EMOJI, NUMBERS, PYTHON, SAMPLES, STORY

SCRIPT = {"English": "LATIN", "German": "LATIN", "Russian": "CYRILLIC", "Hindi": "DEVANAGARI", "Chinese": "CJK"}


def shape(story):
    """How many sentences end in each paragraph."""
    return [re.findall(r"[.?？。।]", paragraph.replace("？", "?")) for paragraph in story.strip().split("\n\n")]


@pytest.mark.parametrize("language", STORY)
def test_a_story_is_in_its_language_and_composed(language):
    story = STORY[language]
    letters = [unicodedata.name(letter).split()[0] for letter in story if letter.isalpha()]
    assert set(letters) == {SCRIPT[language]}
    assert story == unicodedata.normalize("NFC", story)


@pytest.mark.parametrize("language", STORY)
def test_the_stories_are_parallel(language):
    ends = [re.sub(r"[^?]", ".", "".join(paragraph)) for paragraph in shape(STORY[language])]
    assert ends == [re.sub(r"[^?]", ".", "".join(paragraph)) for paragraph in shape(STORY["English"])]


def test_sizes():
    assert 950 < len(STORY["English"]) < 1150 and 950 < len(PYTHON) < 1150 and 950 < len(NUMBERS) < 1150
    assert "The dog ran up the hill" in STORY["English"]
    assert list(SAMPLES) == [*STORY, "Python code", "numbers", "emoji"]


def test_the_code_runs():
    names = {"__name__": "sample"}
    exec(PYTHON, names)
    assert names["walk"](names["PLACES"][0], 3) == ["church", "school", "market", "hill"]


def test_emoji_holds_no_letters_but_flags():
    assert not any(character.isalnum() or character.isspace() for character in EMOJI.rstrip("\n"))
