"""What stands out of a frame by its colour, for shots that motion says nothing about.

Graph-based manifold ranking (Yang et al. 2013, "Saliency detection via graph-based manifold ranking", CVPR), the
fallback of uNLC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.superpixels import Regions, to_lab


@dataclass(frozen=True)
class ManifoldRanking:
    """Ranks superpixels by how unlike the frame's four borders they are, then by how like the best of those.

    Args:
        alpha: how much a rank spreads over the graph.
        variance: edges between superpixels whose mean colours (Lab, each in [0, 1]) lie d apart weigh
            exp(-d / variance).
    """

    alpha: float = 0.99
    variance: float = 0.1

    def __call__(self, frames: Tensor, regions: Regions) -> NDArray[np.float64]:
        """Votes float64 (N,) in [0, 1] of the superpixels of frames uint8 (T, 3, H, W)."""
        votes = []
        for number, image in enumerate(frames.permute(0, 2, 3, 1).numpy()):
            labels = regions.labels[number] - regions.starts[number]
            lab = (to_lab(image) + np.array([0, 128, 128])) / np.array([100, 255, 255])
            sizes = np.bincount(labels.ravel())
            colours = np.stack([np.bincount(labels.ravel(), lab[..., axis].ravel()) for axis in range(3)], 1)
            votes.append(self.rank(labels, colours / sizes[:, None]))
        return np.concatenate(votes)

    def rank(self, labels: NDArray[np.int64], colours: NDArray[np.floating]) -> NDArray[np.float64]:
        """Saliency float64 (S,) in [0, 1] of superpixels labels (H, W) with mean colours (S, 3)."""
        weights = self._weights(labels, colours)
        spread = np.linalg.inv(np.diag(weights.sum(axis=1)) - self.alpha * weights)
        np.fill_diagonal(spread, 0)
        saliency = np.ones(len(colours))
        for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            query = np.zeros(len(colours))
            query[side] = 1
            saliency *= 1 - _unit(spread @ query)
        return _unit(spread @ (saliency > saliency.mean()))

    def _weights(self, labels: NDArray[np.int64], colours: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of neighbours, of their neighbours, and of all superpixels at the border, which count as neighbours."""
        count = len(colours)
        touching = np.zeros((count, count), bool)
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            touching[one, other] = touching[other, one] = True
        edges = touching | (touching.astype(np.float32) @ touching.astype(np.float32) > 0)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        edges[np.ix_(border, border)] = True
        np.fill_diagonal(edges, False)
        apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
        return np.where(edges, np.exp(-apart / self.variance), 0.0)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros(len(values))
