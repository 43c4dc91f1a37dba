"""The synthetic videos: same bytes, exact truth, no easy way to the order of frames, whole or not at all."""

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from selfsup.data import synthetic, synthetic_files
from selfsup.data.synthetic import cached_synthetic, read_annotations, write_synthetic
from selfsup.data.synthetic_annotations import flow_of
from selfsup.data.synthetic_scenes import ACTIONS, Scene, Timetable, draw_scene
from selfsup.data.synthetic_sounds import draw_sound

SMALL = {"videos": 12, "size_pixels": 48, "seconds": 1.0, "fps": 16}


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with open(manifest, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scene_of(action: str, seed: int = 0, **changes: object) -> Scene:
    generator = np.random.default_rng(seed)
    settings = {
        "action": action,
        "shape": "box",
        "surface": "blotches",
        "timetable": Timetable.draw(action, 2.4, generator),
        "generator": generator,
        "place": np.random.default_rng(9),
        "size_pixels": 96,
        "times_seconds": np.arange(24) / 20,
    }
    return draw_scene(**(settings | changes))  # type: ignore[arg-type]


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("a") / "set", processes=1, **SMALL)


def test_same_seed_same_bytes_whatever_the_processes(manifest: Path, tmp_path: Path) -> None:
    again = write_synthetic(tmp_path / "again", processes=2, **SMALL)
    other = write_synthetic(tmp_path / "other", processes=1, seed=1, **SMALL)
    assert hashes(manifest.parent) == hashes(again.parent)
    assert len(hashes(again.parent)) == 2 * SMALL["videos"] + 1
    assert hashes(again.parent) != hashes(other.parent)


def test_groups_never_cross_splits_and_labels_are_balanced() -> None:
    places = [synthetic.place_of(number, 240, seed=0) for number in range(240)]
    splits: dict[int, set[str]] = {}
    for group, _, split in places:
        splits.setdefault(group, set()).add(split)
    assert all(len(names) == 1 for names in splits.values())
    for split, count in {"train": 168, "val": 24, "test": 48}.items():
        actions = [action for _, action, name in places if name == split]
        assert len(actions) == count
        assert {actions.count(action) for action in ACTIONS} == {count // len(ACTIONS)}


@pytest.mark.parametrize("videos", [3, 4, 5, 7, 12, 13])
def test_every_split_has_videos(videos: int) -> None:
    places = [synthetic.place_of(number, videos, seed=0) for number in range(videos)]
    assert {split for _, _, split in places} == {"train", "val", "test"}


def test_files_hold_frames_and_sound(manifest: Path) -> None:
    row = rows_of(manifest)[0]
    assert set(row) == {"path", "label", "group", "split", "object", "sound", "surface"}
    assert row["label"] in ACTIONS
    assert Path(row["path"]).parent.name == row["label"]
    with av.open(str(manifest.parent / row["path"])) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.width, video.height, video.average_rate, video.frames) == (48, 48, 16, 16)
        assert audio.rate == synthetic_files.SOUND_RATE_HZ
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert abs(len(samples) / synthetic_files.SOUND_RATE_HZ - 1.0) < 0.15
    assert np.sqrt((samples**2).mean()) > 0.02


def test_annotations_fit_the_frames(manifest: Path) -> None:
    for row in rows_of(manifest):
        truth = read_annotations(manifest.parent / row["path"])
        assert truth.masks.shape == (16, 48, 48)
        assert truth.masks.dtype == bool
        assert truth.flow.shape == (15, 2, 48, 48)
        assert truth.flow.dtype == np.float32
        assert truth.phase.shape == truth.gain.shape == (16,)
        assert (np.diff(truth.phase) > 0).all()
        assert truth.phase[0] >= 0
        assert truth.phase[-1] <= 1
        assert ((truth.event_seconds >= 0) & (truth.event_seconds < 1.0)).all()
        assert 0.005 < truth.masks.mean() < 0.6


def test_annotations_of_another_video_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "pour" / "mine.mp4"
    with pytest.raises(ValueError, match=r"mine\.mp4: no annotations"):
        read_annotations(path)


@pytest.mark.parametrize("action", ACTIONS)
def test_warping_by_the_flow_gives_the_next_frame(action: str) -> None:
    scene = scene_of(action, seed=3)
    flow = flow_of(scene.parts, scene.motion)
    radiance = scene.frames / scene.gain[:, None, None, None]
    errors, still_errors = {"object": [], "background": []}, {"object": [], "background": []}
    y, x = np.indices(scene.parts.shape[1:])
    for t in range(len(flow)):
        to_x, to_y = x + flow[t, 0], y + flow[t, 1]
        left, top = np.floor(to_x).astype(int), np.floor(to_y).astype(int)
        inside = (left >= 0) & (top >= 0) & (left < 95) & (top < 95)
        left, top = np.clip(left, 0, 94), np.clip(top, 0, 94)
        across, down = (to_x - left)[..., None], (to_y - top)[..., None]
        after = radiance[t + 1]
        warped = (after[top, left] * (1 - across) + after[top, left + 1] * across) * (1 - down)
        warped += (after[top + 1, left] * (1 - across) + after[top + 1, left + 1] * across) * down
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):  # the same part and material there
            inside &= scene.parts[t + 1, top + dy, left + dx] == scene.parts[t]
        for name, where in (("object", scene.parts[t] > 0), ("background", scene.parts[t] == 0)):
            where = where & inside
            errors[name].append(np.abs(warped - radiance[t])[where].mean(-1))
            still_errors[name].append(np.abs(after - radiance[t])[where].mean(-1))
    for name in errors:
        moved, still = np.concatenate(errors[name]), np.concatenate(still_errors[name])
        assert np.median(moved) < 1.5, name  # of 255: rounding and bilinear interpolation
        assert np.median(moved) < 0.6 * np.median(still) or np.median(still) < 1.5, name


def test_object_moves_unlike_the_background() -> None:
    for action in ACTIONS:
        scene = scene_of(action)
        flow = np.moveaxis(flow_of(scene.parts, scene.motion), 1, -1)
        inside = scene.parts[:-1] > 0
        camera = flow[0][~inside[0]]
        assert np.ptp(camera, axis=0).max() < 1e-4  # one motion for all of the background
        apart = [np.linalg.norm(f[m].mean(0) - f[~m].mean(0)) for f, m in zip(flow, inside, strict=True) if m.any()]
        assert np.mean(apart) > 0.3, action


def test_fine_texture_adds_detail_to_the_background_and_the_object() -> None:
    coarse, fine = (scene_of("melt", texture=name) for name in ("coarse", "fine"))
    assert (coarse.parts == fine.parts).all()
    assert (coarse.motion == fine.motion).all()
    for inside in (True, False):
        detail = []
        for scene in (coarse, fine):
            grey = scene.frames.astype(float).mean(-1)
            bent = np.abs(grey[:, 1:-1, 2:] - 2 * grey[:, 1:-1, 1:-1] + grey[:, 1:-1, :-2])
            detail.append((bent[(scene.parts[:, 1:-1, 1:-1] > 0) == inside] > 1).mean())
        assert 1 - detail[1] < 0.6 * (1 - detail[0])  # less of it is smooth


def test_the_texture_is_part_of_what_is_cached(tmp_path: Path) -> None:
    ask = {"videos": 3, "size_pixels": 32, "seconds": 0.5, "fps": 8, "processes": 1}
    coarse, fine = (cached_synthetic(tmp_path, texture=name, **ask) for name in ("coarse", "fine"))
    path = rows_of(coarse)[0]["path"]
    assert (coarse.parent / path).read_bytes() != (fine.parent / path).read_bytes()
    with pytest.raises(ValueError, match="texture is 'rough', choose one of coarse, fine"):
        cached_synthetic(tmp_path, texture="rough", **ask)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_static_scene_does_not_change(action: str) -> None:
    scene = scene_of(action, static=True)
    assert (scene.frames == scene.frames[0]).all()
    assert np.ptp(scene.phase) == 0
    assert np.abs(flow_of(scene.parts, scene.motion)).max() < 1e-6
    assert (np.diff(scene_of(action).phase) > 0).all()


def test_brightness_and_place_do_not_tell_the_order() -> None:
    generator = np.random.default_rng(0)
    right: dict[str, list[bool]] = {"brightness": [], "x": [], "y": []}
    for number in range(48):
        scene = scene_of(ACTIONS[number % 8], seed=number, times_seconds=np.arange(16) * 0.15)
        cues = {
            "brightness": scene.frames.mean((1, 2, 3)),
            "x": scene.motion[:, -1, 0, 2],
            "y": scene.motion[:, -1, 1, 2],
        }
        if ACTIONS[number % 8] in ("melt", "shatter", "stack"):  # sinking and falling are part of these
            del cues["x"], cues["y"]
        for name, cue in cues.items():
            for _ in range(20):
                b, c, d = cue[np.sort(generator.choice(16, 3, replace=False))]
                right[name].append((c - b) * (d - c) > 0)
    for name, answers in right.items():
        assert np.mean(answers) < 0.5, name  # a third if the cue knows no time, 1 if it rises with it


def test_the_sound_is_loud_at_the_events_and_its_pitch_rises() -> None:
    generator = np.random.default_rng(0)
    timetable = Timetable.draw("stack", 2.4, generator)
    sound = draw_sound(
        action="stack", shape="ball", surface="dots", timetable=timetable, generator=generator, rate_hz=16000
    )
    assert sound.shape == (38400,)
    assert np.abs(sound).max() <= 1
    level = lambda start: np.sqrt((sound[round(start * 16000) :][:1280] ** 2).mean())  # noqa: E731
    for event in timetable.events[timetable.events > 0.1]:
        assert level(event) > 1.5 * level(event - 0.09), event
    spectrum = lambda half: np.abs(np.fft.rfft(half)).argmax()  # noqa: E731
    assert spectrum(sound[-12800:]) > 1.3 * spectrum(sound[:12800])


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(synthetic, "encode", fail)
    with pytest.raises(OSError, match="no space left"):
        cached_synthetic(tmp_path, processes=1, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_cache_is_written_once_and_clashes_are_settled(tmp_path: Path) -> None:
    ask = lambda _: cached_synthetic(tmp_path, videos=3, size_pixels=32, seconds=0.5, fps=8, processes=1)  # noqa: E731
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    before = first.stat().st_mtime_ns
    assert first == second == ask(0)
    assert first.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [first.parent.name]


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_synthetic(tmp_path, **SMALL)
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(("name", "value"), [("videos", 2), ("size_pixels", 47), ("seconds", 0.1), ("fps", 0)])
def test_values_out_of_bounds_are_named(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        write_synthetic(tmp_path / "set", **{name: value})  # type: ignore[arg-type]


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_synthetic(
        tmp_path / "set",
        videos=3,
        size_pixels=32,
        seconds=0.5,
        fps=8,
        processes=1,
        progress=lambda done, all_: seen.append((done, all_)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_decoded_frames_are_near_what_was_drawn(manifest: Path) -> None:
    row = rows_of(manifest)[0]
    frames = decode(manifest.parent / row["path"])
    masks = read_annotations(manifest.parent / row["path"]).masks
    assert frames.shape == (16, 48, 48, 3)
    inside, outside = frames[masks].astype(float), frames[~masks].astype(float)
    assert np.abs(inside.mean(0) - outside.mean(0)).max() > 5  # the mask parts two colours
