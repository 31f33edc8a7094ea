"""What people write to their models: two text encoders, prompts of any length, words that were learned."""

import logging
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file

from muybridge.diffusion.noise import Noise
from muybridge.errors import Notice, UserError
from muybridge.making.base import Run
from muybridge.making.from_words import Animate, Generate
from muybridge.nn.text_conditioning import TextCondition
from muybridge.opening.sampling import load_pipeline
from tests import user_folders

SIZE = {"height": 16, "width": 16}
LATENTS = (4, 1, 8, 8)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return user_folders.stable_diffusion(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return user_folders.stable_diffusion_xl(tmp_path_factory.mktemp("xl"))


def theirs_of(kind, folder):
    none = {"safety_checker": None, "feature_extractor": None} if kind is StableDiffusionPipeline else {}
    theirs = kind.from_pretrained(folder, **none)
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    return theirs


def drawn(pipeline, prompt, **how):
    return pipeline(prompt, seed=5, sampler="ddim", **SIZE, **how).samples[:, :, 0].clamp(-1, 1) / 2 + 0.5


@pytest.mark.parametrize("guidance,negative", [(1.0, ""), (5.0, ""), (5.0, "blue")])
def test_an_xl_folder_gives_diffusers_pictures(xl, guidance, negative):
    theirs = theirs_of(StableDiffusionXLPipeline, xl)
    how = {"num_inference_steps": 4, "guidance_scale": guidance}
    start = Noise([5])(LATENTS, "start")[:, :, 0]
    other = {"negative_prompt": negative or None}
    expected = theirs("a Fox runs", latents=start, output_type="pt", **SIZE, **how, **other).images
    ours = load_pipeline(str(xl), "cpu")
    assert ours.settings().guidance_scale == 5.0
    got = drawn(ours, "a Fox runs", negative_prompt=negative, **how)
    assert torch.allclose(got, expected, atol=1e-4), (got - expected).abs().max()


LONG = "a red fox runs over the hill " * 6  # 138 letters


def test_a_long_prompt_is_read_whole_and_said(sd15):
    """Its pieces are what the encoder makes of them one by one."""
    ours = load_pipeline(str(sd15), "cpu")
    heard = logging.Handler()
    heard.emit = lambda record: pytest.fail(record.getMessage())  # of indexing errors that do not come
    logging.getLogger("transformers").addHandler(heard)
    try:
        with pytest.warns(Notice, match="is read in 2 pieces"):
            text = ours.words([LONG])
    finally:
        logging.getLogger("transformers").removeHandler(heard)
    assert text.tokens.shape == (1, 154, 32)
    ids = ours.encoder().tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert 75 < len(ids) <= 150
    end = ours.encoder().tokenizer.eos_token_id
    second = torch.tensor([[ours.encoder().tokenizer.bos_token_id, *ids[75:], *[end] * (76 - len(ids[75:]))]])
    expected = ours.encoder().model(input_ids=second).last_hidden_state
    assert torch.allclose(text.tokens[:, 77:], expected, atol=1e-6)
    other = ours.words([LONG[:-12] + "under a tree"])
    assert not torch.equal(other.tokens, text.tokens)


def test_a_video_of_a_short_prompt_is_the_same_beside_a_long_one(sd15):
    ours = load_pipeline(str(sd15), "cpu")
    how = {"num_inference_steps": 2, **SIZE}
    alone = ours(["a fox"], seed=[1], **how).samples
    beside = ours(["a fox", LONG], seed=[1, 2], batch_size=2, **how).samples
    assert torch.allclose(alone, beside[:1], atol=1e-5)


def test_stacked_captions_of_two_lengths_repeat_their_tokens():
    one, two = (
        TextCondition(torch.zeros(1, 2), torch.randn(1, n, 3), torch.ones(1, n, dtype=torch.bool)) for n in (2, 3)
    )
    both = TextCondition.stack([one, two])
    assert torch.equal(both.tokens[0], one.tokens[0].repeat(3, 1))
    assert torch.equal(both.tokens[1], two.tokens[0].repeat(2, 1))


# --- textual inversions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_textual_inversion_is_what_it_is_in_diffusers(sd15, tmp_path, vectors):
    rows = torch.randn(vectors, 32)
    save_file({"<mine>": rows[0] if vectors == 1 else rows}, tmp_path / "learned_embeds.safetensors")
    theirs = theirs_of(StableDiffusionPipeline, sd15)
    theirs.load_textual_inversion(str(tmp_path / "learned_embeds.safetensors"))
    how = {"num_inference_steps": 2, "guidance_scale": 3.0}
    start = Noise([5])(LATENTS, "start")[:, :, 0]
    expected = theirs("a <mine> fox", latents=start, output_type="pt", **SIZE, **how).images
    ours = load_pipeline(str(sd15), "cpu")
    plain = drawn(ours, "a <mine> fox", **how)
    assert ours.use_inversion(tmp_path / "learned_embeds.safetensors")["token"] == "<mine>"
    got = drawn(ours, "a <mine> fox", **how)
    assert torch.allclose(got, expected, atol=1e-4) and not torch.allclose(got, plain, atol=1e-3)
    assert len(ours.inversions) == 1


def test_an_inversion_for_xl_teaches_both_encoders(xl, tmp_path):
    save_file({"clip_l": torch.randn(2, 32), "clip_g": torch.randn(2, 16)}, tmp_path / "style.safetensors")
    ours = load_pipeline(str(xl), "cpu")
    ours.use_inversion(tmp_path / "style.safetensors", "zap")
    for (tokenizer, model), name in zip(ours.encoder()._pairs(), ("clip_l", "clip_g"), strict=True):
        row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("zap_1")]
        from safetensors.torch import load_file

        assert torch.equal(row, load_file(tmp_path / "style.safetensors")[name][1])
    assert ours.encoder().inversions.spelled("a zap, zapped") == "a zap zap_1, zapped"


@pytest.mark.parametrize(
    "tensors,said",
    [
        ({"emb_params": torch.zeros(1, 7)}, "7 values, this model's text encoder 32"),
        ({"clip_l": torch.zeros(1, 32), "clip_g": torch.zeros(1, 16)}, "2 text encoders, this model has 1"),
        ({"a": torch.zeros(1), "b": torch.zeros(1)}, "it holds 2"),
        ({"a": torch.zeros(32)}, "in the vocabulary already"),
        ({"<x>": torch.zeros(1, 2, 32)}, r"\[n, D\]"),
    ],
)
def test_what_is_no_word_of_this_model_is_refused(sd15, tmp_path, tensors, said):
    save_file(tensors, tmp_path / "x.safetensors")
    ours = load_pipeline(str(sd15), "cpu")
    with pytest.raises(UserError, match=said):
        ours.use_inversion(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="pickled"):
        ours.use_inversion(tmp_path / "x.pt")
    with pytest.raises(UserError, match="this model has none"):
        load_pipeline("emoji-image", "cpu").use_inversion(tmp_path / "x.safetensors")


def test_both_text_halves_of_an_xl_lora_are_merged(xl, tmp_path):
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {}
    for name, width in (("text_encoder", 32), ("text_encoder_2", 16)):
        tensors |= {f"{name}.{layer}.lora_A.weight": torch.randn(2, width) * 0.3}
        tensors |= {f"{name}.{layer}.lora_B.weight": torch.randn(width, 2) * 0.3}
    save_file(tensors, tmp_path / "l.safetensors")
    ours = load_pipeline(str(xl), "cpu")
    before = [m.state_dict() for m in ours.encoder().models]
    before = [{k: v.clone() for k, v in s.items()} for s in before]
    entry = ours.use_lora(tmp_path / "l.safetensors")
    assert entry["text_layers"] == 2 and "left_out" not in entry
    for old, model, name in zip(before, ours.encoder().models, ("text_encoder", "text_encoder_2"), strict=True):
        a, b = (tensors[f"{name}.{layer}.lora_{half}.weight"] for half in "AB")
        key = next(k for k in old if k.endswith("layers.0.self_attn.q_proj.weight"))
        assert torch.allclose(model.state_dict()[key], old[key] + b @ a, atol=1e-5)
    assert np.isfinite(ours("a fox", num_inference_steps=1, **SIZE).samples).all()


# --- folders that lack what reads words, and words that nothing reads -----------------------------------------------


def test_a_folder_without_its_tokenizer_or_second_encoder_is_told(xl, tmp_path):
    whole = shutil.copytree(xl, tmp_path / "xl")
    shutil.rmtree(whole / "tokenizer_2")
    with pytest.raises(UserError, match="no tokenizer can be read there; expected its files in .*tokenizer_2"):
        load_pipeline(str(whole), "cpu").words(["a fox"])
    shutil.rmtree(whole / "text_encoder_2")
    with pytest.raises(UserError, match="needs both text encoders"):
        load_pipeline(str(whole), "cpu")
    shutil.rmtree(whole / "scheduler")
    with pytest.raises(UserError, match=r"scheduler_config\.json: is missing"):
        load_pipeline(str(whole), "cpu")


def test_a_negative_prompt_that_nothing_reads_is_refused():
    with pytest.raises(UserError, match="give a prompt too"):
        load_pipeline("world-vdm", "cpu").null(None, "blue")
    animate = load_pipeline("emoji-animate", "cpu")
    with pytest.raises(UserError, match="give a prompt too"):
        animate.null(None, "blue")
    run = Run(animate, "emoji-animate", read=None)
    with pytest.raises(UserError, match="--negative: emoji-animate does not read it"):
        Animate(negative_prompt="blue").make(run)
    with pytest.raises(UserError, match="is not told how much moves"):
        Generate(prompt="a fox", motion=3.0).make(Run(load_pipeline("world-vdm", "cpu"), "world-vdm"))
