"""Functions that crash or hang on some items; in a module of their own, so that a fresh process can import them."""

import ctypes
import os
import signal
import threading
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler

CRASH, HANG, RAISE, DIE_LATER = "crash", "hang", "raise", "die later"


def square(item: int | str) -> int:
    """The square of a number; a word does what it says to the process."""
    if item == CRASH:
        ctypes.string_at(0)  # reads address 0: a real segmentation fault
    if item == HANG:
        time.sleep(3600)
    if item == RAISE:
        raise RuntimeError("on purpose")
    if item == DIE_LATER:
        threading.Timer(0.1, os._exit, [7]).start()
        return 0
    if isinstance(item, str):
        os._exit(int(item))
    return item * item


def process_id(item: int) -> int:
    """Which process answers."""
    return os.getpid()


class DiesOnArrival:
    """A function whose process dies when it unpickles it, before it reads its first item."""

    def __call__(self, item: int) -> int:
        return item

    def __getstate__(self) -> dict[str, int]:
        return {"maker": os.getpid()}

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() != state["maker"]:
            os._exit(9)


def die(item: object) -> None:
    """Ends the process, as the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Spoiled:
    """A sampler that hangs or crashes in native code on the videos of some names, as decoders do on broken files.

    Where it hangs it holds the interpreter's lock: no other thread of its process runs, and no signal is heard.
    """

    sampler: ClipSampler
    names: tuple[str, ...]
    how: str

    def refuse(self, info: VideoInfo) -> str | None:
        return self.sampler.refuse(info)

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        if info.path.name in self.names:
            if self.how == CRASH:
                ctypes.string_at(0)
            ctypes.PyDLL(None).sleep(3600)
        return self.sampler(video, info, generator)
