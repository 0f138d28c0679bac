"""Models to one safetensors file and back."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from latentcause.graph import CausalGraph
from latentcause.writing import output_folder, write_atomically

__all__ = ["REGISTRY", "load", "output_folder", "read_notes", "save", "write_atomically"]

FORMAT = "latentcause"
FORMAT_VERSION = 1

REGISTRY: dict[str, str] = {
    "FModeling": "latentcause.models.f_modeling",
    "GModeling": "latentcause.models.g_modeling",
    "PCA": "latentcause.models.baselines",
    "ProbabilisticPCA": "latentcause.models.baselines",
    "FastICA": "latentcause.models.baselines",
    "VAE": "latentcause.models.baselines",
    "ConditionalVAE": "latentcause.models.baselines",
    "IVAE": "latentcause.models.baselines",
    "SCMVAE": "latentcause.models.baselines",
    "StructuralCausalModel": "latentcause.scm",
    "SVGDM": "latentcause.models.svgdm",
    "CausesOfChange": "latentcause.models.causes_of_change",
    "CausalDiffAE": "latentcause.models.causal_diffae",
    "DCRL": "latentcause.models.dcrl",
    "LinearPairs": "latentcause.models.linear_pairs",
    "NoisyLinearPairs": "latentcause.models.noisy_linear_pairs",
    "CausalVAE": "latentcause.models.baselines.images",
    "ConditionalDiffusion": "latentcause.models.baselines.images",
    "DiffAE": "latentcause.models.baselines.images",
    "Factual": "latentcause.models.baselines.images",
    "PixelScaling": "latentcause.models.baselines.images",
}
"""``{class name: module}`` of the models that a file may hold; nothing else is ever imported or run by ``load``."""

PARTS: dict[str, str] = {
    "BernoulliError": "latentcause.observation",
    "CategoricalMechanism": "latentcause.scm",
    "ChangeMixture": "latentcause.models.pairs.changes",
    "CodeMixture": "latentcause.models.pairs.noisy_lines",
    "Component": "latentcause.observation",
    "CorrelatedError": "latentcause.observation",
    "DummyCoded": "latentcause.scm",
    "EmpiricalNoise": "latentcause.scm",
    "FactorCode": "latentcause.models.factor_code",
    "FitSettings": "latentcause.scm.fitting.nodes",
    "GaussianError": "latentcause.observation",
    "GaussianNoise": "latentcause.scm",
    "Grid": "latentcause.observation",
    "KernelNoise": "latentcause.scm",
    "Kronecker": "latentcause.observation.matrices",
    "LinearMechanism": "latentcause.scm",
    "LinearOperator": "latentcause.observation",
    "LinearReading": "latentcause.models.pairs.linear_reading",
    "Lines": "latentcause.models.pairs.lines",
    "LogNormalError": "latentcause.observation",
    "Matern": "latentcause.fields",
    "MixtureEmission": "latentcause.observation",
    "MonotoneSpline": "latentcause.scm",
    "NeuralMechanism": "latentcause.scm",
    "NoisyLines": "latentcause.models.pairs.noisy_lines",
    "NoisyOr": "latentcause.models.noisy_or",
    "Observation": "latentcause.observation",
    "PostNonlinearMechanism": "latentcause.scm",
    "SparseMatrix": "latentcause.observation.matrices",
    "SplineMechanism": "latentcause.scm",
    "SquaredExponential": "latentcause.fields",
    "TreeMechanism": "latentcause.scm",
    "UniformBSpline": "latentcause.splines",
    "White": "latentcause.fields",
    "Whitening": "latentcause.models.pairs.whitening",
}
"""``{class name: module}`` of the classes whose objects a model's parameters and fitted values may hold.

A file keeps what their constructor takes, which each has as attributes of the same names."""

HOLDING_CODE = ("FunctionMechanism", "FunctionOperator", "GeneralMechanism")
"""Classes with a function among their fields, which no file can hold."""


def save(
    model: Any,
    path: str | Path,
    registry: Mapping[str, str] = REGISTRY,
    *,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted model to one .safetensors file, which ``load`` reads.

    Tensors hold the arrays of ``fitted_state()`` by name, and arrays among the constructor's parameters as
    ``param:NAME``. The header's metadata hold the format and its version, the class name, and the parameters and the
    other fitted values as JSON, and ``notes``: anything that JSON can hold and ``read_notes`` is to give back. A parameter
    for which there is a fitted value named ``param:NAME`` is None in the file: ``restore_state`` sets it. The file appears under
    its name once it is complete.

    Raises
    ------
    ValueError
        Where the model's class is not one that ``load`` knows.
    TypeError
        Where a parameter or a fitted value is of a type that the file can't hold; the message names it.
    sklearn.exceptions.NotFittedError
        Where the model is not fitted.
    """
    name = type(model).__name__
    if registry.get(name) is None or _model_class(name, registry) is not type(model):
        raise ValueError(f"{name} is not a model that load knows (it knows {', '.join(registry)})")
    arrays, values = model.fitted_state()
    tensors = {key: np.asarray(array) for key, array in arrays.items()}
    reserved = [key for key in tensors if ":" in key]
    if reserved:
        raise ValueError(f"fitted array {reserved[0]!r} of {name} has a colon in its name: rename it")
    params = {
        key: None if f"param:{key}" in values else _encode(value, f"param:{key}", tensors)
        for key, value in model.get_params(deep=False).items()
    }
    fitted = {key: _encode(value, f"value:{key}", tensors) for key, value in values.items()}
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "class": name,
        "params": json.dumps(params),
        "values": json.dumps(fitted),
        "notes": json.dumps(dict(notes or {})),
    }
    for key, array in tensors.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(f"array {key!r} of {name} has type {array.dtype}: only real numbers can be saved")
    # "C" order and not ascontiguousarray, which would turn a single number into an array of one.
    ready = {key: np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C") for key, array in tensors.items()}
    with write_atomically(path) as temporary:
        save_file(ready, temporary, metadata=metadata)


def load(path: str | Path, registry: Mapping[str, str] = REGISTRY) -> Any:
    """Read a model that ``save`` wrote. No code in the file is run: it names one of the known classes.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        Where the file was not written by ``save``, is cut short or damaged, has a newer format, names an unknown
        class, or does not fit that class.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    lacking = [key for key in ("version", "class", "params", "values") if key not in metadata]
    if lacking:
        raise ValueError(f"{path.name} is damaged: it lacks {lacking[0]!r} in its header")
    version, name = metadata["version"], metadata["class"]
    if version != str(FORMAT_VERSION):
        raise ValueError(
            f"{path.name} has format {version}, this latentcause reads {FORMAT_VERSION}: update latentcause"
        )
    if name not in registry:
        raise ValueError(f"{path.name} holds a {name}, which this latentcause does not know ({', '.join(registry)})")
    try:
        params = {key: _decode(value, tensors) for key, value in json.loads(metadata["params"]).items()}
        values = {key: _decode(value, tensors) for key, value in json.loads(metadata["values"]).items()}
        model = _model_class(name, registry)(**params)
        model.restore_state({key: array for key, array in tensors.items() if ":" not in key}, values)
    except (
        KeyError,
        TypeError,
        RuntimeError,
        json.JSONDecodeError,
    ) as error:  # RuntimeError: weights of other networks
        raise ValueError(f"{path.name} does not fit the {name} of this latentcause: {error}") from error
    return model


def can_save(value: Any) -> bool:
    """Whether a file can hold the value among a model's parameters or fitted values."""
    try:
        _encode(value, "", {})
    except TypeError:
        return False
    return True


def read_notes(path: str | Path) -> dict[str, Any]:
    """The notes that ``save`` put beside the model, empty where there are none.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``load`` does.
    """
    return dict(json.loads(_read(Path(path))[0].get("notes", "{}")))


def _model_class(name: str, registry: Mapping[str, str]) -> Callable[..., Any]:
    return getattr(import_module(registry[name]), name)


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: eight bytes with the header's length, then the header's JSON
    if start[8:] != b"{":
        raise ValueError(f"{path.name} is not a latentcause file (or was cut short): it is no safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is cut short or damaged: copy or save it again ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path.name} is a safetensors file, but not one that latentcause.save wrote")
    return metadata, tensors


def _encode(value: Any, where: str, tensors: dict[str, np.ndarray]) -> Any:
    """The value as JSON holds it; arrays and tensors go to ``tensors`` under the name ``where``."""
    if isinstance(value, np.generic):
        value = value.item()
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, CausalGraph):
        return {"__graph__": {"nodes": list(value.nodes), "edges": [list(edge) for edge in value.edges]}}
    if isinstance(value, np.ndarray):
        tensors[where] = value
        return {"__array__": where}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"__tuple__": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        pairs = {key: _encode(item, f"{where}/{key}", tensors) for key, item in value.items()}
        return {"__dict__": pairs} if any(key.startswith("__") for key in value) else pairs
    name = type(value).__name__
    if name in HOLDING_CODE:
        raise TypeError(f"{where} is a {name}, which holds code: only what is made of numbers can be saved")
    if name == "csr_matrix":
        parts = {key: _encode(getattr(value, key), f"{where}/{key}", tensors) for key in ("data", "indices", "indptr")}
        return {"__sparse__": list(value.shape), **parts}
    if name in PARTS and _model_class(name, PARTS) is type(value):
        fields = inspect.signature(type(value)).parameters
        return {
            "__object__": name,
            "fields": {key: _encode(getattr(value, key), f"{where}/{key}", tensors) for key in fields},
        }
    raise TypeError(f"{where} is a {type(value).__name__}, which can't be saved: use numbers, text, lists or arrays")


def _decode(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "__graph__" in value:
        graph = value["__graph__"]
        return CausalGraph.from_edges([tuple(edge) for edge in graph["edges"]], nodes=graph["nodes"])
    if "__array__" in value:
        return tensors[value["__array__"]]
    if "__tuple__" in value:
        return tuple(_decode(value["__tuple__"], tensors))
    if "__sparse__" in value:
        from scipy import sparse

        parts = tuple(_decode(value[key], tensors) for key in ("data", "indices", "indptr"))
        return sparse.csr_matrix(parts, shape=value["__sparse__"])
    if "__object__" in value:
        fields = {key: _decode(item, tensors) for key, item in value["fields"].items()}
        return _model_class(value["__object__"], PARTS)(**fields)
    return {key: _decode(item, tensors) for key, item in value.get("__dict__", value).items()}
