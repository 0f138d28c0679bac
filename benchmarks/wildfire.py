"""Next-day forecasts of fire masks on simulated fires, beside what the simulator itself knows; and SVGDM's hidden fronts.

    python benchmarks/wildfire.py --fires 60 --seeds 3 --json out/wildfire.json
    python benchmarks/wildfire.py --windows 0        # without SVGDM

Rows, mean (sd) over seeds, are those of `latentcause.experiments.fire_forecasts`, whose docstring says what they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentcause.experiments.fire_forecasts import FireSettings, fire_rows
from latentcause.writing import write_atomically

FIRST_SEED = 7000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fires", type=int, default=60, help="fires to learn from")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--windows", type=int, default=20, help="windows in which SVGDM is judged; 0 leaves it out")
    parser.add_argument("--prior-fires", type=int, default=300, help="fires from whose fronts SVGDM learns")
    parser.add_argument("--epochs", type=int, default=20, help="of the networks")
    parser.add_argument("--samples", type=int, default=16, help="of SVGDM")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = ("fires", "prior_fires", "windows", "epochs", "samples")
    settings = FireSettings(**{name: getattr(arguments, name) for name in names})
    found: list[dict[str, Any]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for row in fire_rows(settings, seed):
            shown_row = shown({"seed": seed, **row})
            found.append(shown_row)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                with write_atomically(arguments.json) as temporary:
                    temporary.write_text(json.dumps(found, indent=1))
    summarise(found)
    return 0


def shown(row: dict[str, Any]) -> dict[str, Any]:
    print(
        " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()),
        flush=True,
    )
    return row


def summarise(found: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'method':18} {'target':9} {'AP':>15} {'F1':>15} {'Brier':>9} {'prevalence':>11}")
    for method, target in dict.fromkeys((row["method"], row["target"]) for row in found):
        rows = [row for row in found if (row["method"], row["target"]) == (method, target)]
        cells = [
            f"{np.mean([row[name] for row in rows]):.3f} ({np.std([row[name] for row in rows]):.3f})"
            for name in ("ap", "f1")
        ]
        brier, prevalence = (np.mean([row[name] for row in rows]) for name in ("brier", "prevalence"))
        print(f"{method:18} {target:9} {cells[0]:>15} {cells[1]:>15} {brier:9.5f} {prevalence:11.5f}")


if __name__ == "__main__":
    raise SystemExit(main())
