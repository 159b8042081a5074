// Lists of non-zero channel pairs, eight pairs at a time. Included inside an unnamed namespace.

// For each mask of eight lanes, the lanes that are set, in order.
struct CompressTable {
  std::uint32_t lanes[256][8];
};

constexpr CompressTable make_compress_table() {
  CompressTable table{};
  for (std::uint32_t mask = 0; mask < 256; ++mask) {
    int count = 0;
    for (std::uint32_t lane = 0; lane < 8; ++lane)
      if (mask >> lane & 1) table.lanes[mask][count++] = lane;
  }
  return table;
}

alignas(32) constexpr CompressTable kCompress = make_compress_table();

// A store of eight entries never passes the pixel's own: at most 8 i entries precede the i-th group.
void build_lists(const std::uint8_t* input, std::int64_t first, std::int64_t count, const PairLists& lists) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i step = _mm256_set1_epi32(8 << 16);
  const __m256i start = _mm256_setr_epi32(0, 1 << 16, 2 << 16, 3 << 16, 4 << 16, 5 << 16, 6 << 16, 7 << 16);
  for (std::int64_t pixel = first; pixel < first + count; ++pixel) {
    const std::uint8_t* values = input + pixel * 2 * lists.pairs;
    std::uint32_t* entries = lists.entries + pixel * lists.pairs;
    std::uint16_t* ends = lists.ends + pixel * lists.blocks;
    std::uint32_t total = 0;
    for (std::int32_t b = 0, pair = 0; b < lists.blocks; ++b) {
      const std::int32_t end = pair + lists.block_pairs < lists.pairs ? pair + lists.block_pairs : lists.pairs;
      __m256i index = start;
      for (; pair < end; pair += 8) {
        const __m256i pairs =
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values + 2 * pair)));
        const __m256i is_zero = _mm256_cmpeq_epi32(pairs, zero);
        const std::uint32_t mask = ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_zero))) & 255;
        const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.lanes[mask]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(entries + total),
                            _mm256_permutevar8x32_epi32(_mm256_or_si256(pairs, index), lanes));
        total += static_cast<std::uint32_t>(__builtin_popcount(mask));
        index = _mm256_add_epi32(index, step);
      }
      ends[b] = static_cast<std::uint16_t>(total);
    }
  }
}
