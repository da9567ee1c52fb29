"""The zoo's shapes against what their makers publish, and the formulas against models that were built."""

import pytest

from course_lib.pretrained.zoo import (
    UNPUBLISHED,
    ZOO,
    count_active_parameters,
    count_parameters,
    parameter_table,
    shape,
)

UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


def figure(text: str) -> tuple[float, float]:
    """What a published figure says and half of its last digit: "671B" → (671e9, 0.5e9)."""
    digits = text.replace(",", "")
    if digits.isdigit():
        return int(digits), 0
    number, unit = digits[:-1], UNITS[digits[-1]]
    return float(number) * unit, 0.5 * 10 ** -len(number.partition(".")[2]) * unit


@pytest.mark.parametrize("name", ZOO)
def test_the_published_number_of_parameters(name):
    model = ZOO[name]
    table, (published, rounding) = parameter_table(model), figure(model.published.parameters)
    count = count_parameters(model) - sum(table[part] for part in model.published.without)
    assert abs(count - published) <= max(published / 100, rounding)
    if not rounding and not model.published.counts:
        assert count == published


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].published.active])
def test_the_published_number_of_active_parameters(name):
    model = ZOO[name]
    table, (published, rounding) = parameter_table(model, active=True), figure(model.published.active)
    count = count_active_parameters(model) - sum(table[part] for part in model.published.active_without)
    assert abs(count - published) <= max(published / 100, rounding)


def test_names_that_are_not_in_the_zoo():
    with pytest.raises(ValueError, match="name must be a model of the zoo, got 'gpt-5': near it are 'gpt-4', "):
        shape("gpt-5")
    with pytest.raises(ValueError, match="the shape of 'gpt-4' is not published: the GPT-4 Technical Report"):
        shape("gpt-4")
    assert not set(UNPUBLISHED) & set(ZOO)
