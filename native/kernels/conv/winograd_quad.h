// The Winograd kernels with 32-bit sums of four neighbouring transformed inputs: plain products, and the fast inner
// product (inner.h) of them.
//
// Inputs lie in low..high, a span of R. Transformed, B'dB, they lie in -2R..2R at every position but one, that of the
// sums of four inputs, whose 4 low..4 high become -2R..2R as well by an offset of -2 (low + high). Transformed weights,
// (2G)g(2G)', lie in -9W..9W. Then
//
//   plain, where the products' inputs are unsigned   another offset of 2R: 0..4R
//   plain, where they are signed                     -2R..2R as they are
//   fast inner product, unsigned by signed           y = a1 + w0 in -(2R + 9W)..2R + 9W, and x = a0 + w1 + p for
//                                                    p = 2R + 9W
//
// All sums are taken modulo 2^32. What offsets and weights alone add up to is a constant of each output of the square.
// The fast inner product also adds (a0 + p) a1 over all pairs of channels, at every position: the same for all outputs,
// and computed once for a square. What is left is four times the outputs, which must fit 32 bits.
#pragma once

#include <cstdint>

#include "kernels/conv/winograd.h"

namespace nybble {

inline constexpr std::int32_t kWinogradSums = 4;      // times the sums of the layer, in 32 bits
inline constexpr std::int32_t kMostQuadSquares = 8;   // computed together
inline constexpr std::int32_t kWinogradPosition = 5;  // of the sums of four inputs

// What the kernels read besides the weights: these are [32 outputs][two vectors of them][position][four channels]
// [vector][output][channel]; for the fast inner product [four pairs of channels][bytes of x, bytes of
// y][vector][output] [pair], the first 16 channels of 32 paired with the others.
struct WinogradQuadPacked {
  std::int32_t offset = 0;                  // to add to transformed inputs
  std::int32_t sum_offset = 0;              // the same at kWinogradPosition
  std::int32_t pair_offset = 0;             // p
  const std::int32_t* constants = nullptr;  // to add to four times the outputs: [32 outputs][output pixel][output]
};

// Where the parts of the scratch memory start, in bytes: zeros in place of a pixel outside the image come first.
struct WinogradQuadScratch {
  std::int64_t inputs, apart;  // from one position to the next, a cache line more than they need
  std::int64_t terms, products, bytes;

  NYBBLE_INLINE WinogradQuadScratch(const ConvShape& s, std::int32_t squares) {
    apart = (std::int64_t{squares} * s.input.stride + 63) / 64 * 64 + 64;
    inputs = (std::int64_t{s.input.stride} + 63) / 64 * 64;
    terms = inputs + 16 * apart;
    products = terms + (std::int64_t{squares} * 16 + 63) / 64 * 64;
    bytes = products + 16 * kMostQuadSquares * kChannelAlign * 4;
  }
};

ConvWeights pack_winograd_quad(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut,
                               const std::int8_t* weights);
ConvWeights pack_winograd_inner(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut,
                                const std::int8_t* weights);
std::int64_t winograd_quad_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);
// Squares of a task: those whose transformed inputs stay in L2.
std::int32_t winograd_quad_tile(const ConvShape& shape, std::int32_t wanted);

}  // namespace nybble
