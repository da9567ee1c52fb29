import math

import torch
from lessons.proof import Proof

# ---- sinusoid_table -------------------------------------------------------------------------------

sinusoid_table = Proof("sinusoid_table")


def angles_of(n_positions, d_model):
    return torch.arange(n_positions)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)


def filled(angles, sines, cosines):
    table = torch.zeros(len(angles), 2 * angles.shape[1])
    table[:, sines], table[:, cosines] = angles.sin(), angles.cos()
    return table


@sinusoid_table.right
def every_other_column(n_positions, d_model):
    return filled(angles_of(n_positions, d_model), slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.right
def loops_of_plain_python(n_positions, d_model):
    table = torch.zeros(n_positions, d_model)
    for position in range(n_positions):
        for i in range(d_model // 2):
            angle = position / 10_000 ** (2 * i / d_model)
            table[position, 2 * i], table[position, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return table


@sinusoid_table.right
def by_complex_numbers(n_positions, d_model):
    angles = angles_of(n_positions, d_model).double()
    waves = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(waves).flip(-1).flatten(1)


@sinusoid_table.right
def a_cosine_is_a_shifted_sine(n_positions, d_model):
    columns = torch.arange(d_model)
    angles = torch.arange(n_positions)[:, None] * torch.exp(-math.log(10_000) * (columns - columns % 2) / d_model)
    return torch.sin(angles + columns % 2 * math.pi / 2)


@sinusoid_table.wrong("column 0 is a sine")
def cosines_first(n_positions, d_model):
    return filled(angles_of(n_positions, d_model), slice(1, None, 2), slice(0, None, 2))


@sinusoid_table.wrong("all sines stand first")
def two_halves(n_positions, d_model):
    angles = angles_of(n_positions, d_model)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


@sinusoid_table.wrong("count from 1")
def from_position_1(n_positions, d_model):
    return every_other_column(n_positions + 1, d_model)[1:]


@sinusoid_table.wrong("taken as degrees")
def in_degrees(n_positions, d_model):
    return filled(angles_of(n_positions, d_model) * math.pi / 180, slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.wrong("lacks its 2")
def half_the_exponent(n_positions, d_model):
    i = torch.arange(d_model // 2)
    angles = torch.arange(n_positions)[:, None] / 10_000 ** (i / d_model)
    return filled(angles, slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.wrong("the exponent is i itself")
def exponent_i(n_positions, d_model):
    i = torch.arange(d_model // 2)
    angles = torch.arange(n_positions)[:, None] / 10_000.0**i
    return filled(angles, slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.wrong("turn faster")
def multiplied(n_positions, d_model):
    angles = torch.arange(n_positions)[:, None] * 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return filled(angles, slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.wrong("turn at different speeds")
def each_column_its_exponent(n_positions, d_model):
    table = torch.zeros(n_positions, d_model)
    for position in range(n_positions):
        for column in range(d_model):
            angle = position / 10_000 ** (column / d_model)
            table[position, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


@sinusoid_table.wrong("share one, that of their pair")
def an_angle_for_each_column(n_positions, d_model):
    table = torch.zeros(n_positions, d_model)
    for position in range(n_positions):
        for column in range(d_model):
            angle = position / 10_000 ** (2 * column / d_model)
            table[position, column] = math.sin(angle) if column % 2 == 0 else math.cos(angle)
    return table


@sinusoid_table.wrong("the 2 is there twice")
def twice_2i(n_positions, d_model):
    i = torch.arange(0, d_model, 2)
    angles = torch.arange(n_positions)[:, None] / 10_000 ** (2 * i / d_model)
    return filled(angles, slice(0, None, 2), slice(1, None, 2))


@sinusoid_table.wrong("columns and positions are exchanged")
def on_its_side(n_positions, d_model):
    return every_other_column(n_positions, d_model).T


@sinusoid_table.wrong("all pairs turn at the same speed")
def one_speed(n_positions, d_model):
    angles = torch.arange(n_positions)[:, None].expand(n_positions, d_model // 2)
    return filled(angles, slice(0, None, 2), slice(1, None, 2))


# ---- rotate_pairs ---------------------------------------------------------------------------------

rotate_pairs = Proof("rotate_pairs")


@rotate_pairs.right
def two_halves_side_by_side(x, angles):
    n = x.shape[-1] // 2
    a, b = x[:, :n], x[:, n:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=1)


@rotate_pairs.right
def complex_numbers(x, angles):
    turned = torch.complex(*x.chunk(2, dim=-1)) * torch.exp(1j * angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


@rotate_pairs.right
def as_transformers_writes_it(x, angles):
    angles = torch.cat((angles, angles), dim=-1)
    a, b = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat((-b, a), dim=-1) * angles.sin()


@rotate_pairs.right
def pair_by_pair(x, angles):
    result = torch.zeros_like(x)
    half = x.shape[1] // 2
    for p in range(len(x)):
        for i in range(half):
            c, s = math.cos(angles[p, i]), math.sin(angles[p, i])
            result[p, i] = x[p, i] * c - x[p, i + half] * s
            result[p, i + half] = x[p, i] * s + x[p, i + half] * c
    return result


def evens_and_odds(x, angles):
    a, b = x[:, 0::2], x[:, 1::2]
    return a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()


@rotate_pairs.wrong("the pairs are neighbours")
def neighbours(x, angles):
    return torch.stack(evens_and_odds(x, angles), dim=-1).flatten(1)


@rotate_pairs.wrong("come out as neighbours")
def halves_in_neighbours_out(x, angles):
    a, b = two_halves_side_by_side(x, angles).chunk(2, dim=1)
    return torch.stack((a, b), dim=-1).reshape(x.shape)


@rotate_pairs.wrong("goes in as neighbours and comes out as halves")
def neighbours_in_halves_out(x, angles):
    return torch.cat(evens_and_odds(x, angles), dim=-1)


@rotate_pairs.wrong("the other way round")
def clockwise(x, angles):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() + b * angles.sin(), -a * angles.sin() + b * angles.cos()), dim=-1)


@rotate_pairs.wrong("taken as degrees")
def degrees(x, angles):
    return two_halves_side_by_side(x, angles * math.pi / 180)


@rotate_pairs.wrong("by the first row's angles")
def one_position_for_all(x, angles):
    return two_halves_side_by_side(x, angles[0])


@rotate_pairs.wrong("nothing turns")
def unchanged(x, angles):
    return x.clone()


@rotate_pairs.wrong("keep the old one")
def with_the_new_first_number(x, angles):
    a, b = x.chunk(2, dim=-1)
    a = a * angles.cos() - b * angles.sin()
    b = a * angles.sin() + b * angles.cos()
    return torch.cat((a, b), dim=-1)


@rotate_pairs.wrong("change their length")
def plus_and_plus(x, angles):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)


@rotate_pairs.wrong("wrong sign before b")
def minus_and_minus(x, angles):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() - b * angles.cos()), dim=-1)


@rotate_pairs.wrong("sine and cosine have changed places")
def sine_for_cosine(x, angles):
    return two_halves_side_by_side(x, math.pi / 2 - angles)


@rotate_pairs.wrong("one angle does for all pairs")
def first_angle(x, angles):
    return two_halves_side_by_side(x, angles[:, 0:1])


@rotate_pairs.wrong("it changes what it was given")
def in_place(x, angles):
    x[:] = two_halves_side_by_side(x, angles)
    return x


@rotate_pairs.wrong("it returns the shape")
def half_of_it(x, angles):
    a, b = x.chunk(2, dim=-1)
    return a * angles.cos() - b * angles.sin()


# ---- score_at_distance ----------------------------------------------------------------------------

score_at_distance = Proof("score_at_distance")


def rates(d_head):
    return 10_000 ** (-torch.arange(0, d_head, 2) / d_head)


def turn(vector, angles):
    return two_halves_side_by_side(vector[None], angles[None])[0]


@score_at_distance.right
def by_the_library(query, key, distance):
    from course_lib.input_processing.positions import rotate, rotation_angles

    return rotate(query[None], rotation_angles(torch.tensor([distance]), len(query)))[0] @ key


@score_at_distance.right
def the_key_turned_back(query, key, distance):
    return query @ turn(key, -distance * rates(len(query)))


@score_at_distance.right
def both_turned_somewhere(query, key, distance):
    speeds = rates(len(query))
    return turn(query, (50 + distance) * speeds).dot(turn(key, 50 * speeds)).item()


@score_at_distance.right
def complex_product(query, key, distance):
    q, k = torch.complex(*query.chunk(2)), torch.complex(*key.chunk(2))
    return float((q * k.conj() * torch.exp(1j * distance * rates(len(query)))).real.sum())


@score_at_distance.wrong("divided by √d_head")
def scaled(query, key, distance):
    return by_the_library(query, key, distance) / len(query) ** 0.5


@score_at_distance.wrong("the distance plays no part")
def positions_ignored(query, key, distance):
    return query @ key


@score_at_distance.wrong("it turns the wrong way")
def key_turned_on(query, key, distance):
    return query @ turn(key, distance * rates(len(query)))


@score_at_distance.wrong("counts twice")
def both_turned_apart(query, key, distance):
    speeds = rates(len(query))
    return turn(query, distance * speeds) @ turn(key, -distance * speeds)


@score_at_distance.wrong("counts like 1")
def without_direction(query, key, distance):
    return by_the_library(query, key, abs(distance))


@score_at_distance.wrong("as if it stood beside it")
def no_negative_distance(query, key, distance):
    return by_the_library(query, key, max(distance, 0))


@score_at_distance.wrong("the 2 is there twice")
def exponent_4i_over_d(query, key, distance):
    i = torch.arange(0, len(query), 2)
    return turn(query, distance * 10_000 ** (-2 * i / len(query))) @ key


@score_at_distance.wrong("the pairs are neighbours")
def neighbouring_pairs(query, key, distance):
    angles = (distance * rates(len(query)))[None]
    return neighbours(query[None], angles)[0] @ key


@score_at_distance.wrong("taken as degrees")
def distance_in_degrees(query, key, distance):
    return turn(query, torch.deg2rad(distance * rates(len(query)))) @ key


@score_at_distance.wrong("lacks its 2")
def exponent_i_over_d(query, key, distance):
    return turn(query, distance * 10_000 ** (-torch.arange(len(query) // 2) / len(query))) @ key


@score_at_distance.wrong("the exponent is i itself")
def powers_of_theta(query, key, distance):
    return turn(query, distance * 10_000.0 ** -torch.arange(len(query) // 2)) @ key


@score_at_distance.wrong("gives another value than it should")
def positive_exponent(query, key, distance):
    return turn(query, distance / rates(len(query))) @ key


@score_at_distance.wrong("all pairs turn at the same speed")
def radian_a_step(query, key, distance):
    return turn(query, distance * torch.ones(len(query) // 2)) @ key


@score_at_distance.wrong("and a float is asked for")
def all_products(query, key, distance):
    return turn(query, distance * rates(len(query))) * key


# ---- alibi_table ----------------------------------------------------------------------------------

alibi_table = Proof("alibi_table")


def apart(n):
    return (torch.arange(n)[:, None] - torch.arange(n)).abs()


def slopes(n_heads):
    return 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)


@alibi_table.right
def broadcast(n_heads, n):
    return -slopes(n_heads)[:, None, None] * apart(n)


@alibi_table.right
def three_loops(n_heads, n):
    first = 2 ** (-8 / n_heads)
    table = [[[-(first ** (h + 1)) * abs(i - j) for j in range(n)] for i in range(n)] for h in range(n_heads)]
    return torch.tensor(table)


@alibi_table.right
def by_einsum(n_heads, n):
    return torch.einsum("h,qk->hqk", slopes(n_heads), -apart(n).float())


@alibi_table.wrong("far keys gain")
def a_bonus(n_heads, n):
    return slopes(n_heads)[:, None, None] * apart(n)


@alibi_table.wrong("gets a bonus")
def signed(n_heads, n):
    i = torch.arange(n)
    return -slopes(n_heads)[:, None, None] * (i[:, None] - i[None, :])


@alibi_table.wrong("are free")
def only_the_past(n_heads, n):
    return broadcast(n_heads, n).tril()


@alibi_table.wrong("keys after the query are masked")
def the_future_masked(n_heads, n):
    return broadcast(n_heads, n).masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)


@alibi_table.wrong("from the first key")
def key_positions(n_heads, n):
    return -slopes(n_heads)[:, None, None] * torch.arange(n).expand(n, n)


@alibi_table.wrong("right for 8 heads alone")
def halves_each_time(n_heads, n):
    return -(2.0 ** -torch.arange(1, n_heads + 1))[:, None, None] * apart(n)


@alibi_table.wrong("the first head has the slope 1")
def heads_from_0(n_heads, n):
    return -(2.0 ** (-8 * torch.arange(n_heads) / n_heads))[:, None, None] * apart(n)


@alibi_table.wrong("all heads have the same slope")
def one_slope(n_heads, n):
    return (-(2.0 ** (-8 / n_heads)) * apart(n)).expand(n_heads, n, n)


@alibi_table.wrong("the steepest is first")
def flattest_first(n_heads, n):
    return broadcast(n_heads, n).flip(0)


@alibi_table.wrong("the bare distance")
def no_slope(n_heads, n):
    return (-1.0 * apart(n)).expand(n_heads, n, n)


@alibi_table.wrong("pays to look at itself")
def counted_from_1(n_heads, n):
    return -slopes(n_heads)[:, None, None] * (apart(n) + 1)


@alibi_table.wrong("returns the shape")
def heads_last(n_heads, n):
    return -apart(n)[:, :, None] * slopes(n_heads)
