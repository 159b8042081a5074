// Packing for the grouped kernel: entries of one pair of bytes an output, and where each output's inputs lie.
#include <algorithm>
#include <array>

#include "kernels/conv/chains.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {
namespace {

// The pair of bytes of each output that lie at byte `place` of the staged window.
using Entry = ChainEntry<2>;

// Vector operations of a pixel of kChannelAlign outputs: products, then pairs of chains that are widened and added.
std::size_t cost(std::size_t chains, std::size_t length) {
  const std::size_t joints = (chains + 1) / 2;
  return 4 * chains * length + (chains > 1 ? 12 * joints : 0);
}

// Chains of one length, those that cost least.
std::vector<Chain<2>> join(const std::vector<Entry>& entries, const ChainLimits& limits, std::size_t* length) {
  std::vector<std::size_t> lengths;
  for (std::size_t n = 2; n < entries.size(); n += n < 6 ? 1 : n / 3) lengths.push_back(n);
  lengths.push_back(entries.size());
  *length = 1;
  std::vector<Chain<2>> chains = join_entries(entries, limits, 1);
  for (const std::size_t longer : lengths) {
    std::vector<Chain<2>> found = join_entries(entries, limits, longer);
    std::size_t longest = 0;
    for (const Chain<2>& chain : found) longest = std::max(longest, chain.entries.size());
    if (cost(found.size(), longest) >= cost(chains.size(), *length)) continue;
    chains = std::move(found);
    *length = longest;
  }
  return chains;
}

// How the pairs of inputs of kGatheredOutputs outputs are picked out of a pixel: shuffles of 16 neighbouring bytes.
void add_gather(const ConvShape& s, std::int32_t first, std::int32_t pair, ConvWeights& packed) {
  std::array<std::int32_t, 2 * std::size_t{kGatheredOutputs}> wanted{};
  for (std::int32_t i = 0; i < kGatheredOutputs; ++i) {
    const std::int32_t output = first / kChannelAlign * kChannelAlign + staged_output(first % kChannelAlign + i);
    for (std::int32_t n = 0; n < 2; ++n) {
      const std::int32_t input = 2 * pair + n;
      const bool is_real = output < s.output.channels && input < s.group_inputs();
      wanted[static_cast<std::size_t>(2 * i + n)] =
          is_real ? output / s.group_outputs() * s.group_inputs() + input : -1;
    }
  }
  GatherVector vector{static_cast<std::int32_t>(packed.gather_steps.size()), 0};
  for (;;) {
    const auto next = std::min_element(wanted.begin(), wanted.end(), [](std::int32_t a, std::int32_t b) {
      return static_cast<std::uint32_t>(a) < static_cast<std::uint32_t>(b);  // those that are done last
    });
    if (*next < 0) break;
    GatherStep step;
    step.first = std::min(*next, s.input.stride - 16);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const bool is_here = wanted[i] >= step.first && wanted[i] < step.first + 16;
      step.picks[i] = is_here ? static_cast<std::uint8_t>(wanted[i] - step.first) : std::uint8_t{0x80};
      if (is_here) wanted[i] = -1;
    }
    packed.gather_steps.push_back(step);
    ++vector.steps;
  }
  packed.gathers.push_back(vector);
}

}  // namespace

ConvWeights pack_grouped(const ConvShape& s, const std::int8_t* weights, std::int32_t block_outputs,
                         std::int32_t tile_pixels, std::int32_t low, std::int32_t high) {
  ConvWeights packed;
  const GroupedScratch places(s, tile_pixels);
  packed.tile_pixels = tile_pixels;
  packed.offset = -low;
  packed.blocks = split_outputs(s.output.stride, block_outputs, 0);
  packed.highest.assign(static_cast<std::size_t>(s.output.stride), 0);
  packed.lowest.assign(static_cast<std::size_t>(s.output.stride), 0);
  const ChainLimits limits(high - low);
  const WeightReader reader(s, weights);
  std::vector<std::int8_t> rows;
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign) {
    std::vector<Entry> entries;
    std::array<std::int64_t, kChannelAlign> totals{};
    const auto read = [&](Entry& entry, std::int32_t i, std::int32_t n, std::int32_t input, std::int32_t r,
                          std::int32_t c) {
      const std::int32_t k = staged_output(i);
      const std::int8_t w = reader.at(first + k, input, r, c);
      entry.weights[static_cast<std::size_t>(2 * i + n)] = w;
      totals[static_cast<std::size_t>(k)] += w;
      const std::size_t output = static_cast<std::size_t>(first + k);
      packed.highest[output] += std::int64_t{w} * (w > 0 ? high : low);
      packed.lowest[output] += std::int64_t{w} * (w > 0 ? low : high);
    };
    for (std::int32_t row = 0; row < places.rows; ++row)
      for (std::int32_t c = 0; c < s.kernel_w; ++c)
        for (std::int32_t pair = 0; pair < places.pairs; ++pair) {
          Entry entry;
          entry.place =
              static_cast<std::int32_t>(row * places.row_bytes + std::int64_t{c} * s.dilation_w * places.pixel_bytes +
                                        std::int64_t{pair} * kGroupedBytes);
          for (std::int32_t i = 0; i < kChannelAlign; ++i)
            for (std::int32_t n = 0; n < 2; ++n) {
              if (places.is_depthwise) {
                if (2 * row + n < s.kernel_h) read(entry, i, n, 0, 2 * row + n, c);
              } else {
                read(entry, i, n, 2 * pair + n, row, c);
              }
            }
          split_entry(entry, limits, entries);
        }
    std::size_t length = 0;
    const std::vector<Chain<2>> chains = join(entries, limits, &length);
    packed.grouped_units.push_back({rows.size(), static_cast<std::int32_t>(packed.grouped_places.size()),
                                    static_cast<std::int32_t>(chains.size()), static_cast<std::int32_t>(length)});
    Entry zeros;
    zeros.place = entries.front().place;
    for (const Chain<2>& chain : chains)
      for (std::size_t i = 0; i < length; ++i) {
        const Entry& entry = i < chain.entries.size() ? *chain.entries[i] : zeros;
        packed.grouped_places.push_back(entry.place);
        rows.insert(rows.end(), entry.weights.begin(), entry.weights.end());
      }
    for (std::int64_t total : totals) {
      packed.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(total * low)));
      packed.constants.push_back(static_cast<std::int16_t>(static_cast<std::uint16_t>(total * low)));
    }
    if (places.is_depthwise) continue;
    for (std::int32_t pair = 0; pair < places.pairs; ++pair)
      for (std::int32_t half = 0; half < kChannelAlign; half += kGatheredOutputs)
        add_gather(s, first + half, pair, packed);
  }
  packed.bytes = AlignedBytes(rows.size());
  std::transform(rows.begin(), rows.end(), packed.bytes.data(),
                 [](std::int8_t w) { return static_cast<std::uint8_t>(w); });
  return packed;
}

}  // namespace nybble
