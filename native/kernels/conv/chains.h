// Chains of products of bytes for packing: splits weights that are too large for a product of bytes, and joins entries
// into chains whose 16-bit sums fit, whatever the inputs are.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include "kernels/conv/conv.h"

namespace nybble {

// Chains that an entry may still join: with more, packing large windows would take long.
inline constexpr std::size_t kOpenChains = 32;

// What products of inputs of 0 to `range` leave of 16 bits, in weights. Of inputs of l < 0 to l + range, a sum is at
// most (l + range) * above - l * below, which is less than 2^15 where both are at most 2^15 / (range + 1).
struct ChainLimits {
  std::int32_t above, below;
  ChainLimits(std::int32_t range, bool is_signed)
      : above(INT16_MAX / (range + is_signed)), below(-INT16_MIN / (range + is_signed)) {}
};

// Sums of positive and of negative weights of each 16-bit lane: for inputs of 0 to m, the sum of products lies between
// -m * below and m * above.
template <std::size_t kLanes>
struct ChainBounds {
  std::array<std::int32_t, kLanes> above{}, below{};

  void add(const ChainBounds& other) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      above[i] += other.above[i];
      below[i] += other.below[i];
    }
  }
  bool fit(const ChainLimits& limits) const {
    return *std::max_element(above.begin(), above.end()) <= limits.above &&
           *std::max_element(below.begin(), below.end()) <= limits.below;
  }
  std::int32_t largest() const {
    return std::max(*std::max_element(above.begin(), above.end()), *std::max_element(below.begin(), below.end()));
  }
};

// Weights of kChannelAlign outputs for kInputs inputs that lie at `place`; two neighbours make a lane.
template <std::size_t kInputs>
struct ChainEntry {
  using Bounds = ChainBounds<kInputs / 2 * std::size_t{kChannelAlign}>;
  std::int32_t place = 0;
  std::array<std::int8_t, kInputs * std::size_t{kChannelAlign}> weights{};

  Bounds bounds() const {
    Bounds found;
    for (std::size_t i = 0; i < weights.size(); ++i)
      (weights[i] > 0 ? found.above : found.below)[i / 2] += std::abs(int{weights[i]});
    return found;
  }
};

template <std::size_t kInputs>
struct Chain {
  typename ChainEntry<kInputs>::Bounds bounds;
  std::vector<const ChainEntry<kInputs>*> entries;
};

// Halves weights until products fit: their halves add up to them.
template <std::size_t kInputs>
void split_entry(const ChainEntry<kInputs>& entry, const ChainLimits& limits,
                 std::vector<ChainEntry<kInputs>>& entries) {
  if (entry.bounds().fit(limits)) {
    entries.push_back(entry);
    return;
  }
  ChainEntry<kInputs> half = entry, rest = entry;
  for (std::size_t i = 0; i < entry.weights.size(); ++i) {
    half.weights[i] = static_cast<std::int8_t>(entry.weights[i] / 2);
    rest.weights[i] = static_cast<std::int8_t>(entry.weights[i] - half.weights[i]);
  }
  split_entry(half, limits, entries);
  split_entry(rest, limits, entries);
}

// Chains of at most `most` entries: first fit, the largest first.
template <std::size_t kInputs>
std::vector<Chain<kInputs>> join_entries(const std::vector<ChainEntry<kInputs>>& entries, const ChainLimits& limits,
                                         std::size_t most) {
  using Bounds = typename ChainEntry<kInputs>::Bounds;
  std::vector<std::pair<Bounds, const ChainEntry<kInputs>*>> sorted;
  for (const ChainEntry<kInputs>& entry : entries) sorted.emplace_back(entry.bounds(), &entry);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first.largest() > b.first.largest(); });
  std::vector<Chain<kInputs>> chains;
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
    Chain<kInputs>& chain = chains[*found];
    chain.bounds.add(bounds);
    chain.entries.push_back(item.second);
    if (chain.entries.size() == most) open.erase(found);
  }
  return chains;
}

}  // namespace nybble
