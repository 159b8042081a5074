#include "gpu/emulator/fragments.h"

namespace nybble::gpu::emulator {
namespace {

constexpr int kMostDepth = 64;

// The elements of one register, the first in its lowest bits.
void unpack(std::uint32_t word, int bits, bool is_signed, std::int16_t* to) {
  for (int i = 0; i < 32 / bits; ++i) {
    const std::uint32_t top = word << (32 - bits * (i + 1));
    const int shift = 32 - bits;
    to[i] = static_cast<std::int16_t>(is_signed ? static_cast<std::int32_t>(top) >> shift
                                                : static_cast<std::int32_t>(top >> shift));
  }
}

std::int32_t dot(const std::int16_t* a, const std::int16_t* b, int depth) {
  std::uint32_t sum = 0;
  for (int k = 0; k < depth; ++k) sum += static_cast<std::uint32_t>(std::int32_t{a[k]} * std::int32_t{b[k]});
  return static_cast<std::int32_t>(sum);
}

void add(std::int32_t& to, std::int32_t value) {
  to = static_cast<std::int32_t>(static_cast<std::uint32_t>(to) + static_cast<std::uint32_t>(value));
}

}  // namespace

void multiply16(Fragments& f, int bits, bool a_is_signed) {
  // A register holds 32 / bits neighbours in depth; registers 2 and 3 of `a` and 1 of `b` are half the depth further.
  const int count = 32 / bits, half = 4 * count, depth = 2 * half;
  std::int16_t a[16][kMostDepth], b[8][kMostDepth];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane & 3;
    for (int r = 0; r < 4; ++r) {
      const int row = group + (r % 2 == 0 ? 0 : 8), k = in_group * count + (r < 2 ? 0 : half);
      unpack(f.a[lane][r], bits, a_is_signed, a[row] + k);
    }
    for (int r = 0; r < 2; ++r) unpack(f.b[lane][r], bits, true, b[group] + in_group * count + r * half);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane & 3;
    for (int i = 0; i < 4; ++i) {
      const int row = group + (i < 2 ? 0 : 8), column = in_group * 2 + (i & 1);
      add(f.c[lane][i], dot(a[row], b[column], depth));
    }
  }
}

void multiply8(Fragments& f, int bits, bool a_is_signed) {
  const int count = 32 / bits, depth = 4 * count;
  std::int16_t a[8][kMostDepth / 2], b[8][kMostDepth / 2];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, in_group = lane % 4;
    unpack(f.a[lane][0], bits, a_is_signed, a[group] + in_group * count);
    unpack(f.b[lane][0], bits, true, b[group] + in_group * count);
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 2; ++i) add(f.c[lane][i], dot(a[lane / 4], b[lane % 4 * 2 + i], depth));
  }
}

}  // namespace nybble::gpu::emulator
