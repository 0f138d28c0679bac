"""The diffusion core beside azula and diffusers, step by step: what benchmarks/diffusion_core.py prints, on fewer steps."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("diffusion_core", "diffusion_denoisers", "diffusion_peers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    core = import_module("diffusion_core")
    monkeypatch.setattr(core, "STEPS", 10)
    monkeypatch.setattr(core, "INVERSION_PASSES", 30)
    return core


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
@pytest.mark.parametrize("part", ["schedules", "conversions", "samplers"])
@pytest.mark.parametrize("peer", ["azula", "diffusers"])
def test_all_agree_to_ten_digits(benchmark, part, peer):
    pytest.importorskip(peer, reason=f"needs {peer}, see benchmarks/diffusion_core.py")
    found = list(benchmark.PARTS[part][peer]())
    assert found
    assert [row for row in found if not (row.per_step <= 1e-10 and row.at_end <= 1e-10)] == []


@pytest.mark.parametrize("wrong", [1e-9, float("nan")])
def test_a_difference_is_seen(benchmark, wrong):
    def ours(x, t, s, generator):
        return 0.5 * x

    def theirs(x, t, s, generator):
        return 0.5 * x + wrong * (t > 0.9)

    row = benchmark.along("halving", "nobody", ours, theirs, benchmark.times(5))
    assert not row.holds
    assert benchmark.along("halving", "nobody", ours, ours, benchmark.times(5)).holds
