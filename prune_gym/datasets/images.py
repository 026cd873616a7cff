"""Read image files, for every data set that is a folder.

Files come from strangers: only the formats below are decoded, and a header that asks for too many
pixels is refused before anything is decoded.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from prune_gym.errors import UserError, first_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000  # of one image, as it is in its file and after scaling
MAX_BYTES = 4 * 2**30  # of all images of a data set
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
TRANSPARENT = ("LA", "PA", "La", "RGBA", "RGBa")


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(is_hidden(part) for part in path.relative_to(folder).parts)
    )


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is a by-product of a program and no data."""
    return name.startswith(".") or name == "__MACOSX"


def check_memory(count: int, size: tuple[int, int], advice: str) -> None:
    """Refuse more RGB images of a size (height, width) than fit in memory.

    Raises:
        UserError: they do not fit; ``advice`` says what to do.
    """
    total = count * 3 * size[0] * size[1]
    if total > MAX_BYTES:
        raise UserError(
            f"{count:,} images take {total / 2**30:.1f} GiB in memory at {size[0]}x{size[1]}, more "
            f"than {MAX_BYTES / 2**30:.0f} GiB; {advice}"
        )


def check_pixels(width: int, height: int, path: Path) -> None:
    """Refuse an image of more pixels than ``MAX_PIXELS``.

    Raises:
        UserError: it has more; names the file.
    """
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} needs {width}x{height} pixels, more than {MAX_PIXELS // 10**6} million; scale "
            "it down, crop it or remove it"
        )


def read_rgb(path: Path) -> Image.Image:
    """Return an image, upright as its EXIF data say, in RGB with 8 bits per channel.

    16-bit greys are scaled to 8 bits, and transparent images are laid on white.

    Raises:
        UserError: the file is no image, is damaged or too large, or has several frames or pixels
            that have no one meaning in 8 bits; names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked here
            with Image.open(path, formats=FORMATS) as image:
                check_pixels(*image.size, path)
                # A phone's MPO holds the photograph first, then smaller copies of it.
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format != "MPO":
                    raise UserError(f"{path} has {frames} frames; save the one that you mean")
                return _as_rgb(ImageOps.exif_transpose(image), image.format, path)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is no whole image of a known format: {', '.join(FORMATS)}"
        ) from None
    except Exception as error:  # Pillow's decoders of damaged files raise errors of many types
        raise UserError(f"{path} is no whole image ({first_line(error)})") from None


def _as_rgb(image: Image.Image, format: str | None, path: Path) -> Image.Image:
    # 16-bit PNG and PGM files are 32-bit integers to some versions of Pillow.
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and format in ("PNG", "PPM")):
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = {"I": "32-bit integers", "F": "32-bit floats"}[image.mode]
        raise UserError(f"{path} has {kind} as pixels; save it with 8 bits per channel")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return image.convert("RGB")
