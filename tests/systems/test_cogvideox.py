"""A user's CogVideoX folder on random weights: diffusers' pipeline's numbers, and the commands on it."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from typer.testing import CliRunner

from muybridge.cli.main import app
from muybridge.data.video_io import read_video, write_video
from muybridge.diffusion.noise import Noise
from muybridge.errors import UserError
from muybridge.models.text.encoder import find_minilm
from muybridge.opening.identify import identify
from muybridge.opening.sampling import load_pipeline
from tests.conftest import randomise

PROMPT = "a red circle moving left"


def write_cogvideox(folder, rotary, **changes):
    """Tiny weights in CogVideoX' layout; the tokenizer is MiniLM's."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    torch.manual_seed(0)
    network = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8, num_layers=2,
        text_embed_dim=16, sample_width=4, sample_height=4, sample_frames=9, patch_size=2, max_text_seq_length=12,
        use_rotary_positional_embeddings=rotary, **changes,
    )  # fmt: skip
    randomise(network, 0.05).save_pretrained(folder / "transformer")
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 16), down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=4,
        temporal_compression_ratio=4, sample_height=16, sample_width=16, scaling_factor=0.7,
    )  # fmt: skip
    randomise(vae, 0.05).save_pretrained(folder / "vae")
    text = T5Config(vocab_size=30522, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(text).save_pretrained(folder / "text_encoder")
    AutoTokenizer.from_pretrained(str(find_minilm()), local_files_only=True).save_pretrained(folder / "tokenizer")
    CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
        snr_shift_scale=1.0 if rotary else 3.0,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    index = {
        "_class_name": "CogVideoXPipeline", "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["5B", "2B"])
def folder(request, tmp_path_factory):
    return write_cogvideox(tmp_path_factory.mktemp("cogvideox"), request.param)


def test_diffusers_pipeline_samples_the_same_video(folder):
    from transformers import AutoTokenizer, T5EncoderModel

    ours = load_pipeline(str(folder), "cpu")
    theirs = CogVideoXPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder"),
        vae=AutoencoderKLCogVideoX.from_pretrained(folder / "vae"),
        transformer=CogVideoXTransformer3DModel.from_pretrained(folder / "transformer"),
        scheduler=CogVideoXDDIMScheduler.from_pretrained(folder / "scheduler"),
    )
    theirs.set_progress_bar_config(disable=True)
    sizes = (
        [(9, 16, 16)] if not theirs.transformer.config.use_rotary_positional_embeddings else [(9, 16, 16), (5, 16, 8)]
    )
    for frames, height, width in sizes:
        size = {"num_frames": frames, "height": height, "width": width}
        for scale in (1.0, 6.0):
            start = Noise([5])(ours.sample_shape(ours.settings(**size)), "start")
            expected = theirs(
                PROMPT, latents=start.transpose(1, 2), num_inference_steps=4, guidance_scale=scale,
                max_sequence_length=12, output_type="pt", **size,
            ).frames  # fmt: skip
            got = ours(PROMPT, seed=5, num_inference_steps=4, guidance_scale=scale, **size).samples
            shown = (got.transpose(1, 2) / 2 + 0.5).clamp(0, 1)
            assert float(shown.std()) > 1e-3
            assert torch.allclose(shown, expected, atol=1e-4), float((shown - expected).abs().max())


def test_commands_on_it(folder, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "v.npy", 8)
    out = tmp_path / "out.npy"
    given = ["--model", str(folder), "--steps", "2", "-o", str(out)]
    for command, more, shape in (
        ("extend", ["--add-frames", "2", "--method", "replacement"], (11, 16, 16, 3)),
        ("extend", ["--add-frames", "2", "--backward"], (11, 16, 16, 3)),
        ("restyle", ["--content", PROMPT, "--strength", "0.5"], (9, 16, 16, 3)),
        ("animate", ["--prompt", PROMPT], (9, 16, 16, 3)),
    ):
        done = CliRunner().invoke(app, [command, str(tmp_path / "v.npy"), *given, *more])
        assert done.exit_code == 0, (command, done.output, done.exception)
        assert read_video(out).frames.shape == shape
        if command == "extend" and "--backward" in more:
            assert "reconstruction guidance" in " ".join(done.output.split())
    assert identify(folder).kind == "CogVideoX model" and not identify(folder).needs


def test_what_is_not_sampled_is_told(tmp_path):
    write_cogvideox(tmp_path / "other", True, patch_size_t=2)
    with pytest.raises(UserError, match="only CogVideoX 1.0's models of words"):
        load_pipeline(str(tmp_path / "other"), "cpu")
