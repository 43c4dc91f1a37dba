"""Which videos may teach sound: those with a track that can be heard. The others are counted class by class.

Where one class lacks sound more often than another, its absence tells the class: the count is printed, so that this
leak is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from selfsup.data.index import VideoInfo

MOST_CLASSES = 4  # named in a sentence; left_out.json has all
NO_TRACK = "has no sound track"
NO_SAMPLE = "has a sound track without a sample that can be decoded"
NOT_FINITE = "has sound with samples that are no finite numbers"
STILL = "shows one still picture (data.audio.still_pictures=true keeps it)"


@dataclass(frozen=True)
class AudioPolicy:
    """Applied where the task's sampler hears, before it is asked itself.

    Args:
        min_rms_db: videos whose track is quieter are left out; the root mean square of all samples relative to full
            scale, in decibels. None: silence is kept.
        still_pictures: keep videos that show one picture throughout, as uploads of music with the cover of its album.
    """

    min_rms_db: float | None = -60.0
    still_pictures: bool = False

    def __post_init__(self) -> None:
        if self.min_rms_db is not None and self.min_rms_db > 0:
            raise ValueError(
                f"data.audio.min_rms_db={self.min_rms_db:g}: full scale is 0 dB; give a negative number, or null"
            )

    def refuse(self, info: VideoInfo) -> str | None:
        """Why nothing can be learned from the sound of this video, or None where it can."""
        if info.sound is None:
            return NO_TRACK
        if info.sound.stop_seconds <= 0:
            return NO_SAMPLE
        if not info.sound.is_finite:
            return NOT_FINITE
        if self.min_rms_db is not None and info.sound.rms_db < self.min_rms_db:
            return f"has sound below data.audio.min_rms_db={self.min_rms_db:g}"
        if info.is_still and not self.still_pictures:
            return STILL
        return None


def counted(refused: Iterable[tuple[str, str | None]], every: Iterable[str | None]) -> dict[str, dict[str, int]]:
    """How many videos of each class were left out, by reason, the most frequent first.

    `refused` holds (reason, class) of each that was; `every` the class of each that was asked. Classes stand in
    their order, also those of which none was left out; a video without a label is of the class "".
    """
    classes = sorted({label or "" for label in every})
    counts: dict[str, Counter[str]] = {}
    for reason, label in refused:
        counts.setdefault(reason, Counter())[label or ""] += 1
    reasons = sorted(counts, key=lambda reason: -counts[reason].total())
    return {reason: {label: counts[reason][label] for label in classes} for reason in reasons}


def told(unheard: Mapping[str, Mapping[str, int]], every: Iterable[str | None]) -> list[str]:
    """A sentence a reason: "37 of 150 no_fight, 12 of 150 fight: has no sound track"; the largest shares first."""
    totals = Counter(label or "" for label in every)
    sentences = []
    for reason, counts in unheard.items():
        order = sorted(counts, key=lambda label: -counts[label] / totals[label])
        parts = [f"{counts[label]} of {totals[label]} {label}".rstrip() for label in order[:MOST_CLASSES]]
        rest = order[MOST_CLASSES:]
        if rest:
            lost, among = (sum(of[label] for label in rest) for of in (counts, totals))
            parts.append(f"{lost} of {among} of the {len(rest)} other classes")
        sentences.append(f"left out for its sound: {', '.join(parts)}: {reason}")
    return sentences
