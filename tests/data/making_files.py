"""Video files made for tests, through PyAV."""

from fractions import Fraction

import numpy as np

#: Codes of H.273.
BT709, BT601 = 1, 6


def encode(
    path, frames, codec="libx264", rate=10, pix="yuv420p", options=None, times=None, clock=Fraction(1, 1000),
    shape=None, tags=None, layout=None, each=None, container_options=None, tone=None, metadata=None,
):  # fmt: skip
    """Write a file.

    Args:
        frames: uint8 [h, w, 3 or 4] each, or PyAV's frames.
        times: seconds of each; an even rate without them.
        shape: of a pixel, width over height.
        tags: attributes of the encoder, such as colorspace.
        each: changes PyAV's frame before it is encoded.
        tone: hertz of a sound as long as the video.
    """
    import av

    with av.open(str(path), "w", format=layout, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        first = frames[0]
        stream.width, stream.height = (
            (first.width, first.height) if isinstance(first, av.VideoFrame) else first.shape[1::-1]
        )
        stream.pix_fmt, stream.options = pix, options or {}
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(shape)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = clock
        sound = container.add_stream("aac", rate=44100, layout="mono") if tone else None
        for i, picture in enumerate(frames):
            frame = picture
            if not isinstance(picture, av.VideoFrame):
                frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[-1] == 4 else "rgb24")
            if each is not None:
                frame = each(frame)
            if times is not None:
                frame.pts, frame.time_base = round(times[i] / clock), clock
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        if sound is not None:
            seconds = len(frames) / float(rate)
            for packet in tone_packets(sound, tone, seconds):
                container.mux(packet)
    return path


def tone_packets(stream, hertz, seconds, rate=44100):
    import av

    wave = (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)
    for first in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def heard(path):
    """(samples float32 [n] of the first channel, rate, seconds at which they begin) of a file; None without sound."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        frames = list(container.decode(container.streams.audio[0]))
        samples = np.concatenate([f.to_ndarray()[0] for f in frames])
        return samples, frames[0].sample_rate, float(frames[0].time)


def pitch(samples, rate):
    """Hertz of the loudest tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def steps(count, height=32, width=48):
    """Frame i is grey 20 + 10 i: it can be told which one is shown."""
    return [np.full((height, width, 3), 20 + 10 * i, np.uint8) for i in range(count)]


def which(frames):
    """The numbers of `steps` that frames show."""
    return [round((float(f.mean()) - 20) / 10) for f in frames]


def planes(luma, pix="yuv420p10le", neutral=512):
    """A frame of given luma samples uint16 [h, w] and no colour, 4:2:0."""
    import av

    height, width = luma.shape
    frame = av.VideoFrame(width, height, pix)
    grey = np.full((height // 2, width // 2), neutral, luma.dtype)
    for plane, values in zip(frame.planes, (luma, grey, grey), strict=True):
        room = np.zeros((plane.height, plane.line_size // luma.dtype.itemsize), luma.dtype)
        room[:, : values.shape[1]] = values
        plane.update(room.tobytes())
    return frame
