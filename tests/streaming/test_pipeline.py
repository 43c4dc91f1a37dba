"""Depth-parallel streams: the laws of the pipeline bit for bit, its threads, its clocks, and how it ends."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.sub_networks import frames_seen
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.streaming.pipeline import DepthParallel

FRAMES = 12


class Layers(FrameEncoder):
    """Four convolutions, of which the last halves the map; layer `broken` fails at its third frame."""

    def __init__(self, broken: int | None = None) -> None:
        super().__init__()
        self.dim = 7
        layers: list[nn.Module] = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 7, 3, 2)]
        if broken is not None:
            layers[broken] = Fails(layers[broken])
        self.stages = nn.Sequential(*layers)


class Fails(nn.Module):
    """Raises at the third frame."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.seen = layer, 0

    def forward(self, maps: Tensor) -> Tensor:
        self.seen += maps.device.type != "meta"
        if self.seen == 3:
            raise ArithmeticError("the third frame")
        return self.layer(maps)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The reference of a law that holds to the bit computes with as many threads as a sub-network."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder() -> Layers:
    torch.manual_seed(0)
    return Layers().eval()


def frames(seed: int = 0, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(FRAMES, 3, size, size, generator=generator))


@torch.no_grad()
def alone(encoder: FrameEncoder, frame: Tensor) -> Tensor:
    return encoder(frame[None, :, None])[0, :, 0]


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("depth-parallel")}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("cut", ["seconds", "multiply_adds"])
def test_it_is_the_encoder_delayed_bit_for_bit(encoder: Layers, count: int, cut: str) -> None:
    shown = frames()
    with DepthParallel(encoder, count, cut) as stream:
        for now in range(FRAMES):
            features = stream.step(shown[now])
            if now < count - 1:
                assert features is None
                continue
            assert features is not None
            assert torch.equal(features, alone(encoder, shown[now - (count - 1)]))
            assert stream.lag_frames == count - 1
            assert stream.work == pytest.approx(1)


def test_so_is_resnet18() -> None:
    torch.manual_seed(0)
    encoder, shown = ResNet().eval(), frames(size=32)
    with DepthParallel(encoder, 3) as stream:
        given = [stream.step(frame) for frame in shown]
    assert given[:2] == [None, None]
    for features, frame in zip(given[2:], shown, strict=False):
        assert features is not None
        assert torch.equal(features, alone(encoder, frame))


def test_of_a_constant_video_it_is_the_encoder(encoder: Layers) -> None:
    (still, *_), expected = frames(), alone(encoder, frames()[0])
    with DepthParallel(encoder, 3) as stream:
        given = [stream.step(still) for _ in range(6)]
    assert all(features is not None and torch.equal(features, expected) for features in given[2:])


def test_later_frames_change_nothing(encoder: Layers) -> None:
    first, other = frames(), frames(1)
    with DepthParallel(encoder, 3, clocks=[1, 1, 2]) as stream:
        expected = [stream.step(frame) for frame in first]
        for last in range(0, FRAMES, 3):
            stream.reset()
            for now, frame in enumerate([*first[: last + 1], *other[last + 1 :]]):
                features = stream.step(frame)
                if now <= last:
                    assert_same(features, expected[now])


def assert_same(one: Tensor | None, other: Tensor | None) -> None:
    assert (one is None) == (other is None)
    assert one is None or other is None or torch.equal(one, other)


@pytest.mark.parametrize("clocks", [[1, 2], [1, 2, 4], [1, 1, 3], [2, 2, 2], [1, 4, 2]])
def test_clocks_hold_what_a_sub_network_gave(encoder: Layers, clocks: list[int]) -> None:
    shown, seen = frames(), frames_seen(clocks, FRAMES)
    with DepthParallel(encoder, len(clocks), "multiply_adds", clocks) as stream:
        for now in range(FRAMES):
            features, of = stream.step(shown[now]), int(seen[-1, now])
            assert (features is None) == (of < 0)
            if features is not None:
                assert torch.equal(features, alone(encoder, shown[of]))
                assert stream.lag_frames == now - of
            due = [now >= place and (now - place) % clock == 0 for place, clock in enumerate(clocks)]
            assert stream.work == pytest.approx(
                sum(share for share, ran in zip(stream.shares, due, strict=True) if ran)
            )


def test_skip_connections_bring_the_newest_shallow_features(encoder: Layers) -> None:
    shown = frames()
    with DepthParallel(encoder, 3, [2, 1, 1], skip_connections=True) as stream:
        given = [stream.step(frame) for frame in shown]
        networks = stream.networks
    for now in range(2, FRAMES):
        features = given[now]
        assert features is not None
        with torch.no_grad():
            first = networks[0](shown[now][None]).mean(dim=(2, 3))[0]
            second = networks[1](networks[0](shown[now - 1][None])).mean(dim=(2, 3))[0]
        assert features.shape[0] == 7 + 5 + 6
        assert torch.equal(features[:7], alone(encoder, shown[now - 2]))
        torch.testing.assert_close(features.mean(dim=(1, 2))[7:], torch.cat([first, second]))
    with pytest.raises(ValueError, match="cut=seconds differs from run to run"):
        DepthParallel(encoder, 3, skip_connections=True)


def test_reset_forgets_what_is_on_its_way(encoder: Layers) -> None:
    shown, other = frames(), frames(1)
    with DepthParallel(encoder, 3) as stream:
        for frame in other[:5]:
            stream.step(frame)
        stream.reset()
        assert [stream.step(frame) for frame in shown[:2]] == [None, None]
        assert_same(stream.step(shown[2]), alone(encoder, shown[0]))


def test_sub_networks_work_at_the_same_time() -> None:
    """Layer 1 waits in each frame until layer 0 has begun the next, which one after the other would never do."""
    meeting, met = threading.Barrier(2, timeout=20), []

    class Meets(nn.Conv2d):
        alone = 0

        def forward(self, input: Tensor) -> Tensor:
            if input.device.type != "meta":
                self.alone -= 1
                met.extend([meeting.wait()] if self.alone < 0 else [])
            return super().forward(input)

    encoder = Layers()
    encoder.stages = nn.Sequential(Meets(3, 4, 3), Meets(4, 5, 3))
    encoder.stages[0].alone = 1  # type: ignore[assignment]
    with DepthParallel(encoder, 2, [1, 1]) as stream:
        for frame in frames():
            stream.step(frame)
    assert len(met) == 2 * (FRAMES - 1)


def test_each_worker_has_one_thread_and_nobody_else_changes(encoder: Layers) -> None:
    torch.set_num_threads(2)
    with DepthParallel(encoder, 2) as stream:
        stream.step(frames()[0])
        assert [thread.submit(torch.get_num_threads).result() for thread in stream.threads] == [1, 1]
        assert torch.get_num_threads() == 2
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [2]


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_what_a_sub_network_raises_ends_the_stream(broken: int) -> None:
    before, stream = workers(), DepthParallel(Layers(broken), 4, "multiply_adds")
    at = 0
    with pytest.raises(ArithmeticError, match="the third frame"):  # noqa: PT012
        for at, frame in enumerate(frames()):  # noqa: B007
            stream.step(frame)
    assert 2 + broken <= at <= 3 + broken, "at the tick in which it failed, or the next"
    assert workers() == before
    with pytest.raises(RuntimeError, match="after shutdown"):
        stream.step(frames()[0])


def test_no_thread_is_left_behind(encoder: Layers) -> None:
    before = workers()
    with DepthParallel(encoder, 3) as stream:
        stream.step(frames()[0])
        assert len(workers() - before) == 3
    assert workers() == before
    forgotten = DepthParallel(encoder, 3)
    forgotten.step(frames()[0])
    del forgotten
    gc.collect()
    deadline = time.monotonic() + 10
    while workers() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == before


def test_what_was_given_out_is_let_go_of(encoder: Layers) -> None:
    outputs: list[weakref.ref[object]] = []
    with DepthParallel(encoder, 3) as stream:
        for frame in [*frames(), *frames()]:
            stream.step(frame)
            outputs += [weakref.ref(output) for output in stream.outputs if output is not None]
            assert sum(output() is not None for output in outputs) <= 2 * 3, "more than those of this tick and the last"
    assert len(outputs) > 60


def test_what_cannot_be_a_pipeline_is_refused(encoder: Layers) -> None:
    before = workers()
    with pytest.raises(ValueError, match="VideoResNet looks at whole clips"):
        DepthParallel(VideoResNet())
    with pytest.raises(ValueError, match="sub_networks is 5; this encoder has 4 layers or blocks"):
        DepthParallel(encoder, 5)
    with pytest.raises(ValueError, match=r"cut is 'time'; give seconds, multiply_adds, or numbers"):
        DepthParallel(encoder, 2, "time")
    with pytest.raises(ValueError, match=r"cut is \[2, 1, 1\], and sub_networks 2"):
        DepthParallel(encoder, 2, [2, 1, 1])
    with pytest.raises(ValueError, match=r"clocks is \[1\]; give each of the 2 sub-networks"):
        DepthParallel(encoder, 2, clocks=[1])
    assert workers() == before
