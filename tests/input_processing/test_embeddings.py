"""Look-ups, gradients and neighbours, held against PyTorch and NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.input_processing.embeddings import (
    cosine_similarity,
    embed,
    embedding_gradient,
    nearest,
    principal_axes,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_look_up_is_a_one_hot_product():
    table, ids = normal(50, 8), torch.randint(50, (3, 7), generator=torch.Generator().manual_seed(1))
    assert torch.equal(embed(ids, table), F.one_hot(ids, 50).float() @ table)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_the_gradient_is_autograds(shape, vocab, d_model, seed):
    ids = torch.randint(vocab, shape, generator=torch.Generator().manual_seed(seed))
    upstream = normal(*shape, d_model, seed=seed)
    table = torch.zeros(vocab, d_model, requires_grad=True)
    F.embedding(ids, table).backward(upstream)
    torch.testing.assert_close(embedding_gradient(ids, upstream, vocab), table.grad)


def test_rows_that_are_not_used_get_exactly_nothing():
    gradient = embedding_gradient(torch.tensor([4, 1, 4]), torch.ones(3, 2), 6)
    assert gradient.sum(1).tolist() == [0, 2, 0, 0, 4, 0]


def test_cosine_similarity_is_pytorchs():
    x, table = normal(2, 3, 8), 10 * normal(20, 8, seed=1)
    expected = F.cosine_similarity(x[:, :, None], table, dim=-1)
    torch.testing.assert_close(cosine_similarity(x, table), expected)
    assert cosine_similarity(table[3], table)[3].item() == pytest.approx(1)
    assert cosine_similarity(torch.zeros(8), table).tolist() == [0] * 20


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 30), st.integers(0, 10**6))
def test_nearest_is_the_ranking_by_cosine(vocab, seed):
    table = normal(vocab, 6, seed=seed) * torch.arange(1, vocab + 1)[:, None]
    id, k = seed % vocab, 1 + seed % (vocab - 1)
    ids, cosines = nearest(table[id], table, k, without=[id])
    numbers = table.double().numpy()
    unit = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
    expected = [other for other in np.argsort(-(unit @ unit[id]), kind="stable").tolist() if other != id][:k]
    assert ids == expected
    assert cosines == pytest.approx((unit @ unit[id])[ids].tolist(), abs=1e-5)


def test_of_equally_near_rows_the_lowest_id_comes_first():
    table = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, -1.0], [4.0, 0.0], [0.0, 8.0], [2.0, 0.0]])
    assert nearest(table[3], table, 5, without=[3])[0] == [1, 5, 0, 2, 4]
    assert nearest(table[3], table, 3)[0] == [1, 3, 5]
    assert nearest(table[3], table, 1, without=[1, 1, 3])[0] == [5]


@pytest.mark.parametrize("k", [0, 5])
def test_too_many_or_too_few_neighbours_are_refused(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to 4, the number of rows to choose from, got {k}"):
        nearest(torch.ones(2), torch.ones(5, 2), k, without=[0])


def test_principal_axes_find_the_widest_directions():
    turn = torch.linalg.qr(normal(5, 5)).Q
    spread = torch.tensor([0.1, 9.0, 0.2, 3.0, 0.3])
    vectors = 7 + (normal(4000, 5, seed=1) * spread) @ turn.T
    axes = principal_axes(vectors, 2)
    torch.testing.assert_close(axes @ axes.T, torch.eye(2), atol=1e-5, rtol=0)
    assert (axes @ turn[:, [1, 3]]).diag().abs().min() > 0.999


def test_principal_axes_do_not_come_out_mirrored():
    vectors = normal(30, 6)
    axes = principal_axes(vectors, 3)
    for other in (vectors.flip(0), 2 * vectors - 1, vectors[torch.randperm(30)]):
        torch.testing.assert_close(principal_axes(other, 3), axes, atol=1e-4, rtol=0)
    assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("k", [0, 4])
def test_more_axes_than_there_are_directions_are_refused(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to 3 for 3 vectors, got {k}"):
        principal_axes(normal(3, 8), k)
