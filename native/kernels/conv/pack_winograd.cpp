// Packing for Winograd convolution: transformed weights, and segments of channels by the bound of the actual weights.
#include <algorithm>

#include "kernels/conv/pack.h"
#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_taps.h"

namespace nybble {
namespace {

// Four times an output of a segment fits 16 bits.
constexpr std::int64_t kMost = INT16_MAX / 4, kLeast = INT16_MIN / 4;

// What adding 30 to every transformed input adds to an output of the square: the inputs are then as if
// 30 * a_i * a_j had been added to them.
std::int64_t added(const std::int64_t (&g)[3][3], int row, int column) {
  static constexpr std::int64_t kAdded[4] = {2, 0, 1, -1};
  std::int64_t sum = 0;
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c) sum += 30 * kAdded[row + r] * kAdded[column + c] * g[r][c];
  return sum;
}

class Packer {
 public:
  Packer(const ConvShape& shape, const std::int8_t* weights, std::int64_t magnitude)
      : shape_(shape), reader_(shape, weights), magnitude_(magnitude) {}

  void taps(std::int32_t output, std::int32_t input, WinogradTaps& g) const { read_taps(reader_, output, input, g); }

  // First channels of the segments of a block, and the end of the last. Adds to the bounds of all channels together.
  std::vector<std::int32_t> cut(const OutputBlock& block, std::int64_t* lowest, std::int64_t* highest) const {
    const auto outputs = static_cast<std::size_t>(block.outputs);
    std::vector<std::int64_t> above(outputs, 0), below(outputs, 0);
    std::vector<std::int64_t> high(outputs), low(outputs);
    std::vector<std::int32_t> firsts = {0};
    for (std::int32_t first = 0; first < shape_.input.stride; first += kWinogradStep) {
      bool fits = true;
      for (std::size_t k = 0; k < outputs; ++k) {
        high[k] = low[k] = 0;
        for (std::int32_t i = first; i < first + kWinogradStep; ++i) {
          WinogradTaps g;
          taps(block.first + static_cast<std::int32_t>(k), i, g);
          for (const auto& row : g)
            for (std::int32_t w : row) (w > 0 ? high[k] : low[k]) += w * magnitude_;
        }
        highest[k] += high[k];
        lowest[k] += low[k];
        fits = fits && above[k] + high[k] <= kMost && below[k] + low[k] >= kLeast;
      }
      if (!fits) {
        firsts.push_back(first);
        std::fill(above.begin(), above.end(), 0);
        std::fill(below.begin(), below.end(), 0);
      }
      for (std::size_t k = 0; k < outputs; ++k) {
        above[k] += high[k];
        below[k] += low[k];
      }
    }
    firsts.push_back(shape_.input.stride);
    return firsts;
  }

 private:
  const ConvShape& shape_;
  WeightReader reader_;
  std::int64_t magnitude_;
};

struct WinogradArrays {
  std::vector<WinogradBlock> blocks;
  std::vector<WinogradSegment> segments;
  std::vector<std::int16_t> constants;

  WinogradPacked view() const { return {blocks.data(), segments.data(), constants.data()}; }
};

// Transformed inputs of a task that stay in L2.
constexpr std::int64_t kMostInputs = 256 << 10;

}  // namespace

ConvWeights pack_winograd(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  const std::int32_t group = row.channel_group;
  WinogradArrays arrays;
  ConvWeights packed;
  const std::size_t per_output = 16 * static_cast<std::size_t>(s.input.stride);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  const Packer packer(s, weights, layer.high);
  packed.lowest.resize(static_cast<std::size_t>(s.output.stride));
  packed.highest.resize(packed.lowest.size());
  for (const OutputBlock& block : packed.blocks) {
    const std::vector<std::int32_t> firsts =
        packer.cut(block, packed.lowest.data() + block.first, packed.highest.data() + block.first);
    const auto outputs = static_cast<std::size_t>(block.outputs);
    arrays.blocks.push_back(
        {static_cast<std::int32_t>(arrays.segments.size()), static_cast<std::int32_t>(firsts.size()) - 1});
    for (std::size_t n = 0; n + 1 < firsts.size(); ++n) {
      const std::int32_t first = firsts[n], channels = firsts[n + 1] - first;
      const std::size_t offset = block.offset + static_cast<std::size_t>(first) * 16 * outputs;
      arrays.segments.push_back({offset, arrays.constants.size(), first / group, channels / group});
      std::uint8_t* out = packed.bytes.data() + offset;
      const std::size_t position_bytes = static_cast<std::size_t>(channels) * outputs;
      std::vector<std::int16_t> constants(4 * outputs);
      for (std::size_t k = 0; k < outputs; ++k) {
        std::int64_t total[3][3] = {};
        for (std::int32_t i = 0; i < channels; ++i) {
          WinogradTaps g;
          std::int32_t u[4][4];
          packer.taps(block.first + static_cast<std::int32_t>(k), first + i, g);
          transform_taps(g, u);
          for (int r = 0; r < 3; ++r)
            for (int c = 0; c < 3; ++c) total[r][c] += g[r][c];
          const auto size = static_cast<std::size_t>(group), channel = static_cast<std::size_t>(i);
          std::uint8_t* target = out + (channel / size * outputs + k) * size + channel % size;
          for (std::size_t p = 0; p < 16; ++p)
            target[p * position_bytes] = static_cast<std::uint8_t>(static_cast<std::int8_t>(u[p / 4][p % 4]));
        }
        for (int i = 0; i < 4; ++i)  // modulo 2^16, as the kernel's sums
          constants[static_cast<std::size_t>(i) * outputs + k] =
              static_cast<std::int16_t>(static_cast<std::uint16_t>(-4 * added(total, i / 2, i % 2)));
      }
      arrays.constants.insert(arrays.constants.end(), constants.begin(), constants.end());
    }
  }
  if (packed.fits16()) packed.words = WordSums::own;
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t winograd_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels) {
  return WinogradScratch(shape, 2, outputs, pixels).bytes;
}

std::int64_t winograd_single_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels) {
  return WinogradScratch(shape, 1, outputs, pixels).bytes;
}

std::int32_t winograd_tile(const ConvShape& shape, std::int32_t wanted) {
  const std::int64_t fitting = std::min<std::int64_t>(wanted, kMostInputs / (std::int64_t{shape.input.stride} * 32));
  return static_cast<std::int32_t>(std::max<std::int64_t>(fitting / kWinogradGrain, 1)) * kWinogradGrain;
}

}  // namespace nybble
