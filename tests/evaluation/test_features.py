"""One vector a video, against loops over single frames and single clips."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.evaluation.features import Features, Reading, Time, extract_features, feature_map


class Images(FrameEncoder):
    """Two small stages with what differs between training and evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.Dropout(0.5)),
        )


class Volumes(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.stages = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Sequential(nn.BatchNorm3d(4), nn.Conv3d(4, 6, 2)))


def extracted(encoder: Encoder, batches: Any, *options: Any) -> Features:
    return extract_features({"one": Reading(encoder, *options)}, batches)["one"]


def pooled(encoder: Encoder, clip: Tensor, stage: int | None = None, time: Time = "mean") -> Tensor:
    return Reading(encoder, None, stage, time)(clip)


def clips(number: int, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 5, 12, 14, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[Images, Volumes])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    encoder = request.param()
    encoder(clips(8, seed=9))  # moves the running averages off their start
    return encoder


def test_pooled_is_the_mean_of_the_map(encoder: Encoder) -> None:
    encoder.eval()
    clip = clips(4)
    reference = torch.stack([encoder(one[None])[0].flatten(1).mean(dim=1) for one in clip])
    torch.testing.assert_close(pooled(encoder, clip), reference)
    torch.testing.assert_close(pooled(encoder, clip, stage=2), reference)
    assert pooled(encoder, clip).shape == (4, 6)


def test_an_earlier_stage_of_a_frame_encoder_is_the_mean_over_frames() -> None:
    encoder = Images().eval()
    clip = clips(2)
    frames = [[encoder.stages[0](one[:, t][None])[0].mean(dim=(1, 2)) for t in range(5)] for one in clip]
    reference = torch.stack([torch.stack(row).mean(dim=0) for row in frames])
    torch.testing.assert_close(pooled(encoder, clip, stage=1), reference)


def test_an_earlier_stage_of_a_volume_encoder() -> None:
    encoder = Volumes().eval()
    clip = clips(2)
    torch.testing.assert_close(pooled(encoder, clip, stage=1), encoder.stages[0](clip).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("stage", [None, 1])
def test_concat_keeps_the_order_that_the_mean_loses(encoder: Encoder, stage: int | None) -> None:
    encoder.eval()
    clip = clips(2)
    read = pooled(encoder, clip, stage, "concat")
    volume = encoder(clip) if stage is None else encoder.stages[0](clip) if isinstance(encoder, Volumes) else None
    if volume is not None:
        torch.testing.assert_close(read, torch.cat([moment.mean(dim=(2, 3)) for moment in volume.unbind(2)], dim=1))
    shuffled = clip[:, :, [3, 1, 4, 0, 2]]
    assert (pooled(encoder, shuffled, stage, "concat") - read).abs().max() > 1e-3
    if isinstance(encoder, FrameEncoder):
        one = torch.stack([pooled(encoder, frame[:, :, None], stage) for frame in clip.unbind(2)], dim=1)
        torch.testing.assert_close(read.view(2, 5, -1), one)
        torch.testing.assert_close(pooled(encoder, shuffled, stage), pooled(encoder, clip, stage))
    found = extracted(encoder, [{"clip": clip, "video": torch.arange(2)}], None, stage, "concat")
    torch.testing.assert_close(found.values, read.detach())


def test_a_way_to_read_time_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="time='last': choose one of mean, concat"):
        Reading(Images(), time="last")  # type: ignore[arg-type]


def test_every_stage_of_a_resnet_has_its_width() -> None:
    encoder = ResNet(18).eval()
    with torch.no_grad():
        widths = [pooled(encoder, torch.zeros(1, 3, 2, 32, 32), stage).shape for stage in range(1, 6)]
    assert widths == [(1, 64), (1, 64), (1, 128), (1, 256), (1, 512)]


def test_clips_of_a_video_are_averaged_wherever_they_lie(encoder: Encoder) -> None:
    every, numbers = clips(7), torch.tensor([5, 2, 5, 9, 2, 5, 0])
    whole = extracted(encoder, [{"clip": every, "video": numbers}])
    assert whole.videos.tolist() == [0, 2, 5, 9]
    assert whole.values.shape == (4, 6)
    assert whole.values.dtype == torch.float32
    single = encoder.eval()(every).mean(dim=(2, 3, 4)).detach()
    for row, number in enumerate([0, 2, 5, 9]):
        torch.testing.assert_close(whole.values[row], single[numbers == number].mean(dim=0))
    order = torch.tensor([3, 6, 0, 2, 1, 4, 5])
    batches = [{"clip": every[part], "video": numbers[part]} for part in order.split(3)]
    pieces = extracted(encoder, [*batches[:1], {"failures": ["broken.mp4"]}, *batches[1:]])
    torch.testing.assert_close(pieces.values, whole.values)
    assert pieces.videos.equal(whole.videos)


def test_several_encoders_read_the_same_clips_once() -> None:
    torch.manual_seed(0)
    first, second = Images(), Volumes()
    every, taken = clips(4), []

    def batches() -> Iterator[dict[str, Any]]:
        for part in torch.arange(4).split(2):
            taken.append(part)
            yield {"clip": every[part], "video": part}

    found = extract_features({"first": Reading(first), "second": Reading(second, stage=1)}, batches())
    assert len(taken) == 2
    for name, options in {"first": (first,), "second": (second, None, 1)}.items():
        alone = extracted(*options[:1], [{"clip": every, "video": torch.arange(4)}], *options[1:])
        torch.testing.assert_close(found[name].values, alone.values)


def test_ways_to_read_one_map_share_one_pass_through_the_network() -> None:
    encoder, other = Images(), Images()
    passes: list[Encoder] = []
    for network in (encoder, other):
        network.register_forward_hook(lambda network, *_: passes.append(network))

    def doubled(clip: Tensor) -> Tensor:
        return 2 * clip

    readings = {
        "mean": Reading(encoder, doubled),
        "concat": Reading(encoder, doubled, time="concat"),
        "largest": Reading(encoder, doubled, vector=lambda maps: maps.amax(dim=(2, 3, 4))),
        "as it is": Reading(encoder),
        "other": Reading(other, doubled),
    }
    batch = {"clip": clips(3), "video": torch.arange(3)}
    found = extract_features(readings, [batch])
    assert passes == [encoder, encoder, other]
    for name, reading in readings.items():
        torch.testing.assert_close(found[name].values, extract_features({"": reading}, [batch])[""].values)


def test_transform_and_stage_are_applied(encoder: Encoder) -> None:
    raw = torch.randint(0, 256, (2, 3, 5, 12, 14), dtype=torch.uint8)
    numbers = torch.arange(2)

    def prepare(clip: Tensor) -> Tensor:
        return clip.float() / 255

    found = extracted(encoder, [{"clip": raw, "video": numbers}], prepare, 1)
    torch.testing.assert_close(found.values, pooled(encoder.eval(), prepare(raw), 1).detach())


def test_the_encoder_is_left_as_it_was(encoder: Encoder) -> None:
    encoder.train()
    encoder.stages[0].eval()  # as a frozen stage
    modes = [module.training for module in encoder.modules()]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    grads = torch.is_grad_enabled()
    seen: list[bool] = []
    hook = encoder.stages[1].register_forward_hook(
        lambda module, _, output: seen.extend([module.training, output.requires_grad])
    )
    first = extracted(encoder, [{"clip": clips(3), "video": torch.arange(3)}])
    second = extracted(encoder, [{"clip": clips(3), "video": torch.arange(3)}])
    hook.remove()
    assert first.values.equal(second.values)
    assert seen == [False] * 4
    assert [module.training for module in encoder.modules()] == modes
    assert all(value.equal(state[name]) for name, value in encoder.state_dict().items())
    assert torch.is_grad_enabled() == grads


def test_the_mode_is_restored_after_an_error(encoder: Encoder) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"clip": clips(2), "video": torch.arange(2)}
        raise OSError("the disk is gone")

    encoder.train()
    with pytest.raises(OSError, match="the disk is gone"):
        extracted(encoder, broken())
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("stage", [0, 3, -1])
@pytest.mark.parametrize("read", [feature_map, lambda e, c, s: extracted(e, [], None, s)])
def test_a_stage_that_is_not_there_is_refused(read: Callable[..., Any], stage: int) -> None:
    with pytest.raises(ValueError, match=rf"stage {stage}: Images has the stages 1 to 2 \(0, 1\)"):
        read(Images(), clips(1), stage)


def test_nothing_to_read_and_diverged_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match="no clip to extract features from"):
        extracted(Images(), [{"failures": ["a.mp4"]}])
    clip = clips(3)
    clip[1] = torch.inf
    with pytest.raises(ValueError, match=r"features of 1 of 3 videos are not finite \(numbers \[1\]\)"):
        extracted(Images(), [{"clip": clip, "video": torch.arange(3)}])
    with pytest.raises(ValueError, match=r"takes a clip \(B, C, T, H, W\)"):
        pooled(Images(), clip[:, :, 0], stage=1)
