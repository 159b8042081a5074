// What tests/emulated/include supplies beside the instructions that it stands for: every lane value or mask where these
// are few, else drawn ones among which the ends of each type are frequent. For processors that have AVX-512.
#include <immintrin.h>

#include "supplied.h"

#include <cstdio>
#include <random>

namespace {

int failures = 0;
std::mt19937_64 random_bits(20240607);

template <class T>
T drawn() {
  std::uint64_t bits = random_bits();
  // A third of the 32-bit lanes are ends, a third of the others have long runs of equal bits.
  std::uint32_t lanes[sizeof(T) / 4];
  static constexpr std::uint32_t kEnds[] = {0,          1,          0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                                            0x7FFF8000, 0x00FF0100, 0x4F000000, 0xCF000000, 0x3F000000,
                                            0xBFC00000, 0x7F800000, 0x7FC00000, 0x4EFFFFFF};
  for (std::uint32_t& lane : lanes) {
    bits = random_bits();
    const auto low = static_cast<std::uint32_t>(bits);
    switch (bits >> 32 & 3) {
      case 0:
        lane = kEnds[(bits >> 34) % std::size(kEnds)];
        break;
      case 1:
        lane = static_cast<std::uint32_t>(static_cast<std::int32_t>(low) >> (bits >> 40 & 31));
        break;
      case 2: {  // floats whose integer part, or half of one, is near
        const float value = static_cast<float>(static_cast<std::int32_t>(low) >> (bits >> 40 & 31)) * 0.5f;
        std::memcpy(&lane, &value, sizeof lane);
        break;
      }
      default:
        lane = low;
    }
  }
  T v;
  std::memcpy(&v, lanes, sizeof v);
  return v;
}

template <class T>
void same(const char* name, const T& supplied, const T& real) {
  if (std::memcmp(&supplied, &real, sizeof(T)) == 0) return;
  if (failures++ < 20) std::printf("supplied.h: %s differs from the instruction\n", name);
}

// Lanes that are no number are compared as such: their bits may differ.
template <class T>
void same_numbers(const char* name, const T& supplied, const T& real) {
  float a[sizeof(T) / 4], b[sizeof(T) / 4];
  std::memcpy(a, &supplied, sizeof a);
  std::memcpy(b, &real, sizeof b);
  for (std::size_t i = 0; i < std::size(a); ++i)
    if (a[i] != a[i] && b[i] != b[i]) a[i] = b[i] = 0;
  if (std::memcmp(a, b, sizeof a) != 0 && failures++ < 20)
    std::printf("supplied.h: %s differs from the instruction\n", name);
}

#define SAME(name, ...) same(#name, supplied::name(__VA_ARGS__), _##name(__VA_ARGS__))

void conversions() {
  const auto words = drawn<__m512i>();
  const auto half = drawn<__m256i>();
  const auto quarter = drawn<__m128i>();
  SAME(mm512_cvtepi16_epi32, half);
  SAME(mm512_cvtepi8_epi32, quarter);
  SAME(mm512_cvtepu16_epi32, half);
  SAME(mm512_cvtepu8_epi16, half);
  SAME(mm512_cvtepu8_epi32, quarter);
  SAME(mm512_cvtepi32_epi16, words);
  SAME(mm512_cvtepi32_epi8, words);
  SAME(mm512_cvtusepi16_epi8, words);
  SAME(mm512_cvtepi32_ps, words);
  const auto floats = drawn<__m512>();
  SAME(mm512_cvtps_epi32, floats);
  SAME(mm512_cvttps_epi32, floats);
}

void arithmetic() {
  const auto a = drawn<__m512i>(), b = drawn<__m512i>(), source = drawn<__m512i>();
  const auto mask = static_cast<__mmask32>(random_bits());
  SAME(mm512_mask_sub_epi16, source, mask, a, b);
  SAME(mm512_mulhi_epu16, a, b);
  SAME(mm512_testn_epi32_mask, a, b);
  SAME(mm512_testn_epi32_mask, a, a);
  for (unsigned count = 0; count < 40; ++count) {
    const __m128i counts = _mm_set_epi64x(static_cast<long long>(random_bits()), count);
    SAME(mm512_sra_epi32, a, counts);
    SAME(mm512_srai_epi32, a, count);
  }
  const __m128i huge = drawn<__m128i>();
  SAME(mm512_sra_epi32, a, huge);
  const auto x = drawn<__m512>(), y = drawn<__m512>(), z = drawn<__m512>();
  same_numbers("mm512_fmadd_ps", supplied::mm512_fmadd_ps(x, y, z), _mm512_fmadd_ps(x, y, z));
  const auto p = drawn<__m256>(), q = drawn<__m256>(), r = drawn<__m256>();
  same_numbers("mm256_fmadd_ps", supplied::mm256_fmadd_ps(p, q, r), _mm256_fmadd_ps(p, q, r));
}

void loads() {
  alignas(64) unsigned char bytes[256];
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random_bits());
  for (unsigned mask = 0; mask < 1u << 16; ++mask) {
    const unsigned char* p = bytes + mask % 67;
    SAME(mm512_maskz_loadu_epi32, static_cast<__mmask16>(mask), p);
    const __mmask64 wide = random_bits();
    SAME(mm512_maskz_loadu_epi8, wide, p);
    const auto v = drawn<__m512i>(), before = drawn<__m512i>();
    __m512i stored = before, expected = before;
    supplied::mm512_mask_storeu_epi8(&stored, wide, v);
    _mm512_mask_storeu_epi8(&expected, wide, v);
    same("mm512_mask_storeu_epi8", stored, expected);
  }
}

}  // namespace

int main() {
  constexpr int kTurns = 20000;
  for (int turn = 0; turn < kTurns; ++turn) {
    conversions();
    arithmetic();
  }
  loads();
  if (failures != 0) {
    std::printf("supplied.h: %d comparisons failed\n", failures);
    return 1;
  }
  std::printf("emulated: supplied.h agrees with the instructions on %d drawn vectors each\n", kTurns);
  return 0;
}
