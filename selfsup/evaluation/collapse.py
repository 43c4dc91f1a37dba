"""Has the representation collapsed? Numbers on features (N, D), float, of N videos, and one on views (N, V, D)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rankme(features: Tensor, epsilon: float = 1e-7) -> float:
    """Effective rank, from 1 (collapsed onto a line) to min(N, D).

    The exponential of the entropy of the singular values, each divided by their sum, plus `epsilon`. RankMe
    (Garrido, Balestriero, Najman, LeCun 2023, arXiv 2210.02885, equation 1); the features are not centred.

    Raises ValueError for features that are not (N, D), fewer than two, or not finite.
    """
    values = torch.linalg.svdvals(_checked(features))
    total = values.sum()
    if total == 0:
        return 1.0  # all features are zero: the limit of features along one direction
    shares = values / total + epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))


def feature_std(features: Tensor) -> float:
    """Standard deviation of unit-length features, averaged over D, times the root of D: 0 collapsed, 1 not.

    SimSiam, Chen and He 2021, arXiv 2011.10566, section 4.1, where the ideal is 1 / sqrt(D).
    """
    unit = F.normalize(_checked(features), dim=1)
    return float(unit.std(dim=0, correction=0).mean() * features.shape[1] ** 0.5)


def mean_cosine(features: Tensor) -> float:
    """Mean cosine over all pairs of different rows: 1 collapsed, 0 for directions that are unrelated."""
    unit = F.normalize(_checked(features), dim=1)
    number = len(unit)
    # The square of the sum holds every ordered pair, and each row with itself.
    pairs = unit.sum(dim=0).square().sum() - unit.square().sum()
    return float(pairs / (number * (number - 1)))


def lidar(views: Tensor, delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """Effective rank of what tells videos apart, beside what changes within each: 1 to min(N - 1, D).

    The exponential of the entropy of the eigenvalues of W^(-1/2) B W^(-1/2), each divided by their sum, plus `epsilon`:
    B is the covariance of the videos' mean features, W the mean covariance of the views of a video, plus `delta` on its
    diagonal. LiDAR (Thilak et al. 2023, arXiv 2312.04000, section 3). Directions that only tell views apart count
    little, which is what a rank of the features alone does not see. W wants N (V - 1) of D and more.

    Args:
        views: (N, V, D), of V views each of N videos.

    Raises ValueError for another shape, fewer than two videos or two views, or values that are not finite.
    """
    if views.ndim != 3 or views.shape[1] < 2:
        raise ValueError(f"views have shape {tuple(views.shape)}; give (N, V, D) with two views of each video or more")
    values = _checked(views.flatten(0, 1)).unflatten(0, views.shape[:2])
    if len(values) < 2:
        raise ValueError("views of one video; give those of two or more")
    means = values.mean(dim=1)  # (N, D)
    between = (means - means.mean(dim=0)) / (len(means) - 1) ** 0.5
    within = ((values - means[:, None]) / (len(means) * (views.shape[1] - 1)) ** 0.5).flatten(0, 1)
    scale, axes = torch.linalg.eigh(within.T @ within)
    whitened = (between @ axes) * (scale.clamp(min=0) + delta).rsqrt()  # (N, D): its squared singular values are sought
    spectrum = torch.linalg.svdvals(whitened).square()
    total = spectrum.sum()
    if total == 0:
        return 1.0  # no two videos differ
    shares = spectrum / total + epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2 or features.shape[1] == 0:
        raise ValueError(f"features have shape {tuple(features.shape)}; give (N, D) with at least two rows")
    if not features.isfinite().all():
        raise ValueError("some features are not finite; the encoder has diverged")
    return features.detach().double()
