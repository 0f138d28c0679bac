"""What a file keeps of a fitted `SVGDM`, and the model that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentcause.fields import GaussianFields, JointGaussian
from latentcause.io import can_save
from latentcause.models.field_scores import FieldScores
from latentcause.models.kept_observations import kept, restored
from latentcause.training import seeded

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

MOMENTS, NETWORK = "moments.", "network."
"""Beginnings of the names of arrays."""


def state(model: SVGDM) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and values that JSON can hold.

    Moments and networks are all that posteriors are drawn with. The prior is kept where it is `GaussianFields`, and the
    observations where none of them is a function of the field.
    """
    joint = model.joint_
    # Eigenvectors as rows: read back, they lie in memory as eigh leaves them, and draws are the same to the last digit.
    rows = joint.axes.mT.contiguous()
    arrays = {
        f"{MOMENTS}mean": joint.mean.cpu().numpy(),
        f"{MOMENTS}variances": joint.variances.cpu().numpy(),
        f"{MOMENTS}axes": (torch.view_as_real(rows) if rows.is_complex() else rows).cpu().numpy(),
    }
    if model.scores_ is not None:
        arrays |= {f"{NETWORK}{name}": value.cpu().numpy() for name, value in model.scores_.state_dict().items()}
    observations = None if model.observations_ is None else kept(model.observations_)
    return arrays, {
        "moments": joint.form,
        "history": model.history_,
        "learned": model.scores_ is not None,
        "param:prior": _kept_prior(model.prior_) if isinstance(model.prior_, GaussianFields) else None,
        "observations": observations if can_save(observations) else None,
    }


def restore(model: SVGDM, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    """Set the fitted attributes, and the prior where the file has it."""
    mean, variances, rows = (
        torch.from_numpy(arrays[f"{MOMENTS}{name}"].copy()) for name in ("mean", "variances", "axes")
    )
    axes = (torch.view_as_complex(rows) if values["moments"] == "torus" else rows).mT
    model.joint_ = JointGaussian(mean, variances, axes, values["moments"])
    model.scores_, model.history_ = None, values["history"]
    if values["learned"]:
        joint = model.joint_.to("cpu", torch.float32)
        with seeded(model.seed):
            model.scores_ = FieldScores(joint, model.graph, model.sees, model.channels, model.blocks)
        weights = {name: array for name, array in arrays.items() if name.startswith(NETWORK)}
        model.scores_.load_state_dict({k.removeprefix(NETWORK): torch.from_numpy(v.copy()) for k, v in weights.items()})
        model.scores_.eval().requires_grad_(False)
    if values["param:prior"] is not None:
        model.prior = _prior(model, values["param:prior"])
    model.prior_ = model.prior
    observations = values["observations"]
    model.observations_ = None if observations is None else restored(model.graph, observations)


# --- inside ----------------------------------------------------------------------------------------------------------


def _kept_prior(prior: GaussianFields) -> dict[str, Any]:
    return {
        "weights": [[cause, effect, weight] for (cause, effect), weight in prior.weights.items()],
        "kernels": list(prior.kernels.values()),
        "intercepts": list(prior.intercepts.values()),
        "shape": prior.shape,
    }


def _prior(model: SVGDM, numbers: dict[str, Any]) -> GaussianFields:
    nodes = model.graph.nodes
    weights = {(cause, effect): weight for cause, effect, weight in numbers["weights"]}
    kernels, intercepts = (dict(zip(nodes, numbers[name], strict=True)) for name in ("kernels", "intercepts"))
    return GaussianFields(model.graph, weights, kernels, numbers["shape"], intercepts)
