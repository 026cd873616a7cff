"""The one function that decodes image files."""

import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from prune_gym.datasets import image_folder, images
from prune_gym.datasets.yolo_folder import load_folder
from prune_gym.errors import UserError

GREY = np.linspace(0, 255, 12 * 20).reshape(12, 20).astype(np.uint8)


def read(image, path, **options):
    image.save(path, **options)
    return np.asarray(images.read_rgb(path)).astype(int)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_formats_without_loss_are_read_as_they_are(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    options = {"lossless": True} if suffix == "webp" else {}
    found = read(Image.fromarray(pixels), tmp_path / f"image.{suffix}", **options)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_16_bit_greys_are_scaled(tmp_path, suffix):
    deep = GREY.astype(np.uint16) * 257
    found = read(Image.fromarray(deep), tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(found, np.repeat(GREY[:, :, None], 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_one_meaning_in_8_bits_are_refused(tmp_path, kind):
    with pytest.raises(UserError, match=r"deep\.tif .*32-bit .*8 bits"):
        read(Image.fromarray(GREY.astype(kind)), tmp_path / "deep.tif")


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = read(Image.fromarray(GREY), tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(found[:, :, 0], np.rot90(GREY, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white_and_opaque_ones_themselves(tmp_path, mode):
    image = Image.new("RGBA", (20, 12), (0, 0, 0, 0))
    image.paste((90, 90, 90, 255), (0, 0, 10, 12))
    found = read(image.convert(mode), tmp_path / "clear.png")
    assert (found[:, :10] == 90).all() and (found[:, 10:] == 255).all()


def test_printers_colors_are_converted(tmp_path):
    image = Image.new("CMYK", (20, 12), (0, 255, 255, 0))
    found = read(image, tmp_path / "print.jpg", quality=100)
    assert (abs(found - [255, 0, 0]) < 6).all()


@pytest.mark.parametrize("name", ["moving.png", "moving.webp", "pages.tif"])
def test_files_of_several_frames_are_refused(tmp_path, name):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    with pytest.raises(UserError, match=rf"{name} .*2 frames"):
        read(frames[0], tmp_path / name, save_all=True, append_images=frames[1:])


def test_a_phones_photograph_is_its_first_frame(tmp_path):
    first, second = (Image.fromarray(np.full((12, 20, 3), level, np.uint8)) for level in (99, 0))
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    assert (abs(np.asarray(images.read_rgb(tmp_path / "phone.jpg")).astype(int) - 99) < 4).all()


def png(width, height, rows=b""):
    """Return a PNG of 1-bit greys whose header says what it likes."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 60_000), (20_000, 20_000), (2**31 - 1,) * 2])
def test_a_small_file_that_needs_a_lot_is_refused_at_once(tmp_path, shape):
    width, height = shape
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, b"\0" * min((width // 8 + 1) * height, 10**6)))
    start = time.process_time()
    with pytest.raises(UserError, match=r"bomb\.png") as error:
        image_folder.read_image(path, 224)
    assert time.process_time() - start < 5 and len(str(error.value).splitlines()) == 1
    if shape != (20_000, 1) and shape != (1, 60_000):
        with pytest.raises(UserError, match=r"bomb\.png"):
            images.read_rgb(path)


def kinds():
    """Return small files of several formats."""
    options = {"PNG": {}, "JPEG": {}, "TIFF": {}, "WEBP": {}, "BMP": {}, "PPM": {}, "GIF": {}}
    return {kind: (Image.fromarray(GREY), more) for kind, more in options.items()}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(kinds())),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(1, 1200),
)
def test_a_damaged_file_is_read_or_named(tmp_path, kind, changes, end):
    image, more = kinds()[kind]
    path = tmp_path / "damaged.png"
    image.save(path, format=kind, **more)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[:end])
    try:
        found = image_folder.read_image(path, 8)
    except UserError as error:
        assert "damaged.png" in str(error)
    else:
        assert found.shape == (8, 8, 3) and found.dtype == np.uint8


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789.-+eE naif\n\t#_", max_size=40))
def test_label_files_are_read_or_named(tmp_path_factory, text):
    folder = _yolo(tmp_path_factory.getbasetemp() / "fuzzed", text)
    try:
        data = load_folder(folder, (8, 8))
    except UserError as error:
        assert "fuzzed" in str(error)
    else:
        boxes = data.test.boxes
        assert np.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()


def _yolo(folder, text):
    for part, count in (("train", 4), ("val", 1)):
        for index in range(count):
            for kind in ("images", "labels"):
                (folder / kind / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(GREY).save(folder / "images" / part / f"{index}.png")
            label = folder / "labels" / part / f"{index}.txt"
            label.write_text("0 .5 .5 .5 .5\n" + (text if part == "val" else ""))
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder
