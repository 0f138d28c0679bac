"""The guard against tests that change global state does its work."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py")

OFFENDERS = {
    "random.seed(1)": "the random numbers of Python",
    "np.random.seed(1)": "the global random numbers of NumPy",
    "np.seterr(all='raise')": "NumPy's error handling",
    "warnings.simplefilter('ignore')": "the warnings filters",
    "os.environ['NEW'] = '1'": "the environment variables",
    "os.chdir('/')": "the working directory",
    "torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "torch.manual_seed(1)": "torch's global random numbers",
    "torch.set_grad_enabled(False)": "torch's gradient mode",
    "matplotlib.rcParams['lines.linewidth'] = 9": "matplotlib's rcParams",
}


CLEAN = """
def test_clean():
    assert np.random.default_rng(1).random() < 1
    assert torch.rand(1, generator=torch.Generator().manual_seed(1)) < 1
    with matplotlib.rc_context({"lines.linewidth": 9}):
        pass
"""


def test_guard_names_what_a_test_changed_and_leaves_a_clean_test_alone(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    tests = "".join(f"def test_{i}():\n    {code}\n\n" for i, code in enumerate(OFFENDERS))
    pytester.makepyfile(f"import os, random, warnings\nimport matplotlib, numpy as np, torch\n\n{tests}{CLEAN}")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=len(OFFENDERS) + 1, errors=len(OFFENDERS))
    for what in OFFENDERS.values():
        result.stdout.fnmatch_lines([f"*the test changed global state:*{what}*"])
