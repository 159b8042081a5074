// Ceilings of AVX-512 VNNI: what it adds to AVX-512.
#include <immintrin.h>

#include "base/tensor.h"
#include "ceilings/list.h"

namespace nybble {
namespace {

using Ints = __m512i;
constexpr int kBytes = 64;
// NOLINTNEXTLINE: a statement, not a function, since it names a register.
#define NYBBLE_OPAQUE(vector) asm volatile("" : "+v"(vector))
NYBBLE_INLINE Ints load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
NYBBLE_INLINE Ints zero() { return _mm512_setzero_si512(); }
NYBBLE_INLINE Ints ones16() { return _mm512_set1_epi16(1); }
NYBBLE_INLINE Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
NYBBLE_INLINE Ints add16(Ints a, Ints b) { return _mm512_add_epi16(a, b); }
NYBBLE_INLINE Ints add32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
NYBBLE_INLINE Ints maddubs(Ints a, Ints b) { return _mm512_maddubs_epi16(a, b); }
NYBBLE_INLINE Ints madd(Ints a, Ints b) { return _mm512_madd_epi16(a, b); }

}  // namespace
}  // namespace nybble

#include "ceilings/loops.inc.h"

namespace nybble {
namespace {

struct Dpbusd {
  static NYBBLE_INLINE Ints step(Ints sum, Ints input, Ints weight, Ints) {
    return _mm512_dpbusd_epi32(sum, input, weight);
  }
};

// The fast inner product: a product of two sums stands for two products.
struct AddAddDpbusd {
  static NYBBLE_INLINE Ints step(Ints sum, Ints input, Ints weight, Ints other) {
    return _mm512_dpbusd_epi32(sum, _mm512_add_epi8(input, weight), _mm512_add_epi8(other, weight));
  }
};

constexpr Ceiling kList[] = {
    {"vpdpbusd, registers", Isa::avx512vnni, from_registers<Dpbusd>, kL1Bytes, turn_macs(kBytes), false},
    {"vpdpbusd, L1", Isa::avx512vnni, from_memory<Dpbusd>, kL1Bytes, turn_macs(kBytes), false},
    {"2 vpaddb+vpdpbusd, registers", Isa::avx512vnni, from_registers<AddAddDpbusd>, kL1Bytes, turn_macs(2 * kBytes),
     false},
    {"2 vpaddb+vpdpbusd, L1", Isa::avx512vnni, from_memory<AddAddDpbusd>, kL1Bytes, turn_macs(2 * kBytes), false},
};

}  // namespace

constinit const CeilingTable ceilings_avx512vnni = {kList, sizeof kList / sizeof kList[0]};

}  // namespace nybble
