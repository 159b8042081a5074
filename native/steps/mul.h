// Products of two 8-bit values.
#pragma once

#include <cstdint>
#include <vector>

#include "core/program.h"

namespace nybble {

// `other` has the shape of `input`, or one pixel: a gate.
struct MulSpec : EpilogueSpec {
  int input = -1, output = -1, other = -1;
  std::int32_t magnitude = 255, other_magnitude = 255;  // largest of each
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_mul(Program& program, const MulSpec& spec);

}  // namespace nybble
