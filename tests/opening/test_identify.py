"""A user's files are known for what they are, from names and shapes alone."""

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetSpatioTemporalConditionModel
from safetensors.torch import save_file

from muybridge.errors import UserError
from muybridge.files import ZOO
from muybridge.opening.identify import identify
from muybridge.opening.offers import offers
from tests.tiny_models import UNET


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def test_folders(tmp_path, picture_model):
    found = identify(picture_model)
    assert found.kind == "Stable Diffusion model" and any("v_prediction" in n for n in found.notes)
    assert any("text_encoder" in n for n in found.needs)  # it stays where it is installed
    unet = UNet2DConditionModel(**UNET)
    found = identify(saved(unet, tmp_path / "unet"))
    assert found.kind == "picture U-Net" and found.parameters == sum(p.numel() for p in unet.parameters())
    assert found.memory_bytes == 4 * found.parameters and found.needs == []
    assert identify(saved(ControlNetModel.from_unet(unet), tmp_path / "control")).kind == "ControlNet"
    adapter = MotionAdapter(block_out_channels=(16, 32), motion_norm_num_groups=8)
    assert identify(saved(adapter, tmp_path / "motion")).kind == "AnimateDiff motion adapter"
    svd = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32, 32, 32), num_attention_heads=(2, 2, 2, 2), cross_attention_dim=8, layers_per_block=1
    )
    assert identify(saved(svd, tmp_path / "svd")).kind == "Stable Video U-Net"


def test_every_bundled_model_is_known_and_so_is_all_that_opens():
    folders = [folder for folder in ZOO.iterdir() if folder.is_dir()]
    assert len(folders) >= 12 and all(identify(folder).used_by for folder in folders)
    assert set(offers("OPENS")) <= set(offers("KNOWS"))


def test_files(tmp_path):
    def file(name, **tensors):
        path = tmp_path / f"{name}.safetensors"
        save_file({k.replace("__", "."): torch.zeros(v) for k, v in tensors.items()}, path)
        return identify(path)

    lora = file(
        "kohya", lora_unet_x_attn2_to_k__lora_down__weight=(4, 768), lora_unet_x_attn2_to_k__lora_up__weight=(320, 4)
    )
    assert lora.kind == "LoRA, kohya names" and "rank 4" in lora.notes[0] and "Stable Diffusion 1.x" in lora.needs[0]
    peft = file("peft", unet__a__attn2__to_k__lora_A__weight=(8, 1024), unet__a__attn2__to_k__lora_B__weight=(320, 8))
    assert peft.kind == "LoRA, diffusers names" and "2.x" in peft.needs[0]
    block = "down_blocks__0__motion_modules__0__temporal_transformer__transformer_blocks__0"
    name = f"{block}__attention_blocks__0__pos_encoder__pe"
    motion = file("mm", **{name: (1, 24, 320)})
    assert "motion module" in motion.kind and "24 frames" in motion.notes[0]
    single = file(
        "sd",
        model__diffusion_model__input_blocks__0__0__weight=(320, 4, 3, 3),
        model__diffusion_model__input_blocks__1__1__transformer_blocks__0__attn2__to_k__weight=(320, 768),
    )
    assert "single-file Stable Diffusion 1.x" in single.kind
    with pytest.raises(UserError, match="no kind"):
        file("odd", head__weight=(3, 3))


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing there"):
        identify(tmp_path / "no.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"x")
    with pytest.raises(UserError, match="pickled"):
        identify(tmp_path / "old.ckpt")
    path = tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut short"):
        identify(path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(UserError, match="not a readable"):
        identify(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="neither model_index"):
        identify(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text('{"_class_name": "WanTransformer3DModel"}')
    with pytest.raises(UserError, match="does not know"):
        identify(tmp_path / "folder")
    for damage in (b"[]", b"\xff\xfe", b"{bad"):
        (tmp_path / "folder" / "config.json").write_bytes(damage)
        with pytest.raises(UserError, match=r"config\.json: (cannot be read|expected keys)"):
            identify(tmp_path / "folder")


def test_learned_words_and_text_encoders(tmp_path):
    def word(**tensors):
        save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "word.safetensors")
        return identify(tmp_path / "word.safetensors")

    of_two = word(clip_l=(2, 768), clip_g=(2, 1280))
    assert of_two.used_by == "--embedding FILE[:WORD]" and "XL" in of_two.needs[0]
    assert "3 vectors of 1024" in word(emb_params=(3, 1024)).notes and "1 vector of 768" in word(fox=(768,)).notes
    with pytest.raises(UserError, match="no kind"):
        word(fox=(5,))
    (tmp_path / "config.json").write_text('{"model_type": "clip_text_model"}')
    assert identify(tmp_path).kind == "CLIP text encoder"


def test_a_network_for_inpainting_is_told(tmp_path):
    UNet2DConditionModel(**{**UNET, "in_channels": 9}).save_pretrained(tmp_path / "unet")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert any("made for inpainting" in need for need in identify(tmp_path).needs)
