"""Few labels: in proportion, whole groups, each set inside the next, every class there."""

import csv
import random
from collections import Counter
from pathlib import Path

import pytest

from selfsup.data.subsets import labelled_subset

FRACTIONS = (0.01, 0.03, 0.1, 0.25, 0.5, 0.8, 1.0)
Set = tuple[list[str], list[str | None]]


def random_set(seed: int) -> Set:
    """Classes and groups of random sizes; groups are of one class, of several, or of none at all."""
    draw = random.Random(seed)
    classes = [f"class{index}" for index in range(draw.randint(2, 12))]
    weights = [draw.uniform(0.2, 1) for _ in classes]
    labels: list[str] = []
    groups: list[str | None] = []
    for index in range(draw.randint(20, 120)):
        own = draw.sample(classes, draw.randint(1, 2)) if seed % 2 else classes
        for _ in range(draw.randint(1, 12)):
            labels.append(draw.choices(own, [weights[classes.index(label)] for label in own])[0])
            groups.append(f"group{index}" if draw.random() < 0.9 else None)
    order = list(range(len(labels)))
    draw.shuffle(order)
    return [labels[row] for row in order], [groups[row] for row in order]


def cut_groups(groups: list[str | None], rows: list[int]) -> set[str]:
    """Those that lie partly inside, partly outside."""
    inside = {groups[row] for row in rows}
    outside = {groups[row] for row in set(range(len(groups))) - set(rows)}
    return {group for group in inside & outside if group}


@pytest.mark.parametrize("seed", range(30))
def test_laws_that_hold_for_any_set(seed: int) -> None:
    labels, groups = random_set(seed)
    sizes = Counter(group for group in groups if group)
    before: list[int] = []
    for fraction in FRACTIONS:
        wanted = int(fraction * len(labels) + 0.5)
        if wanted < len(set(labels)):
            with pytest.raises(ValueError, match="fewer than the"):
                labelled_subset(labels, groups, fraction, seed)
            continue
        rows = labelled_subset(labels, groups, fraction, seed)
        assert rows == sorted(set(rows))
        assert set(before) <= set(rows), "a smaller set lies inside a larger one"
        assert {labels[row] for row in rows} == set(labels), "every class is there"
        if cut_groups(groups, rows):
            assert len(rows) == wanted, "groups are cut only to reach a number"
        else:
            assert abs(len(rows) - wanted) <= max(sizes.values()) / 2, "as exact as groups are small"
        assert rows == labelled_subset(labels, groups, fraction, seed), "a function of its arguments"
        before = rows
    assert before == list(range(len(labels)))


@pytest.mark.parametrize("groups", [None, "own", "blank"])
def test_without_groups_it_is_stratified_sampling(groups: str | None) -> None:
    counts = {"a": 100, "b": 60, "c": 30, "d": 9, "e": 1}
    labels = [label for label, count in counts.items() for _ in range(count)]
    random.Random(0).shuffle(labels)
    given = {None: None, "own": [str(row) for row in range(200)], "blank": [None, ""] * 100}[groups]
    drawn: Counter[int] = Counter()
    for seed in range(60):
        for fraction in (0.05, 0.5):
            rows = labelled_subset(labels, given, fraction, seed)
            assert len(rows) == 200 * fraction
            got = Counter(labels[row] for row in rows)
            assert all(abs(got[label] - fraction * count) < 1.01 for label, count in counts.items())
        drawn.update(rows)
    # Every video is as likely as the others of its class: 30 of 60 draws, standard deviation 4.
    often = [drawn[row] for row in range(200) if labels[row] in "abc"]
    assert min(often) > 12
    assert max(often) < 48


def test_groups_of_one_class_are_whole_where_there_are_enough() -> None:
    """As UCF101: 10 classes of 18 groups of 5 videos."""
    labels = [f"class{video // 90}" for video in range(900)]
    groups = [f"group{video // 5}" for video in range(900)]
    for seed in range(5):
        for fraction, whole in ((0.02, False), (0.05, False), (0.06, True), (0.1, True), (0.5, True)):
            rows = labelled_subset(labels, groups, fraction, seed)
            assert (not cut_groups(list(groups), rows)) is whole
            counts = Counter(labels[row] for row in rows)
            assert max(counts.values()) - min(counts.values()) <= 5
            assert len({groups[row] for row in rows}) >= 10


def test_a_group_larger_than_the_fraction_is_cut_alone() -> None:
    """Speakers of 200 videos and a twentieth of 2,000: half a speaker, and nothing of the others."""
    labels = [f"word{video % 20}" for video in range(2000)]
    groups = [f"speaker{video // 200}" for video in range(2000)]
    rows = labelled_subset(labels, groups, 0.05)
    assert len(rows) == 100
    assert len({groups[row] for row in rows}) == 1
    assert set(Counter(labels[row] for row in rows).values()) == {5}
    # A quarter lies between two and three speakers, and of two that are equally near the smaller is taken.
    assert len(labelled_subset(labels, groups, 0.25)) == 400


def test_seeds_draw_other_groups() -> None:
    labels, groups = random_set(1)
    subsets = {tuple(labelled_subset(labels, groups, 0.3, seed)) for seed in range(20)}
    assert len(subsets) > 15


def test_equal_classes_get_equal_numbers() -> None:
    labels = [str(video % 101) for video in range(2020)]
    assert Counter(Counter(labels[row] for row in labelled_subset(labels, None, 0.25)).values()) == {5: 101}


@pytest.mark.parametrize("name", ["surv_fight", "miracl_vc1"])
def test_real_sets_keep_their_balance(real_videos: Path, name: str) -> None:
    with open(real_videos / name / "manifest.csv", newline="") as file:
        train = [row for row in csv.DictReader(file) if row["split"] == "train"]
    labels, groups = [row["label"] for row in train], [row["group"] for row in train]
    totals = Counter(labels)
    for fraction in (0.1, 0.25, 0.5):
        for seed in range(5):
            rows = labelled_subset(labels, groups, fraction, seed)
            assert not cut_groups(list(groups), rows)
            share = len(rows) / len(labels)
            counts = Counter(labels[row] for row in rows)
            off = max(abs(counts[label] / len(rows) - total / len(labels)) for label, total in totals.items())
            print(
                f"{name} {fraction:g} seed {seed}: {share:.3f}, {len({groups[row] for row in rows})} groups, {off:.3f}"
            )
            # miracl_vc1 has 10 speakers, so a quarter is 2 of them.
            assert abs(share - fraction) <= 0.05
            assert off <= (0.1 if name == "surv_fight" else 1e-9)


@pytest.mark.parametrize(
    ("labels", "groups", "fraction", "message"),
    [
        (["a", "b"] * 50, None, 0.01, r"labels_fraction=0.01 of 100 training videos is 1 label, fewer than the 2"),
        (["a", "b"] * 50, None, 0.0, "labels_fraction=0: choose a share"),
        (["a", "b"] * 50, None, 10, "labels_fraction=10: choose a share"),
        (["a", None], None, 0.5, "some training videos have no label"),
        (["a", "b"], ["g"], 1, "2 training labels but 1 groups"),
    ],
)
def test_what_cannot_be_drawn_is_refused(labels: list[str], groups: list[str], fraction: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labelled_subset(labels, groups, fraction)


def test_the_cure_cures() -> None:
    labels = [str(video % 7) for video in range(613)]
    with pytest.raises(ValueError, match=r"choose ([\d.]+) or more") as refused:
        labelled_subset(labels, None, 0.005)
    least = float(str(refused.value).split("choose ")[1].split(" ")[0])
    assert len(labelled_subset(labels, None, least)) == 7
