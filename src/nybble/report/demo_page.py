"""``demo.html``: one self-contained page with photos, answers and bars."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nybble.demo import DemoError, DemoResult, Detector, Speed
from nybble.demo.show import BATCHES, SURE
from nybble.files import HTML, write_text
from nybble.report.page import has_jinja, render
from nybble.report.palette import BITS, ENSEMBLE

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longest side of the pictures in the page, in pixels: sharp enough on a phone, 20 to 40 KB each.
PICTURE = 640
_QUALITY = 82
_TEMPLATE = "demo_page.html.j2"
_COLOURS = {"4-bit": BITS[4], "8-bit": BITS[8], "float": BITS[32]}


class SpeedRow(NamedTuple):
    """A network's speeds, by batch size."""

    network: str
    bits: str
    speeds: dict[int, Speed]


class BoxedPhoto(NamedTuple):
    """A photo with boxes drawn: its file, what it shows, the boxes in words, and the picture as a URL."""

    file: str
    shows: str
    words: str
    picture: str


def render_demo(result: DemoResult) -> str:
    """The page as text.

    Raises
    ------
    DemoError
        Where Jinja, which fills the template, is not installed.
    """
    if not has_jinja():
        raise DemoError("demo.html is made with Jinja, which is not installed: pip install 'nybble[demo]'")
    rows = _rows(result)
    return render(
        _TEMPLATE,
        {
            "percent": _percent,
            "rate": _rate,
            "width": lambda share: f"{100 * share:.1f}%",
            "megabytes": lambda count: f"{count / 1e6:.1f} MB",
            "count": lambda pair: f"{pair[0]} of {pair[1]}",
        },
        result=result,
        pictures={photo.sample.file: picture(photo.path) for photo in result.photos},
        boxed={detector.model.name: _boxed(result, detector) for detector in result.detectors},
        rows=rows,
        sure=SURE,
        judged=any(network.judged for network in result.networks),
        batches=BATCHES,
        fastest=max((speed.images_per_second for speed in result.speeds), default=1.0),
        colours=_colours(result),
        ratios={network: result.ratio(network, BATCHES[0]) for network in dict.fromkeys(row.network for row in rows)},
    )


def write_demo(path: Path, result: DemoResult) -> None:
    """Write the page, whole or not at all. Raises :class:`DemoError` and ``OSError``."""
    write_text(path, render_demo(result), HTML)


def _boxed(result: DemoResult, detector: Detector) -> list[BoxedPhoto]:
    """The photos with a detector's boxes drawn."""
    shown = {photo.sample.file: photo for photo in result.photos}
    made = []
    for file, found in detector.found.items():
        rows = found.to_json()["boxes"]
        words = ", ".join(f"{row['name']} {_percent(row['score'])}" for row in rows) or "no object found"
        made.append(BoxedPhoto(file, shown[file].sample.shows, words, _data_url(found.draw(shown[file].path))))
    return made


def picture(path: Path) -> str:
    """A photo as the ``data:`` URL of a small JPEG."""
    from nybble.images.photo import decode_photo

    return _data_url(decode_photo(path))


def _data_url(photo: Image) -> str:
    """A picture, made smaller, as the ``data:`` URL of a JPEG."""
    from PIL.Image import Resampling

    photo.thumbnail((PICTURE, PICTURE), Resampling.LANCZOS)
    sink = io.BytesIO()
    photo.save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode('ascii')}"


def _rows(result: DemoResult) -> list[SpeedRow]:
    rows: dict[tuple[str, str], SpeedRow] = {}
    for speed in result.speeds:
        key = (speed.network, speed.bits)
        rows.setdefault(key, SpeedRow(*key, {})).speeds[speed.batch] = speed
    return list(rows.values())


def _colours(result: DemoResult) -> dict[str, str]:
    """The colour of each form, by its label: that of its bits."""
    columns = [column.label for network in result.networks for column in reversed(network.columns)]
    labels = dict.fromkeys((*columns, *(speed.bits for speed in result.speeds)))
    return {label: _COLOURS.get(label, ENSEMBLE) for label in labels}


def _rate(value: float) -> str:
    """Images per second: with one decimal, or two digits where that would be 0."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _percent(share: float) -> str:
    """A share as a percentage with one decimal; nothing is rounded to 100 that is less."""
    return f"{min(100 * share, 99.9) if share < 1 else 100.0:.1f} %"
