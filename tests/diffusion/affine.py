"""Samplers on Gaussian data are affine maps of their inputs, and so are known without drawing a sample.

`Draws` stands in for the noise source: row 0 of a batch is the run without any noise, each further row the run in which
one value of one draw is 1. So a batch holds a sampler's whole matrix, exactly, and mean and covariance follow.
"""

import torch

F64 = torch.float64


class Draws:
    """Noise whose k'th draw is the identity in its own rows of the batch.

    Args:
        shape: of one sample; D values.
        draws: how many draws a run makes at most.
        inputs: further inputs of D values that are rows of the batch (the start, known values).
    """

    def __init__(self, shape, draws, inputs=1):
        self.shape, self.size, self.count = tuple(shape), torch.Size(shape).numel(), 0
        self.blocks, self.inputs = draws + inputs, inputs

    def block(self, k):
        """[B, *shape]: block k's rows are the identity, all other rows 0."""
        rows = torch.zeros(1 + self.blocks * self.size, self.size, dtype=F64)
        rows[1 + k * self.size : 1 + (k + 1) * self.size] = torch.eye(self.size, dtype=F64)
        return rows.reshape(-1, *self.shape)

    def like(self, z, purpose, step=0):
        self.count += 1
        return self.block(self.inputs + self.count - 1).to(z)


def affine(z):
    """A batch of `Draws` as (mean [D], matrix [D, inputs and draws])."""
    rows = z.flatten(1)
    return rows[0], (rows[1:] - rows[0]).T


def moments(z):
    """Mean [D] and covariance [D, D] of what such a batch stands for, all inputs being unit normal."""
    mean, matrix = affine(z)
    return mean, matrix @ matrix.T


def ar1(frames, rho=0.95):
    """The covariance of a stationary AR(1) process of unit variance."""
    place = torch.arange(frames, dtype=F64)
    return rho ** (place[:, None] - place[None]).abs()
