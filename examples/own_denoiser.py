"""A sampler asks one question - what is the clean video behind this noisy one? - and any function may answer it.

Here the answer is exact: the data are two videos, so E[x | z] is a softmax over two distances.
"""

import torch

from muybridge.diffusion.noise import Noise
from muybridge.diffusion.oracle import finite_denoiser
from muybridge.diffusion.samplers import sample_ddim
from muybridge.diffusion.schedule import CosineSchedule
from muybridge.diffusion.tables import sampling_grid

data = torch.stack([torch.full((3, 4, 8, 8), -0.8), torch.full((3, 4, 8, 8), 0.8)])  # [N, C, F, H, W]
denoise = finite_denoiser(data)
levels = sampling_grid(CosineSchedule(-12.0, 12.0), 8)
start = Noise([0, 1, 2, 3])((3, 4, 8, 8), "start")  # four videos, each with its own seed
*_, last = sample_ddim(denoise, start, levels)
print("means of four samples:", last.z.mean((1, 2, 3, 4)).tolist())
