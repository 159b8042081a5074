// Convolution of any number of groups, depthwise ones above all, by bytes (vpmaddubsw) with 16-bit sums. Included by
// one file per instruction set, after the vector type V, inside its unnamed namespace.
//
// kChannelAlign outputs are a unit. For each the inputs of a task are staged such that the two bytes of lane k are
// inputs of output k: two channels of its group, or, depthwise, the same channel in two rows. A product of that lane
// with two weights is then part of the sum of output k, whatever the groups are; windows, strides and dilation are
// places in the staged rows, and padding is staged too. pack_grouped splits weights whose products could pass 16 bits,
// and joins entries into chains of one length whose sums cannot. Where one chain is all, the epilogue may have 16-bit
// lanes; elsewhere two chains at a time are interleaved and added to 32-bit sums.
#include "kernels/conv/epilogue.inc.h"

// Stages the window of a unit: the pixels that a task covers.
inline void stage_unit(const ConvTask& task, const GroupedScratch& places, std::int32_t unit, std::int32_t top,
                       std::int32_t left, const std::uint8_t* image, std::uint8_t* staged) {
  using B = Bytes32;
  const ConvShape& s = *task.shape;
  const PackedConv& packed = *task.packed;
  const auto offset = B::set8(static_cast<std::int8_t>(packed.offset));
  const std::int64_t columns =
      std::int64_t{task.pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
  // Columns [from, to) lie in the image.
  std::int64_t from = left < 0 ? -std::int64_t{left} : 0, to = s.input.width - std::int64_t{left};
  from = from < columns ? from : columns;
  to = to < columns ? (to > from ? to : from) : columns;
  const std::int64_t row_elements = std::int64_t{s.input.width} * s.input.stride;
  const auto source = [&](std::int32_t r) -> const std::uint8_t* {
    const std::int64_t y = top + std::int64_t{r} * s.dilation_h;
    return r < s.kernel_h && y >= 0 && y < s.input.height
               ? image + y * row_elements + left * std::int64_t{s.input.stride}
               : nullptr;
  };
  for (std::int32_t row = 0; row < places.rows; ++row, staged += places.row_bytes) {
    const std::uint8_t* first = source(places.is_depthwise ? 2 * row : row);
    const std::uint8_t* second = places.is_depthwise ? source(2 * row + 1) : nullptr;
    const bool is_empty = first == nullptr && second == nullptr;
    const std::int64_t begin = is_empty ? columns : from, end = is_empty ? columns : to;
    const auto fill = [&](std::int64_t x, std::int64_t stop) {
      for (std::int64_t i = x * places.pixel_bytes; i < stop * places.pixel_bytes; i += B::kBytes)
        B::store(staged + i, offset);
    };
    fill(0, begin);
    if (places.is_depthwise) {
      const std::int64_t channel = std::int64_t{unit} * kChannelAlign;
      std::uint8_t* out = staged + begin * kGroupedBytes;
      for (std::int64_t x = begin; x < end; ++x, out += kGroupedBytes) {
        const std::int64_t at = x * s.input.stride + channel;
        const auto a = first == nullptr ? offset : B::add8(B::load(first + at), offset);
        const auto b = second == nullptr ? offset : B::add8(B::load(second + at), offset);
        B::store_interleaved(out, a, b);
      }
    } else {
      const std::int32_t vectors = 2 * places.pairs;
      const GatherVector* gathers = packed.gathers + std::int64_t{unit} * vectors;
      std::uint8_t* out = staged + begin * places.pixel_bytes;
      for (std::int64_t x = begin; x < end; ++x) {
        const std::uint8_t* pixel = first + x * s.input.stride;
        for (std::int32_t v = 0; v < vectors; ++v, out += B::kBytes) {
          const GatherStep* step = packed.gather_steps + gathers[v].first_step;
          auto value = B::set8(0);
          for (const GatherStep* stop = step + gathers[v].steps; step != stop; ++step)
            value = B::or8(value, B::shuffle(B::load_twice(pixel + step->first), step->picks));
          B::store(out, B::add8(value, offset));
        }
      }
    }
    fill(end, columns);
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
      V::hold16(weights);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        const auto product = V::multiply_bytes(V::load(windows[p] + place + j * V::kBytes), weights);
        acc[p][j] = is_first ? product : V::add16(acc[p][j], product);
        V::hold16(acc[p][j]);
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
NYBBLE_INLINE void grouped_sums(const PackedConv& packed, const GroupedUnit& unit, const std::uint8_t* const* windows,
                                typename V::I16 (&acc)[P][kGroupedBytes / V::kBytes], std::int32_t* sums) {
  constexpr int N = kGroupedBytes / V::kBytes;
  const std::uint8_t* row = packed.weights + unit.offset;
  const std::int32_t* entry = packed.grouped_places + unit.first_entry;
  const std::int32_t length = L > 0 ? L : unit.chain;
  const auto ones = V::set16(1);
  for (std::int32_t chain = 0; chain < unit.chains; chain += 2) {
    typename V::I16 other[P][N];
    add_chain<V, P, L>(windows, entry, length, row, acc);
    entry += length;
    row += std::int64_t{length} * kGroupedBytes;
    if (unit.chains == 1) return;
    if (chain + 1 < unit.chains) {
      add_chain<V, P, L>(windows, entry, length, row, other);
      entry += length;
      row += std::int64_t{length} * kGroupedBytes;
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

// The task's pixels lie in one output row.
void conv_grouped(const ConvTask& task) {
  using V = Vector;
  constexpr int N = kGroupedBytes / V::kBytes;
  constexpr int P = 4 / N;  // two chains of so many pixels leave registers for what they are made of
  static_assert(P <= kMostGroupedPixels);
  const ConvShape& s = *task.shape;
  const Epilogue& e = *task.epilogue;
  const PackedConv& packed = *task.packed;
  const OutputBlock& block = packed.blocks[task.block];
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
    const GroupedUnit& unit = packed.grouped_units[index];
    const bool is_word = unit.chains == 1 && e.words != nullptr && e.words[index] != 0;
    const std::int32_t* correction = packed.correction + first;
    stage_unit(task, places, index, top, left, image, staged);
    for (std::int32_t p = 0; p < task.pixels; p += P) {
      const std::int32_t count = task.pixels - p < P ? task.pixels - p : P;
      const std::uint8_t* windows[P];
      // A ragged end repeats its first pixel and drops the result.
      for (std::int32_t i = 0; i < P; ++i) windows[i] = staged + (p + (i < count ? i : 0)) * step;
      typename V::I16 acc[P][N];
      switch (unit.chain) {
        case 1:
          grouped_sums<V, P, 1>(packed, unit, windows, acc, sums);
          break;
        case 2:
          grouped_sums<V, P, 2>(packed, unit, windows, acc, sums);
          break;
        case 3:
          grouped_sums<V, P, 3>(packed, unit, windows, acc, sums);
          break;
        case 4:
          grouped_sums<V, P, 4>(packed, unit, windows, acc, sums);
          break;
        case 5:
          grouped_sums<V, P, 5>(packed, unit, windows, acc, sums);
          break;
        case 6:
          grouped_sums<V, P, 6>(packed, unit, windows, acc, sums);
          break;
        default:
          grouped_sums<V, P, 0>(packed, unit, windows, acc, sums);
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
      for (std::int32_t i = 0; i < count; ++i)
        finish_sums<V>(e, s.output, pixel + i, first, kChannelAlign, task.shortcut, task.output, [&](std::int32_t k) {
          const auto sum = V::load_ordered32(sums + i * kChannelAlign, k);
          return packed.offset == 0 ? sum : V::add32(sum, V::load32(correction + k));
        });
    }
  }
}
