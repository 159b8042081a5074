"""The benchmark and its scenarios, by LoadGen's names."""

from __future__ import annotations

#: The name of image classification in LoadGen's configuration and in the folders of a submission, whatever the network.
BENCHMARK = "resnet50"
SCENARIOS = ("Offline", "SingleStream", "MultiStream", "Server")
#: What a run is for: one of LoadGen's two modes, or both in a row, as a submission has them.
MODES = ("performance", "accuracy", "submission")
#: LoadGen's prefix of the settings of each scenario.
PREFIX = {
    "Offline": "offline",
    "SingleStream": "single_stream",
    "MultiStream": "multi_stream",
    "Server": "server",
}
#: Photos of ImageNet's validation set, which a submission runs, in the order of their names.
IMAGENET_PHOTOS = 50_000
