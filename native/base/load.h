// Reads one element of an array whose type is known at run time.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace nybble {

// The element must not be f32.
inline std::int32_t load_integer(const void* data, Element element, std::int64_t index) {
  switch (element) {
    case Element::u8:
      return static_cast<const std::uint8_t*>(data)[index];
    case Element::s8:
      return static_cast<const std::int8_t*>(data)[index];
    default:
      return static_cast<const std::int32_t*>(data)[index];
  }
}

}  // namespace nybble
