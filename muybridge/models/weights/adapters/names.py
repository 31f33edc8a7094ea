"""What each tensor of an adapter file is, from its name alone: which model, layer and factor (spec 14, 7.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNET, TEXT, TEXT_2, TEXT_3, TRANSFORMER = "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer"

#: Endings of names -> the factor that the tensor is. PEFT may put an adapter's name in between (lora_A.default.weight).
_FACTORS = (
    (r"\.lora_A(?:\.\w+)?\.weight|\.lora_down\.weight|\.lora\.down\.weight|\.lora_linear_layer\.down\.weight"
     r"|_lora\.down\.weight", "down"),
    (r"\.lora_B(?:\.\w+)?\.weight|\.lora_up\.weight|\.lora\.up\.weight|\.lora_linear_layer\.up\.weight"
     r"|_lora\.up\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.lora_B(?:\.\w+)?\.bias", "up_bias"),
    (r"\.lora_embedding_A(?:\.\w+)?", "embedding_down"),
    (r"\.lora_embedding_B(?:\.\w+)?", "embedding_up"),
    (r"(?:_lora|\.lora|\.lora_linear_layer)?\.alpha", "alpha"),
    (r"\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?", "magnitude"),
    (r"\.dora_scale", "dora_scale"),
    (r"\.(?P<own>hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.\w+)?", ""),
    (r"\.diff|\.w_norm", "diff"),
    (r"\.diff_b|\.b_norm", "diff_b"),
)  # fmt: skip
FACTORS = tuple((re.compile(f"(?P<stem>.+?)(?:{ending})"), name) for ending, name in _FACTORS)

#: Beginnings of names -> the model whose layer it is; longer ones first.
PREFIXES = (
    ("lora_te1_", TEXT), ("lora_te2_", TEXT_2), ("lora_te3_", TEXT_3), ("lora_te_", TEXT), ("lora_unet_", UNET),
    ("lycoris_", UNET), ("text_encoders.clip_l.transformer.", TEXT), ("text_encoders.clip_l.", TEXT),
    ("text_encoders.clip_g.", TEXT_2), ("text_encoders.t5xxl.", TEXT_3), ("clip_l.", TEXT), ("clip_g.", TEXT_2),
    ("text_encoder_3.", TEXT_3), ("text_encoder_2.", TEXT_2), ("text_encoder.", TEXT), ("unet.", UNET),
    ("lora_transformer_", TRANSFORMER), ("transformer.", TRANSFORMER), ("model.diffusion_model.", UNET),
    ("diffusion_model.", UNET),
)  # fmt: skip
#: How the names of a text encoder's layers begin in files of PEFT's that hold it alone.
BARE_TEXT = ("text_model.", "encoder.layers.", "embeddings.")

#: Parts of names that give away what is not read here.
UNREAD = (
    ("motion_modules", "AnimateDiff motion LoRA"), ("oft_", "OFT"), ("boft", "OFT"), ("on_input", "IA3"),
    ("ia3_l", "IA3"), (".a1.", "GLoRA"), (".a2.", "GLoRA"), (".b1.", "GLoRA"), (".b2.", "GLoRA"), ("vera_", "VeRA"),
    ("lora_E", "AdaLoRA"), ("ranknum", "AdaLoRA"), ("lora_controlnet", "Control-LoRA"),
    ("bundle_emb", "bundled textual inversion"), ("emb_params", "textual inversion"),
    ("string_to_param", "textual inversion"), ("ip_adapter", "IP-Adapter"), ("image_proj", "IP-Adapter"),
    ("custom_diffusion", "Custom Diffusion"), ("set_weight", "replaced weights"),
    ("reshape_weight", "reshaped weights"),
    ("bias_indices", "LyCORIS' sparse bias"), ("bias_values", "LyCORIS' sparse bias"),
    ("bias_size", "LyCORIS' sparse bias"), (".scalar", "LyCORIS' scalar"), ("fourierft", "FourierFT"),
    ("lokr_t1", "LoKr with a core of the first factor"), ("lora_A.bias", "bias of a down matrix"),
    ("hada_", "LoHa of another form"), ("lokr_", "LoKr of another form"), ("lora", "LoRA of another form"),
)  # fmt: skip
#: What names the factor of an adapter: files without any of these are none.
MARKS = (
    "lora_down", "lora_up", "lora_mid", "lora_A", "lora_B", "lora.down", "lora.up", "lora_linear_layer",
    "lora_magnitude_vector", "dora_scale", "hada_", "lokr_", "lora_embedding_", ".oft_", ".on_input", ".a1.weight",
    "vera_lambda", "boft", "ia3_l",
)  # fmt: skip
ENDS = (".diff", ".diff_b", ".w_norm", ".b_norm")


@dataclass(frozen=True)
class TensorName:
    """A tensor's place.

    Attributes:
        model: one of UNET, TEXT, TEXT_2, ...
        layer: in the words of the file, without the model's prefix.
        factor: "down", "up", "mid", "alpha", "magnitude", "hada_w1_a", "lokr_w1", "diff", ...
        prefix: the model's prefix in the file.
    """

    model: str
    layer: str
    factor: str
    prefix: str = ""


def read_name(name: str) -> TensorName | None:
    """A tensor's place from its name; None for a tensor of no kind that is read."""
    for pattern, factor in FACTORS:
        found = pattern.fullmatch(name)
        if found:
            model, layer, prefix = split_prefix(found["stem"])
            return TensorName(model, layer, factor or found["own"], prefix)
    return None


def split_prefix(stem: str) -> tuple[str, str, str]:
    """A layer's name in a file -> (model, its name without prefix, the prefix)."""
    peft = "base_model.model." if stem.startswith("base_model.model.") else ""
    rest = stem.removeprefix(peft)
    for prefix, model in PREFIXES:
        if rest.startswith(prefix):
            return model, rest.removeprefix(prefix), peft + prefix
    return (TEXT if rest.startswith(BARE_TEXT) else UNET), rest, peft


def kind_of_unread(name: str) -> str:
    """In words, what a tensor is that is not read."""
    return next((kind for part, kind in UNREAD if part in name), "of no kind that is known")


def is_adapter(names: list[str]) -> bool:
    """Whether a file with these tensors is a LoRA or its kin."""
    return any(any(mark in n for mark in MARKS) or n.endswith(ENDS) for n in names)


def form_of(names: list[str]) -> str:
    """Whose names these are, in words."""
    if any(n.startswith(("lora_unet_", "lora_te", "lycoris_")) for n in names):
        blocks = ("lora_unet_input_blocks", "lora_unet_output_blocks", "lora_unet_middle_block")
        return "kohya names, CompVis blocks" if any(n.startswith(blocks) for n in names) else "kohya names"
    if any(n.startswith("base_model.model.") for n in names):
        return "PEFT names"
    if any("_lora.down" in n or "_lora.up" in n for n in names):
        return "old diffusers names"
    return "diffusers names"
