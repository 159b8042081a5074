// Packing for the depthwise kernel.
#include "kernels/conv/depthwise.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {
namespace {

struct DepthwiseArrays {
  std::vector<std::int32_t> places, correction, pair_places;
  std::int32_t entries = 0, offset = 0, tile_pixels = 0;
  std::int64_t pair_weights = 0;

  DepthwisePacked view() const {
    return {places.data(),
            entries,
            offset,
            correction.data(),
            tile_pixels,
            pair_places.data(),
            static_cast<std::int32_t>(pair_places.size()),
            pair_weights};
  }
};

// A quad: its staged row and column, and the taps of the window, of which those outside have no weight.
struct Quad {
  std::int32_t row, column;
  std::int32_t first_r, first_c;
  bool is_beside;

  // Of the window that begins `below` staged rows below the first.
  std::int8_t weight(const WeightReader& reader, const ConvShape& s, std::int32_t channel, std::int32_t n,
                     std::int32_t below = 0) const {
    const std::int32_t r = first_r + (is_beside ? 0 : n) - below, c = first_c + (is_beside ? n : 0);
    return r >= 0 && r < s.kernel_h && c < s.kernel_w ? reader.at(channel, 0, r, c) : std::int8_t{0};
  }
};

std::vector<Quad> quads_of(const ConvShape& s, const DepthwiseScratch& places) {
  std::vector<Quad> quads;
  for (std::int32_t row = 0; row < places.rows; ++row) {
    const bool is_beside = places.is_beside(row);
    for (std::int32_t c = 0; c < s.kernel_w; c += is_beside ? 4 : 1)
      quads.push_back({row, c * s.dilation_w, 4 * row, c, is_beside});
  }
  return quads;
}

// Of two output rows together; empty where they are computed one by one.
std::vector<Quad> pair_quads(const ConvShape& s) {
  std::vector<Quad> quads;
  if (!is_depthwise_pair(s)) return quads;
  for (std::int32_t row = 0; 4 * row <= s.kernel_h; ++row)
    for (std::int32_t c = 0; c < s.kernel_w; ++c) quads.push_back({row, c * s.dilation_w, 4 * row, c, false});
  return quads;
}

std::vector<std::int32_t> places_of(const std::vector<Quad>& quads, const DepthwiseScratch& scratch) {
  std::vector<std::int32_t> places;
  for (const Quad& quad : quads)
    places.push_back(
        static_cast<std::int32_t>(quad.row * scratch.row_bytes + std::int64_t{quad.column} * kDepthwiseBytes));
  return places;
}

}  // namespace

ConvWeights pack_depthwise(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  const DepthwiseScratch places(s, cut.tile_pixels);
  const std::vector<Quad> quads = quads_of(s, places);
  const WeightReader reader(s, weights);
  const auto outputs = static_cast<std::size_t>(s.output.stride);
  DepthwiseArrays arrays;
  arrays.entries = static_cast<std::int32_t>(quads.size());
  arrays.offset = sign_offset(layer, row.has_signed_quads);
  arrays.tile_pixels = cut.tile_pixels;
  const std::vector<Quad> pairs = pair_quads(s);
  arrays.places = places_of(quads, places);
  arrays.pair_places = places_of(pairs, places);
  arrays.pair_weights = static_cast<std::int64_t>(4 * quads.size() * outputs);
  ConvWeights packed;
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, 0);
  packed.bytes = AlignedBytes(4 * (quads.size() + 2 * pairs.size()) * outputs);
  packed.lowest.assign(outputs, 0);
  packed.highest.assign(outputs, 0);
  std::vector<std::int64_t> totals(outputs, 0);
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign)
    for (const Quad& quad : quads)
      for (std::int32_t k = first; k < first + kChannelAlign; ++k)
        for (std::int32_t n = 0; n < 4; ++n) {
          const std::int64_t w = quad.weight(reader, s, k, n);
          const auto output = static_cast<std::size_t>(k);
          *out++ = static_cast<std::uint8_t>(w);
          totals[output] += w;
          packed.lowest[output] += w * (w > 0 ? layer.low : layer.high);
          packed.highest[output] += w * (w > 0 ? layer.high : layer.low);
        }
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign)
    for (const Quad& quad : pairs)
      for (std::int32_t below = 0; below < 2; ++below)
        for (std::int32_t k = first; k < first + kChannelAlign; ++k)
          for (std::int32_t n = 0; n < 4; ++n) *out++ = static_cast<std::uint8_t>(quad.weight(reader, s, k, n, below));
  // Sums are taken modulo 2^32, and so is this; the result is in range.
  for (std::int64_t total : totals)
    arrays.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * arrays.offset)));
  if (row.finishes_words) packed.words = WordSums::saturated;
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t depthwise_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return DepthwiseScratch(shape, pixels).bytes;
}

}  // namespace nybble
