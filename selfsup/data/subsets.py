"""A share of the labels: which training videos keep theirs when a classifier is to learn from few."""

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from selfsup.data.listing import plural

Label = str | int | None

LOOK_AHEAD = 5  # groups to choose from; in a tenth of `surv_fight` a class's share is off by up to 0.09, with 1 by 0.41


def labelled_subset(
    labels: Sequence[Label | frozenset[Label]],
    groups: Sequence[str | int | None] | None,
    fraction: float,
    seed: int = 0,
) -> list[int]:
    """Positions, ascending, of the training videos that keep their label: `fraction` of them, at least one a class.

    All fractions of one seed are beginnings of one order, so a smaller set lies inside a larger one. The order takes
    whole groups: groups are shuffled by `seed`; the class that lacks most is served next, first any class without a
    video, then the one with the least (taken + 1/2) / (videos in all), the rule of Webster. Of the next five groups
    that hold this class, those first in which it has its share or more, it gets the one that leaves the set's classes
    nearest to their shares of all videos.

    The set ends where the end of a group is nearest to the fraction; so groups are whole, and the share is as exact
    as groups are small. Without groups, or with one video a group, this is stratified sampling, exact to a video.

    The first groups of the order that hold all classes together are its core. A fraction smaller than the core has no
    set of whole groups with every class (a tenth of the videos, where each speaker gives a fifth; fewer groups than
    classes, where each group is of one class). Its videos are then drawn from the core's groups alone, to the exact
    number, each class in proportion; the groups beyond stay out whole.

    A video may be of several classes, which is then the set of those that occur in its frames; it counts once for each.

    Args:
        labels: class of each training video, or the set of its classes, in the order of the split.
        groups: group of each; None or blank is a group of its own. None for no groups.
        fraction: of the training videos, in (0, 1].
        seed: of the shuffling; the same arguments give the same set on every machine.

    Raises:
        ValueError: a fraction out of bounds, a video without a label, groups that do not fit, or fewer labels than
            classes.
    """
    _check(labels, groups, fraction)
    # Sorted: the order of a set of names changes from process to process.
    held = [sorted(label, key=str) if isinstance(label, frozenset) else [label] for label in labels]
    wanted = math.floor(fraction * len(labels) + 0.5)
    generator = random.Random(seed)
    members = _members(groups, len(labels))
    generator.shuffle(members)
    order = _stratified([Counter(label for row in rows for label in held[row]) for rows in members], generator)
    ends, core = _ends([members[unit] for unit in order], held)
    if wanted < ends[core]:
        rows = sorted(row for unit in order[: core + 1] for row in members[unit])
        generator.shuffle(rows)
        drawn = [rows[unit] for unit in _stratified([Counter(held[row]) for row in rows], generator)]
        if wanted < (needed := _ends([[row] for row in drawn], held)[1] + 1):
            raise ValueError(
                f"labels_fraction={fraction:g} of {len(labels):,} training videos is {plural(wanted, 'label')}, fewer "
                f"than the {needed} that hold every class; choose {math.ceil(1e4 * needed / len(labels)) / 1e4:g} or "
                f"more, or fewer classes"
            )
        return sorted(drawn[:wanted])
    # Of two ends that are equally near the smaller: never more labels than asked for without need.
    last = min(range(core, len(ends)), key=lambda index: abs(ends[index] - wanted))
    return sorted(row for unit in order[: last + 1] for row in members[unit])


def _check(
    labels: Sequence[Label | frozenset[Label]], groups: Sequence[str | int | None] | None, fraction: float
) -> None:
    """ValueError for a fraction out of bounds, a video without a label, or groups that do not fit."""
    if not 0 < fraction <= 1:
        raise ValueError(f"labels_fraction={fraction:g}: choose a share of the training labels, above 0 and up to 1")
    if any(label is None for label in labels):
        raise ValueError(f"labels_fraction={fraction:g}: some training videos have no label; leave them out")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"{len(labels)} training labels but {len(groups)} groups; give one group a video")


def _members(groups: Sequence[str | int | None] | None, size: int) -> list[list[int]]:
    """The positions of each group, in the order in which the groups first appear."""
    if groups is None:
        return [[row] for row in range(size)]
    members: dict[object, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[("video", row) if group in (None, "") else group].append(row)
    return list(members.values())


def _ends(groups: list[list[int]], labels: Sequence[Sequence[Label]]) -> tuple[list[int], int]:
    """The number of videos up to the end of each group, and the index of the group that completes the classes."""
    missing = {label for held in labels for label in held}
    ends, total, core = [], 0, 0
    for index, rows in enumerate(groups):
        if missing:
            missing.difference_update(*(labels[row] for row in rows))
            core = index
        total += len(rows)
        ends.append(total)
    return ends, core


def _stratified(units: list[Counter[Label]], generator: random.Random) -> list[int]:
    """The order of `labelled_subset`: of units given by the videos that each has of each class, shuffled already.

    Every beginning of it has each class in proportion, as far as the units allow.
    """
    totals: Counter[Label] = Counter()
    for counts in units:
        totals.update(counts)
    sizes = [unit.total() for unit in units]
    size = sum(sizes)
    queues: dict[Label, list[int]] = {label: [] for label in totals}
    for index, counts in enumerate(units):
        for label in counts:
            queues[label].append(index)
    for label, queue in queues.items():
        # Stable: first those in which the class has its share or more, each part in the order given; reversed to pop.
        queue.sort(key=lambda index: units[index][label] * size < totals[label] * sizes[index])
        queue.reverse()

    taken: Counter[Label] = Counter()

    def change(unit: int) -> float:
        return sum((2 * taken[label] + count) * count / totals[label] for label, count in units[unit].items())

    def imbalance(unit: int) -> float:
        """Chi-squared distance of the classes' shares, with this unit, from those of all units, plus 1."""
        return round(size * (squares + change(unit)) / (videos + sizes[unit]) ** 2, 9)

    def lack(label: Label) -> float:
        return (taken[label] + 0.5) / totals[label] if taken[label] else 0.0

    ranks = sorted(totals, key=str)
    generator.shuffle(ranks)  # decides among classes that lack as much
    heap = [(0.0, rank) for rank in range(len(ranks))]
    used = [False] * len(units)
    order = []
    videos = 0  # taken
    squares = 0.0  # of what is taken of each class, each over the total of the class; kept up by `change`
    while heap:
        before, rank = heapq.heappop(heap)
        label = ranks[rank]
        if lack(label) > before:  # it got videos since, with the groups of others
            heapq.heappush(heap, (lack(label), rank))
            continue
        window = _next_unused(queues[label], used)
        if not window:
            continue  # all of its videos are taken
        unit = min(window, key=imbalance)  # the first of equal ones
        queues[label] += [other for other in reversed(window) if other != unit]
        used[unit] = True
        order.append(unit)
        videos += sizes[unit]
        squares += change(unit)
        taken.update(units[unit])
        heapq.heappush(heap, (lack(label), rank))
    return order


def _next_unused(queue: list[int], used: list[bool]) -> list[int]:
    """Takes up to LOOK_AHEAD units that are not used from the end of the queue, and drops the used ones it meets."""
    window: list[int] = []
    while queue and len(window) < LOOK_AHEAD:
        unit = queue.pop()
        if not used[unit]:
            window.append(unit)
    return window
