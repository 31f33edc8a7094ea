"""Windows over frames: what overlaps is averaged, and a denoiser of single frames does not notice them."""

import pytest
import torch

from muybridge.diffusion.windows import windowed, windows_of

FRAMES = 23
SIZES = [(16, 7), (8, 3), (5, 1), (23, 4), (30, 3), (4, 0), (7, 6)]


@pytest.mark.parametrize("size,overlap", SIZES)
def test_windows_cover_all_frames_and_share_the_overlap(size, overlap):
    windows = windows_of(FRAMES, size, overlap)
    assert windows[0].start == 0 and windows[-1].stop == FRAMES
    assert all(w.stop - w.start == min(size, FRAMES) for w in windows)
    shared = [a.stop - b.start for a, b in zip(windows, windows[1:], strict=False)]
    assert all(s == overlap for s in shared[:-1]) and all(s >= overlap for s in shared)


@pytest.mark.parametrize("size,overlap", SIZES)
@pytest.mark.parametrize("per_frame", [False, True])
def test_a_denoiser_of_single_frames_does_not_notice(size, overlap, per_frame):
    z = torch.randn(2, 3, FRAMES, 2, 2, dtype=torch.float64)
    lam = torch.randn(2, FRAMES) if per_frame else torch.randn(2)

    def denoise(z, lam):
        return z.sin() + (lam[:, None, :, None, None] if per_frame else lam[:, None, None, None, None])

    assert torch.allclose(windowed(lambda w: denoise, FRAMES, size, overlap)(z, lam), denoise(z, lam), atol=1e-12)


@pytest.mark.parametrize("size,overlap", SIZES)
def test_what_overlaps_is_averaged(size, overlap):
    z = torch.zeros(1, 1, FRAMES, 1, 1, dtype=torch.float64)
    got = windowed(lambda w: lambda z, lam: torch.full_like(z, w.start), FRAMES, size, overlap)(z, torch.zeros(1))
    windows = windows_of(FRAMES, size, overlap)
    for f in range(FRAMES):
        starts = [w.start for w in windows if w.start <= f < w.stop]
        assert float(got[0, 0, f]) == pytest.approx(sum(starts) / len(starts))


def test_an_overlap_must_leave_something_new():
    with pytest.raises(ValueError, match=r"0\.\.3"):
        windows_of(9, 4, 4)
