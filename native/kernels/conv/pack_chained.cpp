// Packing for the chained kernel: splits weights that are too large for a product of bytes, and joins quads into chains
// whose sums fit 16 bits.
#include <algorithm>
#include <array>

#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {
namespace {

// Chains that an entry may still join: with more, packing large windows would take long.
constexpr std::size_t kOpenChains = 32;

// What products of inputs of at most `magnitude` leave of 16 bits, in weights.
struct Limits {
  std::int32_t above, below;
  explicit Limits(std::int32_t magnitude) : above(INT16_MAX / magnitude), below(-INT16_MIN / magnitude) {}
};

// Sums of positive and of negative weights of each pair of each output: for inputs of 0 to m, the sum of products lies
// between m * below and m * above.
struct Bounds {
  std::array<std::int32_t, 2 * std::size_t{kChannelAlign}> above{}, below{};

  void add(const Bounds& other) {
    for (std::size_t i = 0; i < above.size(); ++i) {
      above[i] += other.above[i];
      below[i] += other.below[i];
    }
  }
  bool fit(const Limits& limits) const {
    return *std::max_element(above.begin(), above.end()) <= limits.above &&
           *std::max_element(below.begin(), below.end()) <= limits.below;
  }
  std::int32_t largest() const {
    return std::max(*std::max_element(above.begin(), above.end()), *std::max_element(below.begin(), below.end()));
  }
};

// Weights of kChannelAlign outputs for the quad of inputs from byte `quad` of the window.
struct Entry {
  std::int32_t quad = 0;
  std::array<std::int8_t, 4 * std::size_t{kChannelAlign}> weights{};

  Bounds bounds() const {
    Bounds found;
    for (std::size_t i = 0; i < weights.size(); ++i)
      (weights[i] > 0 ? found.above : found.below)[i / 2] += std::abs(int{weights[i]});
    return found;
  }
};

struct Chain {
  Bounds bounds;
  std::vector<const Entry*> entries;
};

// Halves weights until products fit: their halves add up to them.
void split(const Entry& entry, const Limits& limits, std::vector<Entry>& entries) {
  if (entry.bounds().fit(limits)) {
    entries.push_back(entry);
    return;
  }
  Entry half = entry, rest = entry;
  for (std::size_t i = 0; i < entry.weights.size(); ++i) {
    half.weights[i] = static_cast<std::int8_t>(entry.weights[i] / 2);
    rest.weights[i] = static_cast<std::int8_t>(entry.weights[i] - half.weights[i]);
  }
  split(half, limits, entries);
  split(rest, limits, entries);
}

// Chains of at most `most` entries: first fit, the largest first.
std::vector<Chain> join(const std::vector<Entry>& entries, const Limits& limits, std::size_t most) {
  std::vector<std::pair<Bounds, const Entry*>> sorted;
  for (const Entry& entry : entries) sorted.emplace_back(entry.bounds(), &entry);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first.largest() > b.first.largest(); });
  std::vector<Chain> chains;
  std::vector<std::size_t> open;
  for (const auto& item : sorted) {
    // No structured binding: clang 14 has none in lambdas.
    const Bounds& bounds = item.first;
    auto found = std::find_if(open.begin(), open.end(), [&](std::size_t chain) {
      Bounds both = chains[chain].bounds;
      both.add(bounds);
      return both.fit(limits);
    });
    if (found == open.end()) {
      if (open.size() == kOpenChains) open.erase(open.begin());
      found = open.insert(open.end(), chains.size());
      chains.emplace_back();
    }
    Chain& chain = chains[*found];
    chain.bounds.add(bounds);
    chain.entries.push_back(item.second);
    if (chain.entries.size() == most) open.erase(found);
  }
  return chains;
}

// Vector operations on the sums of one vector of outputs.
std::size_t cost(std::size_t chains, std::size_t length) { return chains * (2 * length + 1); }

}  // namespace

ConvWeights pack_chained(const ConvShape& s, const std::int8_t* weights, std::int32_t block_outputs,
                         std::int32_t magnitude, std::int32_t offset) {
  ConvWeights packed;
  // A staged pixel has the input's stride; columns are contiguous unless dilation leaves gaps.
  packed.runs_per_row = s.dilation_w == 1 ? 1 : s.kernel_w;
  packed.run_bytes = std::int64_t{s.dilation_w == 1 ? s.kernel_w : 1} * s.input.stride;
  packed.offset = offset;
  packed.blocks = split_outputs(s.output.stride, block_outputs, 0);
  const Limits limits(magnitude);
  const WeightReader reader(s, weights);
  const std::int32_t inputs = s.kernel_h * s.kernel_w * s.input.stride;
  std::vector<std::int8_t> rows;
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign) {
    std::vector<Entry> entries;
    std::array<std::int64_t, kChannelAlign> totals{};
    for (std::int32_t quad = 0; quad < inputs; quad += 4) {
      Entry entry;
      entry.quad = quad;
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
      if (!is_zero) split(entry, limits, entries);
    }
    // Chains are all of one length, so that no branch depends on it; entries of zeros fill the short ones.
    std::size_t length = 1;
    std::vector<Chain> chains = join(entries, limits, length);
    for (const std::size_t longer : {std::size_t{2}, std::size_t{3}, std::size_t{4}, std::size_t{kLongestChain}}) {
      std::vector<Chain> found = join(entries, limits, longer);
      if (cost(found.size(), longer) >= cost(chains.size(), length)) continue;
      chains = std::move(found);
      length = longer;
    }
    packed.chain_groups.push_back({rows.size(), static_cast<std::int32_t>(packed.chain_quads.size()),
                                   static_cast<std::int32_t>(chains.size() * length),
                                   static_cast<std::int32_t>(length)});
    const Entry zeros;
    for (const Chain& chain : chains)
      for (std::size_t i = 0; i < length; ++i) {
        const Entry& entry = i < chain.entries.size() ? *chain.entries[i] : zeros;
        packed.chain_quads.push_back(entry.quad);
        rows.insert(rows.end(), entry.weights.begin(), entry.weights.end());
      }
    // Sums are taken modulo 2^32, and so is this; the result is in range.
    for (std::int64_t total : totals)
      packed.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * offset)));
  }
  packed.bytes = AlignedBytes(rows.size());
  std::transform(rows.begin(), rows.end(), packed.bytes.data(),
                 [](std::int8_t w) { return static_cast<std::uint8_t>(w); });
  return packed;
}

}  // namespace nybble
