// Packing for the kernels of pairs and of single inputs: where 16-bit sums must be widened, by the bound of the
// weights.
#include <algorithm>
#include <array>

#include "kernels/conv/pack.h"
#include "kernels/conv/pair.h"
#include "kernels/conv/weights.h"

namespace nybble {

namespace {

struct PairArrays {
  std::vector<PairTile> tiles;
  std::vector<PairRun> runs;
  std::vector<std::int16_t> constants;
  std::int32_t offset = 0, tile_pixels = 0;

  PairPacked view() const { return {tiles.data(), runs.data(), constants.data(), offset, tile_pixels}; }
};

// `offset` is added to every input.
ConvWeights pack_segments(const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights, std::int32_t group,
                          std::int32_t offset) {
  const ConvShape& s = layer.shape;
  const std::int32_t low = layer.low, high = layer.high;
  const std::int32_t staged = group * group;  // bytes of a group in the window: a pair lies there twice
  PairArrays arrays;
  ConvWeights packed;
  const PairScratch places(s, group, cut.tile_pixels);
  const std::int32_t groups = (s.input.channels + group - 1) / group;
  arrays.tile_pixels = cut.tile_pixels;
  arrays.offset = offset;
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, 0);
  packed.highest.assign(static_cast<std::size_t>(s.output.stride), 0);
  packed.lowest.assign(static_cast<std::size_t>(s.output.stride), 0);
  packed.bytes = AlignedBytes(static_cast<std::size_t>(s.kernel_h) * static_cast<std::size_t>(s.kernel_w) *
                              static_cast<std::size_t>(groups * group) * static_cast<std::size_t>(s.output.stride));
  const WeightReader reader(s, weights);
  std::uint8_t* out = packed.bytes.data();
  const auto pack_tile = [&](std::int32_t first, std::int32_t outputs) {
    PairTile tile;
    tile.offset = static_cast<std::size_t>(out - packed.bytes.data());
    tile.constants = arrays.constants.size();
    tile.first_run = static_cast<std::int32_t>(arrays.runs.size());
    std::int32_t segments = 0;
    // Of the segment so far: the sums that 16 bits hold, and what the offset adds to them.
    std::array<std::int64_t, kPairOutputs> above{}, below{}, offsets{};
    const auto end_segment = [&] {
      for (std::int32_t k = 0; k < outputs; ++k)
        arrays.constants.push_back(
            static_cast<std::int16_t>(static_cast<std::uint16_t>(-offsets[static_cast<std::size_t>(k)])));
      above.fill(0);
      below.fill(0);
      offsets.fill(0);
      arrays.runs.back().ends = true;
      ++segments;
    };
    bool begins = true;
    for (std::int32_t r = 0; r < s.kernel_h; ++r)
      for (std::int32_t c = 0; c < s.kernel_w; ++c) {
        const std::int64_t place = r * places.row_bytes + std::int64_t{c} * s.dilation_w * places.pixel_bytes;
        for (std::int32_t g = 0; g < groups; ++g) {
          std::array<std::int64_t, kPairOutputs> add_above{}, add_below{}, add_offset{};
          bool fits = true;
          for (std::size_t k = 0; k < static_cast<std::size_t>(outputs); ++k) {
            for (std::int32_t n = 0; n < group; ++n) {
              const std::int64_t w = reader.at(first + static_cast<std::int32_t>(k), group * g + n, r, c);
              *out++ = static_cast<std::uint8_t>(w);
              add_above[k] += w * (w > 0 ? high : low);
              add_below[k] += w * (w > 0 ? low : high);
              add_offset[k] += w * offset;
            }
            fits = fits && above[k] + add_above[k] <= INT16_MAX && below[k] + add_below[k] >= INT16_MIN;
          }
          if (!fits) {
            end_segment();
            begins = true;
          }
          if (begins || g == 0)
            arrays.runs.push_back({static_cast<std::int32_t>(place + std::int64_t{staged} * g), 0, false});
          begins = false;
          arrays.runs.back().bytes += staged;
          for (std::size_t k = 0; k < static_cast<std::size_t>(outputs); ++k) {
            above[k] += add_above[k];
            below[k] += add_below[k];
            offsets[k] += add_offset[k];
            packed.highest[static_cast<std::size_t>(first) + k] += add_above[k];
            packed.lowest[static_cast<std::size_t>(first) + k] += add_below[k];
          }
        }
      }
    end_segment();
    // What sums would start at after the last segment.
    if (segments > 1) arrays.constants.resize(arrays.constants.size() + static_cast<std::size_t>(outputs));
    tile.runs = static_cast<std::int32_t>(arrays.runs.size()) - tile.first_run;
    tile.is_one_segment = segments == 1;
    arrays.tiles.push_back(tile);
  };
  for (OutputBlock& block : packed.blocks) {
    block.offset = arrays.tiles.size();
    for (std::int32_t k = 0; k < block.outputs; k += kPairOutputs)
      pack_tile(block.first + k, std::min(kPairOutputs, block.outputs - k));
  }
  packed.words = WordSums::own;
  packed.own = keep_own(std::move(arrays));
  return packed;
}

}  // namespace

ConvWeights pack_pair(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  return pack_segments(layer, cut, weights, 2, sign_offset(layer, row.has_signed_pairs));
}

std::int64_t pair_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return PairScratch(shape, 2, pixels).bytes;
}

ConvWeights pack_single(const ConvRow&, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  return pack_segments(layer, cut, weights, 1, sign_offset(layer, true));
}

std::int64_t single_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return PairScratch(shape, 1, pixels).bytes;
}

}  // namespace nybble
