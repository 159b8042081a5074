#include "base/cpuid.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstring>
#endif

namespace nybble {

#if defined(__x86_64__)

namespace {

// What the system saves (XCR0). To be asked only where it says that XGETBV may be used.
std::uint64_t saved_state() {
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

}  // namespace

bool has_cpuid_bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidRegister where, int bit) {
  std::uint32_t answer[4] = {0, 0, 0, 0};
  if (__get_cpuid_count(leaf, 0, &answer[0], &answer[1], &answer[2], &answer[3]) == 0) return false;
  if (subleaf > 0) {
    // Of leaves 7 and 0x24, the first answer's EAX is the last subleaf.
    if (subleaf > answer[0]) return false;
    __cpuid_count(leaf, subleaf, answer[0], answer[1], answer[2], answer[3]);
  }
  return (answer[static_cast<int>(where)] >> bit & 1) != 0;
}

bool is_intel() {
  std::uint32_t last, name[3];
  if (__get_cpuid(0, &last, &name[0], &name[2], &name[1]) == 0) return false;
  return std::memcmp(name, "GenuineIntel", sizeof name) == 0;
}

bool has_byte_tiles() {
  constexpr int kSystemUsesXgetbv = 27;       // leaf 1, ECX: OSXSAVE
  constexpr std::uint64_t kTiles = 3u << 17;  // XCR0: configuration and data of tiles
  return has_cpuid_bit(7, 0, CpuidRegister::edx, 24) && has_cpuid_bit(7, 0, CpuidRegister::edx, 25) &&
         has_cpuid_bit(1, 0, CpuidRegister::ecx, kSystemUsesXgetbv) && (saved_state() & kTiles) == kTiles;
}

#else

bool has_cpuid_bit(std::uint32_t, std::uint32_t, CpuidRegister, int) { return false; }

bool is_intel() { return false; }

bool has_byte_tiles() { return false; }

#endif

}  // namespace nybble
