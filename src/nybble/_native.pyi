"""Types of the native engine (native/bindings/module.cpp)."""

from nybble.graph.types import Array

CHANNEL_ALIGN: int
#: Whether this build emulates the vectors of x86, for tests on a processor that lacks them.
EMULATED: bool

def available_isas() -> list[str]: ...
def check_isa(name: str) -> None: ...
def built_isas() -> list[str]: ...
def all_isas() -> list[str]: ...
def runnable_isas() -> list[str]: ...
def isa_needs(isa: str) -> str: ...
def isa_like(isa: str) -> str: ...
def has_byte_tiles() -> bool: ...
def is_intel() -> bool: ...
def is_for_tests(isa: str) -> bool: ...
def kernel_rows(isa: str) -> list[KernelRow]: ...
def operations_with_kernels(isa: str) -> list[str]: ...
def ceilings() -> list[tuple[str, str, bool]]: ...
def measure_ceiling(name: str, isa: str, threads: int, seconds: float) -> float: ...
def kept_weight_bytes() -> int: ...
def worker_threads() -> int: ...
def set_turn_nanoseconds(turn: int) -> None: ...
def set_turn_of_thread(turn: int) -> None: ...

class ConvLayer:
    def __init__(
        self,
        *,
        inputs: tuple[int, int, int],
        outputs: tuple[int, int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        low: int,
        high: int,
        most_weight: int,
        is_padded: bool,
        clip: tuple[int, int] | None = None,
        weights: tuple[int, int] | None = None,
    ) -> None: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def most_weight(self) -> int: ...
    @property
    def is_padded(self) -> bool: ...

class KernelRow:
    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def needs(self) -> str: ...
    @property
    def takes_groups(self) -> bool: ...
    @property
    def is_depthwise(self) -> bool: ...
    @property
    def takes_signed(self) -> bool: ...
    @property
    def is_padded(self) -> bool: ...
    @property
    def window(self) -> int: ...
    @property
    def most_input(self) -> int: ...
    @property
    def most_span(self) -> int: ...
    @property
    def most_weight(self) -> int: ...
    @property
    def times_sums(self) -> int: ...
    @property
    def products16(self) -> int: ...
    @property
    def list_group(self) -> int: ...
    @property
    def has_dot_products(self) -> bool: ...
    @property
    def has_signed_quads(self) -> bool: ...
    @property
    def is_for_groups(self) -> bool: ...
    @property
    def depends_on_weights(self) -> bool: ...
    @property
    def most_outputs(self) -> int: ...
    @property
    def usual_outputs(self) -> int: ...
    @property
    def usual_pixels(self) -> int: ...
    def why_not(self, layer: ConvLayer) -> str | None: ...
    def why_not_chosen(self, layer: ConvLayer) -> str | None: ...
    def why_not_cut(
        self, layer: ConvLayer, *, block_outputs: int, tile_pixels: int, visit_bytes: int, list_block: int
    ) -> str | None: ...
    def list_blocks(self, layer: ConvLayer) -> list[int]: ...
    def scratch_bytes(self, layer: ConvLayer, *, block_outputs: int, tile_pixels: int) -> int: ...

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
    clip_low: int
    clip_high: int
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
    table: list[int]
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
    table: list[int]
    output_lists: list[int]

class TableSpec:
    input: int
    output: int
    table: list[int]
    output_lists: list[int]

class MulSpec:
    input: int
    output: int
    other: int
    magnitude: int
    other_magnitude: int
    relu: bool
    relu_maximum: int
    requantize: bool
    rule: Requantize
    table: list[int]
    output_lists: list[int]

class ConcatSpec:
    inputs: list[int]
    output: int
    output_lists: list[int]

class MoveSpec:
    input: int
    output: int
    rows: list[int]
    columns: list[int]
    row_maps: list[int]
    column_maps: list[int]
    channels: list[list[int]]
    output_lists: list[int]

class PReluSpec:
    input: int
    output: int
    rule: Requantize
    negative: list[int]
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
    def set_outputs(self, values: list[int], /) -> None: ...
    def add_conv(self, spec: ConvSpec, weights: Array, /) -> None: ...
    def add_pool(self, spec: PoolSpec, /) -> None: ...
    def add_point(self, spec: PointSpec, /) -> None: ...
    def add_table(self, spec: TableSpec, /) -> None: ...
    def add_mul(self, spec: MulSpec, /) -> None: ...
    def add_concat(self, spec: ConcatSpec, /) -> None: ...
    def add_scale(self, spec: ScaleSpec, /) -> None: ...
    def add_move(self, spec: MoveSpec, /) -> None: ...
    def add_prelu(self, spec: PReluSpec, /) -> None: ...
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
