// Lists of non-zero channel groups, one after the other: for vectors that have no way to compress lanes.
#pragma once

#include "kernels/lists/each.inc.h"
#include "kernels/lists/kernels.h"

namespace nybble {
namespace {

void build_pair_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  for_each_groups<1>(first, count, lists,
                     [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
                       const std::uint8_t* values = input + pixel * stride + 2 * group;
                       const std::uint32_t pair = values[0] | std::uint32_t{values[1]} << 8;
                       lists.entries[place] = static_cast<std::uint32_t>(index) << 16 | pair;
                       return pair != 0 ? 1u : 0u;
                     });
}

void build_quad_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  for_each_groups<1>(first, count, lists,
                     [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
                       // The list of a stride of 32 channels has room for more quads than the pixel has.
                       if (4 * group >= stride) return 0u;
                       std::uint32_t quad;
                       __builtin_memcpy(&quad, input + pixel * stride + 4 * group, sizeof quad);
                       lists.entries[place] = quad;
                       lists.indices[place] = static_cast<std::uint16_t>(index);
                       return quad != 0 ? 1u : 0u;
                     });
}

void build_single_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                        const NonZeroLists& lists) {
  for_each_groups<1>(first, count, lists,
                     [&](std::int64_t pixel, std::int32_t channel, std::int32_t index, std::int64_t place) {
                       const std::uint8_t value = input[pixel * stride + channel];
                       lists.singles[place] = static_cast<std::uint16_t>(index << 8 | value);
                       return value != 0 ? 1u : 0u;
                     });
}

constexpr ListsKernels kListsKernels = {build_pair_lists, build_quad_lists, build_single_lists};

}  // namespace
}  // namespace nybble
