"""What a training step will take, counted without taking it: the step runs on the meta device, where tensors have sizes
only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from muybridge.nn.live_bytes import LiveBytes, fused_attention

FLOAT_BYTES = 4


def predicted_bytes(model: nn.Module, step: Callable[[nn.Module], Tensor], averaged: bool = True) -> dict[str, int]:
    """Bytes of a training step with AdamW; weights, gradients and moments are float32 as in training.

    Args:
        model: on the meta device, in the type that activations are computed in; `requires_grad` says what trains.
        step: the step's loss, from the model.
        averaged: whether a moving average of the trained weights is kept.

    Returns:
        "weights", "optimizer" (its two moments, gradients and the average), "activations" (the peak of all else in
        forward and backward pass), and "total".
    """
    every = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    element = next(model.parameters()).element_size()
    with fused_attention(), LiveBytes() as live:
        step(model).backward()
    gradients = FLOAT_BYTES * trained
    found = {
        "weights": FLOAT_BYTES * every,
        "optimizer": gradients + FLOAT_BYTES * trained * (3 if averaged else 2),
        "activations": max(0, live.peak - gradients * element // FLOAT_BYTES),
    }
    return {**found, "total": sum(found.values())}
