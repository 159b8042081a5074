"""From the outputs of a network to boxes, maps, images, vectors and text, and metrics of these."""

from nybble.tasks.answer import answer, task_names, task_of
from nybble.tasks.boxes import overlaps, suppress
from nybble.tasks.detect import Found, decode_boxes
from nybble.tasks.drawing import voc_palette
from nybble.tasks.packages import MissingPackageError
from nybble.tasks.restore import decode_image
from nybble.tasks.results import Answer, Classes, Detections, Embedding, Restored, Segmentation, TextBoxes
from nybble.tasks.segment import decode_map
from nybble.tasks.text import decode_text
from nybble.tasks.video import Frame, frames

__all__ = [
    "Answer",
    "Classes",
    "Detections",
    "Embedding",
    "Found",
    "Frame",
    "MissingPackageError",
    "Restored",
    "Segmentation",
    "TextBoxes",
    "answer",
    "decode_boxes",
    "decode_image",
    "decode_map",
    "decode_text",
    "frames",
    "overlaps",
    "suppress",
    "task_names",
    "task_of",
    "voc_palette",
]
