// Packing for the sparse kernels: where 16-bit sums must be widened, by the bound of the weights.
#include <algorithm>

#include "kernels/conv/pack.h"
#include "kernels/conv/sparse.h"
#include "kernels/conv/weights.h"

namespace nybble {

namespace {

struct SparseArrays {
  std::vector<SparseItem> items;
  std::vector<SparseVisit> visits;

  SparsePacked view() const { return {items.data(), visits.data(), static_cast<std::int32_t>(visits.size())}; }
};

}  // namespace

ConvWeights pack_sparse(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  const std::int32_t group = row.list_group, block_groups = cut.list_block, magnitude = layer.high;
  const bool is_word = row.has_list_products;  // sums have 16 bits
  SparseArrays arrays;
  ConvWeights packed;
  const std::int32_t groups = s.input.stride / group;
  const std::int32_t blocks = (groups + block_groups - 1) / block_groups;
  const std::size_t per_output = static_cast<std::size_t>(s.kernel_h) * static_cast<std::size_t>(s.kernel_w) *
                                 static_cast<std::size_t>(s.input.stride);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  const WeightReader reader(s, weights);

  std::int32_t next = 0;
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < s.kernel_w; ++c)
      for (std::int32_t b = 0; b < blocks; ++b) {
        const std::int64_t pixels = std::int64_t{r * s.dilation_h} * s.input.width + c * s.dilation_w;
        arrays.items.push_back({r * s.dilation_h, c * s.dilation_w, b, next,
                                pixels * list_groups(s.input.stride, group) + std::int64_t{b} * block_groups,
                                pixels * blocks + b});
        next += std::min(block_groups, groups - b * block_groups);
      }

  // Largest positive and negative sum of each output since the last widening; 16-bit sums stay between.
  std::vector<std::int64_t> above(static_cast<std::size_t>(s.output.stride)), below(above.size());
  std::vector<std::int64_t> item_above(above.size()), item_below(above.size());
  packed.highest.resize(above.size());
  packed.lowest.resize(above.size());
  std::size_t bytes_in_visit = 0;
  std::int32_t widest = 0;
  for (const OutputBlock& block : packed.blocks) widest = std::max(widest, block.outputs);

  for (std::size_t n = 0; n < arrays.items.size(); ++n) {
    const SparseItem& item = arrays.items[n];
    const std::int32_t tap = item.first_group / groups;
    const std::int32_t r = tap / s.kernel_w, c = tap % s.kernel_w;
    const std::int32_t first = item.block * block_groups;
    const std::int32_t count = std::min(block_groups, groups - first);
    std::fill(item_above.begin(), item_above.end(), 0);
    std::fill(item_below.begin(), item_below.end(), 0);
    for (const OutputBlock& block : packed.blocks) {
      std::uint8_t* out = packed.bytes.data() + block.offset +
                          static_cast<std::size_t>(item.first_group) * static_cast<std::size_t>(group * block.outputs);
      for (std::int32_t k = block.first; k < block.first + block.outputs; ++k) {
        std::int64_t high = 0, low = 0;
        std::uint8_t* target = out + group * (k - block.first);
        // Bytes past the real channels stay zero.
        const std::int32_t from = group * first;
        const std::int32_t present = k < s.output.channels ? std::min(group * count, s.group_inputs() - from) : 0;
        const std::int8_t* column = present > 0 ? reader.column(k, r, c) + from * reader.stride() : nullptr;
        for (std::int32_t i = 0; i < present; ++i) {
          const std::int8_t w = column[i * reader.stride()];
          target[i / group * group * block.outputs + i % group] = static_cast<std::uint8_t>(w);
          (w > 0 ? high : low) += w;
        }
        item_above[static_cast<std::size_t>(k)] = high * magnitude;
        item_below[static_cast<std::size_t>(k)] = low * magnitude;
      }
    }

    bool fits = true;  // 32-bit sums always do
    for (std::size_t k = 0; is_word && k < above.size() && fits; ++k)
      fits = above[k] + item_above[k] <= INT16_MAX && below[k] + item_below[k] >= INT16_MIN;
    const std::size_t item_bytes = static_cast<std::size_t>(count * group) * static_cast<std::size_t>(widest);
    if (!fits) {
      arrays.visits.back().widen = true;
      std::fill(above.begin(), above.end(), 0);
      std::fill(below.begin(), below.end(), 0);
    }
    if (arrays.visits.empty() || !fits || bytes_in_visit + item_bytes > static_cast<std::size_t>(cut.visit_bytes)) {
      arrays.visits.push_back({static_cast<std::int32_t>(n), 0, 0, false});
      bytes_in_visit = 0;
    }
    ++arrays.visits.back().items;
    if (arrays.visits.size() > 1) arrays.visits[arrays.visits.size() - 2].groups_ahead += count;
    bytes_in_visit += item_bytes;
    for (std::size_t k = 0; k < above.size(); ++k) {
      above[k] += item_above[k];
      below[k] += item_below[k];
      packed.highest[k] += item_above[k];
      packed.lowest[k] += item_below[k];
    }
  }
  if (is_word && packed.fits16()) packed.words = WordSums::own;
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t sparse_scratch(const ConvShape&, std::int64_t outputs, std::int32_t) {
  return static_cast<std::int64_t>(sizeof(TileCoordinates)) + kMostTilePixels * outputs * 8;
}

}  // namespace nybble
