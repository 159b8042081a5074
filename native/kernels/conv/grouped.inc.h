// Convolution of any number of groups, depthwise ones above all, by bytes (vpmaddubsw) with 16-bit sums. Included by
// one file per instruction set, after its vector type.
//
// kChannelAlign outputs are a unit. For each the inputs of a task are staged such that the two bytes of lane k are
// inputs of output k: two channels of its group, or, depthwise, the same channel in two rows. A product of that lane
// with two weights is then part of the sum of output k, whatever the groups are; windows, strides and dilation are
// places in the staged rows, and padding is staged too. pack_grouped splits weights whose products could pass 16 bits,
// and joins entries into chains of one length whose sums cannot. Where one chain is all, the epilogue may have 16-bit
// lanes; elsewhere two chains at a time are interleaved and added to 32-bit sums.
#pragma once

#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/grouped.h"
#include "kernels/conv/words.inc.h"

namespace nybble {
namespace {

// In place of pixels outside the image.
alignas(64) constexpr std::uint8_t kBlankPixel[kChannelAlign] = {};

// Columns of a task's window, from its first, that lie in the image.
struct Inside {
  std::int64_t from = 0, count = 0;
  bool has(std::int64_t x) const { return static_cast<std::uint64_t>(x - from) < static_cast<std::uint64_t>(count); }
};

// A row of a depthwise window: each pixel of kChannelAlign channels beside another.
template <bool kHasOffset>
void stage_depthwise(const std::uint8_t* first, Inside inside, const std::uint8_t* second, Inside second_inside,
                     std::int64_t columns, std::int64_t stride, std::int32_t offset, std::uint8_t* out) {
  using B = Staging;
  const auto add = B::set8(static_cast<std::int8_t>(offset));
  for (std::int64_t x = 0; x < columns; ++x, out += kGroupedBytes) {
    const std::uint8_t* pixel = inside.has(x) ? first + x * stride : kBlankPixel;
    const std::uint8_t* beside = second_inside.has(x) ? second + x * stride : kBlankPixel;
    for_each_index<kChannelAlign / B::kBytes>([&](auto j) NYBBLE_LAMBDA {
      auto a = B::load(pixel + j * B::kBytes);
      auto b = B::load(beside + j * B::kBytes);
      if constexpr (kHasOffset) {
        a = B::add8(a, add);
        b = B::add8(b, add);
      }
      B::store_interleaved(out + j * 2 * B::kBytes, a, b);
    });
  }
}

// A row of the window of a unit of larger groups.
template <bool kHasOffset>
void stage_gathered(const GroupedPacked& packed, std::int32_t unit, std::int32_t vectors, const std::uint8_t* row,
                    Inside inside, std::int64_t columns, std::int64_t stride, std::uint8_t* out) {
  using B = Staging;
  const auto offset = B::set8(static_cast<std::int8_t>(packed.offset));
  const GatherVector* gathers = packed.gathers + std::int64_t{unit} * vectors;
  for (std::int64_t x = 0; x < columns; ++x) {
    if (!inside.has(x)) {
      for (std::int32_t v = 0; v < vectors; ++v, out += B::kBytes) B::store(out, offset);
      continue;
    }
    const std::uint8_t* pixel = row + x * stride;
    for (std::int32_t v = 0; v < vectors; ++v, out += B::kBytes) {
      const GatherStep* step = packed.gather_steps + gathers[v].first_step;
      auto value = B::shuffle(B::load_part(pixel + step->first), step->picks);
      for (const GatherStep* stop = step++ + gathers[v].steps; step != stop; ++step)
        value = B::or8(value, B::shuffle(B::load_part(pixel + step->first), step->picks));
      if constexpr (kHasOffset) value = B::add8(value, offset);
      B::store(out, value);
    }
  }
}

// Stages the window of a unit: the pixels that a task covers.
inline void stage_unit(const ConvTask& task, const GroupedScratch& places, std::int32_t unit, std::int32_t top,
                       std::int32_t left, const std::uint8_t* image, std::uint8_t* staged) {
  const ConvShape& s = *task.shape;
  const GroupedPacked& packed = task.packed->as<GroupedPacked>();
  const std::int64_t stride = s.input.stride;
  const std::int64_t columns =
      std::int64_t{task.pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
  // Of a kernel row: the pixel of the window's first column, and which of its columns there are.
  const auto find = [&](std::int32_t r, const std::uint8_t** row) {
    const std::int64_t y = top + std::int64_t{r} * s.dilation_h;
    Inside inside;
    if (r >= s.kernel_h || y < 0 || y >= s.input.height || left >= s.input.width) return inside;
    *row = image + (y * s.input.width + left) * stride;
    inside.from = left < 0 ? -std::int64_t{left} : 0;
    const std::int64_t end = s.input.width - std::int64_t{left};
    inside.count = end > inside.from ? end - inside.from : 0;
    return inside;
  };
  for (std::int32_t row = 0; row < places.rows; ++row, staged += places.row_bytes) {
    const std::uint8_t *first = image, *second = image;
    const Inside inside = find(places.is_depthwise ? 2 * row : row, &first);
    if (!places.is_depthwise) {
      const auto stage = packed.offset == 0 ? stage_gathered<false> : stage_gathered<true>;
      stage(packed, unit, kGroupedBytes / Staging::kBytes * places.pairs, first, inside, columns, stride, staged);
      continue;
    }
    Inside second_inside;
    if (places.is_beside(row)) {
      second = first + s.dilation_w * stride;
      second_inside = {inside.from - s.dilation_w, inside.count};
    } else {
      second_inside = find(2 * row + 1, &second);
    }
    const std::int64_t channel = std::int64_t{unit} * kChannelAlign;
    const auto stage = packed.offset == 0 ? stage_depthwise<false> : stage_depthwise<true>;
    stage(first + channel, inside, second + channel, second_inside, columns, stride, packed.offset, staged);
  }
}

// One chain of P pixels; L entries, or where L is 0 as many as the unit's chains have.
template <class V, int P, int L>
NYBBLE_INLINE void add_chain(const std::uint8_t* const* windows, const std::int32_t* entry, std::int32_t entries,
                             const std::uint8_t* row, typename V::I16 (&acc)[P][kGroupedBytes / V::kBytes]) {
  constexpr int N = kGroupedBytes / V::kBytes;
  const auto add = [&](std::int32_t place, bool is_first) NYBBLE_LAMBDA {
    for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
      auto weights = V::load(row + j * V::kBytes);
      V::hold(weights);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        const auto product = V::multiply_byte_pairs(V::load(windows[p] + place + j * V::kBytes), weights);
        acc[p][j] = is_first ? product : V::add16(acc[p][j], product);
        V::hold(acc[p][j]);
      });
    });
    row += kGroupedBytes;
  };
  if constexpr (L > 0) {
    for_each_index<L>([&](auto e) NYBBLE_LAMBDA { add(entry[e], e == 0); });
  } else {
    add(entry[0], true);
    for (std::int32_t e = 1; e < entries; ++e) add(entry[e], false);
  }
}

// Sums of P pixels of a unit: 16-bit ones in `acc` where one chain is all, else 32-bit ones in `sums`, kChannelAlign
// for each pixel, in the order that V::load_ordered32 reads.
template <class V, int P, int L>
NYBBLE_INLINE void grouped_sums(const std::uint8_t* weights, const std::int32_t* places, const GroupedUnit& unit,
                                const std::uint8_t* const* windows,
                                typename V::I16 (&acc)[P][kGroupedBytes / V::kBytes], std::int32_t* sums) {
  constexpr int N = kGroupedBytes / V::kBytes;
  const std::uint8_t* row = weights + unit.offset;
  const std::int32_t* entry = places + unit.first_entry;
  const auto ones = V::set16(1);
  const auto add = [&](std::int32_t chain, typename V::I16(&to)[P][N]) NYBBLE_LAMBDA {
    const std::int32_t length = chain + 1 < unit.chains ? unit.chain : unit.last;
    if (length == L)
      add_chain<V, P, L>(windows, entry, L, row, to);
    else
      add_chain<V, P, 0>(windows, entry, length, row, to);
    entry += length;
    row += std::int64_t{length} * kGroupedBytes;
  };
  for (std::int32_t chain = 0; chain < unit.chains; chain += 2) {
    typename V::I16 other[P][N];
    add(chain, acc);
    if (unit.chains == 1) return;
    if (chain + 1 < unit.chains) {
      add(chain + 1, other);
    } else {
      for_each_index<P * N>([&](auto i) NYBBLE_LAMBDA { other[i / N][i % N] = V::set16(0); });
    }
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
      for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
        std::int32_t* low = sums + p * kChannelAlign + j * 2 * V::kLanes32;
        std::int32_t* high = low + V::kLanes32;
        auto a = V::multiply_wide_pairs(V::pair_low(acc[p][j], other[p][j]), ones);
        auto b = V::multiply_wide_pairs(V::pair_high(acc[p][j], other[p][j]), ones);
        if (chain > 0) {
          a = V::add32(a, V::load32(low));
          b = V::add32(b, V::load32(high));
        }
        V::store32(low, a);
        V::store32(high, b);
      });
    });
  }
}

// As finish_pixel, for the sums of a unit in the order that V::load_ordered32 reads. Right only where
// Epilogue::bias_staged is not null. Writes nothing and returns false where a result is in doubt.
template <class V, bool kGuard>
NYBBLE_INLINE bool finish_staged(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                                 void* out, const std::int32_t* sums) {
  constexpr int kVectors = kChannelAlign / V::kLanes32;
  const auto half = V::setf(0.5f);
  [[maybe_unused]] Guarded<V> guarded(e);
  typename V::I32 results[kVectors];
  for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA {
    const std::int32_t i = j * V::kLanes32;
    const float* scale = e.scale_staged + first + i;
    const auto value = V::add32(V::load32(sums + i), V::load32(e.bias_staged + first + i));
    if constexpr (kGuard)
      results[j] = guarded.template round<false>(value, scale);
    else
      results[j] = V::truncate(V::fma(V::to_float(value), V::loadf(scale), half));
  });
  if constexpr (kGuard)
    if (guarded.is_in_doubt()) return false;
  V::store_staged_bytes(static_cast<std::uint8_t*>(out) + pixel * output.stride + first, results, e.high);
  return true;
}

// Whatever the epilogue is. Out of line: conv_grouped needs its registers.
template <class V>
__attribute__((noinline)) void finish_ordered(const ConvTask& task, std::int64_t pixel, std::int32_t first,
                                              const std::int32_t* sums) {
  const Epilogue& e = *task.epilogue;
  const Layout& output = task.shape->output;
  if (e.bias_staged != nullptr && finish_staged<V, true>(e, output, pixel, first, task.output, sums)) return;
  const GroupedPacked& packed = task.packed->as<GroupedPacked>();
  const std::int32_t* correction = packed.correction + first;
  finish_sums<V>(e, output, pixel, first, kChannelAlign, task.shortcut, task.output, [&](std::int32_t i) {
    const auto sum = V::load_ordered32(sums, i);
    return packed.offset == 0 ? sum : V::add32(sum, V::load32(correction + i));
  });
}

// The task's pixels lie in one output row.
void conv_grouped(const ConvTask& task) {
  using V = Vector;
  constexpr int N = kGroupedBytes / V::kBytes;
  constexpr int P = 4 / N;  // two chains of so many pixels leave registers for what they are made of
  static_assert(P <= kMostGroupedPixels);
  const ConvShape& s = *task.shape;
  const Epilogue& e = *task.epilogue;
  const GroupedPacked& packed = task.packed->as<GroupedPacked>();
  const std::uint8_t* weights = task.packed->weights;
  const OutputBlock& block = task.packed->blocks[task.block];
  const GroupedScratch places(s, packed.tile_pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  std::uint8_t* staged = task.scratch + places.staged;

  const std::int64_t within = task.first_pixel % s.output.pixels();
  const std::int32_t top = static_cast<std::int32_t>(within / s.output.width) * s.stride_h - s.pad_top;
  const std::int32_t left = static_cast<std::int32_t>(within % s.output.width) * s.stride_w - s.pad_left;
  const std::uint8_t* image =
      static_cast<const std::uint8_t*>(task.input) + task.first_pixel / s.output.pixels() * s.input.image_elements();
  const std::int64_t step = s.stride_w * places.pixel_bytes;

  for (std::int32_t first = block.first; first < block.first + block.outputs; first += kChannelAlign) {
    const std::int32_t index = first / kChannelAlign;
    const GroupedUnit& unit = packed.units[index];
    const bool is_word = unit.chains == 1 && e.words != nullptr && e.words[index] != 0;
    stage_unit(task, places, index, top, left, image, staged);
    for (std::int32_t p = 0; p < task.pixels; p += P) {
      const std::int32_t count = task.pixels - p < P ? task.pixels - p : P;
      const std::uint8_t* windows[P];
      // A ragged end repeats its first pixel and drops the result.
      for (std::int32_t i = 0; i < P; ++i) windows[i] = staged + (p + (i < count ? i : 0)) * step;
      typename V::I16 acc[P][N];
      switch (unit.chain) {
        case 1:
          grouped_sums<V, P, 1>(weights, packed.places, unit, windows, acc, sums);
          break;
        case 2:
          grouped_sums<V, P, 2>(weights, packed.places, unit, windows, acc, sums);
          break;
        case 3:
          grouped_sums<V, P, 3>(weights, packed.places, unit, windows, acc, sums);
          break;
        case 4:
          grouped_sums<V, P, 4>(weights, packed.places, unit, windows, acc, sums);
          break;
        case 5:
          grouped_sums<V, P, 5>(weights, packed.places, unit, windows, acc, sums);
          break;
        case 6:
          grouped_sums<V, P, 6>(weights, packed.places, unit, windows, acc, sums);
          break;
        default:
          grouped_sums<V, P, 0>(weights, packed.places, unit, windows, acc, sums);
      }
      const std::int64_t pixel = task.first_pixel + p;
      if (unit.chains == 1) {
        for_each_index<P>([&](auto i) NYBBLE_LAMBDA {
          if (i >= count) return;
          if (is_word) {
            V::order16(acc[i]);
            if (packed.offset != 0)
              for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
                acc[i][j] = V::add16(acc[i][j], V::load16(packed.constants + first + j * V::kLanes16));
              });
            finish_pixel16<V, 1>(e, s.output, pixel + i, first, task.shortcut, task.output, acc[i]);
          } else {
            const auto zero = V::set16(0), one = V::set16(1);
            for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
              std::int32_t* low = sums + i * kChannelAlign + j * 2 * V::kLanes32;
              V::store32(low, V::multiply_wide_pairs(V::pair_low(acc[i][j], zero), one));
              V::store32(low + V::kLanes32, V::multiply_wide_pairs(V::pair_high(acc[i][j], zero), one));
            });
          }
        });
        if (is_word) continue;
      }
      if (e.bias_staged != nullptr && !e.guarded) {
        for (std::int32_t i = 0; i < count; ++i)
          finish_staged<V, false>(e, s.output, pixel + i, first, task.output, sums + i * kChannelAlign);
        continue;
      }
      for (std::int32_t i = 0; i < count; ++i) finish_ordered<V>(task, pixel + i, first, sums + i * kChannelAlign);
    }
  }
}
constexpr ConvRow kGroupedRow = {
    .name = "grouped",
    .summary = "any number of groups, 16-bit sums over what the weights allow",
    .isa = kIsa,
    .takes_groups = true,
    .is_padded = true,
    .has_signed_pairs = Vector::kHasSignedPairs,
    .is_for_groups = true,
    .tasks = Tasks::row,
    .usual_outputs = Vector::kUsualOutputs,
    .lanes32 = Vector::kLanes32,
    .staging_bytes = Staging::kBytes,
    .pack = pack_grouped,
    .scratch = grouped_scratch,
    .run = conv_grouped,
};

}  // namespace
}  // namespace nybble
