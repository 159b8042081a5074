// How values lie in memory while a network runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

// Headers that files of several instruction sets include may hold no function that could be emitted out
// of line: the linker would keep one copy, perhaps of an instruction set that the machine lacks. NYBBLE_LAMBDA, between
// the parameters of a lambda and its body, has the same effect on it. NYBBLE_UNROLL goes before a loop over registers:
// an array that is indexed by a loop variable lies in memory. NYBBLE_HOLD keeps a vector in its register, since the
// compiler has to assume that it changes; the constraint names the kind of register.
#if defined(NYBBLE_EMULATED)
// Vectors are loops over lanes: every file is compiled for the baseline, and inlining would take minutes.
#define NYBBLE_INLINE inline
#define NYBBLE_LAMBDA
#define NYBBLE_UNROLL
#define NYBBLE_HOLD(constraint, vector) static_cast<void>(vector)
#else
#define NYBBLE_INLINE inline __attribute__((always_inline))
#define NYBBLE_LAMBDA __attribute__((always_inline))
#if defined(__clang__)
#define NYBBLE_UNROLL _Pragma("unroll")
#else
#define NYBBLE_UNROLL _Pragma("GCC unroll 16")
#endif
#define NYBBLE_HOLD(constraint, vector) __asm__("" : constraint(vector))
#endif

namespace nybble {

// Calls f(0) to f(N - 1), each with a constant: registers in an array stay registers only if no index is ever a
// variable, not even one that unrolling would remove later (GCC splits arrays before it unrolls).
template <int N, class F>
NYBBLE_INLINE void for_each_index(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>)
      NYBBLE_LAMBDA { (f(std::integral_constant<int, I>{}), ...); }(std::make_integer_sequence<int, N>{});
}

// Storage of one element: u4, u7 and u8 are bytes, u31 and s32 are 32-bit.
enum class Element : std::uint8_t { u8, s8, s32, f32 };

NYBBLE_INLINE constexpr std::size_t element_bytes(Element element) {
  return element == Element::u8 || element == Element::s8 ? 1 : 4;
}

// Vectors of every instruction set divide this many channels, so kernels have no channel remainder.
inline constexpr std::int32_t kChannelAlign = 32;

// Channels last, the images of a batch one after another. `stride` elements lie from pixel to pixel;
// those past `channels` are zero. A graph input is tight: stride == channels.
struct Layout {
  Element element = Element::u8;
  std::int32_t channels = 0;
  std::int32_t height = 0;
  std::int32_t width = 0;
  std::int32_t stride = 0;

  NYBBLE_INLINE std::int64_t pixels() const { return std::int64_t{height} * width; }
  NYBBLE_INLINE std::int64_t image_elements() const { return pixels() * stride; }
  NYBBLE_INLINE std::int64_t image_bytes() const {
    return image_elements() * static_cast<std::int64_t>(element_bytes(element));
  }
};

// Bytes of an entry of a list of groups of one, two or four channels, with its index.
NYBBLE_INLINE constexpr std::int32_t list_entry_bytes(std::int32_t group) { return group + 2 - (group == 1); }

// Groups that a pixel of so many elements has room for in a list: kernels look at 16 at a time.
NYBBLE_INLINE constexpr std::int32_t list_groups(std::int32_t stride, std::int32_t group) {
  return (stride / group + 15) / 16 * 16;
}

// The channels of every pixel that are not zero, or the groups of two or four neighbouring channels that are not all
// zero. Sparse convolutions read them. The entries of a pixel start `groups` apart, those of its block b `b *
// block_groups` after them. Channels: `singles` in place of entries; one is (index of the channel in its block) << 8 |
// channel. Pairs: an entry is (index of the pair in its block) << 16 | second channel << 8 | first channel.
// Quads: an entry is the four channels, first lowest; `indices` has the index of each in its block.
// `counts[pixel * blocks + b]` are the entries of block b.
struct NonZeroLists {
  std::uint32_t* entries = nullptr;
  std::uint16_t* singles = nullptr;
  std::uint16_t* indices = nullptr;
  std::uint16_t* counts = nullptr;
  std::int32_t groups = 0;        // per pixel, with the padding
  std::int32_t block_groups = 0;  // a power of two, 16 to 64
  std::int32_t blocks = 0;
};

}  // namespace nybble
