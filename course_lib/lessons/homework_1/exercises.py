"""The exercises of homework 1, in their order."""

from course_lib.lessons.homework_1.chat_bill import CHAT_BILLS
from course_lib.lessons.homework_1.encoding import DECODE_IDS, ENCODE_TEXT
from course_lib.lessons.homework_1.merges import BEST_PAIR, BYTE_WORDS, LEARN_MERGES
from course_lib.lessons.homework_1.rope import APPLY_ROPE, MOVE_KEYS

EXERCISES = (
    BYTE_WORDS,
    BEST_PAIR,
    LEARN_MERGES,
    ENCODE_TEXT,
    DECODE_IDS,
    CHAT_BILLS,
    APPLY_ROPE,
    MOVE_KEYS,
)
