"""As many coordinates as there are latents, of observations that have more numbers."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.models.pairs.slow_features import along_curve, slow_features
from latentcause.networks.residual import residual_layers

PRODUCTS = 40  # widest directions whose products are features
SINES, SINES_OF_CURVE, SINES_OF_CODES = 300, 0.7, 1.5  # how many, and the sds of their frequencies
STEADY, MOST_STEADY = (
    0.02,
    150,
)  # share of its variance by which a function of one latent may change, and how many there may be
AWAY, PURGES = (
    0.2,
    3,
)  # way on the curve, in sds, that no pair goes in which the latent stays, and how often others are dropped
DIRECTIONS = 30  # of the curve that observations follow with one latent
NUMBERED = 1000  # pairs whose place on that curve is looked for
RIDGE = 1e-2
MOST_PAIRS = 20_000  # that features are learned from
LOOSE = 0.5  # share of its variance by which a coordinate of the other latents changes where none of them is hit
SHORT, LONG = 0.5, 1.5  # frequencies of the decoder's first layer, per sd of a coordinate
JITTER = 0.005  # of coordinates in training, in their sds
CHANGES, FAINTEST = (
    2.0,
    0.05,
)  # weight of errors of changes, and the share of the variance they are measured by at least


class Coordinates(nn.Module):
    """Coordinates u (n, m) of standardised observations v (n, r), r > m, and v as a function of u.

    Features f are v and the products of its widest directions. `told_apart` says for k of the m latents which pairs changed them.

    * Of each of the k: the functions of f that stay in all pairs but its own (`slow_features`) are functions of this latent alone.
      What they predict of v is a curve, and u the place on it (`along_curve`), as a function of f that is fitted to it.
    * Of the m - k others: the m - k functions of f, and of sines of the k coordinates, that stay best in the pairs of the k. They
      are mixtures of what remains, which the flow after them parts.

    The way back is a network that is trained afterwards; its loss for a pair, over the principal directions of v in the square
    root of their sds, is (|v^ - v|^2 + |v^~ - v~|^2) / 2  +  2 |(v^~ - v^) - (v~ - v)|^2 / (|v~ - v|^2 + .05): every
    intervention has the same say, also one that moves few pixels.

    Parameters
    ----------
    spread : Tensor (r,)
        sds of the directions, in the unit of the observations.
    size, alone : int
        m and k.
    width, depth : int
        Of the way back.
    """

    weight: Tensor
    widest: Tensor
    pairs: Tensor
    centre: Tensor
    unit: Tensor
    curve: Tensor
    origin: Tensor
    curve_waves: Tensor
    place: Tensor
    code_waves: Tensor
    phase: Tensor
    others: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, spread: Tensor, size: int, alone: int, width: int, depth: int) -> None:
        super().__init__()
        r = len(spread)
        widest = min(PRODUCTS, r)
        features = r + widest * (widest + 1) // 2
        root = (spread / spread.sum()).sqrt().float()
        self.alone = alone
        self.register_buffer("weight", root.square())  # of squared errors
        self.register_buffer("widest", spread.argsort()[-widest:])
        self.register_buffer("pairs", torch.triu_indices(widest, widest))
        for name, shape in {
            "centre": (features,),
            "unit": (features,),
            "curve": (alone, features, DIRECTIONS),
            "origin": (alone, DIRECTIONS),
            "curve_waves": (DIRECTIONS, SINES),
            "place": (alone, DIRECTIONS + SINES),
            "code_waves": (alone, SINES),
            "phase": (SINES,),
            "others": (features + SINES, size - alone),
            "shift": (size,),
            "scale": (size,),
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        self.decoder = nn.Sequential(_Waves(size, width), *residual_layers(width, depth), nn.Linear(width, r))

    @classmethod
    def of(
        cls,
        v: Tensor,
        after: Tensor,
        spread: Tensor,
        changed: Tensor,
        stays: Tensor,
        size: int,
        width: int,
        depth: int,
        seed: int,
    ) -> Self | None:
        """Coordinates of pairs (n, r), from what changes and stays in them; None where there are none.

        The way back is untrained.
        """
        step = max(1, len(v) // MOST_PAIRS)
        v, after, changed, stays = (part[::step] for part in (v, after, changed, stays))
        made, rng = cls(spread, size, changed.shape[1], width, depth), np.random.default_rng(seed)
        put = made._put
        raw = made._features(v).double()
        put("centre", raw.mean(0)), put("unit", raw.std(0).clamp(min=1e-9))
        f, f_after = (made._standard(part).double().numpy() for part in (v, after))
        put("curve_waves", SINES_OF_CURVE * rng.standard_normal((DIRECTIONS, SINES)))
        put("code_waves", SINES_OF_CODES * rng.standard_normal((made.alone, SINES)))
        put("phase", rng.uniform(-math.pi, math.pi, SINES))
        put("scale", np.ones(size))
        seen = np.concatenate([v.numpy(), after.numpy()]) * made.weight.sqrt().numpy()
        both = np.concatenate([f, f_after])
        some = both[:: max(1, len(v) // NUMBERED)]
        for k in range(made.alone):
            kept = np.flatnonzero(stays[:, k].numpy())
            for _ in range(PURGES):
                if not len(kept):
                    return None
                curve = _curve(f, f_after, kept, seen)
                far = np.linalg.norm((f_after - f)[kept] @ curve, axis=1) > AWAY
                if not far.any():
                    break
                kept = kept[~far]
            made.curve[k, :, : curve.shape[1]] = torch.from_numpy(curve)
            made.origin[k, : curve.shape[1]] = torch.from_numpy((both @ curve).mean(0))
            basis = made._along(torch.from_numpy(some).float(), k).double().numpy()
            place = along_curve(basis[:, :DIRECTIONS])
            made.place[k] = torch.from_numpy(np.linalg.solve(_gram(basis, RIDGE), basis.T @ place))
        if made.alone < size:
            with torch.no_grad():
                g, g_after = (made._beside(made._standard(part)).double().numpy() for part in (v, after))
            told = changed.any(1).numpy()
            if not told.any():
                return None
            values, others = slow_features(g, (g_after - g)[told], size - made.alone)
            if values[-1] > LOOSE:
                return None
            put("others", others)
        with torch.no_grad():
            u = made(v).double()
        put("shift", u.mean(0)), put("scale", u.std(0).clamp(min=1e-9))
        return made

    def forward(self, v: Tensor) -> Tensor:
        """u (n, m) of v (n, r)."""
        f = self._standard(v)
        codes = self._alone(f)
        if self.others.shape[1]:
            codes = torch.cat([codes, self._beside(f, codes) @ self.others], dim=1)
        return (codes - self.shift) / self.scale

    def decode(self, u: Tensor) -> Tensor:
        """v (n, r) of u (n, m)."""
        return self.decoder(u)

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Jitter of coordinates."""
        u = batch[2]
        return (torch.randn((len(u), 2, u.shape[1]), generator=generator, device=u.device),)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss (n,) of the way back for batches (v, v~, u, u~, jitter)."""
        v, after, u, u_after, jitter = batch
        both = torch.stack([v, after])
        found = self.decode((torch.stack([u, u_after]) + JITTER * jitter.transpose(0, 1)).flatten(0, 1))
        found = found.reshape(both.shape)
        error = (found - both).square() @ self.weight
        change, wrong = ((part[1] - part[0]).square() @ self.weight for part in (both, found - both))
        return error.mean(0) + CHANGES * wrong / (change + FAINTEST)

    def _features(self, v: Tensor) -> Tensor:
        wide = v[:, self.widest]
        return torch.cat([v, wide[:, self.pairs[0]] * wide[:, self.pairs[1]]], dim=1)

    def _standard(self, v: Tensor) -> Tensor:
        return (self._features(v) - self.centre) / self.unit

    def _along(self, f: Tensor, k: int) -> Tensor:
        """Where observations of features f are on the k-th curve, and sines of it."""
        spot = f @ self.curve[k] - self.origin[k]
        return torch.cat([spot, torch.sin(spot @ self.curve_waves + self.phase)], dim=1)

    def _alone(self, f: Tensor) -> Tensor:
        return torch.stack([self._along(f, k) @ self.place[k] for k in range(self.alone)], dim=1)

    def _beside(self, f: Tensor, codes: Tensor | None = None) -> Tensor:
        """Features of the other latents' coordinates."""
        codes = self._alone(f) if codes is None else codes
        return torch.cat([f, torch.sin(codes @ self.code_waves + self.phase)], dim=1)

    def _put(self, name: str, values: Tensor | np.ndarray) -> None:
        getattr(self, name).copy_(torch.as_tensor(values))


def _curve(f: np.ndarray, f_after: np.ndarray, stays: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The main effect of a latent on observations (2n, r): directions (f, p) of features, the widest with an sd of 1.

    The least squares prediction of observations by functions of features that stay in the pairs ``stays``, turned to its
    principal axes.
    """
    values, own = slow_features(f, (f_after - f)[stays], MOST_STEADY)
    own = own[:, : max(1, int((values < STEADY).sum()))]
    own = own / (f @ own).std(0)
    functions = np.concatenate([f @ own, f_after @ own])
    about = np.linalg.solve(_gram(functions, 1.0), functions.T @ seen)
    variances, axes = np.linalg.eigh(about.T @ np.cov(functions.T).reshape(len(about), -1) @ about)
    return np.asarray(own @ about @ axes[:, ::-1][:, :DIRECTIONS] / np.sqrt(variances[-1]))


def _gram(basis: np.ndarray, ridge: float) -> np.ndarray:
    return np.asarray(basis.T @ basis + ridge * np.eye(basis.shape[1]))


class _Waves(nn.Module):
    """sin(W u + b), frequencies from low to high: a bright line that moves is no smooth function of where it is."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, width)
        steps = torch.exp(torch.linspace(math.log(SHORT), math.log(LONG), width))
        with torch.no_grad():
            self.layer.weight.normal_().mul_(steps[:, None])
            self.layer.bias.uniform_(-math.pi, math.pi)

    def forward(self, u: Tensor) -> Tensor:
        return torch.sin(self.layer(u))
