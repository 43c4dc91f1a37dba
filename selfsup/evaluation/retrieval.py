"""Retrieval: of the training videos nearest to a test video, is one of its class among the first k?

Two protocols are in use, and their numbers cannot be compared; so each result bears the name of its own.

- "vcop" (Xu, Xiao, Zhao, Shao, Xie, Zhuang 2019, Self-supervised Spatiotemporal Learning via Video Clip Order
  Prediction, section 4.3, and the authors' code): a video is the mean over its clips of `vcop_vector`, the last
  feature map, max-pooled and flattened; cosine. Their code leaves out the last incomplete batch, up to seven videos
  of each split; here none is left out.
- "coclr" (Han, Xie, Zisserman 2020, arXiv 2010.09709, section 4.3, and the authors' code): a video is the mean over
  its clips and crops of the average-pooled features, as `extract_features` gives it. Gallery and queries are each
  centred by their own mean, scaled to length 1, and compared by their dot product. As the queries' mean is used, the
  answer to one query depends on which others are asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Literal, get_args

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from selfsup.evaluation.features import check_known, labelled

Labels = Sequence[str | int | None] | NDArray[Any]
RetrievalProtocol = Literal["vcop", "coclr"]
KS = (1, 5, 10, 20, 50)
GRID = (2, 3, 3)  # of C3D's and R3D's last map of 16 frames of 112 x 112 pixels in VCOP: 2 x 7 x 7, halved in space


@dataclass(frozen=True)
class Retrieval:
    """Recall by k, shares in [0, 1] of the queries; `chance` is what a gallery in random order is expected to get.

    `first_hits[i]` is the rank, from 1, of the nearest gallery video of query i's class; None where it is beyond the
    largest k.
    """

    protocol: RetrievalProtocol
    recall: Mapping[int, float]
    chance: Mapping[int, float]
    first_hits: tuple[int | None, ...]
    gallery: int
    queries: int
    classes: int

    def correct(self, k: int) -> tuple[bool, ...]:
        """For each query whether one of the `k` nearest is of its class. ValueError for a k that `recall` lacks."""
        if k not in self.recall:
            raise ValueError(f"k={k}: recall was measured at {', '.join(map(str, self.recall))}; choose one of these")
        return tuple(rank is not None and rank <= k for rank in self.first_hits)


def retrieval(
    gallery: ArrayLike,
    gallery_labels: Labels,
    queries: ArrayLike,
    query_labels: Labels,
    protocol: RetrievalProtocol,
    ks: Sequence[int] = KS,
) -> Retrieval:
    """Recall at each k: the share of queries that have a video of their class among their k nearest.

    Args:
        gallery, queries: one vector a video, (G, D) of train and (Q, D) of test, of the kind that the protocol names.
        gallery_labels, query_labels: their classes.
        protocol: "vcop" or "coclr", above.
        ks: those larger than G are left out.

    Raises:
        ValueError: another protocol, no k that fits, vectors of unlike size, a query's class that the gallery lacks,
            a set of one video under "coclr", or arrays that do not fit.
    """
    if protocol not in get_args(RetrievalProtocol):
        raise ValueError(f"protocol {protocol!r}: choose one of {', '.join(get_args(RetrievalProtocol))}")
    gallery_x, gallery_y = labelled(gallery, gallery_labels, "gallery")
    query_x, query_y = labelled(queries, query_labels, "query")
    if gallery_x.shape[1] != query_x.shape[1]:
        raise ValueError(
            f"gallery vectors have {gallery_x.shape[1]} numbers but query vectors {query_x.shape[1]}; extract both "
            f"with the same encoder and clips"
        )
    check_known(gallery_y, query_y, "gallery", "query")
    tried = sorted({k for k in ks if 1 <= k <= len(gallery_x)})
    if not tried:
        raise ValueError(f"ks {tuple(ks)}: none is from 1 to {len(gallery_x)}, the videos in the gallery; add 1")
    if protocol == "coclr":
        gallery_x, query_x = _centred(gallery_x, "gallery"), _centred(query_x, "query")
    # On vectors of length 1 cosine is the dot product; vectors of length 0 have cosine 0 to all.
    search = NearestNeighbors(n_neighbors=tried[-1], metric="cosine", algorithm="brute").fit(gallery_x)
    nearest = search.kneighbors(query_x, return_distance=False)  # (Q, k), nearest first
    hits = gallery_y[nearest] == query_y[:, None]
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, tried[-1] + 1)
    return Retrieval(
        protocol=protocol,
        recall={k: float(np.mean(first <= k)) for k in tried},
        chance={k: chance_of_recall(gallery_y, query_y, k) for k in tried},
        first_hits=tuple(rank if rank <= tried[-1] else None for rank in first.tolist()),
        gallery=len(gallery_x),
        queries=len(query_x),
        classes=len(np.unique(gallery_y)),
    )


def chance_of_recall(gallery_labels: Labels, query_labels: Labels, k: int) -> float:
    """Expected recall at k where the order of the gallery is random, exactly.

    The k first are a draw without replacement: none of a class with m of G videos is among them with the
    hypergeometric probability C(G - m, k) / C(G, k). Averaged over the queries.
    """
    size = len(gallery_labels)
    classes, counts = np.unique(np.asarray(gallery_labels), return_counts=True)
    chances = {
        label: 1.0 - comb(size - count, k) / comb(size, k)
        for label, count in zip(classes.tolist(), counts.tolist(), strict=True)
    }
    return float(np.mean([chances.get(label, 0.0) for label in np.asarray(query_labels).tolist()]))


def vcop_vector(feature_map: Tensor) -> Tensor:
    """Feature map (B, D, T', H', W') to VCOP's vector (B, at most 18 D): max-pooled 2 x 2 in space, and flattened.

    On 2 x 7 x 7, the last map of C3D and R3D for 16 frames of 112 x 112 pixels, these are VCOP's own 9,216 numbers.
    A map that is then still larger than 2 x 3 x 3 is max-pooled to it, which goes beyond the paper; one that is
    smaller stays as it is. Raises ValueError for another shape.
    """
    if feature_map.ndim != 5:
        raise ValueError(f"a feature map of shape {tuple(feature_map.shape)}: give (B, D, T', H', W')")
    height, width = feature_map.shape[-2:]
    pooled = F.max_pool3d(feature_map, (1, min(2, height), min(2, width)))
    grid = [min(size, most) for size, most in zip(pooled.shape[-3:], GRID, strict=True)]
    return F.adaptive_max_pool3d(pooled, grid).flatten(1)


def _centred(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Minus its own mean, each row of length 1; a row that equals the mean stays zero."""
    if len(values) < 2:
        raise ValueError(f'the {name} set has one video, and "coclr" centres it by its own mean, to zero; give two')
    centred = values - values.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths > 0, lengths, 1.0)
