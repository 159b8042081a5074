#include "base/cpuid.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstring>
#endif

namespace nybble {

#if defined(__x86_64__)

namespace {

// Bits of XCR0: state that the system saves.
constexpr std::uint64_t kYmm = 3u << 1;         // registers of 16 bytes, and their upper halves
constexpr std::uint64_t kZmm = kYmm | 7u << 5;  // masks, upper halves, and the other 16 registers
constexpr std::uint64_t kTiles = 3u << 17;      // configuration and data of tiles

// Whether the system saves all of this state. XGETBV may be used only where CPUID says so (OSXSAVE).
bool saves(std::uint64_t state) {
  if (!has_cpuid_bit({1, 0, CpuidRegister::ecx, 27})) return false;
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((std::uint64_t{high} << 32 | low) & state) == state;
}

}  // namespace

bool has_cpuid_bit(const CpuidBit& wanted) {
  std::uint32_t answer[4] = {0, 0, 0, 0};
  if (__get_cpuid_count(wanted.leaf, 0, &answer[0], &answer[1], &answer[2], &answer[3]) == 0) return false;
  if (wanted.subleaf > 0) {
    // Of leaves 7 and 0x24, the first answer's EAX is the last subleaf.
    if (wanted.subleaf > answer[0]) return false;
    __cpuid_count(wanted.leaf, wanted.subleaf, answer[0], answer[1], answer[2], answer[3]);
  }
  return (answer[static_cast<int>(wanted.where)] >> wanted.bit & 1) != 0;
}

bool has_feature(const CpuidBit& wanted, SavedVectors vectors) {
  return has_cpuid_bit(wanted) && saves(vectors == SavedVectors::zmm ? kZmm : kYmm);
}

Processor this_processor() {
  Processor found;
  std::uint32_t eax, name[3], others[3];
  if (__get_cpuid(0, &eax, &name[0], &name[2], &name[1]) == 0) return found;
  char vendor[sizeof name];
  std::memcpy(vendor, name, sizeof name);
  found.vendor.assign(vendor, sizeof vendor);
  if (__get_cpuid(1, &eax, &others[0], &others[1], &others[2]) == 0) return found;
  // The extended family counts where the family is 15, the extended model where it is 15 or 6.
  const std::uint32_t family = eax >> 8 & 15;
  found.family = static_cast<int>(family == 15 ? family + (eax >> 20 & 255) : family);
  found.model = static_cast<int>((eax >> 4 & 15) | (family == 15 || family == 6 ? eax >> 12 & 240 : 0));
  return found;
}

bool has_byte_tiles() {
  return has_cpuid_bit({7, 0, CpuidRegister::edx, 24}) && has_cpuid_bit({7, 0, CpuidRegister::edx, 25}) &&
         saves(kTiles);
}

bool permutes_bytes() {
  static const bool found = has_cpuid_bit({7, 0, CpuidRegister::ecx, 1});
  return found;
}

#else

bool has_cpuid_bit(const CpuidBit&) { return false; }

bool has_feature(const CpuidBit&, SavedVectors) { return false; }

Processor this_processor() { return {}; }

bool has_byte_tiles() { return false; }

bool permutes_bytes() { return false; }

#endif

}  // namespace nybble
