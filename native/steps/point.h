// Element by element, for what could not be fused: value (+ other), then an epilogue.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

struct PointSpec : EpilogueSpec {
  int input = -1, output = -1, other = -1;
  // Either value may be rescaled first: its product with a factor is rounded off, and not clipped. Largest magnitudes
  // of 8-bit values say whether 32 bits hold products; a rescaled value has 8 bits.
  std::int32_t magnitude = 255, shortcut_magnitude = 255;
  bool input_requantize = false, shortcut_requantize = false;
  Requantize input_rule, shortcut_rule;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_point(Program& program, const PointSpec& spec);

}  // namespace nybble
