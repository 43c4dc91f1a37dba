"""Camera motion against motions that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from selfsup.data.camera_motion import CameraMotion, PlaneMotion, SmoothMotion, plane_flow

PLANES = [PlaneMotion(), PlaneMotion("affine")]
SQUARE = np.s_[40:70, 90:130]


def turned() -> NDArray[np.float64]:
    """A camera that turns, zooms and shifts a little."""
    return np.array([[1.02, -0.03, 4.0], [0.03, 0.99, -2.5], [0.0, 0.0, 1.0]])


def test_the_flow_of_a_plane_is_where_its_points_go() -> None:
    matrix = turned()
    matrix[2] = [1e-4, -2e-4, 1]
    found = plane_flow(matrix, 50, 60)
    for x, y in ((0, 0), (59, 0), (17, 33)):
        moved = matrix @ [x, y, 1]
        assert found[:, y, x] == pytest.approx(moved[:2] / moved[2] - [x, y], abs=1e-4)


@pytest.mark.parametrize("camera", [*PLANES, SmoothMotion(1), SmoothMotion(2), SmoothMotion(3)], ids=str)
def test_what_moves_against_the_camera_is_left(camera: CameraMotion) -> None:
    flow = plane_flow(turned(), 120, 200)
    flow[0][SQUARE] += 6.0
    left = camera.residual(flow)
    assert left[:, 45:65, 95:125].mean(axis=(1, 2)) == pytest.approx([6, 0], abs=0.3)
    left[:, 38:72, 88:132] = 0
    assert np.abs(left).max() < 0.3


def test_a_smooth_motion_explains_depth_that_a_plane_does_not() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 200), np.linspace(-1, 1, 120))
    flow = np.stack([5 * x * y + 3 * x**2, 2 * y**2 - x]).astype(np.float32)  # no plane moves like this
    assert np.hypot(*SmoothMotion(2).residual(flow)).max() < 0.05
    assert np.median(np.hypot(*PlaneMotion().residual(flow))) > 0.2


def test_a_field_too_small_to_fit_is_left_as_it_is() -> None:
    flow = np.ones((2, 8, 8), np.float32)
    for camera in (PlaneMotion(), SmoothMotion()):
        assert np.array_equal(camera.residual(flow), flow)


def test_a_plane_that_would_pass_behind_the_camera_is_none() -> None:
    """Over a cut the best homography may put the horizon into the frame, where flow has no bounds."""
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])  # the horizon is at x = 100
    flow = plane_flow(matrix, 120, 90)
    assert np.abs(PlaneMotion().residual(flow)).max() < 1  # it is seen as far as it is before the camera
    wide = np.pad(flow, ((0, 0), (0, 0), (0, 60)), mode="edge")
    assert np.array_equal(PlaneMotion().residual(wide), wide)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="model='plane': give one of homography, affine"):
        PlaneMotion("plane")
