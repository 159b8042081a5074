"""Reading photos: decode, resize and crop, folders and lists of photos, batches, and the names of the classes."""

from nybble.images.batches import batches
from nybble.images.collection import PhotoFile, PhotoFiles, open_photos
from nybble.images.errors import ImageError, ImageWarning
from nybble.images.fit import Fit
from nybble.images.folder import LabelledFolder
from nybble.images.left_out import LeftOut, LeftOutPhoto
from nybble.images.names import class_names, label_classes, network_classes
from nybble.images.photo import PhotoSource, decode_photo, fit_photo, integer_input, load_photo

__all__ = [
    "Fit",
    "ImageError",
    "ImageWarning",
    "LabelledFolder",
    "LeftOut",
    "LeftOutPhoto",
    "PhotoFile",
    "PhotoFiles",
    "PhotoSource",
    "batches",
    "class_names",
    "decode_photo",
    "fit_photo",
    "integer_input",
    "label_classes",
    "load_photo",
    "network_classes",
    "open_photos",
]
