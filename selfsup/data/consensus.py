"""Non-local consensus: superpixels that look alike, anywhere in a shot, agree on whether they are foreground.

Faktor and Irani 2014 ("Video Segmentation by Non-Local Consensus Voting", BMVC, section 2), with the settings of uNLC
(Pathak et al. 2017, arXiv 1612.06370, the authors' code).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from selfsup.data.superpixels import Regions


@dataclass(frozen=True)
class Consensus:
    """Votes of superpixels, averaged over their nearest neighbours again and again.

    Args:
        radius_frames: neighbours are looked for in so many frames before and after.
        neighbours_a_frame: on average; a superpixel has this times (2 · radius + 1) neighbours.
        variance: a neighbour at distance d weighs exp(-d² / variance), a superpixel itself 1.
        iterations: of voting, in all.
        rounds: into which they are divided; after each, weak blobs are taken away.
        blob_threshold: votes above it make a blob.
        blob_energy: a blob whose mean vote is lower is taken away: its votes become a quarter of the threshold.
    """

    radius_frames: int = 15
    neighbours_a_frame: int = 2
    variance: float = 0.1
    iterations: int = 50
    rounds: int = 5
    blob_threshold: float = 0.7
    blob_energy: float = 0.6

    def graph(self, descriptors: NDArray[np.float32], frame_numbers: NDArray[np.int64]) -> csr_array:
        """Weights, sparse float32 (N, N) whose rows sum to 1, of descriptors (N, D) in the order of frames (N,)."""
        wanted = self.neighbours_a_frame * (2 * self.radius_frames + 1)
        rows, columns, weights = [], [], []
        for number in range(int(frame_numbers[-1]) + 1):
            first, stop = np.searchsorted(frame_numbers, [number - self.radius_frames, number + self.radius_frames + 1])
            own = np.arange(*np.searchsorted(frame_numbers, [number, number + 1]))
            search = NearestNeighbors(n_neighbors=min(wanted, int(stop - first)), algorithm="brute")
            distances, found = search.fit(descriptors[first:stop]).kneighbors(descriptors[own])
            rows.append(np.repeat(own, found.shape[1]))
            columns.append(found.ravel() + first)
            weights.append(np.exp(-(distances.ravel() ** 2) / self.variance))
        row, column, weight = (np.concatenate(parts) for parts in (rows, columns, weights))
        others = row != column
        itself = np.arange(len(descriptors))
        row, column = np.concatenate([row[others], itself]), np.concatenate([column[others], itself])
        weight = np.concatenate([weight[others], np.ones(len(itself))])
        weight /= np.bincount(row, weight)[row]
        return csr_array((weight.astype(np.float32), (row, column)), shape=(len(itself), len(itself)))

    def vote(self, start: NDArray[np.floating], graph: csr_array, regions: Regions) -> NDArray[np.float32]:
        """From votes (N,) in [0, 1] to those at the end, float32 (N,); the greatest of a frame is 1, or all are 0."""
        votes: NDArray[np.float32] = start.astype(np.float32)
        for _ in range(self.rounds):
            for _ in range(self.iterations // self.rounds):
                votes = graph @ votes
                greatest = np.maximum.reduceat(votes, regions.starts)
                votes /= np.where(greatest > 0, greatest, 1)[regions.frame_numbers]
            masks = regions.paint(votes)
            weak = without_weak_blobs(masks, self.blob_threshold, self.blob_energy)
            if weak is not masks:
                votes = regions.mean(weak).astype(np.float32)
        return votes


def without_weak_blobs(masks: NDArray[np.float32], threshold: float, energy: float) -> NDArray[np.float32]:
    """Masks (T, H, W), a quarter of `threshold` on each blob above it whose mean is below `energy`."""
    if energy <= threshold:
        return masks  # no blob above the threshold is that weak
    kept = masks.copy()
    for mask in kept:
        blobs, _ = label(mask > threshold)
        sums, sizes = np.bincount(blobs.ravel(), mask.ravel()), np.bincount(blobs.ravel())
        weak = sums < energy * sizes
        weak[0] = False
        mask[weak[blobs]] = threshold / 4
    return kept


def without_small_blobs(masks: NDArray[np.float32], threshold: float, share: float) -> NDArray[np.float32]:
    """Masks (T, H, W), just `threshold` on each blob above it with less than `share` of the largest one's pixels."""
    kept = masks.copy()
    for mask in kept:
        blobs, count = label(mask > threshold)
        if count > 1:
            sizes = np.bincount(blobs.ravel())
            small = sizes < share * sizes[1:].max()
            small[0] = False
            mask[small[blobs]] = threshold
    return kept
