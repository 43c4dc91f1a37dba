"""What tells whether embeddings are worth anything, held against plain computations."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from selfsup.evaluation.collapse import feature_std
from selfsup.tasks.embeddings import encode_views, spread, two_choice
from tests.tasks.learning import SmallClips, SmallFrames


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("videos", [[0, 1, 2, 3], [5, 5, 2, 5]])
def test_two_choice_is_that_of_all_pairs_one_by_one(views: int, videos: list[int]) -> None:
    queries, keys = random(4, views, 5), random(4, views, 5).flip(0)
    better = []
    for b, v, w, c, u in product(range(4), range(views), range(views), range(4), range(views)):
        if v != w and videos[b] != videos[c]:
            own, other = (F.cosine_similarity(queries[b, v], key, dim=0) for key in (keys[b, w], keys[c, u]))
            better.append(float(own > other))
    told = two_choice(queries, keys, torch.tensor(videos))
    assert told is not None
    assert told.item() == pytest.approx(sum(better) / len(better))


def test_collapsed_embeddings_score_one_half_and_true_ones_all() -> None:
    videos = torch.arange(4)
    same = torch.ones(4, 2, 5)
    assert two_choice(same, same, videos) == 0.5
    own = torch.eye(4)[:, None].expand(4, 2, 4)
    assert two_choice(own, own, videos) == 1


def test_of_one_video_there_is_nothing_to_choose() -> None:
    assert two_choice(random(2, 2, 5), random(2, 2, 5), torch.tensor([3, 3])) is None
    assert two_choice(random(2, 1, 5), random(2, 1, 5), torch.tensor([3, 4])) is None


def test_spread_is_the_deviation_that_evaluation_reports() -> None:
    embeddings = random(20, 6) + 0.5
    assert spread(embeddings).item() == pytest.approx(feature_std(embeddings), abs=1e-6)
    assert spread(torch.ones(20, 6)) < 1e-6


class Volume(SmallClips):
    minimum_frames = 2


def test_views_are_encoded_each_alone() -> None:
    torch.manual_seed(0)
    encoder, views = SmallFrames().eval(), random(2, 3, 3, 4, 16, 16)
    whole = encode_views(encoder, views)
    assert whole.shape == (2, 3, 64)
    torch.testing.assert_close(whole[1, 2], encoder(views[1, 2][None]).mean(dim=(0, 2, 3, 4)))
    frames = random(2, 3, 3, 1, 16, 16)
    volume = Volume(8).eval()
    torch.testing.assert_close(encode_views(volume, frames), encode_views(volume, frames.expand(-1, -1, -1, 2, -1, -1)))
