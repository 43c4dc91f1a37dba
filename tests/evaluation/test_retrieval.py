"""Retrieval against distances written out in numpy, against torch's ranking, and against chance by enumeration."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from selfsup.encoders.c3d import C3D
from selfsup.evaluation.retrieval import chance_of_recall, retrieval, vcop_vector

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def features(seed: int = 0, gallery: int = 120, queries: int = 47, classes: int = 9) -> Arrays:
    """Gallery and queries of overlapping classes, off centre, and the queries by a shift of their own."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 16))
    gallery_y, query_y = random.integers(classes, size=gallery), random.integers(classes, size=queries)
    gallery_y[:classes] = np.arange(classes)
    gallery_x = centres[gallery_y] + random.normal(size=(gallery, 16)) + 1.0
    query_x = centres[query_y] + random.normal(size=(queries, 16)) + 1.5
    return gallery_x, gallery_y, query_x, query_y


def brute_force(arrays: Arrays, protocol: str, ks: list[int]) -> dict[int, float]:
    """One query after the other, with no library."""
    gallery, gallery_y, queries, query_y = arrays
    if protocol == "coclr":
        gallery, queries = gallery - gallery.mean(axis=0), queries - queries.mean(axis=0)
    hits: dict[int, list[bool]] = {k: [] for k in ks}
    for query, label in zip(queries, query_y, strict=True):
        cosines = [sum(query * row) / (sum(query**2) * sum(row**2)) ** 0.5 for row in gallery]
        ranking = sorted(range(len(gallery)), key=lambda row: -cosines[row])
        for k in ks:
            hits[k].append(label in [gallery_y[row] for row in ranking[:k]])
    return {k: sum(found) / len(found) for k, found in hits.items()}


@pytest.mark.parametrize("protocol", ["vcop", "coclr"])
@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_distances_written_out(protocol: Any, seed: int) -> None:
    arrays = features(seed)
    result = retrieval(*arrays, protocol)
    assert result.recall == pytest.approx(brute_force(arrays, protocol, [1, 5, 10, 20, 50]), abs=1e-6)
    assert (result.protocol, result.gallery, result.queries, result.classes) == (protocol, 120, 47, 9)
    for k, recall in result.recall.items():
        assert np.mean(result.correct(k)) == pytest.approx(recall)
    assert 0 < result.recall[1] < 1


def test_the_two_protocols_are_two() -> None:
    arrays = features()
    assert retrieval(*arrays, "vcop").recall[1] != retrieval(*arrays, "coclr").recall[1]
    shifted = (arrays[0] + 3, arrays[1], arrays[2] - 5, arrays[3])
    assert retrieval(*shifted, "coclr") == retrieval(*arrays, "coclr")
    scaled = (7 * arrays[0], arrays[1], 0.1 * arrays[2], arrays[3])
    assert retrieval(*scaled, "vcop") == retrieval(*arrays, "vcop")


def test_recall_agrees_with_scikit_learn_and_with_torch() -> None:
    gallery, gallery_y, queries, query_y = arrays = features(5)
    result = retrieval(*arrays, "vcop")
    # scikit-learn's top-k accuracy of the best cosine of each class at k = 1 is the recall.
    cosines = cosine_similarity(queries, gallery)
    best = np.stack([cosines[:, gallery_y == label].max(axis=1) for label in range(9)], axis=1)
    assert result.recall[1] == pytest.approx(top_k_accuracy_score(query_y, best, k=1, labels=range(9)), abs=1e-6)
    sets = [torch.from_numpy(values - values.mean(axis=0)) for values in (gallery, queries)]
    unit = [torch.nn.functional.normalize(values, dim=1) for values in sets]
    nearest = (unit[1] @ unit[0].T).topk(20, dim=1).indices
    hits = (torch.from_numpy(gallery_y)[nearest] == torch.from_numpy(query_y)[:, None]).any(dim=1)
    assert retrieval(*arrays, "coclr").recall[20] == pytest.approx(float(hits.double().mean()), abs=1e-6)


def test_chance_is_the_mean_over_all_draws() -> None:
    gallery, queries = np.array(list("aabcccd")), np.array(list("abccdd"))
    for k in (1, 2, 3, 7):
        draws = [set(gallery[list(rows)]) for rows in combinations(range(7), k)]
        expected = np.mean([np.mean([label in draw for draw in draws]) for label in queries])
        assert chance_of_recall(gallery, queries, k) == pytest.approx(expected, abs=1e-12)


def test_features_that_know_nothing_are_at_chance() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(20, size=600)
    recalls: dict[int, list[float]] = {1: [], 5: [], 50: []}
    for _ in range(8):
        result = retrieval(random.normal(size=(600, 8)), labels, random.normal(size=(500, 8)), labels[:500], "coclr")
        for k, values in recalls.items():
            values.append(result.recall[k])
    for k, values in recalls.items():
        assert np.mean(values) == pytest.approx(result.chance[k], abs=0.025)


def test_a_k_beyond_the_gallery_is_left_out() -> None:
    arrays = features(gallery=12, queries=10, classes=3)
    result = retrieval(*arrays, "vcop")
    assert list(result.recall) == list(result.chance) == [1, 5, 10]
    with pytest.raises(ValueError, match="k=20: recall was measured at 1, 5, 10"):
        result.correct(20)
    whole = retrieval(*arrays, "vcop", ks=[12])
    assert whole.recall == whole.chance == {12: 1.0}


def test_a_class_found_beyond_the_largest_k_has_no_rank() -> None:
    result = retrieval([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], ["a", "a", "b"], [[1.0, 0.0]], ["b"], "vcop", ks=[2])
    assert (result.first_hits, result.correct(2)) == ((None,), (False,))


def test_the_vector_of_vcop_has_its_published_length() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 512, 2, 7, 7)
    vector = vcop_vector(maps)
    assert vector.shape == (2, 9216)
    assert torch.equal(vector, torch.nn.MaxPool3d((1, 2, 2))(maps).flatten(1))
    # Of 16 frames of 112 x 112 pixels C3D's last map is of that size.
    assert C3D().eval()(torch.zeros(1, 3, 16, 112, 112)).shape == (1, 512, 2, 7, 7)


@pytest.mark.parametrize(("size", "grid"), [((8, 7, 7), 18), ((1, 1, 1), 1), ((2, 14, 10), 18), ((3, 2, 3), 2)])
def test_maps_of_other_sizes_are_pooled_to_the_grid(size: tuple[int, int, int], grid: int) -> None:
    maps = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    vector = vcop_vector(maps)
    assert vector.shape == (2, 4 * grid)
    if size != (3, 2, 3):  # there an odd column is dropped, as by torch's pooling
        assert torch.equal(vector.unflatten(1, (4, grid)).amax(dim=2) <= maps.amax(dim=(2, 3, 4)), torch.ones(2, 4) > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "ucf"}, "protocol 'ucf': choose one of vcop, coclr"),
        ({"queries": np.ones((2, 4))}, "gallery vectors have 3 numbers but query vectors 4"),
        ({"query_labels": [0, 5]}, r"query videos have 1 class that the gallery videos lack \(5\)"),
        ({"ks": (0, 9)}, r"ks \(0, 9\): none is from 1 to 4"),
        ({"queries": [[1.0, 2.0, 3.0]], "query_labels": [0]}, "the query set has one video"),
        ({"gallery_labels": [0, 1]}, "4 gallery features but labels of shape"),
        ({"queries": np.full((2, 3), np.nan)}, "some query features are not finite"),
    ],
)
def test_what_cannot_be_retrieved_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "gallery": np.arange(12.0).reshape(4, 3) ** 2,
        "gallery_labels": [0, 1, 0, 1],
        "queries": np.arange(6.0).reshape(2, 3),
        "query_labels": [0, 1],
        "protocol": "coclr",
    }
    with pytest.raises(ValueError, match=message):
        retrieval(**(arguments | changes))


def test_a_vector_is_no_map() -> None:
    with pytest.raises(ValueError, match=r"a feature map of shape \(2, 512\)"):
        vcop_vector(torch.zeros(2, 512))
