"""What every test shares: the real data, settings, and a guard against tests that change global state."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: no test opens a window

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

SET_BY_IMPORTS = ("the random numbers of Python (random)", "the warnings filters")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data("sachs/edges.csv")`` is that file beside the repository; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs the real data in ../shared/data/{name}, which is not on this machine")
        return path

    return find


@pytest.fixture(autouse=True)
def _no_global_state_changes() -> Iterator[None]:
    """Fail a test that leaves the process other than it found it: later tests, and users, would feel it."""
    before, modules = _global_state(), len(sys.modules)
    yield
    after = _global_state()
    if len(sys.modules) > modules:  # libraries draw a random number and set filters of their own when first imported
        before = {what: value for what, value in before.items() if what not in SET_BY_IMPORTS}
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    changed = [what for what, value in before.items() if not _same(value, after[what])]
    assert not changed, f"the test changed global state: {', '.join(changed)}"


@pytest.fixture
def quick_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents are told apart in fewer steps and smaller groups than users get."""
    from latentcause.models.pairs import contrastive_codes

    quick = replace(contrastive_codes.RECIPE, learning_rate=3e-3)
    for name, value in {"STEPS": 600, "GROUP": 128, "WIDTH": 64, "RECIPE": quick}.items():
        monkeypatch.setattr(contrastive_codes, name, value)


def _global_state() -> dict[str, Any]:
    """What a test must leave alone. Of libraries only those that are loaded already: none is loaded for this."""
    state: dict[str, Any] = {
        "the random numbers of Python (random)": random.getstate(),
        "the global random numbers of NumPy": np.random.get_state(legacy=False),  # noqa: NPY002 (it is watched, not used)
        "NumPy's error handling": np.geterr(),
        "the warnings filters": list(warnings.filters),
        "the environment variables": {
            name: value
            for name, value in os.environ.items()
            if name != "PYTEST_CURRENT_TEST"
            and not name.startswith(("KMP_", "TORCHINDUCTOR_", "GDAL_", "PROJ_"))  # set by libraries at first use
        },
        "the working directory": Path.cwd(),
    }
    if torch := sys.modules.get("torch"):
        state["torch's default dtype"] = torch.get_default_dtype()
        state["torch's number of threads"] = torch.get_num_threads()
        state["torch's global random numbers"] = torch.get_rng_state().numpy().copy()
        state["torch's deterministic mode"] = torch.are_deterministic_algorithms_enabled()
        state["torch's gradient mode"] = torch.is_grad_enabled()
    if matplotlib := sys.modules.get("matplotlib"):
        state["matplotlib's rcParams"] = dict(matplotlib.rcParams)
    return state


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second
