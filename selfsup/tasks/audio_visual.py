"""Audio-visual correspondence: do this frame and this second of sound belong together?

Look, Listen and Learn (Arandjelović and Zisserman, ICCV 2017, arXiv 1705.08168) and Objects that Sound (the same, ECCV
2018, arXiv 1712.06651), with the second's cure for what a network can cheat by: frames and sounds of both classes come
from one sampler and one time grid. Negatives from another time of the same video make it synchronisation (AVTS: Korbar,
Tran, Torresani 2018, arXiv 1807.00230), with their curriculum from easy to hard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.catalogue import SPLITS, Catalogue
from selfsup.data.dataset import derive_seed
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.cross_modality import cross_modality
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.correspondence import Embedded, accuracy, alike, compared, figures, joined, kinds_of, losses
from selfsup.tasks.fusion import FUSIONS, Contrastive, Localise
from selfsup.tasks.info_nce import info_nce
from selfsup.tasks.localisation import heat_map, pointing
from selfsup.tasks.task import Task, channels_last

CONTROLS = ("noise", "silence", "one sound")


class AudioVisual(Task):
    """Correspondence of frames and sounds, on any two encoders.

    Its figures are of held-out videos, where a guess gets one half: "accuracy", decisions whether a pair belongs
    together; "two_choice", which of two sounds is a frame's own. Of a test there is what is left of them when every
    sound is replaced by white noise, by silence, or by one and the same sound: half. `fusion: localise` adds
    "pointing" where masks of the sounding object are known: is the peak of the map in it? Beside it stand the middle of
    the frame, and a random place. In "pointing, mosaic" the frames of four videos lie side by side, and one sounds.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler is one like `FrameAndSound`.
        audio_encoder: what hears; of other than one channel, its first kernels are averaged, see `cross_modality`.
        spectrogram: from waveforms (B, N) to clips (B, 1, 1, F, S).
        fusion: "concat", "distance", "localise" or "contrastive", see `selfsup.tasks.fusion`.
        dim: width of the head.
        negatives: "other_video", "other_time" or "both"; the sampler must draw for the same.
        curriculum_fraction: share of the training in which, of "both", negatives from another time grow from none to
            half of all.
        gain_jitter: greatest change of a sound's amplitude in training, a share.
        picture_sampler: see `Task`; used where `fusion` localises.

    Raises ValueError for a value out of its bounds.
    """

    def __init__(
        self,
        encoder: Encoder,
        audio_encoder: Encoder,
        sampler: ClipSampler,
        spectrogram: nn.Module,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        fusion: str = "distance",
        dim: int = 128,
        negatives: str = "other_video",
        curriculum_fraction: float = 0.5,
        gain_jitter: float = 0.1,
        picture_sampler: ClipSampler | None = None,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if fusion not in FUSIONS:
            raise ValueError(f"task.fusion={fusion!r}: choose one of {', '.join(FUSIONS)}")
        if not 0 <= gain_jitter < 1 or not 0 < curriculum_fraction <= 1:
            raise ValueError(
                f"task.gain_jitter={gain_jitter:g} must lie in [0, 1), "
                f"task.curriculum_fraction={curriculum_fraction:g} in (0, 1]"
            )
        if getattr(audio_encoder, "in_channels", 1) != 1:
            audio_encoder = cross_modality(audio_encoder, 1)
        channels_last(audio_encoder)
        self.audio_encoder = audio_encoder.train()
        self.spectrogram = spectrogram
        self.head = FUSIONS[fusion](encoder.dim, audio_encoder.dim, dim)
        self.negatives = negatives
        self.curriculum_fraction = curriculum_fraction
        self.gain_jitter = gain_jitter
        self.picture_sampler = picture_sampler if fusion == "localise" else None
        self.decides = fusion != "contrastive"
        names = ("accuracy", "two_choice") if self.decides else ("two_choice",)
        of_kinds = [f", {kind}" for kind in kinds_of(negatives)] if negatives == "both" else []
        ends = ("", *of_kinds, *(f", {control}" for control in CONTROLS))
        self.chance: dict[str, float] = {f"{name}{end}": 0.5 for name in names for end in ends}
        self.groups: dict[str, Tensor] = {}
        self.reported = "test"
        self.progress = 0.0  # share of the training that is done
        self.held_out: dict[str, Tensor] = {}  # of the last evaluation, see `Embedded`
        self._parts: list[dict[str, Tensor]] = []
        self._pointing: list[dict[str, Tensor]] = []

    def begin(self, catalogue: Catalogue) -> None:
        """Learns which videos are of one group, whose sounds are no negatives for one another.

        Raises ValueError where there is one training video and negatives are to come from another.
        """
        self.reported = catalogue.reported
        if self.negatives != "other_time" and len(catalogue.videos["train"]) < 2:
            raise ValueError("one training video: negatives of another need two; give task.negatives=other_time")
        for split in SPLITS:
            names = catalogue.groups[split]
            if len(set(names)) == 1 and len(names) > 1 and self.negatives != "other_time":
                catalogue.notes.append(
                    f"all {split} videos are of one group, {names[0]}: negatives are other videos of it"
                )
                names = [str(number) for number in range(len(names))]
            places = {name: place for place, name in enumerate(dict.fromkeys(names))}
            self.groups[split] = torch.tensor([places[name] for name in names], dtype=torch.int64)

    def encode(self, clip: Tensor) -> Tensor:
        """Normalised frames (B, C, M, H, W) to what the head compares, (B, M, …)."""
        frames = clip.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (B M, C, 1, H, W)
        frames = frames.expand(-1, -1, self.encoder.minimum_frames, -1, -1)  # a 3-D encoder sees a still clip
        return self.head.frames(self.encoder(frames)).unflatten(0, (len(clip), -1))

    def hear(self, sound: Tensor) -> Tensor:
        """Waveforms (B, M, N) to what the head compares, (B, M, …)."""
        if self.training:
            gain = 1 + self.gain_jitter * (2 * torch.rand(*sound.shape[:2], 1, device=sound.device) - 1)
            sound = sound * gain
        with torch.autocast(sound.device.type, enabled=False):  # a logarithm of small numbers
            clip = self.spectrogram(sound.float().flatten(0, 1))
        clip = clip.expand(-1, -1, self.audio_encoder.minimum_frames, -1, -1)
        return self.head.sounds(self.audio_encoder(clip)).unflatten(0, (len(sound), -1))

    def embedded(self, batch: dict[str, Tensor], split: str) -> Embedded:
        """A batch, "clip" normalised, as the head compares it."""
        sounds, several = batch["sound"], "other_sound" in batch
        heard = self.hear(torch.cat([sounds, batch["other_sound"]]) if several else sounds)
        own, other = heard[: len(sounds)], heard[len(sounds) :] if several else heard
        videos = batch["video"]
        groups = self.groups[split].to(videos.device)[videos] if split in self.groups else videos
        return Embedded(self.encode(batch["clip"]), own, other, groups, videos)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """See `Task`; the curriculum goes by how much of the training is done."""
        self.progress = self.global_step / max(1, self.trainer.estimated_stepping_batches)
        return super().training_step(batch, batch_idx)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss, and the accuracy in this batch; of `contrastive` the share that find their own among the batch."""
        examples = self.embedded(batch, "train")
        grown = min(1.0, self.progress / self.curriculum_fraction)
        if isinstance(self.head, Contrastive):
            moments = examples.frames.shape[1]
            loss, found = info_nce(
                examples.frames.flatten(0, 1),
                examples.sounds.flatten(0, 1),
                self.head.scale,
                examples.groups.repeat_interleave(moments),
                moments,
                easy=float(self.negatives != "other_time"),
                hard={"other_video": 0.0, "other_time": 1.0, "both": grown}[self.negatives],
            )
            return {"loss": loss, "retrieval": found}
        kinds = kinds_of(self.negatives)
        shares = {"other_video": 1 - grown / 2, "other_time": grown / 2} if len(kinds) > 1 else {kinds[0]: 1.0}
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        pairs = {kind: compared(self.head, examples, kind, generator) for kind in kinds}
        told = [accuracy(*logits) for logits in pairs.values() if len(logits[0])]
        loss = sum(
            (share * losses(*pairs[kind]) for kind, share in shares.items()), torch.zeros((), device=self.device)
        )
        return {"loss": loss, **({"accuracy": torch.stack(told).mean()} if told else {})}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keeps what will be compared when all was seen."""
        self._keep(batch, "val", batch_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keeps what will be compared when all was seen, under each control, and points at what sounds."""
        self._keep(batch, self.reported, batch_idx, CONTROLS)

    def _keep(self, batch: dict[str, Any], split: str, number: int, controls: Sequence[str] = ()) -> None:
        if "clip" not in batch:
            return
        batch = {**batch, "clip": self.prepare(batch["clip"])}
        examples = self.embedded(batch, split)
        part = examples._asdict()
        generator = torch.Generator().manual_seed(derive_seed(number, self.global_rank))
        for control in controls:
            part[control] = self.hear(replaced(batch["sound"], control, generator))
        if "seconds" in batch:
            part["seconds"] = batch["seconds"]
        # compared at the end of the split, where Lightning computes in float32 whatever the precision
        exact = {name: value.float() if value.is_floating_point() else value for name, value in part.items()}
        self._parts.append({name: value.detach().cpu() for name, value in exact.items()})
        if controls and isinstance(self.head, Localise) and "truth" in batch:
            self._pointing.append(pointing(self.head, self.encode, examples, batch))

    def on_validation_epoch_start(self) -> None:
        """Forgets the last evaluation."""
        self._parts, self._pointing = [], []

    def on_test_epoch_start(self) -> None:
        """Forgets the last evaluation."""
        self._parts, self._pointing = [], []

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of the split."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Logs the figures of the split, and of each control; what a guess points at is known now."""
        self._finish("test")

    def _finish(self, stage: str) -> None:
        self.held_out = joined(self._parts)
        hits = joined(self._pointing)
        self._parts, self._pointing = [], []
        if not self.held_out:
            return
        whole = Embedded(*(self.held_out[name].to(self.device) for name in Embedded._fields))
        told = figures(self.head, whole, self.negatives, self.decides)
        for control in CONTROLS if stage == "test" else ():
            sounds = self.held_out[control].to(self.device)
            less = figures(self.head, whole._replace(sounds=sounds, others=sounds), self.negatives, self.decides)
            told |= {f"{name}, {control}": less[name] for name in ("accuracy", "two_choice") if name in less}
        told |= {name: hit.float().nanmean() for name, hit in hits.items() if name != "videos"}
        for name, value in told.items():
            shown = f"{stage}/{name}" in ("val/accuracy", "val/two_choice", "val/loss")
            self.log(f"{stage}/{name}", value, prog_bar=shown, rank_zero_only=False, sync_dist=False)
        for name in ("pointing", "pointing, mosaic"):
            if name in told:
                self.chance[name] = max(float(told[f"{name}, {guess}"]) for guess in ("centre", "anywhere"))

    def similarities(self, most: int = 1000) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Of the last evaluation one example each of at most `most` videos, V of them, and how alike they are.

        The numbers of the videos, int64 (V,); when their frames are shown and their sounds start, float (V, 2), NaN
        where the sampler did not say; and (V, V) by direction, see `alike`.
        """
        videos = self.held_out["videos"]
        first = torch.cat([torch.ones(1, dtype=torch.bool), videos[1:] != videos[:-1]]).nonzero()[:most, 0]
        seconds = self.held_out.get("seconds", torch.full((len(videos), 1, 2), torch.nan))
        frames, sounds = (self.held_out[name][first, 0].to(self.device) for name in ("frames", "sounds"))
        return videos[first], seconds[first, 0], alike(self.head, frames, sounds)

    @torch.no_grad()
    def pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Frame, the map of its own sound over it, that of another video's, and the true mask where there is one."""
        assert isinstance(self.head, Localise), "there is a picture sampler for it alone"
        frames, sounds = self.encode(self.prepare(batch["clip"]))[:, 0], self.hear(batch["sound"])[:, 0]
        shown = batch["clip"][:, :, 0].float() / 255
        maps = [self.head.similarity(frames, of).float() for of in (sounds, sounds.roll(1, dims=0))]
        columns = [shown, *(heat_map(shown, similarity) for similarity in maps)]
        if "truth" in batch:
            columns.append(batch["truth"][:, :, 0].float().expand_as(shown))
        return columns


def replaced(sound: Tensor, control: str, generator: torch.Generator) -> Tensor:
    """Sounds (B, M, N) that tell nothing of their video: equally loud white noise, silence, or one sound for all."""
    if control == "silence":
        return torch.zeros_like(sound)
    if control == "one sound":
        return sound[:1, :1].expand_as(sound)
    return 0.1 * torch.randn(sound.shape, generator=generator).to(sound)
