// Packing for the Winograd kernels with 32-bit sums: transformed weights, and what offsets and they alone add up to.
#include <algorithm>

#include "kernels/conv/inner.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/winograd_quad.h"
#include "kernels/conv/winograd_taps.h"

namespace nybble {
namespace {

// Transformed inputs of a task that stay in L2.
constexpr std::int64_t kMostInputs = 256 << 10;

struct WinogradQuadArrays {
  std::int32_t offset = 0, sum_offset = 0, pair_offset = 0;
  std::vector<std::int32_t> constants;

  WinogradQuadPacked view() const { return {offset, sum_offset, pair_offset, constants.data()}; }
};

// A'mA.
void transform_sums(const std::int64_t (&m)[4][4], std::int64_t (&y)[2][2]) {
  std::int64_t z[2][4];
  for (int c = 0; c < 4; ++c) {
    z[0][c] = m[0][c] + m[1][c] + m[2][c];
    z[1][c] = m[1][c] - m[2][c] - m[3][c];
  }
  for (int r = 0; r < 2; ++r) {
    y[r][0] = z[r][0] + z[r][1] + z[r][2];
    y[r][1] = z[r][1] - z[r][2] - z[r][3];
  }
}

class QuadPacker {
 public:
  QuadPacker(const ConvRow& row, const ConvLayer& layer, const std::int8_t* weights, bool is_inner)
      : shape_(layer.shape),
        reader_(shape_, weights),
        step_(row.dot_vectors * row.lanes32),
        group_(row.dot_group),
        is_inner_(is_inner) {
    const std::int32_t most_input = 2 * (layer.high - layer.low), middle = 2 * (layer.low + layer.high);
    if (is_inner) arrays_.pair_offset = most_input + 9 * layer.most_weight;
    if (!is_inner && !row.has_signed_quads) arrays_.offset = most_input;
    arrays_.sum_offset = arrays_.offset - middle;
  }

  // The weights of all outputs, `out` zero before.
  WinogradQuadArrays pack(std::uint8_t* out) {
    const std::int64_t channels = shape_.input.stride;
    arrays_.constants.resize(static_cast<std::size_t>(shape_.output.stride) * 4);
    for (std::int32_t first = 0; first < shape_.output.stride; first += step_, out += 16 * channels * step_)
      for (std::int32_t k = 0; k < step_; ++k) pack_output(first + k, k, out);
    return std::move(arrays_);
  }

 private:
  // Output `k` of a step, whose weights start at `out`.
  void pack_output(std::int32_t output, std::int32_t k, std::uint8_t* out) {
    std::int64_t totals[4][4] = {};
    if (is_inner_)
      pack_pairs(output, k, out, totals);
    else
      pack_quads(output, k, out, totals);
    std::int64_t y[2][2];
    transform_sums(totals, y);
    // Sums are taken modulo 2^32, and so is this; the result is in range.
    for (std::int32_t i = 0; i < 4; ++i)
      arrays_.constants[static_cast<std::size_t>(output / kChannelAlign * 4 + i) * kChannelAlign +
                        static_cast<std::size_t>(output % kChannelAlign)] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(-y[i / 2][i % 2]));
  }

  void read(std::int32_t output, std::int32_t input, std::int32_t (&u)[4][4]) const {
    WinogradTaps g;
    read_taps(reader_, output, input, g);
    transform_taps(g, u);
  }

  std::int32_t offset_at(int position) const {
    return position == kWinogradPosition ? arrays_.sum_offset : arrays_.offset;
  }

  // Adds what the offset of inputs adds at each position to `totals`.
  void pack_quads(std::int32_t output, std::int32_t k, std::uint8_t* out, std::int64_t (&totals)[4][4]) const {
    const std::int64_t channels = shape_.input.stride;
    for (std::int32_t i = 0; i < channels; ++i) {
      std::int32_t u[4][4];
      read(output, i, u);
      for (int p = 0; p < 16; ++p) {
        const std::int32_t w = u[p / 4][p % 4];
        out[p * channels * step_ + i / group_ * group_ * step_ + group_ * k + i % group_] =
            static_cast<std::uint8_t>(w);
        totals[p / 4][p % 4] += std::int64_t{offset_at(p)} * w;
      }
    }
  }

  // x and y of pairs; to `totals` also what weights alone add.
  void pack_pairs(std::int32_t output, std::int32_t k, std::uint8_t* out, std::int64_t (&totals)[4][4]) const {
    constexpr std::int32_t kHalf = kInnerChannels / 2;
    const std::int64_t channels = shape_.input.stride;
    for (std::int32_t chunk = 0; chunk < channels; chunk += kInnerChannels)
      for (std::int32_t i = 0; i < kHalf; ++i) {
        std::int32_t u0[4][4], u1[4][4];
        read(output, chunk + i, u0);
        read(output, chunk + kHalf + i, u1);
        for (int p = 0; p < 16; ++p) {
          const std::int32_t w0 = u0[p / 4][p % 4], w1 = u1[p / 4][p % 4], x = w1 + arrays_.pair_offset;
          std::uint8_t* target = out + (p * channels + chunk + i / 4 * 8) * step_ + 4 * k + i % 4;
          target[0] = static_cast<std::uint8_t>(x);
          target[4 * step_] = static_cast<std::uint8_t>(w0);
          totals[p / 4][p % 4] += std::int64_t{x} * w0 + std::int64_t{offset_at(p)} * (w0 + w1);
        }
      }
  }

  const ConvShape& shape_;
  WeightReader reader_;
  std::int32_t step_, group_;
  bool is_inner_;
  WinogradQuadArrays arrays_;
};

ConvWeights pack(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights,
                 bool is_inner) {
  const ConvShape& s = layer.shape;
  const std::size_t per_output = 16 * static_cast<std::size_t>(s.input.stride);
  ConvWeights packed;
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  if (row.finishes_words) {
    bound_sums(layer, weights, &packed);
    packed.words = WordSums::saturated;
  }
  packed.own = keep_own(QuadPacker(row, layer, weights, is_inner).pack(packed.bytes.data()));
  return packed;
}

}  // namespace

ConvWeights pack_winograd_quad(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut,
                               const std::int8_t* weights) {
  return pack(row, layer, cut, weights, false);
}

ConvWeights pack_winograd_inner(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut,
                                const std::int8_t* weights) {
  return pack(row, layer, cut, weights, true);
}

std::int64_t winograd_quad_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return WinogradQuadScratch(shape, pixels).bytes;
}

std::int32_t winograd_quad_tile(const ConvShape& shape, std::int32_t wanted) {
  const std::int64_t fitting = std::min<std::int64_t>(wanted, kMostInputs / (std::int64_t{shape.input.stride} * 16));
  return static_cast<std::int32_t>(std::max<std::int64_t>(fitting / kMostQuadSquares, 1)) * kMostQuadSquares;
}

}  // namespace nybble
