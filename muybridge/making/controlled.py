"""A video under the structure of another: control."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from muybridge.configuration import setting
from muybridge.errors import UserError, nearest
from muybridge.library.catalogue import find_part, sampling_of
from muybridge.making.base import Made, Run
from muybridge.making.from_video import BY_FOLDER, FromVideo, estimators_of, filled, structure
from muybridge.making.from_words import WITH_DDIM
from muybridge.making.used import FILE, FOLDER, whole_name, whole_path
from muybridge.models.vision.names import STRUCTURES
from muybridge.pipelines.settings import SamplingConfig
from muybridge.systems.control_video.settings import ControlVideoConfig
from muybridge.systems.text2video_zero.settings import ZeroConfig

#: ControlNets that are bundled, by the structure they follow.
BUNDLED_NETS = {"edges": "emoji-edges", "depth": "emoji-depth"}
#: What makes the frame between two, other than a user's file; the first is a bundled network.
INTERPOLATORS = ("learned", "flow", "linear", "none")


@dataclass(frozen=True, kw_only=True)
class Control(ControlVideoConfig, FromVideo):
    """Give a video's structure another content, without training (ControlVideo), at its length and rate."""

    command: ClassVar[str] = "control"
    default_model: ClassVar[str] = "emoji-image"
    zero_shot: ClassVar[bool] = True
    reads: ClassVar[Sequence[str]] = tuple(name for name in WITH_DDIM if name not in ("fps",))

    prompt: str = setting(..., "what the new video shows")
    negative_prompt: str = setting("", "what the video shall not show", flag="negative")
    control: tuple[str, ...] = setting(("edges",), "NAME or NAME:SCALE of a structure; may be repeated")
    control_net: tuple[str, ...] = setting(
        (), "a ControlNet's folder for each control; bundled ones for edges and depth"
    )
    structure_model: str = setting(
        "", "a depth model's folder (MiDaS or DPT, of transformers) in place of the bundled one"
    )
    method: str = setting(
        "control-video", "frames see all frames, or the first (zero)", choices=("control-video", "zero")
    )

    def __post_init__(self) -> None:
        FromVideo.__post_init__(self)
        self.controls()
        changed = [n for n in ("attention", "interpolator", "hierarchical", "group_norm") if self._changed(n)]
        if self.method == "zero" and changed:
            raise UserError(f"--{changed[0].replace('_', '-')} is ControlVideo's; --method zero has no such setting")

    def _changed(self, name: str) -> bool:
        return bool(getattr(self, name) != getattr(ControlVideoConfig, name))

    def controls(self) -> list[tuple[str, str, float]]:
        """(structure, ControlNet, scale) each.

        Raises:
            UserError: an unknown structure, or no ControlNet for it.
        """
        if len(self.control_net) not in (0, len(self.control)):
            raise UserError(
                f"{len(self.control)} --control but {len(self.control_net)} --control-net: give one for each, or none"
            )
        out = []
        for i, text in enumerate(self.control):
            name, _, scale = text.partition(":")
            if name not in STRUCTURES:
                raise UserError(f"--control: unknown {name!r}; {nearest(name, STRUCTURES)}")
            value = _number(scale or "1", f"--control {text}")
            net = self.control_net[i] if self.control_net else BUNDLED_NETS.get(name, "")
            if not net:
                raise UserError(
                    f"--control {name}: no ControlNet for it is bundled; give one with --control-net FOLDER"
                )
            find_part(net)
            out.append((name, net, value))
        return out

    def check(self, model: str, settings: dict[str, Any]) -> SamplingConfig:
        return super().check(model, self.with_advised_guidance(settings))

    def unread(self, given: Collection[str]) -> dict[str, str]:
        out = {"smooth_at": "--method zero does not smooth"} if self.method == "zero" else {}
        if self.interpolator == "none":
            out["smooth_at"] = "--smooth none does not smooth"
        if not any(name in BY_FOLDER for name, _, _ in self.controls()):
            out["structure_model"] = f"it is for {', '.join(BY_FOLDER)}, which no --control names"
        return out

    def placed(self) -> Self:
        nets, smooth = tuple(map(whole_name, self.control_net)), whole_path(self.interpolator)
        smooth = self.interpolator if self.interpolator in INTERPOLATORS else smooth
        return replace(self, control_net=nets, structure_model=whole_path(self.structure_model), interpolator=smooth)

    def uses(self, model: str) -> dict[str, str]:
        out = super().uses(model) | {whole_name(net): FOLDER for _, net, _ in self.controls()}
        for name, _, _ in self.controls():
            out |= estimators_of(name, self.structure_model)
        if self.method == "zero" or self.smooth_at is None or self.interpolator in INTERPOLATORS[1:]:
            return out
        learned = self.interpolator == INTERPOLATORS[0]
        return out | ({"interpolator": FOLDER} if learned else {whole_path(self.interpolator): FILE})

    def with_advised_guidance(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Much guidance outvotes the structure: ControlNets of ours say which they were made for."""
        if settings.get("guidance_scale") is not None:
            return settings
        advised = [sampling_of(find_part(net)).get("guidance_scale") for _, net, _ in self.controls()]
        lowest = min((scale for scale in advised if scale is not None), default=None)
        return {**settings, "guidance_scale": lowest}

    def total_steps(self, run: Run) -> int:
        from muybridge.systems.text2video_zero.sampling import network_steps

        steps = super().total_steps(run)
        if self.method != "zero":
            return steps
        return network_steps(ZeroConfig(), len(self.taken(run)[0]), steps, True)

    def make(self, run: Run) -> Made:
        from muybridge.systems.control_video.sampling import control_video
        from muybridge.systems.text2video_zero.sampling import text_to_video_zero

        read, fitted, fps = self.taken(run)
        given = filled(fitted, run.pipeline.multiple)
        controls = self.shown(run, given)
        size = {"num_frames": len(given), "height": given.shape[1], "width": given.shape[2]}
        chosen = {**self.with_advised_guidance(run.settings), **size, "fps": min(fps, 240.0)}
        options = {**chosen, "negative_prompt": self.negative_prompt, "on_step": run.on_step}
        settings = run.pipeline.settings(**{**chosen, "sampler": "ddim"})
        if self.method == "zero":
            drawn = text_to_video_zero(run.pipeline, self.prompt, run.seed, controls=controls, **options)
        else:
            drawn = control_video(run.pipeline, self.prompt, controls, run.seed, self, **options)
        return self.finished(run, drawn, settings, fps, read, fitted)

    def shown(self, run: Run, frames: Any) -> list[Any]:
        """ControlNets, and what each is shown of the frames."""
        from muybridge.models.vision.control import Control as Net
        from muybridge.models.vision.control import open_control_net
        from muybridge.models.vision.structure import control_pictures
        from muybridge.nn.devices import FAST
        from muybridge.nn.resting import weights_at_rest

        out, dtype = [], next(run.pipeline.network.parameters()).dtype
        for name, net, scale in self.controls():
            folder = self.structure_model if name in BY_FOLDER else ""
            pictures = control_pictures(structure(run, name, frames, folder))
            with weights_at_rest(run.pipeline.memory != FAST):
                network = open_control_net(find_part(net), dtype)
            out.append(Net(network.to(run.pipeline.device), pictures, scale))
        return out


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: expected NAME or NAME:SCALE with a number") from None
    if not abs(value) <= 100:
        raise UserError(f"{where}: a scale is a number from -100 to 100, got {text}")
    return value
