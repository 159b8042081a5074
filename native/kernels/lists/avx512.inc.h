// Lists of non-zero channel pairs, sixteen pairs at a time. Included inside an unnamed namespace.

// A store of sixteen entries never passes the pixel's own: at most 16 i entries precede the i-th group.
void build_lists(const std::uint8_t* input, std::int64_t first, std::int64_t count, const PairLists& lists) {
  const __m512i step = _mm512_set1_epi32(16 << 16);
  const __m512i start = _mm512_slli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 16);
  for (std::int64_t pixel = first; pixel < first + count; ++pixel) {
    const std::uint8_t* values = input + pixel * 2 * lists.pairs;
    std::uint32_t* entries = lists.entries + pixel * lists.pairs;
    std::uint16_t* ends = lists.ends + pixel * lists.blocks;
    std::uint32_t total = 0;
    for (std::int32_t b = 0, pair = 0; b < lists.blocks; ++b) {
      const std::int32_t end = pair + lists.block_pairs < lists.pairs ? pair + lists.block_pairs : lists.pairs;
      __m512i index = start;
      for (; pair < end; pair += 16) {
        const __m512i pairs =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + 2 * pair)));
        const __mmask16 mask = _mm512_test_epi32_mask(pairs, pairs);
        // Compressing in a register and storing whole is much quicker than a compressing store on Zen 4.
        _mm512_storeu_si512(entries + total, _mm512_maskz_compress_epi32(mask, _mm512_or_si512(pairs, index)));
        total += static_cast<std::uint32_t>(__builtin_popcount(mask));
        index = _mm512_add_epi32(index, step);
      }
      ends[b] = static_cast<std::uint16_t>(total);
    }
  }
}
