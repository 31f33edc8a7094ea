"""Single files are opened where folders are, with the same weights and the same pictures."""

import gzip
import json
import shutil

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from muybridge.errors import UserError
from muybridge.library.catalogue import find_part
from muybridge.models.text import clip_vocabulary
from muybridge.models.vision.control import open_control_net
from muybridge.opening.identify import identify
from muybridge.opening.sampling import load_pipeline
from tests import user_folders
from tests.conftest import randomise
from tests.single_files import control_file, single_file, unet_names

SIZE = {"height": 16, "width": 16, "num_inference_steps": 2}


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))


def one_head(folder, part, kind, **changes):
    """Text encoders of a file have heads of 64, so these tiny ones have a single head."""
    config = CLIPTextConfig.from_pretrained(folder / part)
    for name, value in {"num_attention_heads": 1, **changes}.items():
        setattr(config, name, value)
    torch.manual_seed(5)
    kind(config).save_pretrained(folder / part)


def folder_of(family, folder):
    if family == "xl":
        user_folders.stable_diffusion_xl(folder)
        one_head(folder, "text_encoder", CLIPTextModel)
        one_head(folder, "text_encoder_2", CLIPTextModelWithProjection, hidden_act="gelu")
        heads, told = [1, 1], {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 6 * 256 + 16}
    else:
        user_folders.stable_diffusion(folder, "v_prediction" if family == "2" else "", "DDIMScheduler")
        one_head(folder, "text_encoder", CLIPTextModel, **({"hidden_act": "gelu"} if family == "2" else {}))
        heads, told = ([8, 8] if family == "1" else [1, 1]), {}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    torch.manual_seed(6)
    UNet2DConditionModel(**{**unet.config, "attention_head_dim": heads, **told}).save_pretrained(folder / "unet")
    if family == "2":  # captions are filled with "!"
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            told = json.loads((folder / "tokenizer" / name).read_text())
            (folder / "tokenizer" / name).write_text(json.dumps({**told, "pad_token": "!"}))
    return folder


@pytest.mark.parametrize("family", ["1", "2", "xl"])
def test_a_file_is_its_folder(family, tmp_path, monkeypatch):
    folder = folder_of(family, tmp_path / "sd")
    monkeypatch.setenv(clip_vocabulary.VARIABLE, str(folder / "tokenizer"))
    file = single_file(folder, tmp_path / "model.safetensors", family)
    assert "--model FILE" in identify(file).used_by
    opened = str(file)
    if family == "2":
        from muybridge.library.converted import convert

        with pytest.raises(UserError, match="models convert"):
            load_pipeline(opened, "cpu")
        opened = str(convert(file, tmp_path / "sd21", "v_prediction"))
    theirs, ours = load_pipeline(str(folder), "cpu"), load_pipeline(opened, "cpu")
    for part in (theirs.network, theirs.vae):
        other = ours.network if part is theirs.network else ours.vae
        for (name, a), b in zip(part.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    assert ours.prediction_type == theirs.prediction_type
    how = {"sampler": "euler", "guidance_scale": 3.0, **SIZE}
    a, b = (p("a fox", seed=1, **how).samples for p in (theirs, ours))
    assert torch.allclose(a, b, atol=1e-5), (a - b).abs().max()
    assert find_part(f"{opened}/unet").is_dir()  # recipes name its parts


def test_a_half_file_is_a_half_folder_whatever_its_positions_are_in(tmp_path, monkeypatch):
    """Trainers leave 0, 1, 2, ... in a text encoder, some of them in float32."""
    folder = folder_of("1", tmp_path / "sd")
    monkeypatch.setenv(clip_vocabulary.VARIABLE, str(folder / "tokenizer"))
    file = single_file(folder, tmp_path / "model.safetensors", "1")
    halves = {n: v.half() if v.is_floating_point() else v for n, v in load_file(file).items()}
    positions = torch.arange(77.0)[None]
    save_file({**halves, "cond_stage_model.transformer.text_model.embeddings.position_ids": positions}, file)
    made = find_part(f"{file}/text_encoder")
    tensors = load_file(made / "model.safetensors")
    assert {v.dtype for v in tensors.values() if v.is_floating_point()} == {torch.float16}


SD = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
SD2 = dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
XL = dict(
    block_out_channels=[320, 640, 1280], attention_head_dim=[5, 10, 20], cross_attention_dim=2048,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], use_linear_projection=True,
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], transformer_layers_per_block=[1, 2, 10],
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip


@pytest.mark.parametrize("config,count", [(SD, 859_520_964), (SD2, 865_910_724), (XL, 2_567_463_684)])
def test_the_published_widths_are_read_off_their_shapes(config, count):
    """On the meta device: names and shapes alone."""
    from muybridge.models.weights.single_file import unet_config

    with torch.device("meta"):
        network = UNet2DConditionModel(**config)
    state = network.state_dict()
    shapes = {new: tuple(state[old].shape) for old, new in unet_names(network, "model.x.").items()}
    found = unet_config(shapes, "model.x.", config is SD)
    with torch.device("meta"):
        again = UNet2DConditionModel(**found)
    assert sum(p.numel() for p in again.parameters()) == count
    for name in ("block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim", "layers_per_block"):
        assert list(_as_list(again.config[name])) == list(_as_list(network.config[name])), name
    heads = [m.heads for m in network.modules() if type(m).__name__ == "Attention"]
    assert heads == [m.heads for m in again.modules() if type(m).__name__ == "Attention"]


def _as_list(value):
    return value if isinstance(value, (list, tuple)) else [value]


def test_a_control_net_file_is_its_network(tmp_path):
    folder = folder_of("1", tmp_path / "sd")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    net = randomise(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 24, 40)), 0.1)
    file = control_file(net, unet, tmp_path / "control.safetensors")
    assert "--control-net FILE" in identify(file).used_by
    opened = open_control_net(find_part(str(file)))
    for name, value in net.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name


def test_a_file_that_is_none_is_refused(tmp_path, monkeypatch):
    folder = folder_of("1", tmp_path / "sd")
    file = single_file(folder, tmp_path / "model.safetensors", "1")
    monkeypatch.delenv(clip_vocabulary.VARIABLE, raising=False)
    monkeypatch.setattr(clip_vocabulary, "PACKAGES", ())
    with pytest.raises(UserError, match="MUYBRIDGE_CLIP_TOKENIZER"):
        load_pipeline(str(file), "cpu")
    assert not list((tmp_path / "cache" / "converted").glob("model-*"))  # nothing half written
    monkeypatch.setenv(clip_vocabulary.VARIABLE, str(folder / "tokenizer"))
    weights = load_file(file)
    inpainting = "model.diffusion_model.input_blocks.0.0.weight"
    for change, said in (
        ({inpainting: torch.zeros(32, 9, 3, 3)}, "inpainting"),
        ({"model.diffusion_model.more": torch.zeros(1)}, "do not fit a network of"),
    ):
        save_file({**weights, **change}, tmp_path / "other.safetensors")
        with pytest.raises(UserError, match=said):
            load_pipeline(str(tmp_path / "other.safetensors"), "cpu")
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="not a whole Stable Diffusion checkpoint"):
        load_pipeline(str(tmp_path / "none.safetensors"), "cpu")


def test_the_vocabulary_of_a_package_is_written_as_a_tokenizer(tmp_path, monkeypatch):
    """A table of three merges stands for the published one."""
    package = tmp_path / "open_clip"
    package.mkdir()
    with gzip.open(package / clip_vocabulary.MEMBER, "wt", encoding="utf-8") as table:
        table.write("#version\nf o\nfo x</w>\na n\n")
    monkeypatch.delenv(clip_vocabulary.VARIABLE, raising=False)
    monkeypatch.setattr(clip_vocabulary, "package_folder", lambda name: package)
    monkeypatch.setattr(clip_vocabulary, "MERGES", 3)
    assert clip_vocabulary.write_tokenizer(tmp_path / "tokenizer") == 512 + 3 + 2
    from transformers import CLIPTokenizer

    made = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    ids = made("fox an")["input_ids"]
    assert made.convert_ids_to_tokens(ids) == ["<|startoftext|>", "fox</w>", "a", "n</w>", "<|endoftext|>"]
    assert ids[0] == 515 and ids[-1] == 516
    shutil.rmtree(tmp_path / "tokenizer")
