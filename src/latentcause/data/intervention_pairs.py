"""Pairs of observations before and after an intervention, checked at the door."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from latentcause.data.labelled_images import checked_pixels, split_rows
from latentcause.data.labels import check_names, listing
from latentcause.data.pair_files import paired_columns, read_npz, read_parquet
from latentcause.data.pair_targets import NONE, Target, join_group_targets, read_pair_targets, target_text
from latentcause.writing import write_atomically


@dataclass(frozen=True, init=False, repr=False, eq=False)
class InterventionPairs:
    """n pairs (x, x~): the same unit before and after an intervention that is mostly unknown. Nothing in it changes.

    The setting of Brehmer, de Haan, Lippe and Cohen, Weakly supervised causal representation learning, NeurIPS 2022: the noise
    of every variable that is not a target is the same before and after.

    Parameters
    ----------
    before, after : array or tensor (n, d), DataFrame, or images (n, c, h, w)
        Row i of one belongs to row i of the other; the index of a frame plays no part, and columns are matched by name where
        both are frames. Images are as `LabelledImages` takes them: floats in [0, 1] or uint8, channels first.
    targets : sequence of n entries, optional
        What is known of each pair: None (unknown), the name of the variable that was intervened on, ``"none"`` or an empty
        tuple (no intervention), or a tuple, list or set of names (or a text with ``;`` between them) for several at once.
        By default all are unknown.

    Attributes
    ----------
    before, after : ndarray (n, d) or (n, c, h, w), float32
        Read-only.
    targets : tuple of n entries
        None, a name, ``"none"`` or a sorted tuple of two names or more.
    names : tuple of str
        The d columns, ``x0, x1, ...`` where they had no names; empty for images.
    group : ndarray (n,), int64, or None
        Which pairs share their ``before`` (`from_groups`).

    Raises
    ------
    ValueError
        For before and after of unlike shape, NaN or infinity (row and column), images outside [0, 1], fewer than 2 pairs, before
        and after the same in all pairs, a number of targets other than n, and targets that are numbers: how strong an
        intervention was has no place in the model. Rows count from 0.

    Examples
    --------
    >>> before = np.array([[0.0, 1.0], [2.0, 1.0], [0.5, 0.5]])
    >>> InterventionPairs(before, before + np.array([1.0, 0.0]), targets=["z1", None, ("z2", "z1")])
    InterventionPairs: 3 pairs of 2 columns, targets known for 2 (z1 1, z1 and z2 1)
    """

    before: np.ndarray
    after: np.ndarray
    targets: tuple[Target, ...]
    names: tuple[str, ...]
    group: np.ndarray | None

    def __init__(self, before: Any, after: Any, targets: Any = None) -> None:
        names, first, second = _read_both(before, after)
        if len(first) < 2:
            raise ValueError(f"{len(first)} pair: give at least 2")
        if np.array_equal(first, second):
            raise ValueError(
                f"before and after are the same in all {len(first)} pairs, so no intervention can be seen: give pairs with "
                "an intervention between them (values that differ by less than float32 tells apart: subtract the means)"
            )
        self._set(first, second, read_pair_targets(targets, len(first)), names, None)

    # --- other ways in, and the way out ------------------------------------------------------------------------------

    @classmethod
    def from_groups(cls, before: Any, after: Sequence[Any], targets: Sequence[Any] | None = None) -> Self:
        """From one ``before`` and many ``after`` per group: a pair for each ``after``, with the number of its group in ``group``.

        Parameters
        ----------
        before : (g, d) or (g, c, h, w)
        after : sequence of g
            Entry k is (n_k, d) or (n_k, c, h, w), with n_k at least 1.
        targets : sequence of g sequences, optional
            Entry k has n_k targets, or is None.

        Raises
        ------
        ValueError
            For another number of groups, a group without ``after``, and what the class refuses.
        """
        parts = [_values_of(f"after of group {k}", part)[1] for k, part in enumerate(after)]
        names, first = _values_of("before", before)
        if len(parts) != len(first):
            raise ValueError(f"{len(first)} rows of before but {len(parts)} groups of after: give one group per row")
        counts = [len(part) for part in parts]
        if 0 in counts:
            raise ValueError(f"group {counts.index(0)} has no after: give at least one, or leave the group out")
        odd = [k for k, part in enumerate(parts) if part.shape[1:] != first.shape[1:]]
        if odd:
            raise ValueError(
                f"after of group {odd[0]} has shape {parts[odd[0]].shape} but before is {first.shape}: rows must be alike"
            )
        if targets is not None:
            targets = join_group_targets(targets, counts)
        group = np.repeat(np.arange(len(first)), counts)
        pairs = cls(first[group], np.concatenate(parts), targets)
        pairs._set(pairs.before, pairs.after, pairs.targets, names or pairs.names, group)
        return pairs

    @classmethod
    def from_npz(cls, path: str | Path) -> Self:
        """From a .npz file with the arrays ``before`` and ``after``, and ``targets`` (text; empty where unknown) if there are any.

        What `to_npz` wrote comes back as it was, with names and groups. Arrays of other names are not looked at.

        Raises
        ------
        FileNotFoundError
            Where there is no such file.
        ValueError
            For a file that is no .npz file or is cut short, a missing array, arrays of objects, and what the class refuses.
        """
        path = Path(path)
        arrays = read_npz(path)
        targets: Any = arrays.get("targets")
        if targets is not None and targets.dtype.kind == "U":
            targets = [target or None for target in targets.tolist()]
        pairs = cls(arrays["before"], arrays["after"], targets)
        names = pairs.names
        if "names" in arrays and not pairs.is_images:
            names = check_names(arrays["names"].tolist())
            if len(names) != pairs.size:
                raise ValueError(f"{path.name} names {len(names)} columns but before has {pairs.size}: name each once")
        group = arrays.get("group")
        if group is not None and (group.shape != (len(pairs),) or group.dtype.kind not in "iu"):
            raise ValueError(f"group in {path.name} has shape {group.shape}: give one whole number per pair")
        pairs._set(pairs.before, pairs.after, pairs.targets, names, None if group is None else group.astype(np.int64))
        return pairs

    def to_npz(self, path: str | Path) -> None:
        """Write the file that `from_npz` reads: the whole of it, or nothing.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            Where there is no such folder, or a folder has that name.
        """
        arrays: dict[str, Any] = {"before": self.before, "after": self.after}
        if self.known.any():
            arrays["targets"] = np.array([target_text(target) for target in self.targets])
        if not self.is_images:
            arrays["names"] = np.array(self.names)
        if self.group is not None:
            arrays["group"] = self.group
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        before: Sequence[str] | None = None,
        after: Sequence[str] | None = None,
        targets: str | None = None,
    ) -> Self:
        """From a Parquet file with a row per pair.

        Parameters
        ----------
        path
        before, after : sequence of str, optional
            The columns of x and, in the same order, of x~. By default those named NAME_before and NAME_after.
        targets : str, optional
            The column of targets: text (several with ``;`` between them), missing where unknown. By default ``target``, if there
            is one.

        Raises
        ------
        FileNotFoundError
            Where there is no such file.
        ValueError
            For a file that is no Parquet file or is cut short, a missing column, by default also a NAME_before without NAME_after
            and columns of another kind, such as strengths of interventions, and what the class refuses.
        """
        path = Path(path)
        frame = read_parquet(path)
        columns = list(frame.columns)
        if (before is None) != (after is None):
            raise ValueError("give the columns of both before and after, or of neither")
        if isinstance(before, str) or isinstance(after, str):
            raise ValueError("columns of before and after are lists of names: write ['NAME'] for a single one")
        if before is None or after is None:
            before, after = paired_columns(path, columns, targets or "target")
        if len(before) != len(after):
            raise ValueError(
                f"{len(before)} columns of before but {len(after)} of after: give as many, in the same order"
            )
        targets = targets if targets is not None else "target" if "target" in columns else None
        missing = [name for name in (*before, *after, *(() if targets is None else (targets,))) if name not in columns]
        if missing:
            raise ValueError(f"{path.name} has no column {listing(missing)} (columns: {listing(columns)})")
        names = [name.removesuffix("_before") for name in before]
        first, second = frame[list(before)].set_axis(names, axis=1), frame[list(after)].set_axis(names, axis=1)
        return cls(first, second, None if targets is None else frame[targets])

    # --- what is in it -----------------------------------------------------------------------------------------------

    @property
    def is_images(self) -> bool:
        """Whether the observations are images."""
        return self.before.ndim == 4

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one observation: (d,) or (c, h, w)."""
        return self.before.shape[1:]

    @property
    def size(self) -> int:
        """How many numbers one observation has: d, or c h w."""
        return int(np.prod(self.shape))

    @property
    def known(self) -> np.ndarray:
        """Of which pairs the target is known: bool (n,)."""
        return np.array([target is not None for target in self.targets])

    @property
    def latents(self) -> tuple[str, ...]:
        """The variables that targets name, sorted; ``"none"`` is not one of them."""
        found: set[str] = set()
        for target in set(self.targets) - {None, NONE}:
            found.update((target,) if isinstance(target, str) else target or ())
        return tuple(sorted(found))

    def subset(self, rows: Any) -> Self:
        """The pairs of those numbers (or where a mask is true), in that order.

        Raises
        ------
        ValueError
            For no pair.
        IndexError
            For a number that no pair has.
        """
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        if not len(chosen):
            raise ValueError("subset needs at least one pair")
        part = object.__new__(type(self))
        targets = tuple(self.targets[row] for row in chosen.tolist())
        group = None if self.group is None else self.group[chosen]
        part._set(self.before[chosen], self.after[chosen], targets, self.names, group)
        return part

    def split(self, held_out: float, *, seed: int) -> tuple[Self, Self]:
        """Two parts at random: the rest, and ``held_out`` of the pairs (a share below 1, or a number of pairs).

        Groups stay whole: of pairs with groups, ``held_out`` is a share or number of groups.

        Raises
        ------
        ValueError
            Where one of the parts would be empty.
        """
        if self.group is None:
            rest, held = split_rows(len(self), held_out, seed)
            return self.subset(rest), self.subset(held)
        groups = np.unique(self.group)
        _, held = split_rows(len(groups), held_out, seed)
        out = np.isin(self.group, groups[held])
        return self.subset(~out), self.subset(out)

    def __len__(self) -> int:
        return len(self.before)

    def __repr__(self) -> str:
        kind = f"images of {' x '.join(map(str, self.shape))}" if self.is_images else f"{self.size} columns"
        text = f"{type(self).__name__}: {len(self)} pairs of {kind}"
        if self.group is not None:
            text += f" in {len(np.unique(self.group))} groups"
        counts = Counter(target for target in self.targets if target is not None)
        if not counts:
            return f"{text}, targets unknown"
        shown = [(target if isinstance(target, str) else " and ".join(target), n) for target, n in counts.items()]
        listed = [f"{target} {n}" for target, n in sorted(shown)]
        more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
        return f"{text}, targets known for {counts.total()} ({', '.join(listed[:12])}{more})"

    def _set(
        self,
        before: np.ndarray,
        after: np.ndarray,
        targets: tuple[Target, ...],
        names: tuple[str, ...],
        group: np.ndarray | None,
    ) -> None:
        for array in (before, after, group):
            if array is not None:
                array.flags.writeable = False
        fields = {"before": before, "after": after, "targets": targets, "names": names, "group": group}
        for field, value in fields.items():
            object.__setattr__(self, field, value)


def _read_both(before: Any, after: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names of the columns, and both arrays, alike in shape."""
    if isinstance(before, pd.DataFrame) and isinstance(after, pd.DataFrame):
        unlike = [*before.columns.symmetric_difference(after.columns)]
        if unlike:
            raise ValueError(f"column {listing(unlike)} is in one of before and after only: give both the same columns")
        check_names(before.columns)
        after = after[list(before.columns)]
    names, first = _values_of("before", before)
    other, second = _values_of("after", after)
    if first.shape != second.shape:
        raise ValueError(
            f"before has shape {first.shape} but after {second.shape}: row i of one belongs to row i of the other, so both "
            "must have the same shape"
        )
    if first.ndim == 4:
        return (), first, second
    return names or other or tuple(f"x{j}" for j in range(first.shape[1])), first, second


def _values_of(what: str, data: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (of a frame; else none) and a new float32 array of finite numbers (n, d), or of pixels (n, c, h, w)."""
    names: tuple[str, ...] = ()
    if isinstance(data, pd.DataFrame):
        names = check_names(data.columns)
        odd = [name for name, kind in zip(names, data.dtypes, strict=True) if not pd.api.types.is_numeric_dtype(kind)]
        if odd:
            raise ValueError(f"column {listing(odd)} of {what} holds no numbers: convert it or leave it out")
        array = data.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        array = _as_array(what, data)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} has dtype {array.dtype}: give an array of real numbers")
    if array.ndim in (3, 4):
        try:
            return (), checked_pixels(array)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{what} has shape {array.shape}: give (n, d), or (n, c, h, w) for images")
    with np.errstate(over="ignore"):  # becomes infinity, which is refused below
        values = np.array(array, dtype=np.float32, order="C")
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        name = names[column] if names else f"x{column}"
        raise ValueError(
            f"{what} has {bad.sum()} values that are missing, infinite or beyond float32 (first: row {row}, column {name!r}): "
            "remove those pairs or fill the values in"
        )
    return names, values


def _as_array(what: str, data: Any) -> np.ndarray:
    if hasattr(data, "detach"):
        tensor: np.ndarray = data.detach().cpu().numpy()
        return tensor
    try:
        return np.asarray(data)
    except ValueError:
        raise ValueError(
            f"{what} has rows of unequal length: give an array (n, d), or (n, c, h, w) for images"
        ) from None
