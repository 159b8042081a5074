// Walks over the groups of each pixel, as many at a time as a vector has 32-bit lanes. Included by the lists of each
// instruction set.
#pragma once

#include "base/tensor.h"

namespace nybble {
namespace {

// Calls pack(pixel, first group, its index in the block, where its entries go) for each kLanes groups; it returns how
// many it added. It may store kLanes entries without passing the block's own: at most kLanes i entries precede the i-th
// call, and a block's groups are a multiple of kLanes.
template <std::int32_t kLanes, class Pack>
inline void for_each_groups(std::int64_t first, std::int64_t count, const NonZeroLists& lists, const Pack& pack) {
  for (std::int64_t pixel = first; pixel < first + count; ++pixel) {
    std::uint16_t* counts = lists.counts + pixel * lists.blocks;
    for (std::int32_t b = 0, group = 0; b < lists.blocks; ++b) {
      const std::int32_t start = group;
      const std::int32_t end = group + lists.block_groups < lists.groups ? group + lists.block_groups : lists.groups;
      const std::int64_t place = pixel * lists.groups + start;
      std::uint32_t found = 0;
      for (; group < end; group += kLanes) found += pack(pixel, group, group - start, place + found);
      counts[b] = static_cast<std::uint16_t>(found);
    }
  }
}

}  // namespace
}  // namespace nybble
