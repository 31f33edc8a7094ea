"""Weights in 8 bits: small errors, exact where they are not packed, and files replaced whole."""

import torch
from safetensors.torch import load_file, save_file

from muybridge.models.weights.compact import pack, pack_file, read_weights, unpack


def test_rows_come_back_within_half_a_step_and_the_rest_in_half_precision():
    weights = {
        "kernel": torch.randn(32, 16, 3, 3) * torch.logspace(-4, 1, 32).reshape(-1, 1, 1, 1),
        "zero": torch.zeros(64, 64),
        "bias": torch.randn(32),
        "count": torch.tensor([3]),
    }
    packed = pack(weights)
    assert packed["kernel"].dtype == torch.int8 and packed["bias"].dtype == torch.float16
    back = unpack(packed)
    assert set(back) == set(weights) and torch.equal(back["zero"], weights["zero"]) and back["count"] == 3
    step = weights["kernel"].flatten(1).abs().amax(1) / 127
    error = (back["kernel"] - weights["kernel"]).flatten(1).abs().amax(1)
    assert (error <= 0.51 * step).all()
    assert torch.allclose(back["bias"].float(), weights["bias"], atol=1e-2)


def test_files_read_the_same_packed_or_not_and_packing_twice_changes_nothing(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"w": torch.randn(64, 64)}, file)
    plain = read_weights(file)["w"]
    assert torch.equal(plain, load_file(file)["w"])
    size = file.stat().st_size
    pack_file(file)
    once = read_weights(file)["w"]
    assert file.stat().st_size < size / 2 and (once - plain).abs().max() < 0.03
    pack_file(file)
    assert torch.allclose(read_weights(file)["w"], once, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
