"""Where photos come from, what is wrong with some of them, and that workers change nothing."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_networks import PREPROCESSING, encoded, stripes

from nybble.images import ImageError, ImageWarning, integer_input, load_photo
from nybble.quantize.data import (
    FilePhotos,
    Loader,
    MemoryPhotos,
    Photos,
    ShardPhotos,
    ZipPhotos,
    draw,
    every,
    open_photos,
    split,
)
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import AugmentationConfig

RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.integers(0, 256, size=(20, 24, 3)).astype(np.uint8)
FILES = {f"{kind}/{number}.png": encoded(SAMPLES + np.uint8(number), "PNG") for kind in "ba" for number in range(3)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def sharded(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as shard:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    return path


def listed(photos: Photos) -> list[tuple[str, int | None]]:
    return [(photos.name(index), photos.label(index)) for index in range(len(photos))]


def test_a_folder_a_class(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "a/notes.txt": b"no photo", "a/.hidden.png": b"", "empty/readme": b""})
    with pytest.warns(ImageWarning, match="no photos in empty; they still count as classes"):
        photos = open_photos(tmp_path)
    assert isinstance(photos, FilePhotos)
    assert photos.classes == ("a", "b", "empty")
    assert listed(photos) == [(f"{kind}/{n}.png", label) for label, kind in enumerate("ab") for n in range(3)]
    assert photos.read(4) == FILES["b/1.png"]
    assert photos.labelled


def test_photos_without_labels(tmp_path: Path) -> None:
    photos = open_photos(write(tmp_path, {"x.png": FILES["a/0.png"], "y.JPG": FILES["a/1.png"]}))
    assert listed(photos) == [("x.png", None), ("y.JPG", None)]
    assert not photos.labelled
    assert next(Loader(photos, PREPROCESSING, batch=2).in_order()).labels.tolist() == [-1, -1]


def test_a_list_of_labels(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"x.png": FILES["a/0.png"], "y.png": FILES["a/1.png"], "labels.csv": b"file,label\ny.png,7\nx.png,3\n"},
    )
    photos = open_photos(tmp_path)
    assert isinstance(photos, FilePhotos)
    assert listed(photos) == [("y.png", 7), ("x.png", 3)]


@pytest.mark.parametrize("top", ["", "train/"])
def test_a_zip_file(tmp_path: Path, top: str) -> None:
    files = {f"{top}{name}": content for name, content in FILES.items()} | {"__MACOSX/a/._0.png": b"x", "readme": b"x"}
    photos = open_photos(zipped(tmp_path / "photos.zip", files))
    assert isinstance(photos, ZipPhotos)
    assert photos.classes == ("a", "b")
    assert listed(photos) == [(f"{top}{kind}/{n}.png", label) for label, kind in enumerate("ab") for n in range(3)]
    assert photos.read(4) == FILES["b/1.png"]
    batches = [list(Loader(photos, PREPROCESSING, batch=4, workers=workers).in_order()) for workers in (0, 2)]
    assert all(torch.equal(one, other) for pair in zip(*batches, strict=True) for one, other in zip(*pair, strict=True))


def test_shards(tmp_path: Path) -> None:
    sharded(tmp_path / "s-00.tar", {"k1.jpg": b"one", "k1.cls": b"4\n", "k2.png": b"two", "k2.json": b'{"label": 5}'})
    sharded(tmp_path / "s-01.tar", {"d/k1.cls": b"6", "d/k1.jpeg": b"three", "k9.jpg": b"four", "k9.json": b"{}"})
    wanted = [("s-00.tar/k1.jpg", 4), ("s-00.tar/k2.png", 5), ("s-01.tar/d/k1.jpeg", 6), ("s-01.tar/k9.jpg", None)]
    for path in (tmp_path, tmp_path / "s-{00..01}.tar"):
        photos = open_photos(path)
        assert isinstance(photos, ShardPhotos)
        assert listed(photos) == wanted
        assert [photos.read(index) for index in (2, 0, 3, 1)] == [b"three", b"one", b"four", b"two"]
    assert len(open_photos(tmp_path / "s-01.tar")) == 2


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "missing.tar", "cannot be read as a tar file"),
        (sharded(tmp_path / "packed.tar", {"k.jpg": b"x"}, "w:gz"), "unpacked"),
        (
            sharded(tmp_path / "label.tar", {"k.jpg": b"x", "k.cls": b"cat"}),
            r"label\.tar: k\.cls: b'cat' gives no label",
        ),
        (sharded(tmp_path / "negative.tar", {"k.jpg": b"x", "k.cls": b"-1"}), "gives no label"),
        (sharded(tmp_path / "none.tar", {"k.cls": b"1"}), "no photos in 1 shards"),
        (write(tmp_path / "folder", {"notes.txt": b""}), "holds no photos"),
        (zipped(tmp_path / "none.zip", {"notes.txt": b""}), "holds no photos"),
        (write(tmp_path / "other", {"broken.zip": b"PK nothing"}) / "broken.zip", "cannot be read as a zip file"),
        (write(tmp_path / "other", {"file.xyz": b""}) / "file.xyz", "lists no photos"),
    ]:
        with pytest.raises((QuantizeError, ImageError), match=message):
            open_photos(path)


def troubled() -> MemoryPhotos:
    """Photos of which half cannot be used or are unusual."""
    good = encoded(SAMPLES)
    contents = {
        "good.jpg": good,
        "empty.jpg": b"",
        "corrupt.jpg": b"\xff\xd8\xff no photo",
        "truncated.jpg": good[: len(good) // 2],
        "gray.jpg": encoded(SAMPLES, mode="L"),
        "cmyk.jpg": encoded(SAMPLES, mode="CMYK"),
        "tiny.png": encoded(SAMPLES[:1, :1], "PNG"),
        "palette.gif": encoded(SAMPLES, "GIF", "P"),
        "deep.png": encoded((SAMPLES[..., 0].astype(np.uint16) * 257), "PNG"),
    }
    return MemoryPhotos(list(contents.values()), [0] * len(contents), list(contents))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_photos_are_left_out_and_reported(workers: int) -> None:
    loader = Loader(troubled(), PREPROCESSING, batch=4, workers=workers)
    batches = list(loader.in_order())
    assert [batch.indices.tolist() for batch in batches] == [[0], [4, 5, 6, 7], [8]]
    report = loader.report
    assert {name for name, _ in report.failed.values()} == {"empty.jpg", "corrupt.jpg", "truncated.jpg"}
    assert set(report.gray.values()) == {"gray.jpg", "deep.png"}
    assert set(report.cmyk.values()) == {"cmyk.jpg"}
    assert set(report.tiny.values()) == {"tiny.png"}
    text = str(report)
    assert text.startswith("6 photos; 3 could not be used: empty.jpg (is empty), corrupt.jpg (")
    assert "1 CMYK: cmyk.jpg" in text
    assert json.loads(json.dumps(report.to_dict()))["failed"][0] == {"name": "empty.jpg", "reason": "is empty"}
    # Reading them again counts nothing twice.
    list(loader.in_order())
    assert str(loader.report) == text


@pytest.mark.parametrize("workers", [0, 2])
def test_in_training_the_next_good_photo_stands_in(workers: int) -> None:
    loader = Loader(troubled(), PREPROCESSING, batch=4, workers=workers, augmentation=AugmentationConfig())
    (batch,) = loader.load([[1, 3, 0, 8]])
    assert batch.indices.tolist() == [4, 4, 0, 8]
    assert len(loader.report.failed) == 3


def test_only_bad_photos_are_an_error() -> None:
    photos = MemoryPhotos([b"", b"x"], [0, 0], ["a.jpg", "b.jpg"])
    for augmentation in (None, AugmentationConfig()):
        with pytest.raises(QuantizeError, match=r"none of 2 photos could be used; a\.jpg: is empty"):
            list(Loader(photos, PREPROCESSING, batch=2, augmentation=augmentation).load([[0, 1]]))


def test_photos_are_evaluated_as_the_engine_sees_them() -> None:
    photos = MemoryPhotos([encoded(SAMPLES), encoded(SAMPLES[::-1], mode="L")])
    (batch,) = Loader(photos, PREPROCESSING, batch=2).in_order()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    engine = np.stack([load_photo(photos.read(index), PREPROCESSING) for index in range(2)])
    assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), PREPROCESSING.normalise(engine))
    assert np.array_equal(PREPROCESSING.quantize(batch.images.numpy()), integer_input(engine, PREPROCESSING))


AUGMENTATIONS = [
    AugmentationConfig(),
    AugmentationConfig(area=(0.01, 0.02), aspect=(0.1, 10)),
    AugmentationConfig(size=12),
    AugmentationConfig(crop="pad"),
    AugmentationConfig(crop="centre", flip=0),
    AugmentationConfig(crop="pad", brightness=0.4, contrast=0.4, saturation=0.4),
]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_augmentation_follows_from_seed_epoch_and_index(augmentation: AugmentationConfig) -> None:
    photos = stripes(12)

    def images(order: list[int], *, epoch: int = 0, seed: int = 0, workers: int = 0) -> dict[int, torch.Tensor]:
        loader = Loader(photos, PREPROCESSING, batch=4, augmentation=augmentation, seed=seed, workers=workers)
        groups = [order[first : first + 4] for first in range(0, len(order), 4)]
        return {
            index: image
            for batch in loader.load(groups, epoch)
            for index, image in zip(batch.indices.tolist(), batch.images, strict=True)
        }

    first = images(list(range(12)))
    again = images(list(range(11, -1, -1)), workers=2)
    assert all(torch.equal(first[index], again[index]) for index in range(12))
    side = augmentation.size or 8
    assert all(image.shape == (3, side, side) for image in first.values())
    varies = augmentation.crop != "centre"
    for other in (images(list(range(12)), epoch=1), images(list(range(12)), seed=1)):
        assert any(not torch.equal(first[index], other[index]) for index in range(12)) == varies
    if not varies:
        plain = torch.cat([batch.images for batch in Loader(photos, PREPROCESSING, batch=4).in_order()])
        assert all(torch.equal(first[index], plain[index]) for index in range(12))


def test_flips_happen_as_often_as_asked() -> None:
    photos = stripes(200)
    whole = [range(200)]
    plain, mirrored = (
        next(Loader(photos, PREPROCESSING, batch=200, augmentation=config).load(whole)).images
        for config in (AugmentationConfig(crop="centre", flip=0), AugmentationConfig(crop="centre", flip=0.3))
    )
    flipped = sum(torch.equal(one.flip(2), other) for one, other in zip(plain, mirrored, strict=True))
    assert 35 <= flipped <= 85
    assert all(
        torch.equal(one, other) or torch.equal(one.flip(2), other) for one, other in zip(plain, mirrored, strict=True)
    )


def test_a_position_is_reached_without_the_photos_before_it() -> None:
    photos = stripes(20)
    loader = Loader(photos, PREPROCESSING, batch=3)
    whole = list(loader.in_order())
    late = Loader(photos, PREPROCESSING, batch=3)
    rest = list(late.in_order(4))
    assert all(torch.equal(one.images, other.images) for one, other in zip(whole[4:], rest, strict=True))
    assert late.report.read == set(range(12, 20))


def test_parts_of_photos() -> None:
    photos = stripes(40)
    first, second = split(photos, 0.25, seed=3)
    assert sorted(first.indices + second.indices) == list(range(40))
    labels = [second.label(index) for index in range(len(second))]
    assert len(labels) == 10
    assert all(2 <= labels.count(label) <= 3 for label in range(4))
    assert split(photos, 0.25, seed=3)[1].indices == second.indices
    assert split(photos, 0.25, seed=4)[1].indices != second.indices
    assert every(photos, 5).indices == list(range(0, 40, 5))
    assert every(photos, 5, rest=True).indices == [index for index in range(40) if index % 5]
    assert draw(photos, 7, 1).indices == draw(photos, 7, 1).indices
    assert len(set(draw(photos, 7, 1).indices)) == 7
    singles = MemoryPhotos([SAMPLES] * 100, list(range(100)))
    assert len(split(singles, 0.2)[1]) == 20
    assert first.fingerprint != second.fingerprint
    with pytest.raises(QuantizeError, match="one part would be empty"):
        split(photos, 0.001)


def test_photos_are_turned_if_they_say_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.fromarray(SAMPLES).transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    write(tmp_path, {"1.png": turned.getvalue()})
    plain, upright = open_photos(tmp_path), open_photos(tmp_path, exif=True)
    assert plain.fingerprint != upright.fingerprint
    assert every(upright, 1).exif and every(upright, 1).fingerprint == upright.fingerprint
    given = MemoryPhotos([SAMPLES])
    wanted = next(Loader(given, PREPROCESSING, batch=1).in_order()).images
    for workers in (0, 1):
        assert torch.equal(next(Loader(upright, PREPROCESSING, batch=1, workers=workers).in_order()).images, wanted)
        assert not torch.equal(next(Loader(plain, PREPROCESSING, batch=1, workers=workers).in_order()).images, wanted)
    for config in AUGMENTATIONS:
        first, second = (
            next(iter(Loader(photos, PREPROCESSING, batch=1, augmentation=config).load([[0]]))).images
            for photos in (upright, given)
        )
        assert torch.equal(first, second)


def test_archives_hold_photos_of_every_suffix(tmp_path: Path) -> None:
    jpeg = encoded(SAMPLES, "JPEG")
    files = {"a/1.jpg": jpeg, "b/2.jfif": jpeg, "c/3": jpeg, "d/4.download": FILES["a/0.png"], "e/notes.txt": b"x"}
    path = zipped(tmp_path / "photos.zip", files | {"b/5.heic": b"ftypheic", "a/README": b"x"})
    with pytest.warns(ImageWarning, match="no photos in e; they still count as classes"):
        photos = open_photos(path)
    assert photos.classes == ("a", "b", "c", "d", "e")
    assert listed(photos) == [("a/1.jpg", 0), ("b/2.jfif", 1), ("c/3", 2), ("d/4.download", 3)]
    assert [photo.file for photo in photos.left_out] == ["b/5.heic"]
    shard = open_photos(sharded(tmp_path / "s.tar", {"k.jfif": jpeg, "k.cls": b"1", "m.jp2": jpeg, "m.cls": b"2"}))
    assert [shard.label(index) for index in range(2)] == [1, 2]


def test_a_class_folder_in_a_zip_keeps_its_place(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "photos.zip", {"a/1.png": FILES["a/0.png"], "b/x.heic": b"no", "c/1.png": FILES["a/1.png"]}
    )
    with pytest.warns(ImageWarning, match="no photos in b; they still count as classes"):
        photos = open_photos(path)
    assert photos.classes == ("a", "b", "c")
    assert listed(photos) == [("a/1.png", 0), ("c/1.png", 2)]


PHOTO = FILES["a/0.png"]
TREES: dict[str, dict[str, bytes]] = {
    "beside class folders": {"a/1.png": PHOTO, "b/1.png": PHOTO, "stray.png": PHOTO},
    "deep": {"a/x/y/1.png": PHOTO, "a/2.png": PHOTO, "b/z/1.png": PHOTO},
    "hidden": {"a/1.png": PHOTO, "b/1.png": PHOTO, ".cache/c/1.png": PHOTO, "a/.hidden.png": PHOTO, ".DS_Store": b"x"},
    "text alone": {"a/1.png": PHOTO, "b/notes.txt": b"x", "c/1.png": PHOTO},
    "no classes": {"1.png": PHOTO, "2.png": PHOTO, "docs/notes.txt": b"x"},
    "splits": {"train/a/1.png": PHOTO, "train/b/1.png": PHOTO, "val/a/2.png": PHOTO, "val/b/2.png": PHOTO},
    "one class and a stray": {"a/1.png": PHOTO, "stray.png": PHOTO},
}


@pytest.mark.filterwarnings("ignore:.*no photos in")
@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize("tree", TREES)
def test_a_zip_file_is_read_as_its_folders_are(tmp_path: Path, tree: str, top: str) -> None:
    folder = open_photos(write(tmp_path / "folder", TREES[tree]))
    packed = open_photos(
        zipped(tmp_path / "photos.zip", {f"{top}{name}": content for name, content in TREES[tree].items()})
    )
    assert packed.classes == folder.classes
    assert listed(packed) == [(f"{top}{name}", label) for name, label in listed(folder)]
    assert {(photo.file.removeprefix(top), photo.reason) for photo in packed.left_out} == set(folder.left_out)


def test_gray_networks_read_gray() -> None:
    gray = PREPROCESSING.__class__(resize=8, crop=(8, 8), mean=(0.5,), std=(0.5,))
    photos = MemoryPhotos([encoded(SAMPLES), encoded(SAMPLES, mode="L")])
    loader = Loader(photos, gray, batch=2)
    assert next(loader.in_order()).images.shape == (2, 1, 8, 8)
    assert not loader.report.gray
    for config in AUGMENTATIONS:
        (batch,) = Loader(photos, gray, batch=2, augmentation=config).load([[0, 1]])
        side = config.size or 8
        assert batch.images.shape == (2, 1, side, side)


@pytest.mark.data
def test_cifar_archive(shared_data: Path) -> None:
    photos = open_photos(shared_data / "cifar10-jpeg" / "train.zip")
    assert len(photos) == 50_000
    assert photos.classes[:2] == ("airplane", "automobile")
    assert [sum(photos.label(index) == label for index in range(50_000)) for label in range(10)] == [5000] * 10
    with Image.open(io.BytesIO(photos.read(12_345))) as image:  # type: ignore[arg-type]
        assert image.size == (32, 32)
