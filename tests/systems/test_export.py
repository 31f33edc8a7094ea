"""What is made here leaves as files that diffusers loads, with the same numbers."""

import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    MotionAdapter,
    UNetSpatioTemporalConditionModel,
)
from safetensors.torch import load_file

from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.library.export import export_diffusers
from muybridge.library.index import INFLATED_UNET, write_index, write_settings
from muybridge.library.inflated import save_inflated
from muybridge.library.parts import load_picture_unet, load_video_autoencoder, scheduler_of
from muybridge.models.inflated_unet import InflatedUNet
from muybridge.models.latent.video_autoencoder import ENCODER, load_stable_video_autoencoder, save_decoder
from muybridge.models.weights.stable_video import load_stable_video_unet
from muybridge.opening.sampling import load_pipeline
from tests import user_folders
from tests.conftest import randomise


def trained(folder, sd15, temporal):
    """A folder as training of temporal layers behind a user's model writes it."""
    network = InflatedUNet.from_image_model(load_picture_unet(str(sd15)), temporal)
    randomise(network.temporal, 0.1)
    table = {**scheduler_of(str(sd15)), "beta_schedule": "linear"}
    settings = {"text_encoder": str(sd15 / "text_encoder"), "text_max_length": 77, "image": str(sd15)}
    sampling = {"num_frames": 3, "height": 16, "width": 16, "num_inference_steps": 2, "threshold": "none"}
    save_inflated(network, folder, {**settings, "scheduler": table, "sampling": sampling})
    return folder


@pytest.mark.parametrize("middle", [False, True])
def test_motion_modules_leave_as_a_motion_adapter(tmp_path, middle):
    sd15 = user_folders.stable_diffusion(tmp_path / "sd", scheduler="DDIMScheduler")
    temporal = {"type": "motion_modules", "heads": 4, "max_frames": 16, "middle": middle}
    folder = trained(tmp_path / "trained", sd15, temporal)
    export_diffusers(str(folder), tmp_path / "adapter")
    opened = MotionAdapter.from_pretrained(tmp_path / "adapter")
    theirs = AnimateDiffPipeline.from_pretrained(sd15, motion_adapter=opened, feature_extractor=None)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config, beta_schedule="linear")
    theirs.set_progress_bar_config(disable=True)
    how = {"num_frames": 3, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 3.0}
    expected = theirs("a fox", latents=Noise([2])((4, 3, 8, 8), "start"), output_type="latent", **how).frames
    got = load_pipeline(str(folder), "cpu")("a fox", seed=2, output="latents", **how).samples
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()
    with pytest.raises(UserError, match="is there already"):
        export_diffusers(str(folder), tmp_path / "adapter")


def test_stable_videos_network_leaves_as_it_came(tmp_path):
    svd = user_folders.stable_video(tmp_path / "svd")
    network = load_stable_video_unet(svd / "unet")
    folder = tmp_path / "trained"
    network.save_pretrained(folder / "network")
    write_index(folder, "ImageToVideoPipeline", network=INFLATED_UNET)
    write_settings(folder, {"sampling": {"num_frames": 4}})
    export_diffusers(str(folder), tmp_path / "unet")
    name = "diffusion_pytorch_model.safetensors"
    before, after = load_file(svd / "unet" / name), load_file(tmp_path / "unet" / name)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    made = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "unet")
    assert made.config.num_frames == 4
    told = torch.randn(1, 4, 8, 8, 8), torch.tensor([1.0]), torch.randn(1, 1, 32), torch.tensor([[6.0, 127.0, 0.02]])
    with torch.no_grad():
        original = UNetSpatioTemporalConditionModel.from_pretrained(svd / "unet")
        assert torch.equal(made(*told).sample, original(*told).sample)


@torch.no_grad()
def test_a_decoder_with_time_leaves_as_it_came(tmp_path):
    """Trained from Stable Video's: diffusers decodes with it what we do; from a picture autoencoder that has a step
    before its decoder it is refused."""
    svd = user_folders.stable_video(tmp_path / "svd")
    model = randomise(load_video_autoencoder(str(svd / "vae")), 0.05).eval()
    encoder = load_stable_video_autoencoder(svd / "vae").state_dict()
    model.load_state_dict({n: v for n, v in encoder.items() if n.startswith(ENCODER)}, strict=False)  # it is frozen
    save_decoder(model, str(svd / "vae"), tmp_path / "trained")
    export_diffusers(str(tmp_path / "trained"), tmp_path / "vae")
    theirs = AutoencoderKLTemporalDecoder.from_pretrained(tmp_path / "vae")
    latents, pictures = torch.randn(1, 4, 3, 2, 2), torch.rand(1, 3, 16, 16)
    expected = theirs.decode(latents[0].transpose(0, 1), num_frames=3).sample.transpose(0, 1)[None]
    assert torch.allclose(model.decode(latents), expected, atol=1e-5)
    assert torch.allclose(model.encode(pictures).latent_dist.mean, theirs.encode(pictures).latent_dist.mean, atol=1e-5)
    sd15 = user_folders.stable_diffusion(tmp_path / "sd")
    save_decoder(load_video_autoencoder(str(sd15 / "vae")), str(sd15 / "vae"), tmp_path / "other")
    with pytest.raises(UserError, match="post_quant_conv"):
        export_diffusers(str(tmp_path / "other"), tmp_path / "out")


def test_layers_that_diffusers_does_not_have_are_refused(tmp_path):
    sd15 = user_folders.stable_diffusion(tmp_path / "sd")
    folder = trained(tmp_path / "trained", sd15, {"type": "video_ldm"})
    with pytest.raises(UserError, match="diffusers has no class for these temporal layers"):
        export_diffusers(str(folder), tmp_path / "out")
    with pytest.raises(UserError, match="this one is of another layout"):
        export_diffusers("emoji-animate", tmp_path / "out")
    with pytest.raises(UserError, match="a TextToVideoPipeline; diffusers has a layout for image models and"):
        export_diffusers("world-vdm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
