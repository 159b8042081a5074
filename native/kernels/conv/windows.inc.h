// Where the windows of pixels that are computed together begin. Included by one file per instruction set.
#pragma once

#include "base/tensor.h"

namespace nybble {
namespace {

// Wherever they lie.
template <class T, int P>
struct AnyWindows {
  const T* const* windows;

  struct Run {
    const T* of_pixel[P];
    struct Place {
      const Run& run;
      std::int64_t offset;
      NYBBLE_INLINE const T* operator[](int pixel) const { return run.of_pixel[pixel] + offset; }
    };
    NYBBLE_INLINE Place at(std::int64_t offset) const { return {*this, offset}; }
  };

  // The part of each that begins at `start`.
  NYBBLE_INLINE Run run(std::int64_t start) const {
    Run found;
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA { found.of_pixel[p] = windows[p] + start; });
    return found;
  }
};

// One step apart, up to eight: x86 adds 1, 2 or 4 times a register to an address, so that five registers name them all,
// and nothing is computed for a part of each.
template <class T>
struct EvenWindows {
  const T* first;
  std::int64_t step, three = 3 * step, five = 5 * step, seven = 7 * step;

  struct Run {
    const EvenWindows& windows;
    const T* first;
    struct Place {
      const EvenWindows& windows;
      const T* here;
      NYBBLE_INLINE const T* operator[](int pixel) const {
        const EvenWindows& w = windows;
        const std::int64_t steps[8] = {0, w.step, 2 * w.step, w.three, 4 * w.step, w.five, 2 * w.three, w.seven};
        return here + steps[pixel];
      }
    };
    NYBBLE_INLINE Place at(std::int64_t offset) const {
      const T* here = first + offset;
      // Opaque: the compiler would add up other parts of the addresses, and take more instructions.
      __asm__("" : "+r"(here));
      return {windows, here};
    }
  };

  NYBBLE_INLINE Run run(std::int64_t start) const { return {*this, first + start}; }
};

}  // namespace
}  // namespace nybble
