"""The YAML file of ``latentcause posterior``: what may stand in it, and one clear error for what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

Numbers = FiniteFloat | tuple[FiniteFloat, ...]
"""One for all axes, or one for each."""


class Section(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for key in given:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}: use {', '.join(cls.model_fields)}")
        return given


# --- what is observed ------------------------------------------------------------------------------------------------


class SdFile(Section):
    """A standard deviation for every cell: a raster on the grid of the values, or a column beside those of points."""

    file: str
    band: int | str | None = None


class GaussianNoise(Section):
    """value = seen + e."""

    kind: Literal["gaussian"] = "gaussian"
    sd: PositiveFloat | SdFile


class LogNormalNoise(Section):
    """log value = seen + e."""

    kind: Literal["log-normal"]
    sd: PositiveFloat | SdFile


class CorrelatedNoise(Section):
    """As Gaussian noise that the cells of a raster share with their neighbours: the less, the farther they are apart."""

    kind: Literal["correlated"]
    sd: PositiveFloat
    reach: Annotated[float, Field(gt=1, le=20)]
    """Distance, in cells, from which on cells share nothing; h of it apart, their correlation is 1 - 3 h / 2 + h^3 / 2."""


class BernoulliNoise(Section):
    """value is 1 with probability 1 / (1 + exp(-slope seen - offset)), else 0; or such a probability itself."""

    kind: Literal["bernoulli"]
    slope: FiniteFloat = 1.0
    offset: FiniteFloat = 0.0


class ComponentDensity(Section):
    """The density of the value in one class."""

    family: Literal["normal", "log-normal", "logit-normal"]
    mean: FiniteFloat
    sd: PositiveFloat


class MixtureNoise(Section):
    """The field is the log odds of a class, and the value has one density in it and another outside."""

    kind: Literal["mixture"]
    one: ComponentDensity
    zero: ComponentDensity


class AreaMean(Section):
    """Each cell of the raster sees the mean of the field over it."""

    kind: Literal["area"] = "area"


class Pixels(Section):
    """The raster's cells are the pixels of the field, or it is refused."""

    kind: Literal["pixels"]


class BlockMean(Section):
    """A raster on the field's pixels that came of blocks of ``ratio`` pixels: each block is one cell, with its mean value."""

    kind: Literal["blocks"]
    ratio: Numbers
    offset: Numbers = 0.0
    partial: bool = False
    """Whether blocks that the border cuts off count too."""
    value: Literal["mean", "centre"] = "mean"
    """Of a block's pixels: the centre, where resampling has blurred the borders of blocks."""


class Points(Section):
    """A .csv file with a column of coordinates for each axis of the grid, and ``band`` (or ``value``) for the values."""

    kind: Literal["points"]


def _by_kind(given: Any) -> Any:
    return {"kind": given} if isinstance(given, str) else given


def _as_noise(given: Any) -> Any:
    """A number is the standard deviation of Gaussian noise, a word its kind."""
    if isinstance(given, str):
        return {"kind": given}
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return {"kind": "gaussian", "sd": given}
    return given


def _pairs(given: Any) -> Any:
    if isinstance(given, list):
        for edge in given:
            if not (isinstance(edge, list) and len(edge) == 2 and all(isinstance(node, str) for node in edge)):
                raise ValueError(f"{edge!r} is no edge: write [cause, effect]")
    return given


Noise = Annotated[
    GaussianNoise | LogNormalNoise | CorrelatedNoise | BernoulliNoise | MixtureNoise,
    Field(discriminator="kind"),
    BeforeValidator(_as_noise),
]
Operator = Annotated[AreaMean | Pixels | BlockMean | Points, Field(discriminator="kind"), BeforeValidator(_by_kind)]


class Observed(Section):
    """One file that tells of one node."""

    file: str
    band: int | str | None = None
    noise: Noise
    operator: Operator = AreaMean()
    point_spread: PositiveFloat | None = None
    """Standard deviation, in pixels, of a blur of the field before cells see it."""
    scale: PositiveFloat = 1.0
    """Values are multiplied by it."""
    lowest: FiniteFloat | None = None
    """Values below it, such as chances of 0 that do not mean never, are raised to it, after scaling."""
    highest: FiniteFloat | None = None
    """Values above it are lowered to it."""
    transform: Literal["none", "log", "logit"] = "none"
    """Of the values. The field, its noise and the maps of the posterior are then on that scale."""
    outside: Literal["refuse", "drop"] = "refuse"
    """What becomes of cells that are not within the field as a whole."""


# --- the grid, the prior, the sampler --------------------------------------------------------------------------------


class GivenGrid(Section):
    """A north-up grid of equal pixels."""

    west: FiniteFloat
    east: FiniteFloat
    south: FiniteFloat
    north: FiniteFloat
    rows: PositiveInt
    columns: PositiveInt
    crs: str | None = None

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        if not (self.west < self.east and self.south < self.north):
            raise ValueError("west must be less than east, and south less than north")
        return self


class NodePrior(Section):
    """A node's mean, and the kernel of its own noise: lengths in pixels, variance in its units squared."""

    kernel: Literal["matern", "squared-exponential", "white"] = "matern"
    length: PositiveFloat | None = None
    variance: PositiveFloat = 1.0
    smoothness: PositiveFloat | None = None
    """Of a Matern kernel; 3/2 where it is not given."""
    mean: FiniteFloat = 0.0
    """E[z], with the effects of the node's parents in it."""

    @model_validator(mode="after")
    def _fits_the_kernel(self) -> Self:
        if (self.length is None) != (self.kernel == "white"):
            raise ValueError(
                "a white kernel has no length"
                if self.kernel == "white"
                else f"a {self.kernel} kernel needs a length, in pixels"
            )
        if self.smoothness is not None and self.kernel != "matern":
            raise ValueError(f"a {self.kernel} kernel has no smoothness: only matern has")
        return self


class Prior(Section):
    """A linear-Gaussian system of fields: a kernel and a mean for every node, a weight for every edge as ``cause -> effect``."""

    nodes: dict[str, NodePrior]
    weights: dict[str, FiniteFloat] = {}


class Causes(Section):
    """Settings of `latentcause.CausesOfChange`, which learns its numbers from the maps: no prior is needed."""

    window: PositiveInt = 3
    hole: PositiveInt = 5
    components: PositiveInt = 3
    width: PositiveInt = 48
    folds: Annotated[int, Field(ge=2)] = 4
    epochs: PositiveInt = 16
    device: str = "auto"


class Sampler(Section):
    """Settings of `latentcause.SVGDM`."""

    scores: Literal["exact", "gaussian", "learned"] = "exact"
    form: Literal["auto", "dense", "reflected", "torus", "sites"] = "auto"
    sees: Literal["blanket", "parents", "all"] = "blanket"
    guidance: Literal["gaussian", "plug-in", "anchor"] = "gaussian"
    steps: PositiveInt = 48
    eta: NonNegativeFloat = 4.0
    """Noise of the sampler: 0 is the probability flow, 1 the reverse diffusion."""
    rounds: NonNegativeInt = 0
    """Of fitting the prior's numbers to the observations, from where the section ``prior`` puts them."""
    draws: PositiveInt = 2048
    """From the prior, to learn from; not with ``scores: exact``."""
    epochs: PositiveInt = 20
    """Of training, with ``scores: learned``."""
    device: str = "auto"


class Check(Section):
    """Cells that are withheld, predicted and compared: no truth is needed."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of each observation's cells; 0 for no check."""
    samples: Annotated[int, Field(ge=2)] = 32


class PosteriorConfig(Section):
    """Everything that ``latentcause posterior`` needs to know beside the folder of the files."""

    graph: Annotated[str | list[tuple[str, str]], BeforeValidator(_pairs)]
    """Edges as ``a -> b; b -> c`` or [[a, b], [b, c]], DOT, or a .dot, .csv or .txt file."""
    observations: dict[str, list[Observed]]
    prior: Prior | None = None
    causes: Causes | None = None
    """In place of the prior: which of several causes changed a pixel, learned without labels."""
    grid: str | GivenGrid | None = None
    """A raster that has the grid, or a grid; the finest of the rasters where it is not given."""
    sampler: Sampler = Sampler()
    check: Check = Check()
    thresholds: dict[str, FiniteFloat] = {}
    """Of exceedance, in the units of the node's field."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.prior is None) == (self.causes is None):
            raise ValueError("give either prior, for linked fields, or causes, for classes of change")
        return self


def read_config(path: Path) -> PosteriorConfig:
    """The settings in a YAML file.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a file that is not YAML, a key twice, one that is unknown or missing, and a value that is none of those allowed; the
        message names file and key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no config {path}")
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} must hold a mapping with the keys {', '.join(PosteriorConfig.model_fields)}")
    try:
        return PosteriorConfig.model_validate(found)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_first_error(error, found)}") from None


# --- inside ----------------------------------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML keeps the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _first_error(error: ValidationError, given: Any) -> str:
    """Key and reason of one error; where a value may be one of several things, of the section it was meant to be."""
    one = max(error.errors(), key=lambda found: (found["type"] == "value_error", len(found["loc"])))
    where = ".".join(_keys(one["loc"], given, missing=one["type"] == "missing"))
    said = one["msg"].removeprefix("Value error, ")
    if one["type"] == "missing":
        said = "is needed"
    elif one["type"] == "union_tag_not_found":
        said = "needs a kind"
    elif one["type"] == "union_tag_invalid":
        said = f"unknown kind {one['ctx']['tag']!r}: use {one['ctx']['expected_tags']}"
    elif one["type"] != "value_error":
        said = f"{said[0].lower()}{said[1:]}, not {one['input']!r}"
    return f"{where}: {said}" if where else said


def _keys(place: tuple[Any, ...], given: Any, missing: bool) -> list[str]:
    """The keys and list positions that lead to a place, without the names of the types that were tried there."""
    kept = []
    for part in place:
        if (isinstance(given, dict) and part in given) or (isinstance(given, list) and isinstance(part, int)):
            given = given[part]
            kept.append(str(part))
    return [*kept, str(place[-1])] if missing else kept
