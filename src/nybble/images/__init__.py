"""Photos in: decode, resize and crop, labelled folders, batches, and the names of the classes."""

from nybble.images.batches import batches
from nybble.images.errors import ImageError
from nybble.images.folder import LabelledFolder, LabelledPhoto
from nybble.images.names import class_names
from nybble.images.photo import PhotoSource, decode_photo, integer_input, load_photo

__all__ = [
    "ImageError",
    "LabelledFolder",
    "LabelledPhoto",
    "PhotoSource",
    "batches",
    "class_names",
    "decode_photo",
    "integer_input",
    "load_photo",
]
