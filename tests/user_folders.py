"""Folders in the layouts that users own, on tiny random weights: Stable Diffusion 1.x and 2.x, Stable Video
Diffusion."""

import json
from pathlib import Path

import torch

START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer that knows single letters; returns its size."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(33, 127)]
    names = [*letters, *(f"{c}</w>" for c in letters), START, END]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    settings = {**special, "do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(names)


def stable_diffusion(folder: Path, prediction: str = "", scheduler: str = "PNDMScheduler") -> Path:
    """Stable Diffusion 1.5's files (prediction "": epsilon, which its config does not say; leading spacing with offset
    1)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    size = write_tokenizer(folder / "tokenizer")
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    text = CLIPTextConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, **ids,
    )  # fmt: skip
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=8, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "vae")  # fmt: skip
    values = {
        "_class_name": scheduler, "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "trained_betas": None, "clip_sample": False,
    } | ({"prediction_type": prediction} if prediction else {})  # fmt: skip
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def stable_diffusion_xl(folder: Path, scheduler: str = "EulerDiscreteScheduler") -> Path:
    """Stable Diffusion XL's files: two text encoders, and a network that is told sizes."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    stable_diffusion(folder, scheduler=scheduler)
    torch.manual_seed(1)
    size = write_tokenizer(folder / "tokenizer_2")
    told = json.loads((folder / "tokenizer_2" / "tokenizer_config.json").read_text())
    (folder / "tokenizer_2" / "tokenizer_config.json").write_text(json.dumps({**told, "pad_token": "!"}))
    special = {"bos_token": START, "eos_token": END, "pad_token": "!", "unk_token": END}
    (folder / "tokenizer_2" / "special_tokens_map.json").write_text(json.dumps(special))
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": 0}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 77, "vocab_size": size}
    one = CLIPTextConfig(hidden_size=32, intermediate_size=64, **layers, **ids)
    two = CLIPTextConfig(hidden_size=16, intermediate_size=32, projection_dim=16, **layers, **ids)
    CLIPTextModel(one).save_pretrained(folder / "text_encoder")
    CLIPTextModelWithProjection(two).save_pretrained(folder / "text_encoder_2")
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=(4, 8),
        cross_attention_dim=48, transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, sample_size=16, scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, force_upcast=True,
    ).save_pretrained(folder / "vae")  # fmt: skip
    table = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**table, "timestep_spacing": "leading"}))
    index = json.loads((folder / "model_index.json").read_text())
    parts = {
        "_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "image_encoder": [None, None], "feature_extractor": [None, None],
    }  # fmt: skip
    index = {k: v for k, v in index.items() if k != "safety_checker"}
    (folder / "model_index.json").write_text(json.dumps({**index, **parts}))
    return folder


def stable_video(folder: Path) -> Path:
    """Stable Video Diffusion's files."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    UNetSpatioTemporalConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 32, 64, 64), num_attention_heads=(4, 4,
        8, 8),
        cross_attention_dim=32, addition_time_embed_dim=32, projection_class_embeddings_input_dim=96,
        layers_per_block=2,
        num_frames=4,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, sample_size=64,
    ).save_pretrained(folder / "vae")  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=224, patch_size=32,
        projection_dim=32,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", timestep_spacing="leading", interpolation_type="linear", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    index = {
        "_class_name": "StableVideoDiffusionPipeline", "_diffusers_version": "0.24.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"], "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def clip(folder: Path, width: int = 16) -> Path:
    """A CLIP of transformers: config, weights, tokenizer, preprocessor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    size = write_tokenizer(folder)
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 16}
    config = CLIPConfig(
        text_config={**layers, **ids, "vocab_size": size},
        vision_config={**layers, "image_size": 16, "patch_size": 8}, projection_dim=width,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
    return folder


def _words(folder: Path, prefix: str, projects: bool) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = write_tokenizer(folder / f"{prefix}tokenizer")
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    config = CLIPTextConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=16, **ids,
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projects else CLIPTextModel)(config)
    model.save_pretrained(folder / f"{prefix}text_encoder")


def _prior(folder: Path) -> None:
    from diffusers import PriorTransformer, UnCLIPScheduler

    prior = PriorTransformer(2, 8, 1, embedding_dim=16, num_embeddings=77)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    prior.save_pretrained(folder / "prior")
    UnCLIPScheduler(
        variance_type="fixed_small_log", clip_sample_range=5.0, prediction_type="sample"
    ).save_pretrained(folder / "prior_scheduler")  # fmt: skip


def unclip(folder: Path) -> Path:
    """unCLIP's files (Karlo's kind): a decoder of pixels that also says a variance, and a projection for it."""
    from diffusers import UnCLIPScheduler, UNet2DConditionModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    torch.manual_seed(0)
    _words(folder, "", True)
    _prior(folder)
    UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=6, block_out_channels=(16, 32), norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=16, attention_head_dim=8,
        class_embed_type="identity", only_cross_attention=False, resnet_time_scale_shift="scale_shift",
    ).save_pretrained(folder / "decoder")  # fmt: skip
    projection = UnCLIPTextProjModel(clip_embeddings_dim=16, time_embed_dim=64, cross_attention_dim=16)
    torch.nn.init.normal_(projection.learned_classifier_free_guidance_embeddings)
    projection.save_pretrained(folder / "text_proj")
    UnCLIPScheduler(variance_type="learned_range").save_pretrained(folder / "decoder_scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "UnCLIPPipeline"}))
    return folder


def stable_unclip(folder: Path) -> Path:
    """Stable unCLIP's files: a latent decoder that is told the embedding as class label."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    torch.manual_seed(0)
    _words(folder, "prior_", True)
    _words(folder, "", False)
    _prior(folder)
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=8, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        class_embed_type="projection", projection_class_embeddings_input_dim=32,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "vae")  # fmt: skip
    StableUnCLIPImageNormalizer(16).save_pretrained(folder / "image_normalizer")
    DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableUnCLIPPipeline"}))
    return folder
