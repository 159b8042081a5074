#include "kernels/conv/pack.h"

#include <algorithm>

#include "kernels/conv/weights.h"

namespace nybble {
std::vector<OutputBlock> split_outputs(std::int32_t outputs, std::int32_t most, std::size_t bytes_per_output) {
  const std::int32_t units = outputs / kChannelAlign;
  const std::int32_t count = (units + most / kChannelAlign - 1) / (most / kChannelAlign);
  std::vector<OutputBlock> blocks;
  std::size_t offset = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t first = units * i / count * kChannelAlign;
    const std::int32_t size = units * (i + 1) / count * kChannelAlign - first;
    blocks.push_back({first, size, offset});
    offset += static_cast<std::size_t>(size) * bytes_per_output;
  }
  return blocks;
}

PackedConv ConvWeights::view(const std::uint8_t* kept) const {
  PackedConv packed;
  packed.weights = kept;
  packed.blocks = blocks.data();
  packed.block_count = static_cast<std::int32_t>(blocks.size());
  for (const OutputBlock& block : blocks) packed.most_outputs = std::max(packed.most_outputs, block.outputs);
  packed.items = items.data();
  packed.visits = visits.data();
  packed.visit_count = static_cast<std::int32_t>(visits.size());
  packed.run_groups = run_groups;
  packed.runs_per_row = runs_per_row;
  packed.offset = offset;
  packed.correction = correction.data();
  packed.chain_groups = chain_groups.data();
  packed.chain_quads = chain_quads.data();
  packed.run_bytes = run_bytes;
  packed.winograd = winograd.data();
  packed.segments = segments.data();
  packed.constants = constants.data();
  packed.pair_tiles = pair_tiles.data();
  packed.pair_runs = pair_runs.data();
  packed.grouped_units = grouped_units.data();
  packed.grouped_places = grouped_places.data();
  packed.gathers = gathers.data();
  packed.gather_steps = gather_steps.data();
  packed.tile_pixels = tile_pixels;
  return packed;
}

bool ConvWeights::fits16() const {
  return std::all_of(highest.begin(), highest.end(), [](std::int64_t sum) { return sum <= INT16_MAX; }) &&
         std::all_of(lowest.begin(), lowest.end(), [](std::int64_t sum) { return sum >= INT16_MIN; });
}

std::int32_t list_block_pairs(std::int32_t magnitude, std::int32_t weight_magnitude) {
  for (std::int32_t pairs = 64; pairs >= 16; pairs /= 2)
    if (std::int64_t{2} * pairs * magnitude * weight_magnitude <= INT16_MAX) return pairs;
  return 0;
}

ConvWeights pack_direct(const ConvShape& s, const std::int8_t* weights, std::int32_t block_outputs) {
  ConvWeights packed;
  const std::int32_t taps = s.kernel_h * s.kernel_w;
  packed.bytes = AlignedBytes(static_cast<std::size_t>(taps) * static_cast<std::size_t>(s.group_inputs()) *
                              static_cast<std::size_t>(s.output.stride));
  // With groups one block does it all: a group's outputs may straddle any other cut.
  packed.blocks = split_outputs(s.output.stride, s.groups == 1 ? block_outputs : s.output.stride, 0);
  const WeightReader reader(s, weights);
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < s.kernel_w; ++c)
      for (std::int32_t i = 0; i < s.group_inputs(); ++i)
        for (std::int32_t k = 0; k < s.output.stride; ++k) *out++ = static_cast<std::uint8_t>(reader.at(k, i, r, c));
  return packed;
}

ConvWeights pack_sparse(const ConvShape& s, const std::int8_t* weights, std::int32_t group, std::int32_t magnitude,
                        std::int32_t block_groups, std::int32_t block_outputs, std::size_t visit_bytes) {
  ConvWeights packed;
  const std::int32_t groups = s.input.stride / group;
  const std::int32_t blocks = (groups + block_groups - 1) / block_groups;
  const std::size_t per_output = static_cast<std::size_t>(s.kernel_h) * static_cast<std::size_t>(s.kernel_w) *
                                 static_cast<std::size_t>(s.input.stride);
  packed.blocks = split_outputs(s.output.stride, block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  const WeightReader reader(s, weights);

  std::int32_t next = 0;
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < s.kernel_w; ++c)
      for (std::int32_t b = 0; b < blocks; ++b) {
        const std::int64_t pixels = std::int64_t{r * s.dilation_h} * s.input.width + c * s.dilation_w;
        packed.items.push_back({r * s.dilation_h, c * s.dilation_w, b, next,
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

  for (std::size_t n = 0; n < packed.items.size(); ++n) {
    const SparseItem& item = packed.items[n];
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
    for (std::size_t k = 0; group == 2 && k < above.size() && fits; ++k)
      fits = above[k] + item_above[k] <= INT16_MAX && below[k] + item_below[k] >= INT16_MIN;
    const std::size_t item_bytes = static_cast<std::size_t>(count * group) * static_cast<std::size_t>(widest);
    if (!fits) {
      packed.visits.back().widen = true;
      std::fill(above.begin(), above.end(), 0);
      std::fill(below.begin(), below.end(), 0);
    }
    if (packed.visits.empty() || !fits || bytes_in_visit + item_bytes > visit_bytes) {
      packed.visits.push_back({static_cast<std::int32_t>(n), 0, 0, false});
      bytes_in_visit = 0;
    }
    ++packed.visits.back().items;
    if (packed.visits.size() > 1) packed.visits[packed.visits.size() - 2].groups_ahead += count;
    bytes_in_visit += item_bytes;
    for (std::size_t k = 0; k < above.size(); ++k) {
      above[k] += item_above[k];
      below[k] += item_below[k];
      packed.highest[k] += item_above[k];
      packed.lowest[k] += item_below[k];
    }
  }
  return packed;
}

ConvWeights pack_dot(const ConvShape& s, const std::int8_t* weights, std::int32_t block_outputs, std::int32_t together,
                     std::int32_t group, std::int32_t offset) {
  ConvWeights packed;
  // A staged pixel has the input's stride; columns are contiguous unless dilation leaves gaps.
  packed.runs_per_row = s.dilation_w == 1 ? 1 : s.kernel_w;
  const std::int32_t columns = s.dilation_w == 1 ? s.kernel_w : 1;
  const std::int32_t run = columns * s.input.stride;
  packed.run_groups = (run + group - 1) / group;
  const std::size_t per_output = static_cast<std::size_t>(s.kernel_h) *
                                 static_cast<std::size_t>(packed.runs_per_row * packed.run_groups) *
                                 static_cast<std::size_t>(group);
  packed.blocks = split_outputs(s.output.stride, block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  packed.offset = offset;
  std::vector<std::int64_t> totals(static_cast<std::size_t>(s.output.stride), 0);
  const WeightReader reader(s, weights);
  // Blocks are multiples of `together`, and follow each other.
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t first = 0; first < s.output.stride; first += together)
    for (std::int32_t r = 0; r < s.kernel_h; ++r)
      for (std::int32_t n = 0; n < packed.runs_per_row; ++n)
        for (std::int32_t g = 0; g < packed.run_groups; ++g)
          for (std::int32_t k = first; k < first + together; ++k)
            for (std::int32_t i = 0; i < group; ++i) {
              const std::int32_t element = group * g + i;
              const std::int32_t column = n * columns + element / s.input.stride;
              const std::int8_t w = element < run ? reader.at(k, element % s.input.stride, r, column) : std::int8_t{0};
              *out++ = static_cast<std::uint8_t>(w);
              totals[static_cast<std::size_t>(k)] += w;
            }
  // Sums are taken modulo 2^32, and so is this; the result is in range.
  for (std::int64_t total : totals)
    packed.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * offset)));
  return packed;
}

}  // namespace nybble
