"""The papers behind systems and commands, as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass

from muybridge import __version__


@dataclass(frozen=True)
class Paper:
    """A paper, or a report.

    Attributes:
        authors: "First Last and others", as BibTeX has it.
        where: its arXiv number, or an address.
    """

    key: str
    authors: str
    title: str
    year: int
    where: str

    def bibtex(self) -> str:
        """Its entry."""
        on_arxiv = self.where[:4].isdigit()
        place = {"eprint": self.where, "archiveprefix": "arXiv"} if on_arxiv else {"howpublished": self.where}
        fields = {"author": self.authors, "title": self.title, "year": str(self.year), **place}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{lines}\n}}"


VDM = Paper("ho2022video", "Ho, Jonathan and Salimans, Tim and Gritsenko, Alexey and others",
            "Video Diffusion Models", 2022, "2204.03458")  # fmt: skip
IMAGEN = Paper("ho2022imagen", "Ho, Jonathan and Chan, William and Saharia, Chitwan and others",
               "Imagen Video: High Definition Video Generation with Diffusion Models", 2022, "2210.02303")  # fmt: skip
MAKE = Paper("singer2022make", "Singer, Uriel and Polyak, Adam and Hayes, Thomas and others",
             "Make-A-Video: Text-to-Video Generation without Text-Video Data", 2022, "2209.14792")  # fmt: skip
TUNE = Paper("wu2022tune", "Wu, Jay Zhangjie and Ge, Yixiao and Wang, Xintao and others",
             "Tune-A-Video: One-Shot Tuning of Image Diffusion Models for Text-to-Video Generation", 2022,
             "2212.11565")  # fmt: skip
GEN1 = Paper("esser2023structure", "Esser, Patrick and Chiu, Johnathan and Atighehchian, Parmida and others",
             "Structure and Content-Guided Video Synthesis with Diffusion Models", 2023, "2302.03011")  # fmt: skip
ZERO = Paper("khachatryan2023text2video", "Khachatryan, Levon and Movsisyan, Andranik and others",
             "Text2Video-Zero: Text-to-Image Diffusion Models are Zero-Shot Video Generators", 2023,
             "2303.13439")  # fmt: skip
VIDEO_LDM = Paper("blattmann2023align", "Blattmann, Andreas and Rombach, Robin and Ling, Huan and others",
                  "Align your Latents: High-Resolution Video Synthesis with Latent Diffusion Models", 2023,
                  "2304.08818")  # fmt: skip
CONTROL = Paper("zhang2023controlvideo", "Zhang, Yabo and Wei, Yuxiang and Jiang, Dongsheng and others",
                "ControlVideo: Training-free Controllable Text-to-Video Generation", 2023, "2305.13077")  # fmt: skip
SVD = Paper("blattmann2023stable", "Blattmann, Andreas and Dockhorn, Tim and Kulal, Sumith and others",
            "Stable Video Diffusion: Scaling Latent Video Diffusion Models to Large Datasets", 2023,
            "2311.15127")  # fmt: skip
LUMIERE = Paper("bartal2024lumiere", "Bar-Tal, Omer and Chefer, Hila and Tov, Omer and others",
                "Lumiere: A Space-Time Diffusion Model for Video Generation", 2024, "2401.12945")  # fmt: skip
SORA = Paper("openai2024video", "OpenAI", "Video generation models as world simulators", 2024,
             "https://openai.com/research/video-generation-models-as-world-simulators")  # fmt: skip
LDM = Paper("rombach2022high", "Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and others",
            "High-Resolution Image Synthesis with Latent Diffusion Models", 2021, "2112.10752")  # fmt: skip
PICTURE = (LDM,)
#: The folder of a system, or what a part is called in recipes -> its papers.
OF_SYSTEMS: dict[str, tuple[Paper, ...]] = {
    "vdm": (VDM,), "imagen_video": (IMAGEN,), "make_a_video": (MAKE,),
    "tune_a_video": (TUNE, LDM), "gen1": (GEN1, LDM), "text2video_zero": (ZERO, LDM), "video_ldm": (VIDEO_LDM, LDM),
    "control_video": (CONTROL, LDM), "stable_video": (SVD, LDM), "lumiere": (LUMIERE,),
    "sora": (SORA,), "image_ldm": PICTURE, "autoencoder": PICTURE,
}  # fmt: skip
#: Commands that are a system of their own, whatever the model.
OF_COMMANDS = {
    "zero": "text2video_zero", "instruct": "text2video_zero", "control": "control_video", "edit": "tune_a_video",
    "restyle": "gen1",
}  # fmt: skip


def software() -> str:
    """The entry of muybridge itself."""
    return (
        f"@software{{muybridge,\n  title = {{muybridge: video diffusion models from the same few parts}},\n"
        f"  author = {{The muybridge authors}},\n  version = {{{__version__}}},\n  year = {{2026}}\n}}"
    )
