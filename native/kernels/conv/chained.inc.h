// Convolution of any 8-bit inputs by bytes (vpmaddubsw), groups of one, with 16-bit sums over chains of quads that the
// bound of the actual weights allows. Included by one file per instruction set, after its vector type.
//
// The window of each pixel is gathered, so that no kernel row ends in half a quad. pack_chained splits large weights
// over several entries that multiply the same quad of inputs, and orders entries into chains: within one, neither a
// product of a pair nor a sum over the chain passes 16 bits, whatever the inputs are. A chain's sums are then added,
// two neighbours in one instruction, to 32-bit sums in memory.
#pragma once

#include "kernels/conv/chained.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/stage.inc.h"

namespace nybble {
namespace {

// P pixels by kChannelAlign outputs, L entries in a chain. `windows` are gathered, `apart` bytes from one to the next.
template <class V, int P, int L>
void chained_pixels(const std::uint8_t* weights, const std::int32_t* quads, const ChainGroup& group,
                    const std::uint8_t* windows, std::int64_t apart, const std::int32_t* correction,
                    std::int32_t* sums) {
  constexpr int N = kChannelAlign / V::kLanes32;
  NYBBLE_UNROLL
  for (int j = 0; j < N; ++j) {
    const auto start = V::load32(correction + j * V::kLanes32);
    NYBBLE_UNROLL
    for (int p = 0; p < P; ++p) V::store32(sums + p * kChannelAlign + j * V::kLanes32, start);
  }
  const std::uint8_t* row = weights + group.offset;
  const std::int32_t* quad = quads + group.first_entry;
  const auto ones = V::set16(1);
  for (const std::int32_t* stop = quad + group.entries; quad != stop; quad += L) {
    typename V::I16 acc[P][N];
    NYBBLE_UNROLL
    for (int e = 0; e < L; ++e, row += N * V::kBytes) {
      typename V::Bytes inputs[P];
      NYBBLE_UNROLL
      for (int p = 0; p < P; ++p) inputs[p] = V::broadcast4(windows + p * apart + quad[e]);
      NYBBLE_UNROLL
      for (int j = 0; j < N; ++j) {
        auto entry = V::load(row + j * V::kBytes);
        V::hold(entry);
        NYBBLE_UNROLL
        for (int p = 0; p < P; ++p) {
          const auto product = V::multiply_byte_pairs(inputs[p], entry);
          acc[p][j] = e == 0 ? product : V::add16(acc[p][j], product);
          V::hold(acc[p][j]);
        }
      }
    }
    NYBBLE_UNROLL
    for (int p = 0; p < P; ++p) {
      NYBBLE_UNROLL
      for (int j = 0; j < N; ++j) {
        std::int32_t* sum = sums + p * kChannelAlign + j * V::kLanes32;
        V::store32(sum, V::add32(V::multiply_wide_pairs(acc[p][j], ones), V::load32(sum)));
      }
    }
  }
}

// Copies a window to `to`, run after run, in whole vectors: what follows a run is overwritten by the next, or
// multiplied by zero.
template <class V>
NYBBLE_INLINE void gather_window(const ConvShape& s, const ChainedPacked& packed, const std::uint8_t* from,
                                 std::int64_t staged_row, std::uint8_t* to) {
  const std::int32_t rows = s.kernel_h, runs = packed.runs_per_row;
  const std::int64_t run = packed.run_bytes, apart = std::int64_t{s.dilation_w} * s.input.stride;
  if (runs == 1 && run <= V::kBytes) {
    for (std::int32_t r = 0; r < rows; ++r, from += staged_row, to += run) V::store(to, V::load(from));
    return;
  }
  for (std::int32_t r = 0; r < rows; ++r, from += staged_row)
    for (std::int32_t c = 0; c < runs; ++c, to += run)
      for (std::int64_t i = 0; i < run; i += V::kBytes) V::store(to + i, V::load(from + c * apart + i));
}

// The task's pixels lie in one output row, or the convolution is pointwise.
void conv_chained(const ConvTask& task) {
  using V = Vector;
  // Eight vectors of 16-bit sums leave registers for what they are made of.
  constexpr int P = 8 / (kChannelAlign / V::kLanes32);
  static_assert(P <= kMostChainPixels && kGatheredPixels % P == 0);
  const ConvShape& s = *task.shape;
  const ChainedPacked& packed = task.packed->as<ChainedPacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::uint8_t* weights = task.packed->weights;
  const ChainedScratch places(s, task.pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  std::uint8_t* windows = task.scratch + places.windows;
  std::uint8_t* staged = task.scratch + places.staged;
  const std::int64_t staged_row = staged_row_elements(s, task.pixels);
  if (s.input.element == Element::u8)
    stage_rows<std::uint8_t>(task, staged_row, packed.offset, staged);
  else
    stage_rows<std::int8_t>(task, staged_row, packed.offset, staged);

  const std::int64_t apart = places.window_bytes, step = std::int64_t{s.stride_w} * s.input.stride;
  for (std::int32_t first = 0; first < task.pixels; first += kGatheredPixels) {
    const std::int32_t count = task.pixels - first < kGatheredPixels ? task.pixels - first : kGatheredPixels;
    for (std::int32_t p = 0; p < count; ++p)
      gather_window<V>(s, packed, staged + (first + p) * step, staged_row, windows + p * apart);
    for (std::int32_t p = 0; p < count; p += P)
      for (std::int32_t k = 0; k < block.outputs; k += kChannelAlign) {
        const std::int32_t channel = block.first + k;
        const ChainGroup& group = packed.groups[channel / kChannelAlign];
        const std::uint8_t* at = windows + p * apart;
        // A ragged end computes windows of an earlier group and drops the results.
        const std::int32_t* start = packed.correction + channel;
        switch (group.chain) {
          case 1:
            chained_pixels<V, P, 1>(weights, packed.quads, group, at, apart, start, sums);
            break;
          case 2:
            chained_pixels<V, P, 2>(weights, packed.quads, group, at, apart, start, sums);
            break;
          case 3:
            chained_pixels<V, P, 3>(weights, packed.quads, group, at, apart, start, sums);
            break;
          case 4:
            chained_pixels<V, P, 4>(weights, packed.quads, group, at, apart, start, sums);
            break;
          default:
            chained_pixels<V, P, kLongestChain>(weights, packed.quads, group, at, apart, start, sums);
        }
        for (std::int32_t i = 0; i < P && p + i < count; ++i)
          finish_pixel<V>(*task.epilogue, s.output, task.first_pixel + first + p + i, channel, kChannelAlign,
                          task.shortcut, task.output, sums + i * kChannelAlign);
      }
  }
}
// Its speed depends on how large the weights are. In place of the wide kernel it takes what these allow. Where quads
// run, it would be chosen for the small weights of a network converted from four bits, and for no other's.
constexpr ConvRow kChainedRow = {
    .name = "chained",
    .summary = "any types, four bytes at a time, 16-bit sums over what the weights allow",
    .isa = kIsa,
    .has_signed_pairs = Vector::kHasSignedPairs,
    .is_for_wide = true,
    .depends_on_weights = true,
    .tasks = Tasks::row_unless_pointwise,
    .usual_outputs = 64,
    .lanes32 = Vector::kLanes32,
    .pack = pack_chained,
    .scratch = chained_scratch,
    .run = conv_chained,
};

}  // namespace
}  // namespace nybble
