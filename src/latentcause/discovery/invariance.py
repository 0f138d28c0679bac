"""Is the mechanism of a node the same in several domains? Tests from second moments, and independence within domains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr

from latentcause.discovery.independence import FisherZ, IndependenceTest

JITTER = 1e-12  # of a column's variance: keeps a column that is held fixed in one domain from making a matrix singular
BATCH = 20_000  # matrices held at once


@dataclass(frozen=True, eq=False)
class DomainMoments:
    """What tests on linear mechanisms need of each domain; a test's cost does not depend on the number of rows.

    Attributes
    ----------
    nodes : tuple of str
        The d columns.
    count : ndarray (E,)
        Rows of each of the E domains.
    mean : ndarray (E, d)
    scatter : ndarray (E, d, d)
        Sums of squares and products about the domain's own mean.
    """

    nodes: tuple[str, ...]
    count: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of_rows(cls, values: np.ndarray, domain: np.ndarray, nodes: tuple[str, ...]) -> DomainMoments:
        """Of values (n, d) whose rows belong to the domains ``domain`` (n,), numbered 0..E-1."""
        parts = [values[domain == e] for e in range(domain.max() + 1)]
        mean = np.stack([part.mean(axis=0) for part in parts])
        centred = [part - m for part, m in zip(parts, mean, strict=True)]
        return cls(nodes, np.array([len(part) for part in parts]), mean, np.stack([c.T @ c for c in centred]))

    def pooled(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count, mean and scatter of the rows of the chosen domains (bool (E,) or numbers) taken together."""
        count, mean = self.count[chosen], self.mean[chosen]
        centre = count @ mean / count.sum()
        apart = mean - centre
        return count.sum(), centre, self.scatter[chosen].sum(axis=0) + (apart.T * count) @ apart

    def merged(self, groups: list[np.ndarray]) -> DomainMoments:
        """One domain per group of domains."""
        parts = [self.pooled(group) for group in groups]
        count, mean, scatter = (np.stack(part) for part in zip(*parts, strict=True))
        return DomainMoments(self.nodes, count, mean, scatter)

    def subset(self, chosen: np.ndarray) -> DomainMoments:
        """The chosen domains."""
        return DomainMoments(self.nodes, self.count[chosen], self.mean[chosen], self.scatter[chosen])


def invariance_p_values(moments: DomainMoments, node: int, given: np.ndarray) -> np.ndarray:
    """p-values (m,) of: node | given[i] is one linear Gaussian regression, the same in all domains.

    Two statistics of the regressions of z_j on z_S with intercept, k = |S|: Chow's F for equal coefficients,

        F = [(RSS_pooled - sum_e RSS_e) / ((E - 1)(k + 1))] / [sum_e RSS_e / (n - E (k + 1))],

    and Bartlett's for equal residual variances. With Gaussian residuals the first is exact. Under the hypothesis the two
    are independent (the shares of the RSS_e in their sum do not depend on that sum or on the coefficients, by Basu's
    theorem), so Fisher's method combines them: with q the product of their p-values, p = q (1 - ln q).

    Parameters
    ----------
    moments : DomainMoments
        Of E >= 2 domains.
    node : int
        Column j.
    given : int ndarray (m, k)
        Columns of m sets S.

    References
    ----------
    G. C. Chow, Econometrica 28 (1960); M. S. Bartlett, Proc. R. Soc. A 160 (1937); J. Peters, P. Buehlmann and
    N. Meinshausen, JRSS B 78 (2016), section 3.1, for the use in invariant prediction.
    """
    E, (m, k) = len(moments.count), given.shape
    step = max(1, BATCH // (E + 1))
    if m > step:
        parts = [invariance_p_values(moments, node, given[i : i + step]) for i in range(0, m, step)]
        return np.concatenate(parts)
    n, _, pooled = moments.pooled(np.arange(E))
    matrices = np.concatenate([moments.scatter, pooled[None]]) + np.diag(JITTER * np.diag(pooled))
    rss = _residual_squares(matrices, node, given)
    within = rss[:-1].sum(axis=0)
    freedom = moments.count - k - 1
    top, bottom = (E - 1) * (k + 1), freedom.sum()
    f = np.maximum(rss[-1] - within, 0) / top / (within / bottom)
    with np.errstate(divide="ignore"):
        logs = np.log(rss[:-1] / freedom[:, None])
    bartlett = bottom * np.log(within / bottom) - freedom @ logs
    bartlett /= 1 + ((1 / freedom).sum() - 1 / bottom) / (3 * (E - 1))
    log_q = stats.f.logsf(f, top, bottom) + stats.chi2.logsf(np.maximum(bartlett, 0), E - 1)
    log_q = np.maximum(log_q, -700.0)
    return np.minimum(np.exp(log_q) * (1 - log_q), 1.0)


def _residual_squares(matrices: np.ndarray, node: int, given: np.ndarray) -> np.ndarray:
    """(A, m) residual sums of squares of the node given each set, of scatter matrices (A, d, d)."""
    own = matrices[:, node, node][:, None]
    if given.shape[1] == 0:
        return np.repeat(own, len(given), axis=1)
    inside = matrices[:, given[:, :, None], given[:, None, :]]
    across = matrices[:, given, node][..., None]
    return own - (across * np.linalg.solve(inside, across)).sum(axis=(2, 3))


class WithinDomains(IndependenceTest):
    """Independence of x and y given S within every domain: Fisher's z of each domain, summed.

    z = sum_e sqrt(n_e - k - 3) z_e / sqrt(sum_e (n_e - k - 3)) with z_e = sqrt(n_e - k - 3) atanh(r_e) is standard normal when x and y are independent
    given S in each domain.
    """

    def __init__(self, moments: DomainMoments) -> None:
        self.nodes = moments.nodes
        scale = np.sqrt(np.diagonal(moments.scatter, axis1=1, axis2=2))
        scale[scale == 0] = 1
        correlations = moments.scatter / (scale[:, :, None] * scale[:, None, :])
        d = len(self.nodes)
        correlations[:, np.arange(d), np.arange(d)] = 1
        self._tests = [
            FisherZ.from_correlation(r, self.nodes, int(n)) for r, n in zip(correlations, moments.count, strict=True)
        ]

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        total, weight = np.zeros(len(x)), 0
        for test in self._tests:
            freedom = test.n_rows - given.shape[1] - 3
            r = np.clip(test.partial_correlations(x, y, given), -1 + 1e-12, 1 - 1e-12)
            total += freedom * np.arctanh(r)
            weight += freedom
        return 2 * ndtr(-np.abs(total) / np.sqrt(weight))
