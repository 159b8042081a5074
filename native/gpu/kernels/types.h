// Integers of fixed sizes, since NVRTC has no standard library; vectors as memory moves them.
#pragma once

namespace nybble::gpu {

using u8 = unsigned char;
using s8 = signed char;
using s16 = short;
using u32 = unsigned int;
using s32 = int;
using u64 = unsigned long long;
using s64 = long long;

struct alignas(8) Words2 {
  u32 word[2];
};

struct alignas(16) Words4 {
  u32 word[4];
};

constexpr s32 kWarp = 32;
constexpr s32 kLowest = -2147483647 - 1;
constexpr s32 kHighest = 2147483647;

}  // namespace nybble::gpu
