// Tables of codes in AVX-512: by permutations that select from 128 bytes if the processor has VBMI, which this
// instruction set does not require; otherwise by shuffles.
#pragma once

#include <immintrin.h>

#include "base/cpuid.h"
#include "kernels/table/shuffles.inc.h"

namespace nybble {
namespace {

#if defined(NYBBLE_EMULATED)
bool has_vbmi() { return true; }
#define NYBBLE_VBMI
#else
bool has_vbmi() { return permutes_bytes(); }
#define NYBBLE_VBMI __attribute__((target("avx512vbmi")))
#endif

// `units` times kChannelAlign bytes, half a vector each. The table has all 256 results, whatever its entries are; an
// index of 128 bytes has 7 bits.
NYBBLE_VBMI void table_permuted(const CodeTable& table, const std::uint8_t* in, std::uint8_t* out, std::int64_t units,
                                const std::uint8_t* mask) {
  const __m512i kept = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask)));
  const __m512i first = _mm512_load_si512(table.results), second = _mm512_load_si512(table.results + 64);
  const __m512i third = _mm512_load_si512(table.results + 128), fourth = _mm512_load_si512(table.results + 192);
  const bool has_halves = table.entries == 256;
  const auto picked = [&](__m512i bytes) NYBBLE_VBMI {
    __m512i results = _mm512_permutex2var_epi8(first, bytes, second);
    if (has_halves)
      results =
          _mm512_mask_mov_epi8(results, _mm512_movepi8_mask(bytes), _mm512_permutex2var_epi8(third, bytes, fourth));
    return _mm512_and_si512(results, kept);
  };
  for (; units > 1; units -= 2, in += 64, out += 64) _mm512_storeu_si512(out, picked(_mm512_loadu_si512(in)));
  if (units == 1) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
    const __m512i results = picked(_mm512_castsi256_si512(bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(results));
  }
}

void table_vectors(const TableTask& task) {
  if (!has_vbmi()) return table_shuffles(task);
  table_pixels(task, [&](const std::uint8_t* in, std::uint8_t* out, std::int64_t units, const std::uint8_t* mask) {
    table_permuted(*task.table, in, out, units, mask);
  });
}

constexpr TableKernels kTableKernels = {table_vectors};

}  // namespace
}  // namespace nybble
