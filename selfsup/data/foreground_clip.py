"""One still frame and its foreground: the question of learning from how things move.

The mask comes from the motion of the video around that frame, which the network is not shown (Pathak et al. 2017,
arXiv 1612.06370).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.executors import Executor
from selfsup.data.flow import FlowAlgorithm, flow
from selfsup.data.flow_fields import to_unit
from selfsup.data.foreground_labels import ForegroundLabels
from selfsup.data.index import VideoInfo
from selfsup.data.object_window import ObjectWindow
from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import Prepared


@dataclass(frozen=True)
class ForegroundClip:
    """ "clip" uint8 (C, 1, H, W), "mask" float32 (1, 1, H, W) in [0, 1], and "truth" like it where it is known.

    With `flow` there is "flow" (2, 1, H, W) too, from the frame to the next; see `selfsup.data.flow_fields.to_unit`.

    The frame is drawn from all that are fit to learn from. Labels that are not kept are made at once, which takes as
    long as the labeller does; `prepare` makes them beforehand. The truth is that of `read_masks`.

    Args:
        labels: of which frames there are labels, and where.
        window: the square that is cut out around the object; null: the whole frame.
        flow: the algorithm, where flow is to be shown; no task learns from it.

    Raises ValueError in use for a video without a frame to learn from, and OSError where labels cannot be kept.
    """

    labels: ForegroundLabels
    window: ObjectWindow | None = None
    flow: FlowAlgorithm | None = None

    def refuse(self, info: VideoInfo) -> str | None:
        return self.labels.refuse(info)

    def prepare(
        self,
        infos: Sequence[VideoInfo],
        *,
        processes: int,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor = run_in_processes,
    ) -> Prepared:
        """See `ForegroundLabels.prepare`."""
        return self.labels.prepare(infos, processes=processes, progress=progress, executor=executor)

    def to_pack(self, info: VideoInfo, short_side_pixels: int) -> Iterator[tuple[dict[str, str | int | float], bytes]]:
        """The labels of each part, made where they are not kept yet."""
        if (reason := self.refuse(info)) is not None:
            raise ValueError(f"{info.path}: {reason}")
        for chunk in self.labels.chunks(info):
            self.labels.verdicts(info, chunk)
            store = self.labels.store(info, chunk)
            content = store.content()
            assert content is not None, "the verdicts were made of it"
            yield store.whole_key, content

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        chunk, place = self._draw(info, generator)
        seconds = self.labels.times_seconds(info, [chunk[place]])[0]
        frame = video.frames([seconds])[0]  # (C, H, W)
        labels = self.labels.store(info, chunk).read([place])
        assert labels is not None, "the draw has read them"
        size = list(frame.shape[-2:])
        example = {"clip": frame, "mask": F.resize(labels.masks, size, antialias=True).clamp(0, 1)}
        number = int(np.abs(video.times_seconds - seconds).argmin())
        if self.flow is not None:
            first = min(number, len(video.times_seconds) - 2)  # the last frame has no next one
            pair = video.frames(video.times_seconds[first : first + 2].tolist())
            example["flow"] = to_unit(flow(pair, self.flow))[0]
        if (masks := info.true_masks()) is not None:
            example["truth"] = F.resize(torch.from_numpy(masks[number]).float()[None], size, antialias=True)
        if self.window is not None:
            top, left, side = self.window(example["mask"][0], generator)
            example = {name: F.crop(image, top, left, side, side) for name, image in example.items()}
        return {name: image.unsqueeze(1) for name, image in example.items()}

    def _draw(self, info: VideoInfo, generator: torch.Generator) -> tuple[range, int]:
        """A part of the video and a place in it: a frame that is fit to learn from, all alike likely."""
        chunks = self.labels.chunks(info)
        places = [(chunk, place) for chunk in chunks for place in range(len(chunk))]
        known: dict[int, list[str | None]] = {}
        for number in torch.randperm(len(places), generator=generator).tolist():
            chunk, place = places[number]
            if chunk.start not in known:
                known[chunk.start] = self.labels.reasons(self.labels.verdicts(info, chunk))
            if known[chunk.start][place] is None:
                return chunk, place
        raise ValueError(f"{info.path}: no frame is fit to learn from")
