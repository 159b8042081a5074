// The chained kernel: 16-bit sums of any 8-bit inputs over what the bound of the weights allows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/rows.h"
#include "kernels/conv/stage.h"

namespace nybble {

// kChannelAlign outputs, from that multiple of it.
struct ChainGroup {
  std::size_t offset;  // of its weights in bytes: [entry][output][input of the quad]
  std::int32_t first_entry, entries;
  std::int32_t chain;  // entries in each chain, 1 to 4 or kLongestChain; `entries` is a multiple of it
};
inline constexpr std::int32_t kLongestChain = 6;

// What the kernel reads besides the weights.
struct ChainedPacked {
  const ChainGroup* groups = nullptr;        // of each kChannelAlign outputs
  const std::int32_t* quads = nullptr;       // of each entry: the quad's first byte in the window
  std::int64_t run_bytes = 0;                // inputs in one contiguous run of the window
  std::int32_t runs_per_row = 0;             // runs in one kernel row
  std::int32_t offset = 0;                   // added to every input
  const std::int32_t* correction = nullptr;  // to add to the sum of each output for that
};

// Chained kernel: windows gathered before they are used, and pixels computed together, at most.
inline constexpr std::int32_t kGatheredPixels = 8, kMostChainPixels = 4;

// Where the parts of the chained kernel's scratch memory start: sums, windows, input rows. A vector's bytes may be read
// and written past the end of either.
struct ChainedScratch {
  std::int64_t windows, staged, bytes;
  std::int64_t window_bytes;  // from one window to the next

  NYBBLE_INLINE ChainedScratch(const ConvShape& s, std::int32_t pixels) {
    window_bytes = (std::int64_t{s.kernel_h} * s.kernel_w * s.input.stride + 3) / 4 * 4;
    windows = kMostChainPixels * kChannelAlign * 4;
    staged = windows + (kGatheredPixels * window_bytes + 127) / 64 * 64;
    bytes = staged + staged_row_elements(s, pixels) * s.kernel_h + 64;
  }
};

ConvWeights pack_chained(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t chained_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
