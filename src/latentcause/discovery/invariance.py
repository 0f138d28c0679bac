"""Is the mechanism of a node the same in several domains? Tests from second moments, and independence within domains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import chdtrc

from latentcause.discovery.independence import FisherZ, IndependenceTest
from latentcause.discovery.independence.fisher_z import LARGEST

JITTER = 1e-12  # of a column's variance: keeps a column that is held fixed in one domain from making a matrix singular
BATCH = 20_000  # matrices held at once
SMALLEST_LOG = -700.0  # of a product of p-values, so that its exponential is not zero


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


def invariance(moments: DomainMoments, node: int, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Is node | given[i] one linear Gaussian regression, the same in all domains?

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

    Returns
    -------
    p_values : float64 ndarray (m,)
        At least 1e-301.
    gaps : float64 ndarray (m,)
        [n ln(RSS_pooled / n) - sum_e n_e ln(RSS_e / n_e)] / 2n: nats per row by which a regression for each domain fits
        better than one for all. 0 where they agree; it ranks sets where the hypothesis fails for all of them.

    References
    ----------
    G. C. Chow, Econometrica 28 (1960); M. S. Bartlett, Proc. R. Soc. A 160 (1937); J. Peters, P. Buehlmann and
    N. Meinshausen, JRSS B 78 (2016), section 3.1, for the use in invariant prediction.
    """
    E, (m, k) = len(moments.count), given.shape
    if m > (step := max(1, BATCH // (E + 1))):
        parts = [invariance(moments, node, given[i : i + step]) for i in range(0, m, step)]
        p_values, gaps = (np.concatenate(part) for part in zip(*parts, strict=True))
        return p_values, gaps
    n, _, pooled = moments.pooled(np.arange(E))
    matrices = np.concatenate([moments.scatter, pooled[None]]) + np.diag(JITTER * np.diag(pooled))
    rss = _residual_squares(matrices, node, given)
    each, within = rss[:-1], rss[:-1].sum(axis=0)
    freedom = moments.count - k - 1
    top, bottom = (E - 1) * (k + 1), freedom.sum()
    f = np.maximum(rss[-1] - within, 0) / top / (within / bottom)
    bartlett = bottom * np.log(within / bottom) - freedom @ np.log(each / freedom[:, None])
    bartlett /= 1 + ((1 / freedom).sum() - 1 / bottom) / (3 * (E - 1))
    log_q = stats.f.logsf(f, top, bottom) + stats.chi2.logsf(np.maximum(bartlett, 0), E - 1)
    log_q = np.maximum(log_q, SMALLEST_LOG)
    gaps = (n * np.log(rss[-1] / n) - moments.count @ np.log(each / moments.count[:, None])) / (2 * n)
    return np.minimum(np.exp(log_q) * (1 - log_q), 1.0), np.maximum(gaps, 0.0)


def _residual_squares(matrices: np.ndarray, node: int, given: np.ndarray) -> np.ndarray:
    """(A, m) residual sums of squares of the node given each set, of scatter matrices (A, d, d)."""
    own = matrices[:, node, node][:, None]
    if given.shape[1] == 0:
        return np.repeat(own, len(given), axis=1)
    inside = matrices[:, given[:, :, None], given[:, None, :]]
    across = matrices[:, given, node][..., None]
    return own - (across * np.linalg.solve(inside, across)).sum(axis=(2, 3))


class WithinDomains(IndependenceTest):
    """Independence of x and y given S inside every domain, whatever differs between the domains.

    A common cause of shifts ("the domain") makes pooled rows dependent that are independent in each domain; conditioning
    on the domain undoes this, and blocks no path between nodes, because nothing in the system causes the domain (Mooij,
    Magliacane and Claassen, JMLR 21, 2020, assumption 1). With z_e = sqrt(f_e) atanh(r_e), f_e = n_e - k - 3, the Fisher z
    of domain e, two statistics ask for a partial correlation in any domain:

        (sum_e sqrt(f_e) z_e)^2 / sum_e f_e  ~  chi^2(1),      sum_e z_e^2  ~  chi^2(E).

    The first has the power where the correlations agree, the second where they differ, as they do once interventions cut
    paths. p is twice the smaller p-value (Bonferroni).

    Parameters
    ----------
    moments : DomainMoments
    """

    def __init__(self, moments: DomainMoments) -> None:
        self.nodes = moments.nodes
        scale = np.sqrt(np.diagonal(moments.scatter, axis1=1, axis2=2))
        scale = np.where(scale > 0, scale, 1.0)  # a column held fixed in a domain correlates with nothing there
        correlation = moments.scatter / (scale[:, :, None] * scale[:, None, :])
        correlation[:, np.eye(len(self.nodes), dtype=bool)] = 1.0
        self._tests = [
            FisherZ.from_correlation(r, self.nodes, int(n)) for r, n in zip(correlation, moments.count, strict=True)
        ]

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """p-values (m,), as ``IndependenceTest.p_values`` has it."""
        freedom = np.array([test.n_rows - given.shape[1] - 3 for test in self._tests])
        r = np.array([test.partial_correlations(x, y, given) for test in self._tests])
        z = np.arctanh(np.clip(r, -LARGEST, LARGEST))
        agreeing = (freedom @ z) ** 2 / freedom.sum()
        smaller = np.minimum(chdtrc(1, agreeing), chdtrc(len(freedom), freedom @ z**2))
        return np.minimum(2 * smaller, 1.0)
