"""The one opener: every form of a collection, labels by number and name, and what is passed over, named or refused."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from nybble.images import ImageError, ImageWarning, LeftOut, PhotoFiles, open_photos
from nybble.images.errors import printable
from nybble.images.listing import read_rows
from nybble.images.names import match_classes

#: A suffix and the format that Pillow writes for it; suffixless files are known by their content.
KINDS = {
    ".jpg": "JPEG",
    ".JPEG": "JPEG",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".PNG": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".tif": "TIFF",
    ".TIFF": "TIFF",
    ".jp2": "JPEG2000",
    ".avif": "AVIF",
    ".tga": "TGA",
    ".ico": "ICO",
    "": "JPEG",
    ".photo": "PNG",
    ".download": "WEBP",
}


def encoded(kind: str = "PNG", size: tuple[int, int] = (16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 30)).save(buffer, kind)
    return buffer.getvalue()


PHOTO = encoded()


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def listed(photos: PhotoFiles) -> list[tuple[str, int | None]]:
    return [(photo.file, photo.label) for photo in photos]


@pytest.mark.parametrize(("suffix", "kind"), KINDS.items())
def test_a_class_of_any_suffix_keeps_its_place(tmp_path: Path, suffix: str, kind: str) -> None:
    for name, codec in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")):
        if kind == name and not features.check(codec):
            pytest.skip(f"this Pillow writes no {name}")
    write(tmp_path, {"a/1.jpg": PHOTO, f"b/photo{suffix}": encoded(kind), "c/1.jpg": PHOTO})
    photos = open_photos(tmp_path)
    assert photos.classes == ("a", "b", "c")
    assert listed(photos) == [("a/1.jpg", 0), (f"b/photo{suffix}", 1), ("c/1.jpg", 2)]
    assert not photos.left_out


def test_a_class_without_photos_keeps_its_place_and_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.png": PHOTO, "c/1.png": PHOTO, "d/notes.txt": ""})
    (tmp_path / "b").mkdir()
    with pytest.warns(ImageWarning, match="no photos in b, d; they still count as classes"):
        photos = open_photos(tmp_path)
    assert photos.classes == ("a", "b", "c", "d")
    assert [photo.label for photo in photos] == [0, 2]


def test_what_is_passed_over_and_what_is_named(tmp_path: Path) -> None:
    silent = ("Thumbs.db", ".DS_Store", ".hidden.jpg", "a/notes.txt", "a/x.csv", "a/x.json", "a/x.XML", "a/README.md")
    named = {"a/photo.heic": b"\0\0\0\x18ftypheic", "a/movie.mp4": b"\0\0\0\x18ftypmp42", "a/odd": b"nothing"}
    write(tmp_path, {"a/1.png": PHOTO, "b/2.png": PHOTO, ".git/x.png": PHOTO, "__MACOSX/x.png": PHOTO})
    write(tmp_path, {**dict.fromkeys(silent, b"x"), **named, "stray.png": PHOTO})
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    (tmp_path / "b" / "loop.jpg").symlink_to("loop.jpg")
    photos = open_photos(tmp_path)
    assert listed(photos) == [("a/1.png", 0), ("b/2.png", 1)]
    reasons = dict(photos.left_out)
    assert reasons.keys() == {*named, "stray.png", "b/gone.jpg", "b/loop.jpg", "b/pipe.jpg"}
    assert "not an image" in reasons["a/photo.heic"]
    assert "beside the class folders" in reasons["stray.png"]
    assert "link to nothing" in reasons["b/gone.jpg"] and "not a regular file" in reasons["b/pipe.jpg"]


def test_photos_lie_at_any_depth_and_links_may_loop(tmp_path: Path) -> None:
    write(tmp_path, {"a/x/y/1.png": PHOTO, "a/2.png": PHOTO, "b/z/3.png": PHOTO})
    (tmp_path / "a" / "x" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "self").symlink_to(".")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a" / "x")
    photos = open_photos(tmp_path)
    # A link to photos elsewhere is a class like any other.
    assert listed(photos)[:3] == [("a/2.png", 0), ("a/x/y/1.png", 0), ("b/z/3.png", 1)]
    assert {label for _, label in listed(photos)} == {0, 1, 2}


def test_a_folder_without_labels(tmp_path: Path) -> None:
    write(tmp_path, {"y.JPG": PHOTO, "x.png": PHOTO, "list.txt": "x", "odd.xyz": b"x"})
    (tmp_path / "empty").mkdir()
    photos = open_photos(tmp_path)
    assert listed(photos) == [("x.png", None), ("y.JPG", None)]
    assert (photos.classes, photos.labelled) == ((), False)
    assert [photo.file for photo in photos.left_out] == ["odd.xyz"]
    assert len(open_photos(tmp_path, 1)) == 1
    with pytest.raises(ImageError, match=r"x\.png has no label, and accuracy needs one.*a labels\.csv"):
        open_photos(tmp_path, labels=True)


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("labels.csv", "file,label\nsub/b.png,2\na b.png,0\n", [2, 0]),
        ("labels.csv", "\ufefffile;label;note\r\nsub/b.png;2;x\r\na b.png;0;y\r\n", [2, 0]),
        ("labels.csv", "label\tfile\n2\tsub/b.png\n0\ta b.png\n", [2, 0]),
        ("labels.csv", "file,label\nsub/b.png,dog\na b.png,cat\n", [1, 0]),
        ("labels.csv", "file,label\nsub/b.png,2\na b.png,\n", [2, None]),
        ("val_map.txt", "sub/b.png 2\na b.png 0\n", [2, 0]),
        ("list.csv", "sub/b.png,2\na b.png,0\n", [2, 0]),
        ("list.csv", "sub/b.png\na b.png\n", [None, None]),
        ("list.csv", "file\nsub/b.png\na b.png\n", [None, None]),
        ("list.csv", "sub/b.png;2\na b.png;0\n", [2, 0]),
        ("list.tsv", "file\tlabel\nsub/b.png\t2\na b.png\t0\n", [2, 0]),
        ("train.txt", "\ufeffsub/b.png 2\r\n\r\na b.png 0\r\n", [2, 0]),
        ("train.txt", "sub/b.png\na b.png\n", [None, None]),
        ("train.txt", "sub/b.png\tred fox\na b.png\tcat\n", [1, 0]),
        ("train.txt", "sub/b.png dog\na b.png cat\n", [1, 0]),
        ("train.lst", "./sub/b.png 2\na b.png\n", [2, None]),
    ],
)
def test_lists(tmp_path: Path, name: str, text: str, labels: list[int | None]) -> None:
    write(tmp_path, {"sub/b.png": PHOTO, "a b.png": PHOTO, name: text})
    inside = name in ("labels.csv", "val_map.txt")
    for path in (tmp_path / name, *([tmp_path] if inside else [])):
        photos = open_photos(path)
        assert [photo.label for photo in photos] == labels
        assert [photo.path.name for photo in photos] == ["b.png", "a b.png"]
    assert photos.labelled is (None not in labels)


def test_lists_name_files_from_their_own_folder_or_absolutely(tmp_path: Path) -> None:
    write(tmp_path, {"photos/1.png": PHOTO, "lists/a.txt": f"../photos/1.png 0\n{tmp_path / 'photos' / '2.png'} 1\n"})
    write(tmp_path, {"photos/2.png": PHOTO})
    assert [photo.label for photo in open_photos(tmp_path / "lists" / "a.txt")] == [0, 1]
    write(tmp_path, {"inside.txt": "1.png 0\n", "outside.txt": "../photos/1.png 0\n"})
    assert len(open_photos(tmp_path / "inside.txt", root=tmp_path / "photos")) == 1
    with pytest.raises(ImageError, match=r"outside\.txt:1: .*not a name inside"):
        open_photos(tmp_path / "outside.txt", root=tmp_path / "photos")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "x.png 0\nmissing photo.png 1\n", r"train\.txt:2: lists 'missing photo.png', which is not there"),
        ("train.txt", "x.png 0\n./x.png 1\n", r"train\.txt:2: lists './x.png' again, first in line 1"),
        ("train.txt", "x.png 1.5\n", r"train\.txt:1: label '1.5' is not an integer"),
        ("train.txt", "x.png 3\n", r"train\.txt:1: label 3 is not in 0\.\.2"),
        ("train.txt", "x.png dog\ny.png 1\n", r"label 1 is a number, but others are names such as 'dog'"),
        ("train.txt", "x.png dgo\n", r"train\.txt: has 1 class \(dgo\), but the network has 3 classes"),
        ("train.txt", "x.png 0\n" + "y" * 300 + " 1\n", r"train\.txt:2: lists 'yyy"),
        ("train.txt", "", "lists no photos"),
        ("train.txt", b"\xff\xfe", "not UTF-8"),
        ("list.csv", "x.png,1,2\n", r"has no header file,label"),
        ("list.csv", "filename,class\nx.png,1\n", r"list\.csv:1: lists 'filename', which is not there"),
        ("list.csv", 'file,label\n"x.png,1\n', "is not CSV"),
        ("list.csv", "file,label\nx.png\n", r"list\.csv:2: has 1 cells under 2 columns"),
        ("photos.zip", b"PK", "is an archive"),
        ("photo.jpg", PHOTO, "is a photo; give its folder"),
    ],
)
def test_lists_that_cannot_be_right(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    write(tmp_path, {"x.png": PHOTO, "y.png": PHOTO, name: text})
    with pytest.raises(ImageError, match=message):
        open_photos(tmp_path / name, classes=("cat", "dog", "eel"), labels=True)


def test_a_limit_takes_of_all_classes(tmp_path: Path) -> None:
    write(tmp_path, {f"{kind}/{index}.png": PHOTO for kind in "abc" for index in range(3 if kind != "b" else 1)})
    assert [photo.file for photo in open_photos(tmp_path, 3)] == ["a/0.png", "b/0.png", "c/0.png"]
    assert [photo.file for photo in open_photos(tmp_path, 4)] == ["a/0.png", "a/1.png", "b/0.png", "c/0.png"]
    assert [photo.label for photo in open_photos(tmp_path, 6)] == [0, 0, 0, 1, 2, 2]
    assert len(open_photos(tmp_path, 100)) == 7
    plain = write(tmp_path / "plain", {f"{index}.png": PHOTO for index in range(4)})
    assert [photo.file for photo in open_photos(plain, 2)] == ["0.png", "1.png"]


def test_places_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="absent: there is no such file or folder"):
        open_photos(tmp_path / "absent")
    with pytest.raises(ImageError, match=r"holds no photos; give photos, .*labels\.csv"):
        open_photos(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="neither a folder nor a file"):
        open_photos(tmp_path / "pipe")
    (tmp_path / "pipe").unlink()
    write(tmp_path, {"a/1.heic": b"\0\0\0\x18ftypheic", "b/2.heic": b"x"})
    with pytest.raises(ImageError, match=r"a/1\.heic: is not an image that Pillow can read; none of 2 photos"):
        open_photos(tmp_path)


def test_names_become_the_networks_classes(tmp_path: Path) -> None:
    write(tmp_path, {"dog/1.png": PHOTO, "cat/1.png": PHOTO})
    network = ("dog", "eel", "cat")
    assert listed(open_photos(tmp_path, classes=network, labels=True)) == [("cat/1.png", 2), ("dog/1.png", 0)]
    assert listed(open_photos(tmp_path, classes=2, labels=True)) == [("cat/1.png", 0), ("dog/1.png", 1)]
    assert listed(open_photos(tmp_path, classes=("n1", "n2"), labels=True)) == [("cat/1.png", 0), ("dog/1.png", 1)]
    for classes, message in (
        (3, r"has 2 classes \(cat, dog\), but the network has 3 classes"),
        (("cat", "dgo"), "class 'dog' is no class of the network, though others are"),
        (("cat", "dog", "cat"), "class 'cat' is the name of several classes"),
    ):
        with pytest.raises(ImageError, match=message):
            open_photos(tmp_path, classes=classes, labels=True)
        with pytest.warns(ImageWarning, match=message):
            photos = open_photos(tmp_path, classes=classes)
        assert [photo.label for photo in photos] == [None, None]


def test_numbers_as_class_folders_are_taken_in_order_of_name(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}/1.png": PHOTO for number in range(11)})
    with pytest.warns(ImageWarning, match="in order of name, as torchvision does, so '10' is class 2"):
        photos = open_photos(tmp_path)
    assert dict(listed(photos))["10/1.png"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = open_photos(tmp_path, classes=tuple(map(str, range(11))), labels=True)
    assert dict(listed(named))["10/1.png"] == 10


FILES = st.sampled_from(["x.jpg", "y.PNG", "z", "deep/w.webp", "deep/er/v.jfif"])
OTHERS = st.sampled_from(["notes.txt", ".hidden.png", "Thumbs.db", "deep/list.csv"])


@given(
    st.dictionaries(
        st.sampled_from(["a", "b b", "C", "d.jpg", "10", "9"]),
        st.tuples(st.sets(FILES), st.sets(OTHERS)),
        min_size=1,
    )
)
def test_labels_are_places_among_all_class_folders(tree: dict[str, tuple[set[str], set[str]]]) -> None:
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        root = Path(name)
        for folder, (photos, others) in tree.items():
            (root / folder).mkdir()
            write(root / folder, {**dict.fromkeys(photos, PHOTO), **dict.fromkeys(others, b"x")})
        if not any(photos for photos, _ in tree.values()):
            with pytest.raises(ImageError, match="holds no photos"):
                open_photos(root)
            return
        found = open_photos(root)
        assert found.classes == tuple(sorted(tree))
        wanted = {f"{folder}/{file}": sorted(tree).index(folder) for folder in tree for file in tree[folder][0]}
        assert dict(listed(found)) == wanted and len(found) == len(wanted)
        assert not found.left_out


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8), unique=True, max_size=6))
def test_class_names_match_wherever_they_stand(names: list[str]) -> None:
    network = [*names, "another"] if "another" not in names else names
    found = sorted(names)
    numbers = match_classes(found, network)
    if names:
        assert numbers == [network.index(name) for name in found]
    assert match_classes(found, len(found)) == list(range(len(found)))


ODD = [
    "comma, and 'quotes' \".png",
    "line\nbreak.png",
    "tab\there.png",
    "back\\slash.png",
    "ümläut 写真.png",
    " space .png",
    "-dash.png",
    "%s{0}.png",
    "a" * 200 + ".png",
    os.fsdecode(b"latin-\xe9.png"),
]


@pytest.mark.parametrize("name", ODD)
def test_odd_file_names(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path / "plain", tmp_path / "classes" / "a", tmp_path / "classes" / "b"):
        write(folder, {name: PHOTO, "zz.png": PHOTO})
    for photos in (open_photos(tmp_path / "plain"), open_photos(tmp_path / "classes")):
        photo = next(photo for photo in photos if photo.path.name == name)
        assert photo.path.read_bytes() == PHOTO
        photo.file.encode("utf-8")
        assert "\n" not in printable(photo.file)


@pytest.mark.parametrize("name", ODD[:-1])
def test_odd_names_in_csv(tmp_path: Path, name: str) -> None:
    quoted = name.replace('"', '""')
    write(tmp_path, {name: PHOTO, "labels.csv": f'file,label\n"{quoted}",1\n'})
    (photo,) = open_photos(tmp_path)
    assert (photo.file, photo.label) == (name, 1)


def test_class_folders_of_odd_names(tmp_path: Path) -> None:
    write(tmp_path, {"a\nb/1.png": PHOTO, os.fsdecode(b"caf\xe9/1.png"): PHOTO})
    (tmp_path / os.fsdecode(b"empty-\xe9\n")).mkdir()
    with pytest.warns(ImageWarning, match="no photos in") as caught:
        photos = open_photos(tmp_path)
    assert "\n" not in str(caught[0].message)
    assert len(photos.classes) == 3
    "".join(photos.classes).encode("utf-8")


def test_many_photos_are_not_read_to_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3000):
        (tmp_path / f"{index:05}.jpg").touch()
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened a photo"))
    assert len(open_photos(tmp_path)) == 3000


def test_what_was_left_out_is_told_within_bounds() -> None:
    left_out = LeftOut()
    assert not left_out and left_out.lines() == []
    for index in range(12):
        left_out.add(f"{index}\n.png", "is broken")
        left_out.add(f"{index}\n.png", "is broken again")
    assert len(left_out) == 12
    assert left_out.lines()[0] == "0\\n.png: is broken; left out"
    assert left_out.lines()[-1] == "7 more photos left out" and len(left_out.lines()) == 6
    left_out.check(1)
    with pytest.raises(ImageError, match="is broken; none of 12 photos can be used"):
        left_out.check(0)


def test_rows_keep_other_columns_and_lines(tmp_path: Path) -> None:
    write(tmp_path, {"list.csv": "author,file,label\nJ,x,3\n\nK,y,4\n"})
    rows = read_rows(tmp_path / "list.csv")
    assert [(row.file, row.label, row.line, row.extra["author"]) for row in rows] == [
        ("x", 3, 2, "J"),
        ("y", 4, 4, "K"),
    ]
