"""The exercises of homework 2, in their order."""

from course_lib.lessons.homework_2.attention import GROUPED_ATTENTION
from course_lib.lessons.homework_2.counting import COUNT_BY_SHAPE
from course_lib.lessons.homework_2.induction import FIND_INDUCTION_HEAD
from course_lib.lessons.homework_2.layer import FEED_FORWARD_HALF, REPAIRED_BLOCK, RUN_LAYER
from course_lib.lessons.homework_2.masking import MASKED_WEIGHTS

EXERCISES = (
    MASKED_WEIGHTS,
    GROUPED_ATTENTION,
    FEED_FORWARD_HALF,
    RUN_LAYER,
    FIND_INDUCTION_HEAD,
    COUNT_BY_SHAPE,
    REPAIRED_BLOCK,
)
