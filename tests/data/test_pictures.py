"""Still pictures: turned as their notes say, all of their bits scaled, transparency on white, bombs refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from muybridge.configuration import MOST_PIXELS
from muybridge.data.reading.opening import open_reader
from muybridge.data.video_io import read_video
from muybridge.errors import Notice, UserError

#: Four corners of different colours: no two ways of turning it look alike.
CORNERS = np.zeros((24, 40, 3), np.uint8)
CORNERS[:12, :20], CORNERS[:12, 20:], CORNERS[12:, :20] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
RAMP = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)


def read(path):
    clip = read_video(path)
    assert clip.frames.shape[0] == 1 and clip.frames.dtype == np.uint8
    return clip.frames[0]


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_orientation(tmp_path, way, kind):
    exif = Image.Exif()
    exif[0x0112] = way
    picture = Image.fromarray(CORNERS)
    options = {"lossless": True} if kind == "webp" else {} if kind in ("png", "tif") else {"quality": 98}
    picture.save(tmp_path / f"x.{kind}", exif=exif, **options)
    with Image.open(tmp_path / f"x.{kind}") as found:
        expected = np.asarray(ImageOps.exif_transpose(found).convert("RGB"))
    made = read(tmp_path / f"x.{kind}")
    assert np.array_equal(made, expected)
    inside = {1: (250, 10, 10), 2: (10, 250, 10), 3: (0, 0, 0), 4: (10, 10, 250),
              5: (250, 10, 10), 6: (10, 10, 250), 7: (0, 0, 0), 8: (10, 250, 10)}[way]  # fmt: skip
    assert np.abs(made[5, 5].astype(int) - inside).max() < 12  # the upper left corner as it is shown


def test_an_animation_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = [Image.fromarray(np.roll(CORNERS, 3 * i, 1)) for i in range(3)]
    path = tmp_path / "x.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True, exif=exif)
    frames = read_video(path).frames
    assert all(np.array_equal(f, np.rot90(np.asarray(p), -1)) for f, p in zip(frames, pictures, strict=True))


def write_sixteen(path, values):
    assert cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 and values.shape[-1] == 3 else values)
    return path


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path, kind):
    grey, scaled = write_sixteen(tmp_path / f"g.{kind}", RAMP), np.round(RAMP / 257)
    with pytest.warns(Notice, match="more than 8 bits"):
        assert np.array_equal(read(grey)[..., 1], scaled)
    colours = np.stack([RAMP, RAMP // 2, RAMP // 5], -1)
    with pytest.warns(Notice, match="more than 8 bits"):
        assert np.array_equal(read(write_sixteen(tmp_path / f"c.{kind}", colours)), np.round(colours / 257))


def test_sixteen_bits_with_alpha(tmp_path):
    bgra = np.stack([RAMP // 5, RAMP // 2, RAMP, np.full_like(RAMP, 65535)], -1)
    bgra[:, :32, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    made = read(tmp_path / "a.png")
    assert (made[:, :32] == 255).all() and np.array_equal(made[:, 32:, 0], np.round(RAMP / 257)[:, 32:])


def png(path, width, height, depth, colour, rows):
    """A PNG by hand, for kinds that no writer here has."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def test_sixteen_bit_grey_with_alpha(tmp_path):
    pixels = np.stack([RAMP, np.where(np.arange(64) < 32, 0, 65535) * np.ones((64, 1))], -1).astype(">u2")
    made = read(png(tmp_path / "la.png", 64, 64, 16, 4, [row.tobytes() for row in pixels]))
    assert (made[:, :32] == 255).all() and np.array_equal(made[:, 32:, 0], np.round(RAMP / 257)[:, 32:])


@pytest.mark.parametrize("dtype,top", [(np.float32, 1), (np.float32, 255), (np.float32, 65535), (np.int32, 65535)])
def test_thirty_two_bits_are_scaled(tmp_path, dtype, top):
    values = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(dtype)
    Image.fromarray(values).save(tmp_path / "x.tif")
    made = read(tmp_path / "x.tif")[..., 0].astype(int)
    assert np.abs(made - np.linspace(0, 255, 64 * 64).reshape(64, 64)).max() <= 1


def test_a_turned_picture_of_sixteen_bits(tmp_path):
    """A TIFF by hand: 16 bits of three colours, to be turned clockwise."""
    values = np.stack([RAMP[:, :40]] * 3, -1)
    entries = [(256, 3, 1, 40), (257, 3, 1, 64), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 200),
               (274, 3, 1, 6), (277, 3, 1, 3), (278, 3, 1, 64), (279, 4, 1, values.nbytes)]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    head = b"II*\0" + struct.pack("<I", 14) + struct.pack("<3H", 16, 16, 16) + directory
    (tmp_path / "x.tif").write_bytes(head.ljust(200, b"\0") + values.astype("<u2").tobytes())
    assert np.array_equal(read(tmp_path / "x.tif")[..., 0], np.rot90(np.round(RAMP / 257)[:, :40], -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "PA"])
def test_other_modes(tmp_path, mode):
    picture = Image.fromarray(CORNERS)
    if mode in ("LA", "RGBA", "PA"):
        alpha = np.full((24, 40), 255, np.uint8)
        alpha[:, :20] = 0
        picture = Image.fromarray(np.dstack([CORNERS, alpha]))
        picture.convert("RGBA" if mode == "PA" else mode).save(tmp_path / "x.png")
        made = read(tmp_path / "x.png")
        assert (made[:, :20] == 255).all() and (made[15:, 25:] == 0).all()
        return
    picture.convert(mode).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png"), np.asarray(picture.convert(mode).convert("RGB")))


def test_a_palette_with_a_clear_colour(tmp_path):
    picture = Image.fromarray(CORNERS).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    clear = picture.getpixel((2, 2))
    picture.save(tmp_path / "x.png", transparency=clear)
    made = read(tmp_path / "x.png")
    assert (made[:12, :20] == 255).all() and made[20, 5].tolist() == [10, 10, 250]


def test_printing_colours(tmp_path):
    Image.fromarray(np.full((16, 16, 3), (200, 30, 90), np.uint8)).convert("CMYK").save(tmp_path / "x.jpg", quality=100)
    with pytest.warns(Notice, match="CMYK taken to RGB"):
        assert np.abs(read(tmp_path / "x.jpg").astype(int) - (200, 30, 90)).max() <= 3


@pytest.mark.parametrize("kind", ["bmp", "tif", "ppm", "tga", "jp2"])
def test_further_endings(tmp_path, kind):
    Image.fromarray(CORNERS).save(tmp_path / f"x.{kind}")
    assert np.array_equal(read(tmp_path / f"x.{kind}"), CORNERS)


def test_a_photo_of_several_pictures_is_one(tmp_path):
    """A camera's JPEG with a preview behind it (MPO), and a TIFF of pages."""
    pages = [Image.fromarray(CORNERS), Image.fromarray(CORNERS[::-1].copy())]
    pages[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=pages[1:])
    assert np.abs(read(tmp_path / "x.jpg").astype(int) - CORNERS).mean() < 12
    pages = [Image.fromarray(CORNERS), Image.fromarray(CORNERS[::-1].copy())]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(Notice, match="first of 2 pages"):
        assert np.array_equal(read(tmp_path / "x.tif"), CORNERS)


@pytest.mark.parametrize("width,height", [(50_000, 50_000), (12_000, 12_000), (2**31 - 1, 1), (100_000, 100_000)])
def test_bombs_are_refused_before_they_are_allocated(tmp_path, width, height):
    png(tmp_path / "x.png", width, height, 8, 0, [b"\0" * 100])
    with pytest.raises(UserError, match=f"{MOST_PIXELS / 1e6:.0f} million pixels|million that a picture|unreadable"):
        read_video(tmp_path / "x.png")


def swapped_profile():
    """sRGB's profile with the colorants of red and green exchanged: it takes red to green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert profile.count(b"rXYZ") == profile.count(b"gXYZ") == 1
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "deep"])
def test_colour_profiles_are_applied(tmp_path, kind):
    path = tmp_path / f"x.{'png' if kind == 'deep' else kind}"
    colours = np.full((16, 16, 3), (230, 20, 20), np.uint8)
    with_profile = {"icc_profile": swapped_profile()}
    if kind == "deep":  # 16 bits a sample, which Pillow does not write: cv2 does, and the profile comes between
        cv2.imwrite(str(path), colours[..., ::-1].astype(np.uint16) * 257)
        data, chunk = path.read_bytes(), b"iCCP" + b"x\0\0" + zlib.compress(with_profile["icc_profile"])
        path.write_bytes(
            data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
        )
    else:
        Image.fromarray(colours).save(path, **with_profile, **({"lossless": True} if kind == "webp" else {}))
    assert np.abs(read(path).astype(int) - (20, 230, 20)).max() <= 3
    with open_reader(path) as reader:
        assert any("taken to sRGB" in line for line in reader.about.changes)


def test_transparency_survives_a_profile(tmp_path):
    picture = Image.new("RGBA", (8, 8), (230, 20, 20, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "x.png", icc_profile=swapped_profile())
    found = read(tmp_path / "x.png").astype(int)
    assert (found[0, 0] == 255).all() and np.abs(found[4, 4] - (20, 230, 20)).max() <= 2


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"nonsense"])
def test_srgbs_own_profile_and_a_damaged_one_change_nothing(tmp_path, profile):
    Image.fromarray(CORNERS).save(tmp_path / "x.png", icc_profile=profile)
    assert np.array_equal(read(tmp_path / "x.png"), CORNERS)
    with open_reader(tmp_path / "x.png") as reader:
        assert not reader.about.changes


def test_the_profile_of_grey_and_of_cmyk_pictures(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "x.jpg", quality=95)
    assert (read(tmp_path / "x.jpg") < 40).all()  # none: as Pillow takes it
    Image.new("L", (8, 8), 100).save(tmp_path / "y.png", icc_profile=swapped_profile())  # of another colour space
    assert (read(tmp_path / "y.png") == 100).all()
