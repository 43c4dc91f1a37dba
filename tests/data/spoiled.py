"""A sampler that misbehaves as decoders do on broken files."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler
from tests.data.misbehaving import CRASH


@dataclass(frozen=True)
class Spoiled:
    """Hangs or crashes in native code on the videos of some names.

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
