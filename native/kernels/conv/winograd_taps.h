// Transformed weights of Winograd convolution F(2x2, 3x3), for packing.
#pragma once

#include <cstdint>

#include "kernels/conv/weights.h"

namespace nybble {

using WinogradTaps = std::int32_t[3][3];

// Of one input and output; zero past the real channels.
inline void read_taps(const WeightReader& reader, std::int32_t output, std::int32_t input, WinogradTaps& g) {
  for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = reader.at(output, input, i / 3, i % 3);
}

// (2G)g(2G)': whole numbers, nine times the largest weight at most.
inline void transform_taps(const WinogradTaps& g, std::int32_t (&u)[4][4]) {
  std::int32_t rows[4][3];
  for (int c = 0; c < 3; ++c) {
    rows[0][c] = 2 * g[0][c];
    rows[1][c] = g[0][c] + g[1][c] + g[2][c];
    rows[2][c] = g[0][c] - g[1][c] + g[2][c];
    rows[3][c] = 2 * g[2][c];
  }
  for (int r = 0; r < 4; ++r) {
    u[r][0] = 2 * rows[r][0];
    u[r][1] = rows[r][0] + rows[r][1] + rows[r][2];
    u[r][2] = rows[r][0] - rows[r][1] + rows[r][2];
    u[r][3] = 2 * rows[r][2];
  }
}

}  // namespace nybble
