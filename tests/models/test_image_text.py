"""The image-text scorer: pairs are learned, rows are unit vectors, a user's CLIP gives transformers' numbers."""

import json

import pytest
import torch

from muybridge.errors import UserError
from muybridge.models.text.encoder import TextConfig
from muybridge.models.text.scorers import DualEncoder, open_scorer
from muybridge.models.vision.picture_features import PictureFeatures
from muybridge.training.recipe import Recipe, TrainingConfig
from muybridge.training.trainer import Trainer


def test_learns_to_tell_shapes_apart(tmp_path):
    world = {"height": 32, "width": 32, "num_frames": 1, "num_clips": 64, "backgrounds": ["dark"], "pans": ["none"]}
    few = {"colours": ["red", "green", "blue", "white"], "shapes": ["circle"], "motions": ["still"], "two_things": 0.0}
    recipe = Recipe(
        name="scorer",
        system="image_text",
        model={"hidden": 64, "width": 32, "dropout": 0.0},
        text=TextConfig(max_length=12),
        data={"source": "world", "sizes": ["large"], "plain_captions": 1.0, "held_out": 0.0, **world, **few},
        training=TrainingConfig(
            steps=60, batch_size=32, learning_rate=3e-3, warmup_steps=5, ema=0.9, validate_every=60, sample_every=0
        ),
    )
    folder = Trainer(recipe, tmp_path / "run").run()
    scorer = open_scorer(folder)
    from muybridge.data.registry import make_source
    from muybridge.nn.frames import from_uint8

    source = make_source(recipe.data, "validation")
    clips = [source.clip(i) for i in range(24)]
    pictures = scorer.embed_pictures(torch.stack([from_uint8(c.frames)[:, 0] for c in clips]))
    names = sorted({c.caption for c in clips})
    texts = scorer.embed_texts(names)
    assert torch.allclose(pictures.norm(dim=1), torch.ones(24), atol=1e-5)
    chosen = (pictures @ texts.T).argmax(1)
    right = sum(names[i] == c.caption for i, c in zip(chosen, clips, strict=True))
    assert right >= 20, right


def test_features_are_frozen_and_size_free():
    network = PictureFeatures()
    assert not any(p.requires_grad for p in network.parameters())
    x = torch.rand(3, 3, 40, 40) * 2 - 1
    rows = network(x)
    assert rows.shape == (3, 1280)
    assert torch.allclose(network(x[1:2]), rows[1:2], atol=1e-4)


def test_a_users_clip(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>", "a", "a</w>", "f", "o", "x", "x</w>", "fo", "fox</w>"]
    tokenizer = CLIPTokenizer(
        vocab={w: i for i, w in enumerate(words)}, merges=[("f", "o"), ("fo", "x</w>")], pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(tmp_path)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": 10, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    model.save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16).save_pretrained(tmp_path)
    scorer = open_scorer(tmp_path)
    x, prompts = torch.rand(2, 3, 16, 16) * 2 - 1, ["a fox", "fox"]
    pixels = ((x + 1) / 2 - scorer.image_mean) / scorer.image_std
    tokens = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=pixels, **tokens)
    got = model.logit_scale.exp() * scorer.embed_pictures(x) @ scorer.embed_texts(prompts).T
    assert torch.allclose(got, expected.logits_per_image, atol=1e-4)


def test_folders_that_are_no_scorers(tmp_path):
    with pytest.raises(UserError, match="config"):
        open_scorer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="neither"):
        open_scorer(tmp_path)
    assert DualEncoder(hidden=8, width=4).config.width == 4
