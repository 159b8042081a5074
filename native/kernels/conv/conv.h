// Convolution: shapes, packed weights, and the work of one task, for kernels of every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"

namespace nybble {

struct ConvShape {
  Layout input;
  Layout output;
  std::int32_t kernel_h = 1, kernel_w = 1;
  std::int32_t stride_h = 1, stride_w = 1;
  std::int32_t pad_top = 0, pad_left = 0;
  std::int32_t dilation_h = 1, dilation_w = 1;
  std::int32_t groups = 1;

  NYBBLE_INLINE std::int32_t group_inputs() const { return input.channels / groups; }
  NYBBLE_INLINE std::int32_t group_outputs() const { return output.channels / groups; }
  // Whether pixels map one to one, so that the rows and images of a batch form one long row.
  NYBBLE_INLINE bool pointwise() const {
    return kernel_h == 1 && kernel_w == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 &&
           input.height == output.height && input.width == output.width;
  }
};

// Bits below a step that guarded.inc.h computes results with.
inline constexpr int kGuardBits = 13;

// What happens to a sum before it is stored, in this order: bias, shortcut, ReLU, requantize.
// Arrays have `output.stride` elements, zero past the channels.
struct Epilogue {
  const std::int32_t* bias = nullptr;

  bool shortcut = false;
  Element shortcut_type = Element::s32;
  bool shortcut_requantize = false;  // v * factor, rounded off by shift, before it is added
  const std::uint32_t* shortcut_factor = nullptr;
  std::int32_t shortcut_shift = 0;

  bool relu = false;
  std::int32_t relu_maximum = INT32_MAX;

  bool requantize = false;
  const std::uint32_t* factor = nullptr;
  const float* scale = nullptr;  // factor * 2^-shift; where `guarded`, 2^kGuardBits times that
  std::int32_t shift = 0;
  std::int32_t low = INT32_MIN, high = INT32_MAX;

  // Whether 32-bit lanes are exact: the shortcut's product and its rounding stay below 2^31, and
  // requantizing in float32 cannot round: high + 1 times 2^shift is at most 2^24 and every factor is a
  // float32. (Below 2^24 every step is exact; above it every step is monotonic, and the result clamps.)
  bool narrow = false;

  // For results of one byte that float32 alone keeps from being `narrow`: factor * 2^-shift, for double precision. Null
  // elsewhere. Most of them are `guarded`: float32 does but for results close to a tie.
  const double* scale_double = nullptr;
  bool guarded = false;
  float guarded_most = 0;  // half a step above the largest result, in units of 2^-kGuardBits of a step

  // 16-bit lanes, for sums that fit them: exact in the groups of kChannelAlign channels where `words` is not
  // zero, as EpilogueData::use_words proves. Null where no group is.
  const std::uint8_t* words = nullptr;
  const std::int16_t* bias16 = nullptr;
  const std::uint16_t* factor16 = nullptr;  // factor * 2^(17 - shift)
  const std::uint16_t* shortcut_factor16 = nullptr;
  std::int32_t shortcut_shift16 = 0;  // unsigned shortcuts: one less than theirs, since the last bit is rounded

  // As EpilogueData::use_staged arranges them; null where it does not.
  const std::int32_t* bias_staged = nullptr;
  const float* scale_staged = nullptr;

  // Whether results are bytes that only a largest one bounds, as 0 is the least (a ReLU, or the clamp)...
  NYBBLE_INLINE bool is_unsigned() const { return relu ? relu_maximum == INT32_MAX && low <= 0 : low == 0; }
  // ... or bytes of both signs.
  NYBBLE_INLINE bool is_signed() const { return !relu && low < 0 && low >= INT8_MIN && high <= INT8_MAX; }
};

// ---- sparse: lists of non-zero pairs with 16-bit sums, or of non-zero quads with 32-bit sums ----------

// One (kernel position, block of channel groups).
struct SparseItem {
  std::int32_t dy, dx;  // input row and column relative to the window's first
  std::int32_t block;
  std::int32_t first_group;  // where its weights start, in groups from the start of the output block
  std::int64_t entries;      // from the entries of the window's first input pixel to its own
  std::int64_t counts;       // likewise
};

// Items whose weights are read together, so that they stay in L1 while the tile's pixels pass.
struct SparseVisit {
  std::int32_t first_item, items;
  std::int32_t groups_ahead;  // of the next visit
  bool widen;                 // add the 16-bit sums into the 32-bit ones after it: the next visit could overflow them
};

// Weights of `outputs` neighbouring output channels, starting at `first`.
struct OutputBlock {
  std::int32_t first, outputs;
  std::size_t offset;  // of its weights, in bytes
};

// ---- Winograd: squares of 2x2 outputs, 16-bit sums ---------------------------------------------------

// Largest input and weight that the bounds in winograd.inc.h hold for, and outputs in a block: what registers hold.
inline constexpr std::int32_t kWinogradMagnitude = 15, kWinogradWeight = 8, kWinogradOutputs = 128;
// Tasks are cut between so many squares: kernels take several at a time.
inline constexpr std::int32_t kWinogradGrain = 4;

// Squares of outputs in an image; the last row and column may reach past it. Those of a batch are numbered row by row,
// image by image.
struct Squares {
  std::int32_t rows, columns;

  NYBBLE_INLINE explicit Squares(const Layout& output)
      : rows((output.height + 1) / 2), columns((output.width + 1) / 2) {}
  NYBBLE_INLINE std::int64_t count() const { return std::int64_t{rows} * columns; }
};

struct Square {
  std::int64_t image;
  std::int32_t y, x;  // first output

  NYBBLE_INLINE Square(const Squares& squares, std::int64_t index) {
    const std::int64_t row = index / squares.columns;
    image = row / squares.rows;
    y = static_cast<std::int32_t>(row % squares.rows) * 2;
    x = static_cast<std::int32_t>(index % squares.columns) * 2;
  }
};

// Input channels whose part of every output of a block fits 14 bits, so that four times it fits 16.
struct WinogradSegment {
  std::size_t offset;     // of its weights in bytes: [position][pair][output][channel of the pair]
  std::size_t constants;  // where [output pixel of the square][output] start
  std::int32_t first_pair, pairs;
};

// Segments of an output block.
struct WinogradBlock {
  std::int32_t first_segment, segments;
};

// ---- chained: 16-bit sums of any 8-bit inputs over what the bound of the weights allows ---------------

// kChannelAlign outputs, from that multiple of it.
struct ChainGroup {
  std::size_t offset;  // of its weights in bytes: [entry][output][input of the quad]
  std::int32_t first_entry, entries;
  std::int32_t chain;  // entries in each chain, 1 to 4 or kLongestChain; `entries` is a multiple of it
};
inline constexpr std::int32_t kLongestChain = 6;

// ---- pair: 16-bit sums over segments of the window ----------------------------------------------------

// Outputs computed together; the last tile of a block may have kChannelAlign.
inline constexpr std::int32_t kPairOutputs = 2 * kChannelAlign;

struct PairTile {
  std::size_t offset;     // of its weights in bytes: [pair][output][input of the pair]
  std::size_t constants;  // where [segment][output] start: what 16-bit sums start at
  std::int32_t first_run, runs;
  bool is_one_segment;
};

// Pairs that follow each other in the staged window.
struct PairRun {
  std::int32_t place;  // of the first, in bytes
  std::int32_t pairs;
  bool ends;  // a segment
};

// ---- grouped: pairs of bytes of each output's own inputs ----------------------------------------------

// Bytes of one pair of each of kChannelAlign outputs, and outputs that one shuffle of bytes picks the pairs of.
inline constexpr std::int32_t kGroupedBytes = 2 * kChannelAlign, kGatheredOutputs = 16;

// The output, of kChannelAlign, at place i: as interleaving 32 bytes with 32 others in halves of 16 leaves them.
NYBBLE_INLINE constexpr std::int32_t staged_output(std::int32_t i) {
  return i / 8 == 1 ? i + 8 : i / 8 == 2 ? i - 8 : i;
}

// kChannelAlign outputs, from that multiple of it.
struct GroupedUnit {
  std::size_t offset;  // of its weights in bytes: [chain][entry][place of the output][input of the pair]
  std::int32_t first_entry;
  std::int32_t chains, chain, last;  // chains, entries in each but the last, and in that
};

// Shuffles, one or more, whose results together are the pairs of kGatheredOutputs outputs.
struct GatherVector {
  std::int32_t first_step, steps;
};
struct GatherStep {
  std::int32_t first;  // of 16 neighbouring channels
  std::uint8_t picks[2 * kGatheredOutputs];
};

struct PackedConv {
  const std::uint8_t* weights = nullptr;
  const OutputBlock* blocks = nullptr;
  std::int32_t block_count = 0;
  std::int32_t most_outputs = 0;  // of any block
  const SparseItem* items = nullptr;
  const SparseVisit* visits = nullptr;
  std::int32_t visit_count = 0;
  // The kernels with 32-bit sums:
  std::int32_t run_groups = 0;               // groups of two or four inputs in one contiguous run of the window
  std::int32_t runs_per_row = 0;             // runs in one kernel row
  std::int32_t offset = 0;                   // added to every input
  const std::int32_t* correction = nullptr;  // to add to the sum of each output for that
  // Chained; `runs_per_row`, `offset` and `correction` as above:
  const ChainGroup* chain_groups = nullptr;   // of each kChannelAlign outputs
  const std::int32_t* chain_quads = nullptr;  // of each entry: the quad's first byte in the window
  std::int64_t run_bytes = 0;                 // inputs in one contiguous run of the window
  // Winograd:
  const WinogradBlock* winograd = nullptr;  // of each block
  const WinogradSegment* segments = nullptr;
  const std::int16_t* constants = nullptr;  // to add to four times the outputs of a segment
  // Pair; `offset` as above:
  const PairTile* pair_tiles = nullptr;  // of each block from its `offset` on
  const PairRun* pair_runs = nullptr;
  // Grouped; `offset` and `correction` as above, and `constants` are corrections modulo 2^16:
  const GroupedUnit* grouped_units = nullptr;    // of each kChannelAlign outputs
  const std::int32_t* grouped_places = nullptr;  // of each entry: its first byte in the staged window
  const GatherVector* gathers = nullptr;         // [unit][pair][half], none for depthwise
  const GatherStep* gather_steps = nullptr;
  std::int32_t tile_pixels = 0;  // that scratch memory is laid out for
};

// One task: output pixels [first_pixel, first_pixel + pixels) of the batch (with 32-bit sums:
// of one output row; Winograd: squares of 2x2 in place of pixels), and one block of output channels (Winograd: all).
struct ConvTask {
  const ConvShape* shape;
  const Epilogue* epilogue;
  const PackedConv* packed;
  const void* input;          // all but the sparse kernel
  const NonZeroLists* lists;  // sparse kernel
  const void* shortcut;
  void* output;
  std::int64_t first_pixel;
  std::int32_t pixels;
  std::int32_t block;
  std::uint8_t* scratch;  // conv_scratch_bytes, aligned to 64
};

inline constexpr std::int32_t kMostTilePixels = 64;

// Sparse kernel: where the pixels of a tile read.
struct TileCoordinates {
  std::int32_t rows[kMostTilePixels];
  std::int32_t columns[kMostTilePixels];
  // Of the input pixel of the window's first, which may lie outside the image.
  std::int64_t entries[kMostTilePixels];
  std::int64_t counts[kMostTilePixels];
  bool is_inside[kMostTilePixels];  // the whole window
};

// Elements of one staged input row for `pixels` output pixels: what the windows reach, and what the last
// group of a run may read past them.
inline constexpr std::int64_t kStagedSlack = 4;
NYBBLE_INLINE std::int64_t staged_row_elements(const ConvShape& s, std::int32_t pixels) {
  return (std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1) * s.input.stride +
         kStagedSlack;
}

inline constexpr std::int32_t kDotPixels = 4;  // output pixels computed together with 32-bit sums

// Chained kernel: windows gathered before they are used, and pixels computed together, at most.
inline constexpr std::int32_t kGatheredPixels = 8, kMostChainPixels = 4;

// Where the parts of the chained kernel's scratch memory start: sums, windows, input rows. A vector's bytes may be read
// and written past the end of either.
struct ChainedScratch {
  std::int64_t windows, staged, bytes;
  std::int64_t window_bytes;  // from one window to the next

  NYBBLE_INLINE ChainedScratch(const ConvShape& s, std::int32_t pixels) {
    window_bytes = (std::int64_t{s.kernel_h} * s.kernel_w * s.input.stride + 3) / 4 * 4;
    windows = kMostChainPixels * kChannelAlign * 4;
    staged = windows + (kGatheredPixels * window_bytes + 127) / 64 * 64;
    bytes = staged + staged_row_elements(s, pixels) * s.kernel_h + 64;
  }
};

// Where the parts of Winograd's scratch memory start: zeros in place of a pixel outside the image come first.
// Positions lie a cache line further apart than they need: 4 KiB apart, their lines would evict each other from L1.
struct WinogradScratch {
  std::int64_t inputs, products, sums, bytes;
  std::int64_t pairs_apart, products_apart;  // from one position to the next

  NYBBLE_INLINE WinogradScratch(const ConvShape& s, std::int64_t most_outputs, std::int64_t squares) {
    pairs_apart = squares * s.input.stride / 2 + 16;
    products_apart = squares * most_outputs + 32;
    inputs = (std::int64_t{s.input.stride} + 63) / 64 * 64;
    products = inputs + 16 * pairs_apart * 4;
    sums = products + 16 * products_apart * 2;
    bytes = sums + squares * 4 * most_outputs * 4;
  }
};

// Where the parts of the pair kernel's scratch memory lie: 32-bit sums of kPairSums outputs, then the staged window, in
// which each pair of channels of a pixel lies twice.
inline constexpr std::int32_t kPairSums = 8 * kChannelAlign;
struct PairScratch {
  std::int64_t pixel_bytes, row_bytes, staged, bytes;

  NYBBLE_INLINE PairScratch(const ConvShape& s, std::int32_t pixels) {
    pixel_bytes = std::int64_t{2} * s.input.stride;
    row_bytes = (std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1) * pixel_bytes;
    staged = kPairSums * 4;
    bytes = staged + s.kernel_h * row_bytes;
  }
};

// Grouped kernel: pixels computed together, at most.
inline constexpr std::int32_t kMostGroupedPixels = 4;

// Where the parts of the grouped kernel's scratch memory lie: sums, then the staged window of one unit. A staged pixel
// is the pairs of each output's inputs; depthwise, the pair is of two kernel rows, and so many rows are one.
struct GroupedScratch {
  bool is_depthwise;
  bool is_odd;
  std::int32_t rows, pairs;
  std::int64_t columns, pixel_bytes, row_bytes, staged, bytes;

  NYBBLE_INLINE GroupedScratch(const ConvShape& s, std::int32_t pixels) {
    is_depthwise = s.group_inputs() == 1 && s.group_outputs() == 1;
    is_odd = s.kernel_h % 2 != 0;
    rows = is_depthwise ? (s.kernel_h + 1) / 2 : s.kernel_h;
    pairs = (s.group_inputs() + 1) / 2;
    columns = std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
    pixel_bytes = std::int64_t{pairs} * kGroupedBytes;
    row_bytes = columns * pixel_bytes;
    staged = kMostGroupedPixels * kChannelAlign * 4;
    bytes = staged + rows * row_bytes;
  }
  // Whether a staged row has pairs of neighbouring taps.
  NYBBLE_INLINE bool is_beside(std::int32_t row) const { return is_depthwise && is_odd && row == rows - 1; }
};

// sign(v) * ((|v| + half) >> shift) for v = value * factor; |value| < 2^31 and factor < 2^32, so that v
// and its rounding fit 64 bits.
std::int64_t requantize(std::int64_t value, std::uint32_t factor, std::int32_t shift);

// Finishes `count` sums of one pixel, output channels from `first`, in 64-bit integers: right for every
// epilogue, and the definition for the fast ones.
void finish_exact(const Epilogue& epilogue, const Layout& output, const std::int32_t* sums, std::int64_t pixel,
                  std::int32_t first, std::int32_t count, const void* shortcut, void* out);

}  // namespace nybble
