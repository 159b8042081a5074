// Packing for the chained kernel.
#include <algorithm>
#include <array>

#include "kernels/conv/chained.h"
#include "kernels/conv/chains.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {
namespace {

// The quad of inputs from byte `place` of the window.
using Entry = ChainEntry<4>;

// Vector operations on the sums of one vector of outputs.
std::size_t cost(std::size_t chains, std::size_t length) { return chains * (2 * length + 1); }

struct ChainedArrays {
  std::vector<ChainGroup> groups;
  std::vector<std::int32_t> quads;
  std::int64_t run_bytes = 0;
  std::int32_t runs_per_row = 0, offset = 0;
  std::vector<std::int32_t> correction;

  ChainedPacked view() const {
    return {groups.data(), quads.data(), run_bytes, runs_per_row, offset, correction.data()};
  }
};

}  // namespace

ConvWeights pack_chained(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  ChainedArrays arrays;
  ConvWeights packed;
  // A staged pixel has the input's stride; columns are contiguous unless dilation leaves gaps.
  arrays.runs_per_row = s.dilation_w == 1 ? 1 : s.kernel_w;
  arrays.run_bytes = std::int64_t{s.dilation_w == 1 ? s.kernel_w : 1} * s.input.stride;
  arrays.offset = sign_offset(layer, row.has_signed_pairs);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, 0);
  const ChainLimits limits(layer.high - layer.low, row.has_signed_pairs);
  const WeightReader reader(s, weights);
  const std::int32_t inputs = s.kernel_h * s.kernel_w * s.input.stride;
  std::vector<std::int8_t> rows;
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign) {
    std::vector<Entry> entries;
    std::array<std::int64_t, kChannelAlign> totals{};
    for (std::int32_t quad = 0; quad < inputs; quad += 4) {
      Entry entry;
      entry.place = quad;
      bool is_zero = true;
      for (std::int32_t k = 0; k < kChannelAlign; ++k)
        for (std::int32_t i = 0; i < 4 && quad + i < inputs; ++i) {
          const std::int32_t pixel = (quad + i) / s.input.stride;
          const std::int8_t w =
              reader.at(first + k, (quad + i) % s.input.stride, pixel / s.kernel_w, pixel % s.kernel_w);
          entry.weights[static_cast<std::size_t>(4 * k + i)] = w;
          totals[static_cast<std::size_t>(k)] += w;
          is_zero = is_zero && w == 0;
        }
      // Types decide which kernel runs, not values: but padding need not be multiplied.
      if (!is_zero) split_entry(entry, limits, entries);
    }
    // Chains are all of one length, so that no branch depends on it; entries of zeros fill the short ones.
    std::size_t length = 1;
    std::vector<Chain<4>> chains = join_entries(entries, limits, length);
    for (const std::size_t longer : {std::size_t{2}, std::size_t{3}, std::size_t{4}, std::size_t{kLongestChain}}) {
      std::vector<Chain<4>> found = join_entries(entries, limits, longer);
      if (cost(found.size(), longer) >= cost(chains.size(), length)) continue;
      chains = std::move(found);
      length = longer;
    }
    arrays.groups.push_back({rows.size(), static_cast<std::int32_t>(arrays.quads.size()),
                             static_cast<std::int32_t>(chains.size() * length), static_cast<std::int32_t>(length)});
    const Entry zeros;
    for (const Chain<4>& chain : chains)
      for (std::size_t i = 0; i < length; ++i) {
        const Entry& entry = i < chain.entries.size() ? *chain.entries[i] : zeros;
        arrays.quads.push_back(entry.place);
        rows.insert(rows.end(), entry.weights.begin(), entry.weights.end());
      }
    // Sums are taken modulo 2^32, and so is this; the result is in range.
    for (std::int64_t total : totals)
      arrays.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * arrays.offset)));
  }
  packed.bytes = AlignedBytes(rows.size());
  std::transform(rows.begin(), rows.end(), packed.bytes.data(),
                 [](std::int8_t w) { return static_cast<std::uint8_t>(w); });
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t chained_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return ChainedScratch(shape, pixels).bytes;
}

}  // namespace nybble
