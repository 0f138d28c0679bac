"""The likelihood of pairs of a linear-Gaussian system that is seen with errors of measurement, and its maximum."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentcause.models.pairs.pair_likelihood import only_known
from latentcause.progress import progress

HEAT = 0.1  # of hypotheses at first, as an inverse temperature
COOLED = 0.5  # share of the training at which it is 1
CLEAR = 0.9  # of the mixing at first
ERROR = 0.45  # sd of the errors at first, in standardised directions
LEAST = 1e-3  # sd of the errors at least: without any, likelihoods have no bound
ROUNDS, ENOUGH = 40, 0.5  # of scoring, and the gain in nats, of all pairs together, below which it ends
HALVED = 12  # how often a step is halved at most
INFORMATION_ROWS, ROWS_AT_ONCE = 20_000, 4096
DAMPING, UNKNOWN = 1e-4, 1e-9  # of the information, as correlations
NOTHING = 1e-9  # share of the largest score that counts as none


class LinearPairLikelihood(nn.Module):
    """log p(v, v~) with v = A e + n, v~ = A e~ + n~, e ~ N(0, 1), and independent errors n, n~ ~ N(0, Psi), Psi = L L' + .001^2.

    Under the hypothesis h that latent i was hit, z~_i = sum_j T_ij e~_j ~ N(0, 1) is new and the other noises stay:

        e~ = (1 - 1_i T_i / T_ii) e + 1_i z~_i / T_ii,        p(v, v~) = sum_h pi_h N((v, v~); 0, S_h),
        S_h = [A A' + Psi,  A B_h' A';  A B_h A',  A (B_h B_h' + 1_i 1_i' / T_ii^2) A' + Psi],   B_h = 1 - 1_i T_i / T_ii

    (the system of Brehmer et al., Weakly supervised causal representation learning, 2022, section 5.1, with errors added). While it
    is trained, hypotheses are weighed by posteriors to a power that grows from .1 to 1: pairs belong to all latents at first, and
    where it begins hardly matters (deterministic annealing, Ueda and Nakano 1998). `maximised` does the rest.

    Parameters
    ----------
    mixing : Tensor (m, m)
        A at first.
    hypotheses : Tensor (m + 1, m)
        0 or 1: none, and one latent each.
    total : int
        Pairs that the whole training sees.
    """

    hypotheses: Tensor
    seen: Tensor

    def __init__(self, mixing: Tensor, hypotheses: Tensor, total: int) -> None:
        super().__init__()
        m = hypotheses.shape[1]
        self.total = total
        self.mixing = nn.Parameter((CLEAR * mixing.double()).contiguous())
        self.solution = nn.Parameter(torch.eye(m, dtype=torch.float64))
        self.factor = nn.Parameter(ERROR * torch.eye(m, dtype=torch.float64)[*torch.tril_indices(m, m)])  # of L
        self.shares = nn.Parameter(torch.zeros(m + 1, dtype=torch.float64))  # log pi, up to a constant
        self.register_buffer("hypotheses", hypotheses.double())
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Nothing. A batch is counted here, where it is whole."""
        self.seen += len(batch[0])
        return ()

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """-log p (n,) in nats, with tempered hypotheses, of (v, v~) in one (n, 2m) and the number of the hypothesis or -1."""
        both, known = batch
        heat = min(1.0, HEAT + (1 - HEAT) * float(self.seen) / (COOLED * self.total))
        joint = only_known(self._joint(both, self.covariances()), known)
        return -(heat * joint).logsumexp(1) / heat

    def covariances(self) -> Tensor:
        """S_h of every hypothesis (k, 2m, 2m)."""
        return _covariances(self.mixing, self.solution, self.factor, self.hypotheses)

    @property
    def error(self) -> Tensor:
        """Covariance (m, m) of n."""
        return _error(self.factor, len(self.mixing))

    def _joint(self, both: Tensor, covariances: Tensor) -> Tensor:
        """log pi_h N((v, v~); 0, S_h), (n, k)."""
        lower = torch.linalg.cholesky(covariances)
        eye = torch.eye(both.shape[1], dtype=both.dtype, device=both.device)
        inverse = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
        squares = torch.stack([(both @ part.T).square().sum(1) for part in inverse], dim=1)
        volume = lower.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * both.shape[1] * math.log(2 * math.pi)
        return self.shares.log_softmax(0) - 0.5 * squares - volume

    # --- the maximum -------------------------------------------------------------------------------------------------

    def maximise(self, both: Tensor, known: Tensor) -> tuple[Tensor, bool]:
        """Go to the maximum of the likelihood nearby; the covariance of the estimate of T (m^2, m^2), and if it was reached.

        Fisher scoring, with the mean square of the pairs' scores for the information (Berndt, Hall, Hall and Hausman 1974), damped,
        and steps halved until they gain. T, row by row, has no variance along what the pairs say nothing of.
        """
        some, settled = max(1, len(both) // INFORMATION_ROWS), False
        with progress("likelihood", ROUNDS) as report:
            value, gradient, posterior = self._gradient(both, known)
            for number in range(1, ROUNDS + 1):
                scaled, size = _correlations(self._information(both[::some], posterior[::some]))
                damped = scaled + DAMPING * torch.eye(len(size), dtype=scaled.dtype, device=scaled.device)
                step = torch.linalg.solve(damped, gradient / size) / size
                moved = self._go(step, value, both, known)
                settled = not moved or float(gradient @ step) * len(both) < ENOUGH
                value, gradient, posterior = self._gradient(both, known)
                report(number, -value)
                if settled:
                    break
        scaled, size = _correlations(self._information(both[::some], posterior[::some]))
        covariance = torch.linalg.pinv(scaled, rcond=UNKNOWN, hermitian=True) / size / size[:, None] / len(both)
        own = slice(self.mixing.numel(), self.mixing.numel() + self.solution.numel())
        return covariance[own, own], settled

    def _go(self, step: Tensor, value: float, both: Tensor, known: Tensor) -> bool:
        """Move by as much of a step as gains; else stay."""
        before = nn.utils.parameters_to_vector(self.parameters()).detach()
        for halved in range(HALVED):
            nn.utils.vector_to_parameters(before + 0.5**halved * step, self.parameters())
            try:
                with torch.no_grad():
                    joint = only_known(self._joint(both, self.covariances()), known)
            except torch.linalg.LinAlgError:  # a step to where covariances are none
                continue
            if float(joint.logsumexp(1).mean()) > value:
                return True
        nn.utils.vector_to_parameters(before, self.parameters())
        return False

    def _gradient(self, both: Tensor, known: Tensor) -> tuple[float, Tensor, Tensor]:
        """Mean log-likelihood, its gradient (p,), and what each pair's intervention hit (n, k).

        By Fisher's identity the gradient is that of the complete likelihood with the posterior held, which only asks for second
        moments under each hypothesis.
        """
        covariances = self.covariances()
        with torch.no_grad():
            joint = only_known(self._joint(both, covariances), known)
            total = joint.logsumexp(1, keepdim=True)
            posterior = (joint - total).exp()
            moments = torch.stack([(both.T * weight) @ both for weight in posterior.T]) / len(both)
        lower = torch.linalg.cholesky(covariances)
        log_volume = lower.diagonal(dim1=1, dim2=2).log().sum(1)
        complete = (posterior.mean(0) * (self.shares.log_softmax(0) - log_volume)).sum()
        complete = complete - 0.5 * (torch.cholesky_inverse(lower) * moments).sum()
        gradient = torch.autograd.grad(complete, list(self.parameters()))
        return float(total.mean()), torch.cat([part.flatten() for part in gradient]), posterior

    def _information(self, both: Tensor, posterior: Tensor) -> Tensor:
        """Mean square (p, p) of the pairs' scores."""
        parts = zip(both.split(ROWS_AT_ONCE), posterior.split(ROWS_AT_ONCE), strict=True)
        total = torch.zeros(())
        for part in parts:
            scores = self._scores(*part)
            total = total.to(scores) + scores.T @ scores
        return total / len(both)

    @torch.no_grad()
    def _scores(self, both: Tensor, posterior: Tensor) -> Tensor:
        """Of every pair (n, p), given what was hit.

        S_h = W W' + diag(Psi, Psi) with W = [A, 0; A B_h, A 1_i / T_ii], so that the score of W is (y y' - S_h^-1) W,
        y = S_h^-1 (v, v~), and all others follow by the chain rule.
        """
        m, n = len(self.mixing), len(both)
        mixing, lower = self.mixing, _lower(self.factor, m)
        of_mixing, of_solution, of_lower = (both.new_zeros(n, m, m) for _ in range(3))
        for hit, weight, covariance in zip(self.hypotheses, posterior.T[:, :, None], self.covariances(), strict=True):
            new = hit / self.solution.diagonal()
            row, column = new @ self.solution, mixing @ hit  # B_h = 1 - 1_i row
            fresh = torch.cat([torch.zeros_like(new), mixing @ new])[:, None]
            root = torch.cat([torch.cat([mixing, mixing - torch.outer(column, row)]), fresh], dim=1)  # W
            inverse = torch.linalg.inv(covariance)
            y = both @ inverse
            of_root = weight[:, :, None] * (y[:, :, None] * (y @ root)[:, None] - inverse @ root)
            second, of_fresh = of_root[:, m:, :m], of_root[:, m:, m]
            of_mixing += of_root[:, :m, :m] + second - (second @ row)[:, :, None] * hit + of_fresh[:, :, None] * new
            of_row, share = -(column @ second), new.sum()
            of_solution += share * of_row[:, None] * hit[:, None]
            own = share * (of_row @ row) + share**2 * (of_fresh @ column)
            of_solution -= own[:, None, None] * torch.outer(hit, hit)
            for part in (slice(m), slice(m, None)):
                of_error = y[:, part, None] * (y[:, part] @ lower)[:, None] - inverse[part, part] @ lower
                of_lower += weight[:, :, None] * of_error
        rows, columns = torch.tril_indices(m, m, device=both.device)
        of_shares = posterior - self.shares.softmax(0)
        parts = (of_mixing.flatten(1), of_solution.flatten(1), of_lower[:, rows, columns], of_shares)
        return torch.cat(parts, dim=1)


def _covariances(mixing: Tensor, solution: Tensor, factor: Tensor, hypotheses: Tensor) -> Tensor:
    """S_h (k, 2m, 2m) of hypotheses (k, m), all 0 or 1 for the latent that is hit."""
    m, new = len(mixing), hypotheses / solution.diagonal()
    after = mixing - (hypotheses @ mixing.T)[:, :, None] * (new @ solution)[:, None]
    fresh, error = new @ mixing.T, _error(factor, m)
    first = (mixing @ mixing.T + error).expand(len(hypotheses), m, m)
    across, second = mixing @ after.mT, after @ after.mT + fresh[:, :, None] * fresh[:, None] + error
    return torch.cat([torch.cat([first, across], dim=2), torch.cat([across.mT, second], dim=2)], dim=1)


def _error(factor: Tensor, m: int) -> Tensor:
    """L L' + .001^2, by the numbers of the lower triangular L."""
    lower = _lower(factor, m)
    return lower @ lower.T + LEAST**2 * torch.eye(m, dtype=factor.dtype, device=factor.device)


def _lower(factor: Tensor, m: int) -> Tensor:
    """L (m, m) of its numbers."""
    rows, columns = torch.tril_indices(m, m, device=factor.device)
    return factor.new_zeros(m * m).index_add(0, rows * m + columns, factor).reshape(m, m)


def _correlations(information: Tensor) -> tuple[Tensor, Tensor]:
    """The information on a scale of its own, and that scale."""
    size = information.diagonal().sqrt()
    size = torch.where(size > NOTHING * size.max(), size, 1.0)
    return information / size / size[:, None], size
