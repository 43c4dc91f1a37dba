"""Damaged videos through indexing, packing and training: each is used, or refused with a reason; nothing hangs.

    python benchmarks/faults.py --root DIR [DIR …] --files 1000

Copies of the videos of the folders, as many of each, are damaged: cut off, with bits flipped, with bytes swapped, with
a run of zeros, and in their first 4,096 bytes alone, where containers keep what they promise. Then the commands of a
user run on them: a training on the files, `selfsup prepare … output=`, and a training on the packed videos. The same
seed damages the same bytes. Ends with status 1 where a command failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selfsup.data import videos

LARGEST_BYTES = 2_000_000  # of a source: a thousand copies should fit on a disk
HEAD_BYTES = 4096
TINY = ["data.size_pixels=32", "data.batch_size=16", "trainer.max_epochs=1", "probe=null", "pictures=null"]


def cut(content: bytearray, chance: random.Random) -> None:
    """Keeps between none and all of the file."""
    del content[chance.randrange(len(content)) :]


def flip_bits(content: bytearray, chance: random.Random, stop: int | None = None) -> None:
    """Flips 1 to 64 bits before `stop`."""
    for _ in range(chance.randint(1, 64)):
        content[chance.randrange(min(stop or len(content), len(content)))] ^= 1 << chance.randrange(8)


def swap_bytes(content: bytearray, chance: random.Random) -> None:
    """Swaps 1 to 64 pairs of bytes."""
    for _ in range(chance.randint(1, 64)):
        one, other = chance.randrange(len(content)), chance.randrange(len(content))
        content[one], content[other] = content[other], content[one]


def blank(content: bytearray, chance: random.Random) -> None:
    """Zeros up to a tenth of the file, as a disk does that lost a block."""
    length = chance.randint(1, max(1, len(content) // 10))
    start = chance.randrange(max(1, len(content) - length))
    content[start : start + length] = bytes(len(content[start : start + length]))


def flip_head(content: bytearray, chance: random.Random) -> None:
    """Flips bits in the first bytes alone."""
    flip_bits(content, chance, HEAD_BYTES)


DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {
    "cut": cut,
    "bits": flip_bits,
    "swapped": swap_bytes,
    "zeros": blank,
    "head": flip_head,
}


def damage(sources: Sequence[Sequence[Path]], count: int, folder: Path, seed: int = 0) -> list[Path]:
    """Writes `count` damaged copies NUMBER-DAMAGE.SUFFIX of the sources' files, and returns them."""
    made = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        source = chance.choice(chance.choice(sources))
        name = list(DAMAGES)[number % len(DAMAGES)]
        content = bytearray(source.read_bytes())
        DAMAGES[name](content, chance)
        made.append(folder / f"{number:05d}-{name}{source.suffix}")
        made[-1].write_bytes(content)
    return made


def run(module: str, words: Sequence[str], folder: Path) -> tuple[int, float, str]:
    """Exit status, seconds and the end of what a command said; a status of 124 after an hour."""
    command = [sys.executable, "-m", module, *words, f"hydra.run.dir={folder}"]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    except subprocess.TimeoutExpired:
        return 124, time.perf_counter() - began, "not done in an hour"
    return done.returncode, time.perf_counter() - began, (done.stdout + done.stderr)[-2000:]


def rows_of(path: Path, key: str | None = None) -> list[dict[str, Any]]:
    """The rows of a JSON file, or of a key of it; none where it was not written."""
    if not path.exists():
        return []
    rows: Any = json.loads(path.read_text(encoding="utf-8"))
    return list(rows[key] if key else rows)


def kinds(rows: Sequence[dict[str, Any]], known: set[str]) -> Counter[str]:
    """How many of the damaged files are named, by kind of damage; each only once."""
    names = {Path(row["path"]).name for row in rows if row["reason"]} & known
    return Counter(Path(name).stem.partition("-")[2] for name in names)


def tell(name: str, files: Sequence[Path], refused: Sequence[dict[str, Any]], failed: Sequence[dict[str, Any]]) -> None:
    """A line a kind of damage: how many were used, refused before and quarantined during the run."""
    known = {file.name for file in files}
    left, lost = kinds(refused, known), kinds(failed, known)
    print(f"\n| {name} | files | used | refused | quarantined |\n|---|---:|---:|---:|---:|")
    for kind in DAMAGES:
        total = sum(file.stem.endswith(f"-{kind}") for file in files)
        print(f"| {kind} | {total} | {total - left[kind] - lost[kind]} | {left[kind]} | {lost[kind]} |")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, nargs="+", required=True, help="folders of sound videos, of any depth")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-seconds", type=float, default=60, help="data.decode_timeout_seconds")
    options = parser.parse_args()
    sources = []
    for root in options.root:
        found = [video.path for video in videos.folder(root).videos]
        sources.append([path for path in found if 0 < path.stat().st_size <= LARGEST_BYTES])
        if not sources[-1]:
            parser.error(f"{root}: no video of at most {LARGEST_BYTES:,} bytes")

    folder = Path(tempfile.mkdtemp())
    try:
        sys.exit(check(folder, sources, options))
    finally:
        shutil.rmtree(folder)


def check(folder: Path, sources: Sequence[Sequence[Path]], options: argparse.Namespace) -> int:
    """Runs the three commands in `folder` and prints what became of the files; 1 where one failed."""
    (folder / "videos").mkdir()
    files = damage(sources, options.files, folder / "videos", options.seed)
    print(f"{len(files)} damaged files of {sum(map(len, sources))} sources")
    os.environ["SELFSUP_CACHE"] = str(folder / "cache")
    raw = ["data=folder", f"data.root={folder / 'videos'}", f"data.decode_timeout_seconds={options.timeout_seconds:g}"]
    tolerant = [*TINY, "data.max_failed_fraction=1"]
    packed = ["data=shards", f"data.root={folder / 'packed'}"]
    steps = {
        "training on files": ("selfsup.train", [*raw, *tolerant]),
        "packing": ("selfsup.prepare", [*raw, f"output={folder / 'packed'}", "data.size_pixels=32"]),
        "training on shards": ("selfsup.train", [*packed, *tolerant]),
    }
    failed = 0
    for name, (module, words) in steps.items():
        run_folder = folder / name.replace(" ", "_")
        status, seconds, said = run(module, words, run_folder)
        failed |= status != 0
        quarantined = rows_of(run_folder / "summary.json", "quarantined") if module == "selfsup.train" else []
        if name != "training on shards":  # whose videos are those that packing has not refused
            tell(name, files, rows_of(run_folder / "left_out.json"), quarantined)
        print(f"{name}: status {status}, {seconds:.0f} s")
        if status:
            print(said)
    return int(failed)


if __name__ == "__main__":
    main()
