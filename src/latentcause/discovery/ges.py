"""Greedy equivalence search, as causal-learn runs it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from latentcause.data.variables import Variables
from latentcause.discovery import meek
from latentcause.discovery.cpdag import CPDAG

TAIL = -1  # causal-learn's mark, at [i, j] the one at i: i -> j and i - j have a tail at i


def ges(data: Any, score: str = "auto", *, penalty: float = 1.0) -> CPDAG:
    """Learn the class of graphs with the best score, by adding and then removing edges (Chickering, JMLR 3, 2002).

    It assumes that no common cause of two variables is left out and that the score's model holds. Then, as the rows
    grow, it finds the true CPDAG. The search itself is causal-learn's; the columns are put in the order of their names
    for it, so the result does not depend on their order. Its time grows fast: about a second for 20 variables of average
    degree 3 and two minutes for 50; `pc` takes less.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
        All numeric, or all categorical.
    score : {"auto", "bic", "bdeu"}
        "bic": linear mechanisms with Gaussian noise, log likelihood - penalty * log(n) / 2 per parameter. "bdeu": categories
        with a Dirichlet prior of equivalent sample size 1, and a prior of one parent per variable. "auto" takes the one
        for the kind of the columns.
    penalty : float
        Of "bic": 1 is the Bayesian information criterion; more gives fewer edges.

    Returns
    -------
    CPDAG
        No `Separation`: a score removes no edge because of one test.

    Raises
    ------
    ImportError
        If causal-learn is not installed.
    ValueError
        For what `Variables` refuses, columns of both kinds or of another kind than the score's, fewer than three
        categorical columns (the prior of causal-learn has no value there), or a penalty that is not positive.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((5000, 3))
    >>> ges(noise + noise[:, [0, 1, 0]] * [0, 0, 1] + noise[:, [0, 1, 1]] * [0, 0, 1])
    CPDAG(x0 -> x2; x1 -> x2)
    """
    variables = Variables.read(data).require_variation()
    kind = _score_for(variables, score)
    if not (np.isfinite(penalty) and penalty > 0):
        raise ValueError(f"penalty is {penalty}: give a positive number, 1 for the Bayesian information criterion")
    if kind == "bdeu" and penalty != 1:
        raise ValueError('penalty is for the score "bic": leave it out with "bdeu"')
    search = _search()
    columns = sorted(variables.names)
    ordered = Variables.read(variables, columns=columns)
    if kind == "bic":
        # The score of a graph changes by a constant when columns are rescaled: correlations are as good, and better conditioned.
        correlations = np.corrcoef(ordered.values, rowvar=False)
        record = search(None, "local_score_BIC_from_cov", cov=correlations, n=len(ordered), lambda_value=penalty / 2)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # causal-learn's use of pandas
            record = search(ordered.values.astype(np.int64), "local_score_BDeu")
    marks, conflicts = _checked(record["G"].graph == TAIL)
    order = [columns.index(name) for name in variables.names]
    return CPDAG.from_adjacency(marks[np.ix_(order, order)], variables.names, conflicts=conflicts)


def _score_for(variables: Variables, score: str) -> str:
    if score not in ("auto", "bic", "bdeu"):
        raise ValueError(f'score is {score!r}: give "auto", "bic" or "bdeu"')
    numeric = [name for name in variables.names if variables.is_numeric(name)]
    categorical = [name for name in variables.names if not variables.is_numeric(name)]
    if numeric and categorical:
        raise ValueError(
            f"column {numeric[0]!r} is numeric and {categorical[0]!r} categorical: GES has no score for both together; "
            'cut the numbers into categories, or use pc(data, test="mixed")'
        )
    fitting = "bdeu" if categorical else "bic"
    if score not in ("auto", fitting):
        what, cure = ("numeric", "cut it into categories") if numeric else ("categorical", "give its levels as numbers")
        raise ValueError(f"column {variables.names[0]!r} is {what}, which the score {score!r} is not for: {cure}")
    if fitting == "bdeu" and len(categorical) < 3:
        raise ValueError(
            f"the score of {len(categorical)} categorical columns has no value in causal-learn, which needs 3: use pc"
        )
    return fitting


def _search() -> Any:
    try:
        from causallearn.search.ScoreBased.GES import ges as search
    except ImportError as error:
        raise ImportError('ges runs on causal-learn: pip install "latentcause[discovery]"') from error
    return search


def _checked(marks: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The marks, made a class of DAGs where they are none, and a sentence that says so.

    causal-learn's results were valid on 200 random graphs, but nothing in it checks them.
    """
    dag, _ = meek.extend(marks)
    completed = meek.class_of(dag)
    if np.array_equal(completed, marks):
        return marks, []
    return completed, ["causal-learn returned no class of DAGs: the class of a DAG that fits best was taken instead"]
