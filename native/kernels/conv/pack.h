// Packing: the form of weights that kernels read, and the code that packing for all kernels shares.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "kernels/conv/conv.h"
#include "kernels/conv/rows.h"

namespace nybble {

// Sums that the epilogue may finish in 16-bit lanes: those that a kernel has there, or those of 32 bits that it
// saturates to them, with their bias.
enum class WordSums : std::uint8_t { none, own, saturated };

struct ConvWeights {
  AlignedBytes bytes;
  std::vector<OutputBlock> blocks;
  std::shared_ptr<const void> own;  // what PackedConv::own points to
  // For kernels whose epilogue may have 16-bit lanes: the least and greatest sum of each output, whatever the inputs
  // are. Empty for others.
  std::vector<std::int64_t> lowest, highest;
  WordSums words = WordSums::none;
  // For kernels that finish sums in the order in which they are staged: what to add to the sum of each output, and the
  // output, of kChannelAlign, of each lane.
  std::vector<std::int32_t> staged_correction, staged_order;

  // Whether 16 bits hold every sum.
  bool fits16() const;

  // What kernels read, its weights at `kept`.
  PackedConv view(const std::uint8_t* kept) const;
};

// Keeps the arrays of a packing, and what their view() makes of them for the kernel.
template <class Arrays>
std::shared_ptr<const void> keep_own(Arrays arrays) {
  struct Kept {
    Arrays arrays;
    decltype(std::declval<const Arrays&>().view()) view;
  };
  auto kept = std::make_shared<Kept>(Kept{std::move(arrays), {}});
  kept->view = kept->arrays.view();
  return {kept, &kept->view};
}

// Equal blocks where possible: 320 outputs in blocks of at most 256 become 160 and 160.
std::vector<OutputBlock> split_outputs(std::int32_t outputs, std::int32_t most, std::size_t bytes_per_output);

// Sets `lowest` and `highest`, for a layer of one group: what its inputs and `weights` add up to at most.
void bound_sums(const ConvLayer& layer, const std::int8_t* weights, ConvWeights* packed);

// What makes the inputs of a layer bytes of one sign, signed ones or not; added modulo 2^8.
std::int32_t sign_offset(const ConvLayer& layer, bool is_signed);

}  // namespace nybble
