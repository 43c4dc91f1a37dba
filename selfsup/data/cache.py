"""Where what can be made again is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder that the environment variable SELFSUP_CACHE names, else one among the user's caches."""
    return Path(os.environ.get("SELFSUP_CACHE") or platformdirs.user_cache_dir("selfsup"))
