"""How many threads torch spreads an operation over: one, where the operations are small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MANY_ROWS = 200_000
"""Rows from which on spreading an operation over threads gains more than waking them costs."""


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Run the block on one thread if the data have few rows; the setting is put back after.

    A fit makes thousands of operations of microseconds, and handing each to several threads makes it several times slower.
    """
    before = torch.get_num_threads()
    if rows < MANY_ROWS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
