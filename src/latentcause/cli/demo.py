"""Options of ``latentcause demo``."""

from __future__ import annotations

from pathlib import Path

from latentcause.cli.options import Out, Quick, Seed
from latentcause.cli.program import app


@app.command(epilog="Example: latentcause demo --out out/demo")
def demo(out: Out = Path("out/demo"), seed: Seed = 0, quick: Quick = False) -> None:
    """Simulate four experiments, fit every method, print how far each is from the best possible, write a report."""
    from latentcause.commands.demo import demo as run

    run(out, seed, quick)
