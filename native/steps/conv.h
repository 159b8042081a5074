// Convolutions, and linear layers: of a (C, H, W) input these are convolutions with a kernel that covers it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/program.h"

namespace nybble {

struct ConvSpec : EpilogueSpec {
  int input = -1, output = -1;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_left = 0, dilation_h = 1, dilation_w = 1, groups = 1;
  std::string method;            // direct, sparse, sparse_quad, wide, quad, chained, winograd, pair or grouped
  std::int32_t magnitude = 255;  // largest input, which bounds 16-bit sums
  // What clips leave of the inputs, within their magnitude; 0 is among them.
  std::int32_t clip_low = INT16_MIN, clip_high = INT16_MAX;
  int lists = -1;  // of the input, for the sparse methods
  int block_outputs = 128;
  int tile_pixels = 64;
  std::int64_t visit_bytes = 24 << 10;
  const std::int8_t* weights = nullptr;  // (outputs, inputs / groups, kernel_h, kernel_w)
  std::size_t weight_count = 0;
  std::vector<std::int32_t> bias;
  int shortcut = -1;
  std::int32_t shortcut_magnitude = 255;  // largest, where it has 8 bits
  bool shortcut_requantize = false;
  Requantize shortcut_rule;
  std::vector<int> output_lists;  // to build of the output
};

// Throws std::invalid_argument where the parts do not fit together.
void add_conv(Program& program, const ConvSpec& spec);

}  // namespace nybble
