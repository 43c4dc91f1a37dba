"""Packed videos as a list: what `selfsup prepare … output=DIR` wrote, for `data=shards data.root=DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfsup.data.byte_ranges import Extent
from selfsup.data.index import Index, VideoInfo, columns_of
from selfsup.data.listing import Listing, Span, Video, plural
from selfsup.data.packed import PackedInfo, Place, Track
from selfsup.data.shard_format import VIDEOS, read_contents, read_rows, shard_name


def shards(root: str) -> Listing:
    """The videos of a folder or bucket of shards, with the index that was made of their files.

    Their paths are those below the folder that they were packed from, as if they lay in `root`. Raises what
    `shard_format.read_contents` and `read_rows` raise.
    """
    root = str(root).rstrip("/")
    contents = read_contents(root)
    rows = read_rows(root, contents)
    try:
        videos = [video_of(Path(root), row) for row in rows]
        known: dict[Path, VideoInfo] = {
            video.path: _packed(video.path, row, root, contents.settings["short_side_pixels"])
            for video, row in zip(videos, rows, strict=True)
            if "refused" not in row
        }
        refused = {video.path: row["refused"] for video, row in zip(videos, rows, strict=True) if "refused" in row}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{root}/{VIDEOS}: is damaged ({error!r}); pack the videos anew") from error
    fps = contents.settings["fps"]
    note = (
        f"{root}: {plural(len(known), 'packed video')}, short side {contents.settings['short_side_pixels']} pixels, "
        f"{'all frames' if fps is None else f'{fps:g} frames a second'}"
    )
    return Listing(videos, [note], Index(known, refused))


def row_of_video(video: Video, root: Path) -> dict[str, Any]:
    """What a listing knows of a video, as JSON can hold it; its path below `root`."""
    spans = None if video.spans is None else [list(span) for span in video.spans]
    return {
        "path": video.path.absolute().relative_to(root).as_posix(),
        "label": video.label,
        "group": video.group,
        "split": video.split,
        "labels": dict(video.labels),
        "spans": spans,
    }


def video_of(root: Path, row: Mapping[str, Any]) -> Video:
    """What `row_of_video` wrote, below another folder."""
    spans = None if row["spans"] is None else tuple(Span(*span) for span in row["spans"])
    return Video(root / row["path"], row["label"], row["group"], row["split"], row["labels"], spans)


def _packed(path: Path, row: Mapping[str, Any], root: str, short_side_pixels: int) -> PackedInfo:
    at, sound = row["place"], row["place"]["sound"]
    place = Place(
        shard=f"{root}/{shard_name(at['shard'])}",
        short_side_pixels=short_side_pixels,
        table=Extent(*at["table"]),
        frames=at["frames"],
        sound=None if sound is None else Track(**{**sound, "crc32s": tuple(sound["crc32s"])}),
        sound_refused=at["sound_refused"],
        kept={name: Extent(*extent) for name, extent in at["kept"].items()},
    )
    return PackedInfo(path=path, place=place, **columns_of(row["info"]))
