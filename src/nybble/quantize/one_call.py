"""From a float network and photos to an engine in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nybble.engine import Engine, load
from nybble.graph import Preprocessing, write_graph
from nybble.images import load_photo
from nybble.images.given import each, is_one
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.data import batches
from nybble.quantize.errors import QuantizeError
from nybble.quantize.lower.convert import convert
from nybble.quantize.pipeline.preprocessing import preprocessing_of_source
from nybble.quantize.pipeline.settings import PreprocessingConfig
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.sources.load import load_source

#: Photos of an iterable that are used where no limit is given.
_LIMIT = 512


def quantize(
    source: nn.Module | str | os.PathLike[str],
    photos: Any,
    bits: str = "w4a4",
    *,
    preprocessing: Preprocessing | None = None,
    config: QuantizeConfig | None = None,
    limit: int = _LIMIT,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Engine:
    """Quantize a trained network: calibrates ranges on photos, without training weights.

    This is what ``nybble quantize --epochs 0`` does, without measurements. :mod:`nybble.quantize` has the single steps,
    and fine-tuning, which 4-bit activations often need (docs/quantize.md).

    Parameters
    ----------
    source : nn.Module or str or path
        A trained classifier, a float ONNX file, or any source of :func:`nybble.quantize.load_source`. A module is not
        changed.
    photos : path or iterable
        Photos like those that the network will be used on, without labels: a folder, a list, a zip or tar file of
        photos, or any iterable of photos as for :meth:`nybble.Engine.classify`. A few hundred are enough.
    bits : str
        ``w4a4``, ``w4a8``, ``w8a8`` or ``mixed``; see :class:`nybble.quantize.Bits`.
    preprocessing : Preprocessing, optional
        How photos become the input. By default the module's attribute ``preprocessing``, what torchvision lists for its
        networks, else ImageNet's with a warning.
    config : QuantizeConfig, optional
        Further settings.
    limit : int
        Largest number of photos to use.
    out : path, optional
        A folder to write the model to; it is then loaded from there, and the engine can be pickled.
    threads : int, optional
        Threads of the engine, as for :func:`nybble.load`.

    Returns
    -------
    Engine
        Its ``graph`` is the integer network; :func:`nybble.write_graph` writes it.

    Raises
    ------
    QuantizeError
        If there are no photos, ``bits`` is unknown, or the network is quantized already.
    CaptureError
        Naming the source line of an operation that cannot be captured.
    ImageError
        Naming the photo that cannot be decoded.

    Examples
    --------
    >>> import numpy as np, torch, nybble
    >>> from nybble.graph import Preprocessing
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 10)
    ... )
    >>> photos = [np.full((32, 32, 3), 8 * step, np.uint8) for step in range(32)]
    >>> engine = nybble.quantize(module, photos, bits="w8a8", preprocessing=Preprocessing(resize=32, crop=(32, 32)))
    >>> len(engine.classify(photos[0], top=3))
    3
    """
    if bits not in list(Bits):
        raise QuantizeError(f"bits={bits!r}: choose from {', '.join(Bits)}")
    settings = QuantizeConfig() if config is None else config.model_copy(deep=True)
    settings.bits = Bits(bits)
    module, name = _module(source)
    if preprocessing is None:
        preprocessing = preprocessing_of_source(name, module, PreprocessingConfig())
    network = prepare(module, (len(preprocessing.mean), *preprocessing.crop), settings, preprocessing)
    calibrate(network, _batches(photos, preprocessing, settings, limit))
    graph, _ = convert(network)
    if out is None:
        return Engine(graph, threads=threads)
    write_graph(graph, out)
    return load(out, threads=threads)


def _module(source: nn.Module | str | os.PathLike[str]) -> tuple[nn.Module, str]:
    """The float network, and what warnings call it."""
    if isinstance(source, nn.Module):
        return source, type(source).__name__
    name = os.fspath(source)
    module = load_source(name).module
    if module is None:
        raise QuantizeError(f"{name}: is quantized already; name the float network")
    return module, name


def _batches(photos: Any, preprocessing: Preprocessing, config: QuantizeConfig, limit: int) -> Iterable[Any]:
    if isinstance(photos, str | os.PathLike):
        images = config.calibration.images
        few = config.calibration.model_copy(update={"images": limit if images is None else min(images, limit)})
        return batches(Path(photos), preprocessing, few)
    if is_one(photos):
        raise QuantizeError("one photo is not enough to calibrate activations; give an iterable of photos, or a folder")
    found = list(_prepared(photos, preprocessing, limit))
    if not found:
        raise QuantizeError("there are no photos to calibrate with")
    size = config.calibration.batch
    return [torch.stack(found[first : first + size]) for first in range(0, len(found), size)]


def _prepared(photos: Any, preprocessing: Preprocessing, limit: int) -> Iterator[Tensor]:
    """float32 (C, H, W), normalised, of the first photos."""
    for photo in islice(each(photos), limit):
        normalised = preprocessing.normalise(load_photo(photo, preprocessing))
        yield torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))
