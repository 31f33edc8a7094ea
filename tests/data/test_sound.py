"""Sound beside new frames: cut to their span, in step with them; a line where it cannot be kept."""

import numpy as np
import pytest

from muybridge.data.reading.sound import Sound, has_sound
from muybridge.data.video_io import read_video, write_video
from muybridge.errors import Notice, UserError
from tests.data.making_files import encode, heard, pitch, steps


@pytest.fixture
def talk(tmp_path):
    return encode(tmp_path / "talk.mp4", steps(20), tone=440)


def two_tones(path):
    """A second of 300 Hz, then a second of 900."""
    import av

    from tests.data.making_files import tone_packets

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=44100, layout="mono")
        for picture in steps(20):
            for packet in video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
        wave = np.concatenate([np.sin(2 * np.pi * f * np.arange(44100) / 44100) for f in (300, 900)])
        frame = av.AudioFrame.from_ndarray((wave * 15000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 44100
        for packet in [*sound.encode(frame), *sound.encode()]:
            container.mux(packet)
    assert tone_packets
    return path


def test_sound_goes_with_the_frames(talk, tmp_path):
    clip = read_video(talk)
    out = write_video(clip.frames[:10], tmp_path / "out.mp4", clip.fps, {"a": 1}, Sound(talk, 0.0, 1.0))
    samples, rate, start = heard(out)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.05) and abs(start) < 0.03
    assert pitch(samples[2000:-2000], rate) == pytest.approx(440, abs=3)
    assert read_video(out).fps == pytest.approx(10) and len(read_video(out).frames) == 10


@pytest.mark.parametrize("start,expected", [(0.0, 300), (1.0, 900)])
def test_the_span_is_the_one_that_was_asked_for(tmp_path, start, expected):
    source = two_tones(tmp_path / "two.mkv")
    out = write_video(np.stack(steps(8)), tmp_path / "out.mp4", 10, None, Sound(source, start, 0.8))
    samples, rate, _ = heard(out)
    assert pitch(samples[2000 : int(0.75 * rate)], rate) == pytest.approx(expected, abs=5)
    assert len(samples) / rate == pytest.approx(0.8, abs=0.05)


def test_the_change_comes_when_it_came(tmp_path):
    """In step to a hundredth of a second: the tone changes half a second into the span."""
    source = two_tones(tmp_path / "two.mkv")
    out = write_video(np.stack(steps(10)), tmp_path / "out.mp4", 10, None, Sound(source, 0.5, 1.0))
    samples, rate, start = heard(out)
    assert start == pytest.approx(0, abs=0.03)
    offset = round(start * rate)
    parts = [pitch(samples[round(t * rate) - offset :][:2048], rate) for t in (0.40, 0.55)]
    assert parts[0] == pytest.approx(300, abs=25) and parts[1] == pytest.approx(900, abs=25)


@pytest.mark.parametrize("kind", ["gif", "webp", "npy"])
def test_endings_without_sound_say_so(talk, tmp_path, kind):
    with pytest.warns(Notice, match=f"[.]{kind} holds no sound"):
        write_video(np.stack(steps(4)), tmp_path / f"out.{kind}", 10, None, Sound(talk, 0, 0.4))


def test_the_same_bytes(talk, tmp_path):
    made = set()
    for i in range(3):
        out = write_video(np.stack(steps(10)), tmp_path / f"{i}.mp4", 10, None, Sound(talk, 0, 1.0))
        made.add(out.read_bytes())
    assert len(made) == 1


def test_sound_shorter_than_the_video_is_followed_by_silence(talk, tmp_path):
    out = write_video(np.stack(steps(20) * 2), tmp_path / "out.mp4", 10, None, Sound(talk, 0, 4.0))
    samples, rate, _ = heard(out)
    assert len(samples) / rate == pytest.approx(4.0, abs=0.05) and np.abs(samples[round(2.2 * rate) :]).max() < 0.01
    assert np.abs(samples[: round(1.9 * rate)]).max() > 0.3


def test_has_sound(talk, tmp_path):
    assert has_sound(talk) and not has_sound(encode(tmp_path / "still.mp4", steps(3)))
    (tmp_path / "x.npy").write_bytes(b"no media")
    assert not has_sound(tmp_path / "x.npy") and not has_sound(tmp_path / "none.mp4")


def test_streams_of_a_codec_that_is_not_known(talk, tmp_path):
    """Found by fuzz: such a stream has no decoder."""
    data = talk.read_bytes()
    (tmp_path / "mute.mp4").write_bytes(data.replace(b"mp4a", b"zzz9").replace(b"esds", b"zzz8"))
    assert has_sound(talk) and not has_sound(tmp_path / "mute.mp4")
    assert len(read_video(tmp_path / "mute.mp4").frames) == 20
    (tmp_path / "blind.mp4").write_bytes(data.replace(b"avc1", b"zzz9"))
    assert not has_sound(tmp_path / "blind.mp4")
    with pytest.raises(UserError, match="codec that is not known"):
        read_video(tmp_path / "blind.mp4")
