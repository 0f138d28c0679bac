"""Draws counterfactual_digits.png beside this file: python docs/pictures/counterfactual_digits.py (about a minute)."""

from pathlib import Path

import matplotlib.pyplot as plt

import latentcause as lc

truth = lc.datasets.digits(1797, seed=0)
rest, held_out = truth.split(64, seed=0)
model = lc.CausalDiffAE(
    truth.graph, bounds={"ink": (12, 28), "intensity": (64, 255)}, refinements=3, epochs=16, device="cpu"
).fit(rest.images)

rows = {"factual": held_out.images.pixels}
for ink in (25.0, 15.0):
    rows[f"do(ink = {ink:.0f})"] = model.counterfactual(held_out.images, {"ink": ink}, held_out.images.labels)
    rows[f"truth, ink {ink:.0f}"] = held_out.counterfactual(slice(None), {"ink": ink})

figure, axes = plt.subplots(len(rows), 12, figsize=(9, 3.9), gridspec_kw={"wspace": 0.05, "hspace": 0.05})
for line, (name, images) in zip(axes, rows.items(), strict=True):
    for axis, image in zip(line, images, strict=False):
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=90, bbox_inches="tight")
