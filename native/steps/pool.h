// Pools of 8-bit values.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

struct PoolSpec {
  int input = -1, output = -1;
  bool average = false;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int dilation_h = 1, dilation_w = 1;
  bool count_padding = true;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_pool(Program& program, const PoolSpec& spec);

}  // namespace nybble
