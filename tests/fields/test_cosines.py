"""The cosine transform in torch against SciPy's."""

from __future__ import annotations

import pytest
import scipy.fft
import torch

from latentcause.fields.cosines import from_cosines, to_cosines


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (8,), (9,), (4, 7), (1, 6), (10, 5)])
def test_it_is_the_orthonormal_dct(shape: tuple[int, ...]) -> None:
    x = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = tuple(range(2, x.ndim))
    expected = torch.from_numpy(scipy.fft.dctn(x.numpy(), axes=axes, norm="ortho"))
    torch.testing.assert_close(to_cosines(x, len(shape)), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(from_cosines(expected, len(shape)), x, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(from_cosines(to_cosines(x.float(), len(shape)), len(shape)), x.float())


def test_gradients_pass_through_both() -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: to_cosines(v, 2), x)
    assert torch.autograd.gradcheck(lambda v: from_cosines(v, 2), x)
