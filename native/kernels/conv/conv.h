// Convolution: shapes, and the work of one task, for kernels of every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"
#include "kernels/conv/epilogue.h"

namespace nybble {

struct ConvShape {
  Layout input;
  Layout output;
  std::int32_t kernel_h = 1, kernel_w = 1;
  std::int32_t stride_h = 1, stride_w = 1;
  std::int32_t pad_top = 0, pad_left = 0;
  std::int32_t dilation_h = 1, dilation_w = 1;
  std::int32_t groups = 1;

  NYBBLE_INLINE std::int32_t group_inputs() const { return input.channels / groups; }
  NYBBLE_INLINE std::int32_t group_outputs() const { return output.channels / groups; }
  // Whether pixels map one to one, so that the rows and images of a batch form one long row.
  NYBBLE_INLINE bool pointwise() const {
    return kernel_h == 1 && kernel_w == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 &&
           input.height == output.height && input.width == output.width;
  }
};

// Weights of `outputs` neighbouring output channels, starting at `first`.
struct OutputBlock {
  std::int32_t first, outputs;
  std::size_t offset;  // of its weights, in bytes
};

// Packed weights, as kernels read them.
struct PackedConv {
  const std::uint8_t* weights = nullptr;
  const OutputBlock* blocks = nullptr;
  std::int32_t block_count = 0;
  std::int32_t most_outputs = 0;  // of any block
  const void* own = nullptr;      // what else the kernel reads, in a type of its own

  template <class Own>
  NYBBLE_INLINE const Own& as() const {
    return *static_cast<const Own*>(own);
  }
};

// One task: output pixels [first_pixel, first_pixel + pixels) of the batch (with 32-bit sums:
// of one output row; Winograd: squares of 2x2 in place of pixels), and one block of output channels (Winograd: all). A
// task of two rows has as many pixels of the row below.
struct ConvTask {
  const ConvShape* shape;
  const Epilogue* epilogue;
  const PackedConv* packed;
  const void* input;          // all but the sparse kernel
  const NonZeroLists* lists;  // sparse kernel
  const void* shortcut;
  void* output;
  std::int64_t first_pixel;
  std::int32_t pixels;
  std::int32_t rows = 1;
  std::int32_t block;
  std::uint8_t* scratch;  // conv_scratch_bytes, aligned to 64
};

inline constexpr std::int32_t kMostTilePixels = 64;

}  // namespace nybble
