"""Local state dicts: strict, safe, and each failure one sentence."""

import os

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.state_dict import explain_mismatch, load_local


class Payload:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("pickle_was_here",)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"absent.pth: no such file; give weights_path"):
        ResNet(18, weights_path=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", bytes(100)])
def test_a_file_of_another_kind_is_refused(tmp_path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not a readable state dict .*; download or write it again"):
        load_local(nn.Linear(1, 1), tmp_path / name, ())


def test_a_truncated_file_is_refused(tmp_path) -> None:
    path = tmp_path / "a.pth"
    torch.save(nn.Linear(9, 9).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a.pth: not a readable state dict"):
        load_local(nn.Linear(9, 9), path, ())


def test_code_in_a_pickle_does_not_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Payload()}, "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile.pth: not a readable state dict"):
        load_local(nn.Linear(1, 1), "hostile.pth", ())
    assert not (tmp_path / "pickle_was_here").exists()


@pytest.mark.parametrize("value", [{"state_dict": {}}, [torch.zeros(1)]])
def test_what_is_no_state_dict_is_refused(tmp_path, value: object) -> None:
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth: holds a .* save the network's state_dict\(\) alone"):
        load_local(nn.Linear(1, 1), tmp_path / "a.pth", ())


def test_only_the_listed_head_keys_may_be_left_over(tmp_path) -> None:
    state = resnet18(weights=None).state_dict()
    torch.save({**state, "fc2.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"not those of this ResNet \(unexpected: fc2.weight\)"):
        ResNet(18, weights_path=str(tmp_path / "a.pth"))


def test_another_number_of_channels_is_explained(tmp_path) -> None:
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "a.pth")
    shapes = r"conv1.weight is \(64, 3, 7, 7\), not \(64, 1, 7, 7\)"
    with pytest.raises(ValueError, match=rf"\(of another shape: {shapes}\); .* same in_channels"):
        ResNet(18, in_channels=1, weights_path=str(tmp_path / "a.pth"))


def test_an_encoders_own_state_dict_loads(tmp_path) -> None:
    encoder = CaffeNet()
    torch.save(encoder.state_dict(), tmp_path / "own.pth")
    loaded = CaffeNet(weights_path=str(tmp_path / "own.pth"))
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), loaded.parameters(), strict=True))


def test_a_mismatch_names_the_first_of_each_kind() -> None:
    expected = {name: (1,) for name in "abcdef"}
    found = {"f": (2,), "x": (1,)}
    assert explain_mismatch(expected, found) == (
        "missing: a, b, c and 2 more; unexpected: x; of another shape: f is (2,), not (1,)"
    )
    assert explain_mismatch(expected, expected) == ""
