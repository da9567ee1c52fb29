"""The exercises of homework 4, in their order."""

from course_lib.lessons.homework_4.chat import CHAT_IDS
from course_lib.lessons.homework_4.fault import FIND_FAULT
from course_lib.lessons.homework_4.file import UNPACK_Q4_1, UNPACK_Q8_0
from course_lib.lessons.homework_4.loop import ANSWER_IDS
from course_lib.lessons.homework_4.model import ATTENTION_HALF, MODEL_SCORES, TURN_HEADS

EXERCISES = (
    UNPACK_Q4_1,
    UNPACK_Q8_0,
    CHAT_IDS,
    TURN_HEADS,
    ATTENTION_HALF,
    MODEL_SCORES,
    ANSWER_IDS,
    FIND_FAULT,
)
