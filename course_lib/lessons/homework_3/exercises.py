"""The exercises of homework 3, in their order."""

from course_lib.lessons.homework_3.cache import RUN_WITH_CACHE
from course_lib.lessons.homework_3.sampling import (
    COUNT_PENALTIES,
    FORBID_REPEATS,
    MIROSTAT_STEP,
    TOP_N_SIGMA,
    TYPICAL_TOKENS,
)
from course_lib.lessons.homework_3.stopping import WHERE_IT_STOPS
from course_lib.lessons.homework_3.study import PAIRED_STUDY
from course_lib.lessons.homework_3.training import STEP_GRADIENT, TRAIN_TO_FLOOR

EXERCISES = (
    STEP_GRADIENT,
    TRAIN_TO_FLOOR,
    COUNT_PENALTIES,
    FORBID_REPEATS,
    TYPICAL_TOKENS,
    TOP_N_SIGMA,
    MIROSTAT_STEP,
    RUN_WITH_CACHE,
    WHERE_IT_STOPS,
    PAIRED_STUDY,
)
