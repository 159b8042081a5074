// Packing for the grouped kernel: entries of one pair of bytes per output, and the places of each output's inputs.
#include <algorithm>
#include <array>

#include "kernels/conv/chains.h"
#include "kernels/conv/grouped.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {
namespace {

// The pair of bytes of each output that lie at byte `place` of the staged window.
using Entry = ChainEntry<2>;

// Chains of one length, but for the last one, which may be shorter.
struct Chains {
  std::vector<Chain<2>> chains;
  std::size_t length = 0, last = 0;

  Chains(const std::vector<Entry>& entries, const ChainLimits& limits, std::size_t most)
      : chains(join_entries(entries, limits, most)) {
    std::stable_sort(chains.begin(), chains.end(),
                     [](const auto& a, const auto& b) { return a.entries.size() > b.entries.size(); });
    length = chains.front().entries.size();
    last = chains.back().entries.size();
  }

  // Vector operations of a pixel of kChannelAlign outputs: products, then pairs of chains that are widened and added.
  std::size_t cost() const {
    const std::size_t joints = (chains.size() + 1) / 2;
    return 4 * ((chains.size() - 1) * length + last) + (chains.size() > 1 ? 12 * joints : 0);
  }
};

// Those that cost least.
Chains join(const std::vector<Entry>& entries, const ChainLimits& limits) {
  Chains best(entries, limits, 1);
  for (std::size_t most = 2;; most = std::min(most + (most < 6 ? 1 : most / 3), entries.size())) {
    if (most > entries.size()) return best;
    Chains found(entries, limits, most);
    if (found.cost() < best.cost()) best = std::move(found);
    if (most == entries.size()) return best;
  }
}

struct GroupedArrays {
  std::vector<GroupedUnit> units;
  std::vector<std::int32_t> places;
  std::vector<GatherVector> gathers;
  std::vector<GatherStep> gather_steps;
  std::vector<std::int32_t> correction;
  std::vector<std::int16_t> constants;
  std::int32_t offset = 0, tile_pixels = 0;

  GroupedPacked view() const {
    return {units.data(), places.data(),     gathers.data(),   gather_steps.data(),
            offset,       correction.data(), constants.data(), tile_pixels};
  }
};

// How the pairs of inputs of half as many outputs as a vector has bytes, from place `first` of a unit, are picked out
// of a pixel: shuffles of 16 neighbouring bytes.
void add_gather(const ConvShape& s, std::int32_t unit, std::int32_t first, std::int32_t pair, std::int32_t bytes,
                GroupedArrays& packed) {
  std::vector<std::int32_t> wanted(static_cast<std::size_t>(bytes));
  for (std::int32_t i = 0; i < bytes / 2; ++i) {
    const std::int32_t output = unit + staged_output(first + i, bytes);
    for (std::int32_t n = 0; n < 2; ++n) {
      const std::int32_t input = 2 * pair + n;
      const bool is_real = output < s.output.channels && input < s.group_inputs();
      wanted[static_cast<std::size_t>(2 * i + n)] =
          is_real ? output / s.group_outputs() * s.group_inputs() + input : -1;
    }
  }
  GatherVector vector{static_cast<std::int32_t>(packed.gather_steps.size()), 0};
  do {
    const std::int32_t next = *std::min_element(wanted.begin(), wanted.end(), [](std::int32_t a, std::int32_t b) {
      return static_cast<std::uint32_t>(a) < static_cast<std::uint32_t>(b);  // those that are done last
    });
    GatherStep step;
    step.first = std::min(std::max(next, 0), s.input.stride - 16);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const bool is_here = wanted[i] >= step.first && wanted[i] < step.first + 16;
      step.picks[i] = is_here ? static_cast<std::uint8_t>(wanted[i] - step.first) : std::uint8_t{0x80};
      if (is_here) wanted[i] = -1;
    }
    packed.gather_steps.push_back(step);
    ++vector.steps;
  } while (*std::max_element(wanted.begin(), wanted.end()) >= 0);
  packed.gathers.push_back(vector);
}

}  // namespace

ConvWeights pack_grouped(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  const std::int32_t low = layer.low, high = layer.high;
  GroupedArrays arrays;
  ConvWeights packed;
  const GroupedScratch places(s, cut.tile_pixels);
  arrays.tile_pixels = cut.tile_pixels;
  arrays.offset = sign_offset(layer, row.has_signed_pairs);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, 0);
  packed.highest.assign(static_cast<std::size_t>(s.output.stride), 0);
  packed.lowest.assign(static_cast<std::size_t>(s.output.stride), 0);
  const ChainLimits limits(high - low, row.has_signed_pairs);
  const WeightReader reader(s, weights);
  std::vector<std::int8_t> rows;
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign) {
    std::vector<Entry> entries;
    std::array<std::int64_t, kChannelAlign> totals{};
    const auto read = [&](Entry& entry, std::int32_t i, std::int32_t n, std::int32_t input, std::int32_t r,
                          std::int32_t c) {
      const std::int32_t k = staged_output(i, row.staging_bytes);
      const std::int8_t w = reader.at(first + k, input, r, c);
      entry.weights[static_cast<std::size_t>(2 * i + n)] = w;
      totals[static_cast<std::size_t>(k)] += w;
      const std::size_t output = static_cast<std::size_t>(first + k);
      packed.highest[output] += std::int64_t{w} * (w > 0 ? high : low);
      packed.lowest[output] += std::int64_t{w} * (w > 0 ? low : high);
    };
    for (std::int32_t r = 0; r < places.rows; ++r)
      for (std::int32_t c = 0; c < s.kernel_w; ++c)
        for (std::int32_t pair = 0; pair < places.pairs; ++pair) {
          // The last of an odd number of depthwise rows: pairs of neighbouring taps.
          const bool is_beside = places.is_beside(r);
          if (is_beside && c % 2 != 0) continue;
          Entry entry;
          entry.place =
              static_cast<std::int32_t>(r * places.row_bytes + std::int64_t{c} * s.dilation_w * places.pixel_bytes +
                                        std::int64_t{pair} * kGroupedBytes);
          for (std::int32_t i = 0; i < kChannelAlign; ++i)
            for (std::int32_t n = 0; n < 2; ++n) {
              if (is_beside) {
                if (c + n < s.kernel_w) read(entry, i, n, 0, 2 * r, c + n);
              } else if (places.is_depthwise) {
                read(entry, i, n, 0, 2 * r + n, c);
              } else {
                read(entry, i, n, 2 * pair + n, r, c);
              }
            }
          split_entry(entry, limits, entries);
        }
    const Chains found = join(entries, limits);
    arrays.units.push_back({rows.size(), static_cast<std::int32_t>(arrays.places.size()),
                            static_cast<std::int32_t>(found.chains.size()), static_cast<std::int32_t>(found.length),
                            static_cast<std::int32_t>(found.last)});
    Entry zeros;
    zeros.place = entries.front().place;
    for (std::size_t n = 0; n < found.chains.size(); ++n) {
      const auto& chain = found.chains[n].entries;
      // Entries of zeros fill what is short but not the last.
      for (std::size_t i = 0; i < (n + 1 < found.chains.size() ? found.length : found.last); ++i) {
        const Entry& entry = i < chain.size() ? *chain[i] : zeros;
        arrays.places.push_back(entry.place);
        rows.insert(rows.end(), entry.weights.begin(), entry.weights.end());
      }
    }
    for (std::int64_t total : totals) {
      arrays.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * arrays.offset)));
      arrays.constants.push_back(static_cast<std::int16_t>(static_cast<std::uint16_t>(-total * arrays.offset)));
    }
    if (places.is_depthwise) continue;
    for (std::int32_t pair = 0; pair < places.pairs; ++pair)
      for (std::int32_t half = 0; half < kChannelAlign; half += row.staging_bytes / 2)
        add_gather(s, first, half, pair, row.staging_bytes, arrays);
  }
  packed.bytes = AlignedBytes(rows.size());
  std::transform(rows.begin(), rows.end(), packed.bytes.data(),
                 [](std::int8_t w) { return static_cast<std::uint8_t>(w); });
  packed.words = WordSums::own;
  packed.staged_correction = arrays.correction;
  for (std::int32_t i = 0; i < kChannelAlign; ++i)
    packed.staged_order.push_back(staged_output(staged_place(i, row.lanes32), row.staging_bytes));
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t grouped_scratch(const ConvShape& shape, std::int64_t, std::int32_t pixels) {
  return GroupedScratch(shape, pixels).bytes;
}

}  // namespace nybble
