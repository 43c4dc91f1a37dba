"""Packed videos for tests, and the bytes of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfsup.data import videos
from selfsup.data.index import build_index
from selfsup.data.listing import Listing
from selfsup.data.packer import pack
from selfsup.data.packing import Packing
from selfsup.data.shard_writer import Packed

SIDE_PIXELS = 48


def pack_manifest(manifest: Path, index_cache: Path, output: Path, **settings: Any) -> Packed:
    """Packs the videos of a manifest that are indexed in `index_cache`; `settings` of `Packing` and `pack`."""
    listing = videos.manifest(manifest)
    return pack_listing(listing, index_cache, output, **settings)


def pack_listing(listing: Listing, index_cache: Path, output: Path, **settings: Any) -> Packed:
    """Packs listed videos in one process, into shards of about a third of a megabyte."""
    given = {name: settings.pop(name) for name in ("sampler", "processes", "progress") if name in settings}
    index = build_index([video.path for video in listing.videos], cache=index_cache)
    packing = Packing(**{"short_side_pixels": SIDE_PIXELS, "shard_megabytes": 0.35, **settings})
    return pack(listing.videos, index, output, packing, **given)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rewrite(path: Path, **changes: Any) -> None:
    """Changes entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
