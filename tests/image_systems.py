"""Images whose factors form a chain, with the truth about them; small enough to learn in a second."""

from __future__ import annotations

import numpy as np
import pandas as pd

from latentcause import CausalGraph, LabelledImages

CHAIN = CausalGraph.from_string("a -> b -> c")
SIZE = 8


def quarters(factors: pd.DataFrame, texture: np.ndarray) -> np.ndarray:
    """Images (n, 1, 8, 8): three quarters as bright as a, b and c say (0 to 100), the last one a texture of its own."""
    images = np.zeros((len(factors), 1, SIZE, SIZE), dtype=np.float32)
    half = SIZE // 2
    corners = [(slice(half), slice(half)), (slice(half), slice(half, None)), (slice(half, None), slice(half))]
    for name, (rows, columns) in zip("abc", corners, strict=True):
        images[:, 0, rows, columns] = factors[name].to_numpy()[:, None, None] / 100
    images[:, 0, half:, half:] = texture
    return images.clip(0, 1)


def measured(images: np.ndarray) -> pd.DataFrame:
    """The mean brightness of each quarter, 0 to 100."""
    half = SIZE // 2
    return pd.DataFrame(
        {
            "a": 100 * images[:, 0, :half, :half].mean((1, 2)),
            "b": 100 * images[:, 0, :half, half:].mean((1, 2)),
            "c": 100 * images[:, 0, half:, :half].mean((1, 2)),
        }
    )


def chain_factors(n: int, seed: int) -> pd.DataFrame:
    """a ~ U(20, 80), b = 10 + 0.8 a + N(0, 3^2), c = 95 - 0.9 b + N(0, 3^2)."""
    draw = np.random.default_rng(seed)
    a = draw.uniform(20, 80, n)
    b = 10 + 0.8 * a + 3 * draw.standard_normal(n)
    return pd.DataFrame({"a": a, "b": b, "c": 95 - 0.9 * b + 3 * draw.standard_normal(n)})


def textures(n: int, seed: int) -> np.ndarray:
    """Smooth patterns (n, 4, 4) in [0, 1]."""
    draw = np.random.default_rng(seed)
    phase, slope = draw.uniform(0, 6.28, n), draw.uniform(-1, 1, (2, n))
    place = np.arange(SIZE // 2)
    angle = phase[:, None, None] + slope[0][:, None, None] * place[:, None] + slope[1][:, None, None] * place
    return (0.5 + 0.4 * np.sin(angle)).astype(np.float32)


def chain_images(n: int = 300, seed: int = 0) -> LabelledImages:
    """n images of the chain, with all labels."""
    factors = chain_factors(n, seed)
    return LabelledImages(quarters(factors, textures(n, seed)), factors)
