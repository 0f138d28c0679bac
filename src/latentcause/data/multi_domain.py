"""Measurements of many samples under several experimental conditions, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from latentcause.data import tables
from latentcause.data.audit import Audit
from latentcause.data.labels import encode_labels, listing
from latentcause.data.moments import Moments, MomentSums
from latentcause.data.sources import MappedRows, RowSource, SelectedRows, open_rows
from latentcause.data.targets import Targets, match_targets

if TYPE_CHECKING:
    import pandas as pd

    from latentcause.graph import CausalGraph


class MultiDomainData:
    """Rows of measurements x (n, d_x), each from one domain, and the nodes that each domain's experiment targeted.

    Data in memory are checked when this is made; data on disk are checked in the one pass that computes ``moments``
    (which ``validate_for`` makes). Rows keep their order.

    Parameters
    ----------
    x
        Samples by measurements, real numbers in any units: a NumPy array (floats are kept as they are, float32
        included; integers become float64), torch tensor, nested list, DataFrame, SciPy sparse matrix, ``np.memmap``, or
        the path of a .npy file, which is then memory-mapped.
    domain
        One label per row.
    targets
        ``{domain: node | [nodes] | None | []}``, or the path of a CSV, YAML or JSON file that says so
        (``latentcause.data.targets.read_targets`` has the forms).
    measurements
        Names of the columns; ``x0, x1, ...`` where not given.

    Attributes
    ----------
    measurements : tuple of str
        Names of the d_x columns.
    domains : tuple
        The D distinct labels in order of first appearance.
    domain_index : ndarray (n,), int64
        Each row's index into ``domains``.
    targets : dict
        ``{domain: (node, ...)}`` in the order of ``domains``.

    Raises
    ------
    ValueError
        For a table that is not samples by measurements, non-numeric or duplicate columns, NaN or infinity, missing
        labels, domains without a targets entry or entries without rows, and domains that are copies of each other. The
        message names the culprit.

    Warns
    -----
    UserWarning
        For columns that are constant over all rows.
    """

    measurements: tuple[str, ...]
    domains: tuple[Hashable, ...]
    domain_index: np.ndarray
    targets: Targets
    _source: RowSource
    _moments: Moments | None
    _audited: bool

    def __init__(
        self,
        x: Any,
        domain: Any,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[str] | None = None,
    ) -> None:
        source = open_rows(x, measurements)
        domains, index = encode_labels(domain, source.shape[0])
        self._set(source, index, match_targets(domains, targets))
        if not source.is_streamed:
            audit = Audit(self.measurements, self.domains)
            for start, stop, batch in self.batches(self._rows_per_pass):
                audit.add(start, batch, index[start:stop])
            audit.finish()
            self._audited = True

    @classmethod
    def from_dataframe(
        cls,
        frame: pd.DataFrame,
        domain: Hashable,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[Hashable] | None = None,
    ) -> Self:
        """From a table with a column ``domain``; ``measurements`` chooses columns, all others by default."""
        return cls(*tables.split_frame(frame, domain, measurements), targets=targets)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        domain: str,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[str] | None = None,
    ) -> Self:
        """From a .csv, .csv.gz or .tsv file with a header, read into memory; domain labels are text."""
        return cls(*tables.read_csv(path, domain, measurements), targets=targets)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        domain: str,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[str] | None = None,
    ) -> Self:
        """From a Parquet file, streamed: x stays on disk and is decoded batch by batch."""
        return cls(*tables.read_parquet(path, domain, measurements), targets=targets)

    @classmethod
    def from_npy(
        cls,
        path: str | Path,
        domain: Any,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[str] | None = None,
    ) -> Self:
        """From a .npy file, memory-mapped; ``domain`` is one label per row, or the path of a .npy file of them."""
        return cls(*tables.read_npy(path, domain, measurements), targets=targets)

    @classmethod
    def from_anndata(
        cls,
        adata: Any,
        domain: str,
        targets: Mapping[Any, Any] | str | Path,
        layer: str | None = None,
        measurements: Sequence[str] | None = None,
    ) -> Self:
        """From an AnnData object or the path of an .h5ad file; ``domain`` is a column of ``obs``.

        x is ``adata.X`` or the named layer, its columns the ``var_names``. A sparse x stays sparse in memory and is
        made dense batch by batch; x of a backed object stays on disk. Needs the extra ``cell``.
        """
        return cls(*tables.read_anndata(adata, domain, layer, measurements), targets=targets)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        domain: str,
        targets: Mapping[Any, Any] | str | Path,
        measurements: Sequence[str] | None = None,
    ) -> Self:
        """From a file, by its suffix: .csv, .csv.gz, .tsv, .parquet, .h5ad, or .npy (``domain``: a .npy of labels)."""
        return cls(*tables.read_file(path, domain, measurements), targets=targets)

    @property
    def n_samples(self) -> int:
        """Number of rows n."""
        return self._source.shape[0]

    @property
    def n_measurements(self) -> int:
        """Number of columns d_x."""
        return self._source.shape[1]

    @property
    def is_streamed(self) -> bool:
        """Whether x stays on disk and is read batch by batch."""
        return self._source.is_streamed

    def batches(self, rows: int = 65536) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (start, stop, x) over all rows in order, x float64 and C-contiguous of shape (stop - start, d_x).

        x may be a view of the caller's array: it must not be written to.
        """
        return self._source.batches(rows)

    @property
    def moments(self) -> Moments:
        """First and second moments in float64, computed in one pass the first time they are asked for.

        Memory is bounded by a batch of about 64 MB and a few d_x by d_x matrices. Raises the errors of the values
        (NaN, identical domains) for data that are streamed.
        """
        if self._moments is None:
            audit = None if self._audited else Audit(self.measurements, self.domains)
            sums = MomentSums(len(self.domains), self.n_measurements)
            for start, stop, x in self.batches(self._rows_per_pass):
                index = self.domain_index[start:stop]
                if audit is not None:
                    audit.add(start, x, index)
                if audit is None or audit.finite:
                    sums.add(x, index)
            if audit is not None:
                audit.finish()
            self._moments = sums.result()
            self._audited = True
        return self._moments

    def indicator(self, graph: CausalGraph) -> np.ndarray:
        """Which nodes each domain targets: bool (D, d_z), columns in ``graph.nodes`` order.

        Raises
        ------
        ValueError
            Where a target is not a node of the graph.
        """
        column = {node: j for j, node in enumerate(graph.nodes)}
        hit = np.zeros((len(self.domains), len(column)), dtype=bool)
        for i, (domain, nodes) in enumerate(self.targets.items()):
            for node in nodes:
                if node not in column:
                    raise ValueError(
                        f"target {node!r} of domain {domain!r} is not a node of the graph "
                        f"(nodes: {listing(graph.nodes)}): correct the targets or the graph"
                    )
                hit[i, column[node]] = True
        return hit

    def validate_for(self, graph: CausalGraph) -> None:
        """Check everything that a fit of latents on this graph needs.

        Raises
        ------
        ValueError
            Where a target is not in the graph, there are fewer measurements than nodes, a domain has fewer samples than
            nodes + 1, the rank of x is below the number of nodes, or (streamed data) the values themselves are bad.
        """
        self.indicator(graph)
        d_z = len(graph.nodes)
        if self.n_measurements < d_z:
            raise ValueError(
                f"{self.n_measurements} measurements can't carry {d_z} latent nodes: "
                f"measure at least {d_z} columns or use a smaller graph"
            )
        counts = np.bincount(self.domain_index, minlength=len(self.domains))
        small = [f"{domain!r} ({n})" for domain, n in zip(self.domains, counts, strict=True) if n < d_z + 1]
        if small:
            raise ValueError(
                f"too few samples in domain {', '.join(small)}: a graph of {d_z} nodes needs at least {d_z + 1} "
                "in each domain; add samples, or merge or remove the domain"
            )
        rank = _rank(self.moments.second)
        if rank < d_z:
            raise ValueError(
                f"x has rank {rank}, below the {d_z} nodes of the graph: some measurements are combinations of others; "
                "add independent measurements or use a smaller graph"
            )

    def subset(self, rows: Any) -> Self:
        """The rows of those numbers (or where a mask is true), in that order; domains left without rows drop out.

        Streamed data stay streamed.
        """
        chosen = np.atleast_1d(np.arange(self.n_samples)[rows])
        if not len(chosen):
            raise ValueError("subset needs at least one row")
        present, index = np.unique(self.domain_index[chosen], return_inverse=True)
        source: RowSource = SelectedRows(self._source, chosen)
        if not self.is_streamed:
            source = open_rows(self._source.take(chosen), self.measurements)
        kept = [self.domains[i] for i in present]
        return self._derive(source, index.astype(np.int64), {domain: self.targets[domain] for domain in kept})

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> Self:
        """The same rows with ``function`` applied to x, batch by batch whenever x is read: (m, d_x) -> (m, d_x).

        It must treat every row by itself. The values that it gives are checked when ``moments`` are first asked for.
        """
        part = self._derive(MappedRows(self._source, function), self.domain_index, self.targets)
        part._audited = False
        return part

    def pooled(self) -> Self:
        """The same rows as one domain, ``"pooled"``, without targets."""
        return self._derive(self._source, np.zeros(self.n_samples, dtype=np.int64), {"pooled": ()})

    def __len__(self) -> int:
        return self.n_samples

    def __repr__(self) -> str:
        head = f"MultiDomainData: {self.n_samples} samples x {self.n_measurements} measurements"
        head += f"{', streamed' if self.is_streamed else ''}, {len(self.domains)} domain{'s' * (len(self.domains) > 1)}"
        counts = np.bincount(self.domain_index, minlength=len(self.domains))
        lines = [
            f"  {domain}: {n} samples, targets {', '.join(nodes) or 'none'}"
            for n, (domain, nodes) in zip(counts, self.targets.items(), strict=True)
        ]
        more = [f"  and {len(lines) - 12} more"] if len(lines) > 12 else []
        return "\n".join([head, *lines[:12], *more])

    @property
    def _rows_per_pass(self) -> int:
        return int(np.clip(2**23 // self.n_measurements, 256, 65536))

    def _derive(self, source: RowSource, index: np.ndarray, targets: Targets) -> Self:
        # Rows of checked data need no second check, and a part may rightly have constant columns.
        part = object.__new__(type(self))
        part._set(source, index, targets)
        part._audited = self._audited
        return part

    def _set(self, source: RowSource, index: np.ndarray, targets: Targets) -> None:
        self._source = source
        self._moments = None
        self._audited = False
        self.measurements = source.names
        self.domain_index = index
        self.domains = tuple(targets)
        self.targets = targets


def _rank(second: np.ndarray) -> int:
    """Rank of x from its second moment, with columns scaled alike; singular values below 1e-6 of the largest are 0."""
    scale = np.sqrt(np.diag(second))
    scale[scale == 0] = 1
    eigenvalues = np.linalg.eigvalsh(second / np.outer(scale, scale))
    return int((eigenvalues > 1e-12 * eigenvalues[-1]).sum())
