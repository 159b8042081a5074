"""Types of the native engine (native/bindings/module.cpp)."""

from nybble.graph.types import Array

CHANNEL_ALIGN: int
WINOGRAD_MAGNITUDE: int
WINOGRAD_WEIGHT: int
WINOGRAD_OUTPUTS: int

def available_isas() -> list[str]: ...
def check_isa(name: str) -> None: ...
def list_block_pairs(magnitude: int, weight_magnitude: int) -> int: ...
def quad_takes_any(isa: str) -> bool: ...
def most_quad_outputs(isa: str) -> int: ...
def ceilings() -> list[tuple[str, str, bool]]: ...
def measure_ceiling(name: str, isa: str, threads: int, seconds: float) -> float: ...

class Requantize:
    factor: list[int]
    shift: int
    low: int
    high: int

class ConvSpec:
    input: int
    output: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    dilation_h: int
    dilation_w: int
    groups: int
    method: str
    magnitude: int
    lists: int
    block_outputs: int
    tile_pixels: int
    visit_bytes: int
    bias: list[int]
    shortcut: int
    shortcut_magnitude: int
    shortcut_requantize: bool
    shortcut_rule: Requantize
    relu: bool
    relu_maximum: int
    requantize: bool
    rule: Requantize
    output_lists: list[int]

class PoolSpec:
    input: int
    output: int
    average: bool
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    pad_bottom: int
    pad_right: int
    dilation_h: int
    dilation_w: int
    count_padding: bool
    output_lists: list[int]

class PointSpec:
    input: int
    output: int
    other: int
    relu: bool
    relu_maximum: int
    requantize: bool
    rule: Requantize
    output_lists: list[int]

class ConcatSpec:
    inputs: list[int]
    output: int
    output_lists: list[int]

class ScaleSpec:
    input: int
    output: int
    scale: list[float]

class Program:
    def __init__(self, isa: str, threads: int, most_images: int, arena_bytes: int) -> None: ...
    def add_value(self, element: str, channels: int, height: int, width: int, tight: bool, offset: int, /) -> int: ...
    def add_lists(self, input: int, group: int, block_groups: int, offset: int, /) -> int: ...  # noqa: A002
    def set_input(self, value: int, /) -> None: ...
    def set_output(self, value: int, /) -> None: ...
    def add_conv(self, spec: ConvSpec, weights: Array, /) -> None: ...
    def add_pool(self, spec: PoolSpec, /) -> None: ...
    def add_point(self, spec: PointSpec, /) -> None: ...
    def add_concat(self, spec: ConcatSpec, /) -> None: ...
    def add_scale(self, spec: ScaleSpec, /) -> None: ...
    def run_integer(self, x: Array, out: Array, /) -> None: ...
    def run_samples(self, x: Array, table: Array, out: Array, /) -> None: ...
    def run_float(
        self, x: Array, numerator: float, denominator: float, low: float, high: float, out: Array, /
    ) -> bool: ...
    def run_tapped(self, x: Array, out: Array, values: list[int], taps: list[Array], /) -> None: ...
    def set_timing(self, on: bool, /) -> None: ...
    def take_step_times(self) -> list[int]: ...
    @property
    def threads(self) -> int: ...
    @property
    def most_images(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def arena_bytes(self) -> int: ...
