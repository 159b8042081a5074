// Walks over the groups of each pixel, as many at a time as a vector has 32-bit lanes. Included inside an unnamed
// namespace, before the lists of the instruction set.

// Calls pack(pixel, first group, its index in the block, entries so far) for each kLanes groups; it returns how many
// it added. It may store kLanes entries without passing the pixel's own: at most kLanes i entries precede the i-th
// call, and a pixel's groups are a multiple of kLanes.
template <std::int32_t kLanes, class Pack>
inline void for_each_groups(std::int64_t first, std::int64_t count, const NonZeroLists& lists, const Pack& pack) {
  for (std::int64_t pixel = first; pixel < first + count; ++pixel) {
    std::uint16_t* ends = lists.ends + pixel * lists.blocks;
    std::uint32_t total = 0;
    for (std::int32_t b = 0, group = 0; b < lists.blocks; ++b) {
      const std::int32_t start = group;
      const std::int32_t end = group + lists.block_groups < lists.groups ? group + lists.block_groups : lists.groups;
      for (; group < end; group += kLanes) total += pack(pixel, group, group - start, total);
      ends[b] = static_cast<std::uint16_t>(total);
    }
  }
}
