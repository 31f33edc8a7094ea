"""Small networks and users' folders of one network open whole or not at all: nothing that is missing is drawn in its
place."""

import shutil
from functools import partial

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from muybridge.errors import UserError
from muybridge.files import ZOO
from muybridge.models.text.prior import CausalPrior, open_prior
from muybridge.models.text.scorers import open_scorer
from muybridge.models.unclip import UnCLIPPrior, UnCLIPTelling, open_decoder, read_words
from muybridge.models.vision.frame_interpolation import FrameInterpolation
from muybridge.models.weights.opening import open_encoder, open_part
from tests import user_folders

UNCLIP = {
    "decoder": open_decoder, "text_proj": UnCLIPTelling, "prior": UnCLIPPrior,
    "text_encoder": lambda folder: read_words(folder, "", ["a"]),
}  # fmt: skip


def lose_a_tensor(folder):
    (file,) = folder.glob("*.safetensors")
    held = load_file(file)
    lost = sorted(name for name, value in held.items() if value.ndim > 1)[0]
    save_file({name: value for name, value in held.items() if name != lost}, file, metadata={"format": "pt"})
    return lost


def one_folder(name, folder):
    """A folder of one network, and what opens it."""
    if name == "causal prior":
        CausalPrior(layers=1, heads=1, attention_head_dim=4).save_pretrained(folder)
        return open_prior
    if name == "CLIP":
        user_folders.clip(folder)
        return open_scorer
    if name == "language model":
        GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
        return partial(open_encoder, AutoModelForCausalLM)
    shutil.copytree(ZOO / name, folder)
    return {"emoji-prior": open_prior, "emoji-clip": open_scorer}.get(name, partial(open_part, FrameInterpolation))


@pytest.mark.parametrize("name", [
    "emoji-prior", "causal prior", "emoji-clip", "CLIP", "interpolator", "language model",
])  # fmt: skip
def test_a_network_without_one_of_its_tensors_is_refused(name, tmp_path):
    opened = one_folder(name, tmp_path / "network")
    opened(tmp_path / "network")
    lost = lose_a_tensor(tmp_path / "network")
    with pytest.raises(UserError, match=f"missing from its weights, the first is {lost}"):
        opened(tmp_path / "network")


@pytest.mark.parametrize("part", UNCLIP)
def test_so_is_an_unclip_folder(part, tmp_path):
    folder = user_folders.unclip(tmp_path / "unclip")
    UNCLIP[part](folder)
    lost = lose_a_tensor(folder / part)
    with pytest.raises(UserError, match=f"missing from its weights, the first is {lost}"):
        UNCLIP[part](folder)


def test_a_damaged_file_is_told(tmp_path):
    opened = one_folder("emoji-prior", tmp_path / "network")
    (file,) = (tmp_path / "network").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="network"):
        opened(tmp_path / "network")
