"""Posteriors of SVGDM beside exact ones, long runs of NUTS, and simple answers.

    python benchmarks/svgdm.py --case exact --json out/svgdm_exact.json
    python benchmarks/svgdm.py --case nonlinear --seeds 5       # needs the bench extra (Pyro)
    python benchmarks/svgdm.py --case dags
    python benchmarks/svgdm.py --case shared
    python benchmarks/svgdm.py --case speed
    python benchmarks/svgdm.py --case hokkaido                  # needs the geo extra

Cases: ``exact`` (three linear-Gaussian fields: divergence from the exact posterior, coverage, what the causal edges bring),
``nonlinear`` (tanh and product mechanisms beside NUTS and variational inference), ``dags`` (10 and 15 nodes, sparse and dense,
with Gaussian, heavy-tailed and skewed noise: accuracy, and cost against edges), ``shared`` (autoencoders with one latent
vector for all fields), ``speed`` (time and memory as rasters grow, time to a CRPS beside NUTS), ``hokkaido`` (hazards of an
earthquake, by `CausesOfChange`). Each module's docstring says what its columns are. Seeds start at 3000: none of them was used
to choose a setting. Every row is printed as it comes; ``--json`` keeps all figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import svgdm_dags
import svgdm_exact
import svgdm_hokkaido
import svgdm_nonlinear
import svgdm_shared
import svgdm_speed
import torch

from latentcause.writing import write_atomically

CASES = {
    "exact": svgdm_exact.rows,
    "nonlinear": svgdm_nonlinear.rows,
    "dags": svgdm_dags.rows,
    "shared": svgdm_shared.rows,
    "speed": svgdm_speed.rows,
    "hokkaido": svgdm_hokkaido.rows,
}
FIRST_SEED = 3000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--only", nargs="+", help="methods to run, by the names in the first column")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, found = range(FIRST_SEED, FIRST_SEED + arguments.seeds), []
    for row in CASES[arguments.case](seeds, arguments.only):
        found.append(row)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(arguments.json) as temporary:
                temporary.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
