"""Captions by models in transformers' layout (random weights), by retrieval, and merged; their shares; text that is
read."""

import json
import tarfile

import numpy as np
import pytest
import torch

from muybridge.curation.captioners import ClipCaptioner, Merger, PictureCaptioner
from muybridge.curation.pipeline import Curation
from muybridge.curation.select import SelectSettings
from muybridge.curation.stages import ScoreSettings
from muybridge.errors import UserError
from tests.curation.conftest import QUICK

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "red", "thing", "moves", "over", "grass"]
TEXT = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 16}  # fmt: skip


def tokenizer(folder):
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return BertTokenizer(str(folder / "vocab.txt"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A BLIP, a GIT for video and one for pictures, two language models: random weights in the layout of real ones."""
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        CLIPImageProcessor,
        GitConfig,
        GitForCausalLM,
        GitProcessor,
        GPT2Config,
        GPT2LMHeadModel,
    )

    root = tmp_path_factory.mktemp("captioners")
    words = tokenizer(root / "words")
    size = {"height": 32, "width": 32}
    torch.manual_seed(0)
    blip = BlipConfig(text_config={**TEXT, "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3,
                                   "encoder_hidden_size": 16},
                      vision_config=VISION, projection_dim=8, image_text_hidden_size=8)  # fmt: skip
    BlipForConditionalGeneration(blip).save_pretrained(root / "blip")
    BlipProcessor(BlipImageProcessor(size=size), words).save_pretrained(root / "blip")
    for name, frames in (("git-video", 6), ("git", None)):
        git = GitConfig(vision_config=VISION, **TEXT, num_image_with_embedding=frames, bos_token_id=2, eos_token_id=3,
                        pad_token_id=0, max_position_embeddings=64)  # fmt: skip
        GitForCausalLM(git).save_pretrained(root / name)
        crop = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
        GitProcessor(crop, words).save_pretrained(root / name)
    language = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3)
    GPT2LMHeadModel(language).save_pretrained(root / "language")
    words.save_pretrained(root / "language")
    return root


def pictures(count=4, seed=0):
    return list(np.random.default_rng(seed).integers(0, 255, (count, 36, 48, 3)).astype(np.uint8))


def test_models_caption_from_folders(folders):
    shown = pictures()
    for made in (PictureCaptioner(str(folders / "blip")), PictureCaptioner(str(folders / "git"))):
        words = made.caption(shown, "x.mp4")
        assert words and set(words.split()) <= set(WORDS) | {"[UNK]"}
        assert made.caption(shown, "x.mp4") == words  # greedy: the same in every run
        middle_only = [np.zeros_like(shown[0])] * 2 + [shown[2]] + [np.zeros_like(shown[0])]
        assert made.caption(middle_only, "x.mp4") == words


def test_a_clip_captioner_sees_every_picture(folders):
    made = ClipCaptioner(str(folders / "git-video"))
    assert made.count == 6
    seen = []
    generate = made.model.generate

    def watch(**inputs):
        seen.append(inputs["pixel_values"].clone())
        return generate(**inputs)

    made.model.generate = watch
    made.caption(pictures(9), "x.mp4")
    other = pictures(9)
    other[-1] = np.zeros_like(other[-1])
    made.caption(other, "x.mp4")
    assert seen[0].shape[:2] == (1, 6)
    assert torch.equal(seen[0][:, :5], seen[1][:, :5]) and not torch.equal(seen[0][:, 5], seen[1][:, 5])
    with pytest.raises(UserError, match="one picture"):
        ClipCaptioner(str(folders / "git"))


def test_merging(folders):
    assert Merger().merge("a dog", "a dog runs") == "a dog; a dog runs"
    assert Merger().merge("a dog", "a dog") == "a dog"
    made = Merger(str(folders / "language"))
    merged = made.merge("a red thing", "a thing moves")
    assert "Merged" not in merged and merged == made.merge("a red thing", "a thing moves")
    with pytest.raises(UserError, match="nothing there"):
        Merger(str(folders / "missing"))
    with pytest.raises(UserError, match="language model"):
        Merger(str(folders / "words"))
    with pytest.raises(UserError, match="captioning model"):
        PictureCaptioner(str(folders / "language"))
    with pytest.raises(UserError, match="both captioners"):
        ScoreSettings(merger="join")


@pytest.mark.slow
def test_captions_of_a_run_have_shares_and_are_drawn(folders, footage, tmp_path):
    from dataclasses import replace

    from muybridge.data.folder import FolderConfig, FolderSource

    score = ScoreSettings(captions="none", picture_captioner=str(folders / "blip"),
                          clip_captioner=str(folders / "git-video"), merger="join")  # fmt: skip
    settings = replace(QUICK, score=score, select=SelectSettings(drop={"motion": 0.0}, duplicates=0.0))
    outcome = Curation(footage, tmp_path / "out", settings).run()
    kept = [c for c in outcome.clips if c["keep"]]
    assert kept and all(not c["problems"] for c in kept)
    for clip in kept:
        assert [c["name"] for c in clip["captions"]] == ["picture", "clip", "merged"]
        assert [c["share"] for c in clip["captions"]] == [0.5, 0.25, 0.25]
    source = FolderSource(FolderConfig(str(tmp_path / "out"), 16, 16, 4, 8.0, split="all", store=str(tmp_path / "s")))
    texts = {c["clip_id"]: {x["text"] for x in c["captions"]} for c in kept}
    for entry in source.entries:
        assert entry.caption in texts[entry.origin.rpartition("/")[2].removesuffix(".mp4")]
    with tarfile.open(next((tmp_path / "out" / "shards").glob("*.tar"))) as tar:
        told = json.loads(tar.extractfile(next(m for m in tar.getmembers() if m.name.endswith(".json"))).read())
    assert len(told["captions"]) == 3


def test_a_broken_captioner_costs_its_own_caption(footage, tmp_path):
    class Broken:
        name = "broken"

        def caption(self, pictures, path):
            raise RuntimeError("no idea")

    outcome = Curation(footage, tmp_path / "out", QUICK, [Broken()]).run()
    scored = [c for c in outcome.clips if c["scores"]]
    assert scored and all(c["problems"][0]["message"].startswith("broken: RuntimeError") for c in scored)
