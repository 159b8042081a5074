// Ceilings of AVX2.
#include <immintrin.h>

#include "base/tensor.h"
#include "ceilings/list.h"

namespace nybble {
namespace {

using Ints = __m256i;
constexpr int kBytes = 32;
// NOLINTNEXTLINE: a statement, not a function, since it names a register.
#define NYBBLE_OPAQUE(vector) asm volatile("" : "+x"(vector))
NYBBLE_INLINE Ints load(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
NYBBLE_INLINE Ints zero() { return _mm256_setzero_si256(); }
NYBBLE_INLINE Ints ones16() { return _mm256_set1_epi16(1); }
NYBBLE_INLINE Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
NYBBLE_INLINE Ints add16(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
NYBBLE_INLINE Ints add32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
NYBBLE_INLINE Ints maddubs(Ints a, Ints b) { return _mm256_maddubs_epi16(a, b); }
NYBBLE_INLINE Ints madd(Ints a, Ints b) { return _mm256_madd_epi16(a, b); }

}  // namespace
}  // namespace nybble

#include "ceilings/loops.inc.h"

namespace nybble {
namespace {

constexpr Ceiling kList[] = {
    {"vpmaddubsw+vpaddw, registers", Isa::avx2, from_registers<MaddubsAdd16>, kL1Bytes, turn_macs(kBytes), false},
    {"vpmaddubsw+vpaddw, L1", Isa::avx2, from_memory<MaddubsAdd16>, kL1Bytes, turn_macs(kBytes), false},
    {"vpmaddubsw+vpmaddwd+vpaddd, registers", Isa::avx2, from_registers<MaddubsMaddAdd32>, kL1Bytes, turn_macs(kBytes),
     false},
    {"vpmaddubsw+vpmaddwd+vpaddd, L1", Isa::avx2, from_memory<MaddubsMaddAdd32>, kL1Bytes, turn_macs(kBytes), false},
    {"vpmaddwd+vpaddd, registers", Isa::avx2, from_registers<MaddAdd32>, kL1Bytes, turn_macs(kBytes / 2), false},
    {"vpmaddwd+vpaddd, L1", Isa::avx2, from_memory<MaddAdd32>, kL1Bytes, turn_macs(kBytes / 2), false},
    {"read, L2", Isa::avx2, from_memory<ReadOnly>, kL2Bytes, static_cast<double>(kL2Bytes), true},
    {"read, DRAM", Isa::avx2, from_memory<ReadOnly>, kMemoryBytes, static_cast<double>(kMemoryBytes), true},
};

}  // namespace

constinit const CeilingTable ceilings_avx2 = {kList, sizeof kList / sizeof kList[0]};

}  // namespace nybble
