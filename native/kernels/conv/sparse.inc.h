// Convolution of unsigned activations over lists of their non-zero channel groups. Included by one file
// per instruction set, after its vector type.
//
// For one pixel and kernel position the list names the groups of channels that are not all zero. Each is
// broadcast and multiplied with one row of weights that is read from L1 as a memory operand; the sums of
// all outputs of the block stay in registers. There is no branch but the end of the list.
//
// Pairs have 16-bit sums (vpmaddubsw): a product is at most largest activation * (|w0| + |w1|), which
// pack.cpp keeps within 16 bits (never saturating), and it cuts the work into visits such that the sums
// of all visits between two widenings stay in range whatever the activations are. Quads have 32-bit sums
// (vpdpbusd, or vpmaddubsw and vpmaddwd), for weights and activations of 8 bits.
#pragma once

#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/sparse.h"
#include "kernels/conv/words.inc.h"

namespace nybble {
namespace {

template <class Vec>
struct PairSums {
  using V = Vec;
  using Sums = typename V::I16;
  using Stored = std::int16_t;
  static constexpr int kLanes = V::kLanes16;
  static constexpr int kGroup = 2;
  static constexpr bool kIsWord = true;
  using Entry = std::uint32_t;
  static NYBBLE_INLINE const Entry* entries(const NonZeroLists& lists) { return lists.entries; }
  static NYBBLE_INLINE Sums zero() { return V::set16(0); }
  static NYBBLE_INLINE Sums load(const Stored* p) { return V::load16(p); }
  static NYBBLE_INLINE void store(Stored* p, Sums v) { V::store16(p, v); }
  static NYBBLE_INLINE auto inputs(const std::uint32_t* entry) { return V::broadcast_pair(entry); }
  static NYBBLE_INLINE const std::uint16_t* indices(const NonZeroLists&, const std::uint32_t*) { return nullptr; }
  static NYBBLE_INLINE std::size_t index(const std::uint32_t* entry, const std::uint16_t*) {
    return V::pair_index(entry);
  }
  template <int N>
  static NYBBLE_INLINE void add(Sums (&sums)[N], typename V::Bytes inputs, const std::uint8_t* row) {
    for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
      sums[j] = V::add16(sums[j], V::multiply_byte_pairs(inputs, V::load(row + j * V::kBytes)));
    });
  }
  // kLanes32 sums from output i.
  template <int i>
  static NYBBLE_INLINE typename V::I32 lanes(const Sums* sums) {
    return i % kLanes == 0 ? V::widen_low(sums[i / kLanes]) : V::widen_high(sums[i / kLanes]);
  }
};

template <class Vec>
struct QuadSums {
  using V = Vec;
  using Sums = typename V::I32;
  using Stored = std::int32_t;
  static constexpr int kLanes = V::kLanes32;
  static constexpr int kGroup = 4;
  static constexpr bool kIsWord = false;
  using Entry = std::uint32_t;
  static NYBBLE_INLINE const Entry* entries(const NonZeroLists& lists) { return lists.entries; }
  static NYBBLE_INLINE Sums zero() { return V::set32(0); }
  static NYBBLE_INLINE Sums load(const Stored* p) { return V::load32(p); }
  static NYBBLE_INLINE void store(Stored* p, Sums v) { V::store32(p, v); }
  static NYBBLE_INLINE auto inputs(const std::uint32_t* entry) { return V::broadcast4(entry); }
  static NYBBLE_INLINE const std::uint16_t* indices(const NonZeroLists& lists, const std::uint32_t* entry) {
    return lists.indices + (entry - lists.entries);
  }
  static NYBBLE_INLINE std::size_t index(const std::uint32_t*, const std::uint16_t* index) { return *index; }
  template <int N>
  static NYBBLE_INLINE void add(Sums (&sums)[N], typename V::Bytes inputs, const std::uint8_t* row) {
    for_each_index<N>([&](auto j)
                          NYBBLE_LAMBDA { sums[j] = V::add_quads(sums[j], inputs, V::load(row + j * V::kBytes)); });
  }
  template <int i>
  static NYBBLE_INLINE typename V::I32 lanes(const Sums* sums) {
    return sums[i / kLanes];
  }
};

// Where the windows of a tile start.
inline void find_coordinates(const ConvTask& task, TileCoordinates* where) {
  const ConvShape& s = *task.shape;
  const NonZeroLists& lists = *task.lists;
  std::int64_t image = task.first_pixel / s.output.pixels();
  const std::int64_t within = task.first_pixel % s.output.pixels();
  std::int32_t y = static_cast<std::int32_t>(within / s.output.width);
  std::int32_t x = static_cast<std::int32_t>(within % s.output.width);
  const std::int32_t reach_y = (s.kernel_h - 1) * s.dilation_h, reach_x = (s.kernel_w - 1) * s.dilation_w;
  for (std::int32_t p = 0; p < task.pixels; ++p) {
    const std::int32_t row = y * s.stride_h - s.pad_top, column = x * s.stride_w - s.pad_left;
    const std::int64_t first = image * s.input.pixels() + std::int64_t{row} * s.input.width + column;
    where->rows[p] = row;
    where->columns[p] = column;
    where->entries[p] = first * lists.groups;
    where->counts[p] = first * lists.blocks;
    where->is_inside[p] = row >= 0 && column >= 0 && row + reach_y < s.input.height && column + reach_x < s.input.width;
    if (++x == s.output.width) {
      x = 0;
      if (++y == s.output.height) {
        y = 0;
        ++image;
      }
    }
  }
}

template <class S, int N>
void sparse_block(const ConvTask& task) {
  using V = typename S::V;
  constexpr int kOutputs = N * S::kLanes;
  constexpr int kRow = kOutputs * S::kGroup;  // bytes of weights of one group
  const ConvShape& s = *task.shape;
  const SparsePacked& packed = task.packed->as<SparsePacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::uint8_t* weights = task.packed->weights + block.offset;

  TileCoordinates* where = reinterpret_cast<TileCoordinates*>(task.scratch);
  std::int32_t* sums32 = reinterpret_cast<std::int32_t*>(task.scratch + sizeof(TileCoordinates));
  typename S::Stored* partial = reinterpret_cast<typename S::Stored*>(sums32 + kMostTilePixels * kOutputs);
  find_coordinates(task, where);
  // Copies, which no store of a byte could change in the compiler's eyes.
  const NonZeroLists lists = *task.lists;
  const std::int32_t pixels = task.pixels, height = s.input.height, width = s.input.width;

  bool fresh = true, fresh32 = true;
  for (std::int32_t v = 0; v < packed.visit_count; ++v) {
    const SparseVisit visit = packed.visits[v];
    const SparseItem* const items = packed.items + visit.first_item;
    const SparseItem* const stop = items + visit.items;
    const bool last = v + 1 == packed.visit_count;
    // The next visit's weights come from L2 or beyond: prefetch a few cache lines per pixel.
    const std::uint8_t* ahead = last ? nullptr : weights + std::int64_t{stop->first_group} * kRow;
    const std::int32_t lines = last ? 0 : visit.groups_ahead * kRow / 64;
    const std::int32_t lines_each = (lines + pixels - 1) / pixels;
    for (std::int32_t p = 0; p < pixels; ++p) {
      for (std::int32_t n = 0; n < lines_each; ++n, ahead += 64) __builtin_prefetch(ahead, 0, 2);
      if (last)
        prefetch_finish(*task.epilogue, s.output, task.first_pixel + p, block.first, kOutputs, task.shortcut,
                        task.output);

      typename S::Sums acc[N];
      if (fresh) {
        for_each_index<N>([&](auto j) NYBBLE_LAMBDA { acc[j] = S::zero(); });
      } else {
        for_each_index<N>([&](auto j) NYBBLE_LAMBDA { acc[j] = S::load(partial + p * kOutputs + j * S::kLanes); });
      }
      const typename S::Entry* const entries = S::entries(lists) + where->entries[p];
      const std::uint16_t* const counts = lists.counts + where->counts[p];
      const bool is_inside = where->is_inside[p];
      for (const SparseItem* item = items; item != stop; ++item) {
        if (!is_inside) {
          const std::int32_t y = where->rows[p] + item->dy, x = where->columns[p] + item->dx;
          if (y < 0 || x < 0 || y >= height || x >= width) continue;
        }
        const std::uint8_t* rows = weights + std::int64_t{item->first_group} * kRow;
        const typename S::Entry* entry = entries + item->entries;
        const typename S::Entry* const end = entry + counts[item->counts];
        if constexpr (S::kGroup == 1) {
          // Opaque: the compiler would add the parts of the address to each entry.
          __asm__("" : "+r"(rows));
          S::template add_list<N, kRow>(acc, entry, end, rows);
          continue;
        } else {
          const std::uint16_t* index = S::indices(lists, entry);
          for (; entry != end; ++entry) {
            const auto inputs = S::inputs(entry);
            const std::uint8_t* row = rows + S::index(entry, index) * kRow;
            // In one register: operands with an index register take two slots of the front end, not one.
            __asm__("" : "+r"(row));
            if constexpr (S::kGroup == 4) ++index;  // others have no array of indices to step through
            S::template add<N>(acc, inputs, row);
          }
        }
      }

      std::int32_t* sums = sums32 + p * kOutputs;
      if (S::kIsWord && last && fresh32 && task.epilogue->words != nullptr) {
        if constexpr (S::kIsWord)
          finish_pixel16<V, kOutputs / kChannelAlign>(*task.epilogue, s.output, task.first_pixel + p, block.first,
                                                      task.shortcut, task.output, acc);
      } else if (last || visit.widen) {
        for_each_index<kOutputs / V::kLanes32>([&](auto n) NYBBLE_LAMBDA {
          constexpr int i = n * V::kLanes32;
          const auto lanes = S::template lanes<i>(acc);
          V::store32(sums + i, fresh32 ? lanes : V::add32(lanes, V::load32(sums + i)));
        });
        if (last)
          finish_pixel<V>(*task.epilogue, s.output, task.first_pixel + p, block.first, kOutputs, task.shortcut,
                          task.output, sums);
      } else {
        for_each_index<N>([&](auto j) NYBBLE_LAMBDA { S::store(partial + p * kOutputs + j * S::kLanes, acc[j]); });
      }
    }
    fresh = visit.widen;
    if (visit.widen) fresh32 = false;
  }
}

// Blocks hold 32 to 256 outputs, a multiple of 32.
template <class S, int Units>
NYBBLE_INLINE void sparse_units(const ConvTask& task) {
  sparse_block<S, Units * kChannelAlign / S::kLanes>(task);
}

void conv_sparse(const ConvTask& task) {
  using S = PairSums<Vector>;
  switch (task.packed->blocks[task.block].outputs / kChannelAlign) {
    case 1:
      return sparse_units<S, 1>(task);
    case 2:
      return sparse_units<S, 2>(task);
    case 3:
      return sparse_units<S, 3>(task);
    case 4:
      return sparse_units<S, 4>(task);
    case 5:
      return sparse_units<S, 5>(task);
    case 6:
      return sparse_units<S, 6>(task);
    case 7:
      return sparse_units<S, 7>(task);
    default:
      return sparse_units<S, 8>(task);
  }
}

// What registers hold of a block.
constexpr std::int32_t kMostQuadOutputs = Vector::kQuadVectors * Vector::kLanes32 / kChannelAlign * kChannelAlign;
static_assert(kMostQuadOutputs >= kChannelAlign && kMostQuadOutputs <= kMostBlockOutputs);

void conv_sparse_quad(const ConvTask& task) {
  using S = QuadSums<Vector>;
  const std::int32_t units = task.packed->blocks[task.block].outputs / kChannelAlign;
  switch (units) {
    case 1:
      return sparse_units<S, 1>(task);
    case 2:
      return sparse_units<S, 2>(task);
    case 3:
      return sparse_units<S, 3>(task);
    default:
      break;
  }
  if constexpr (kMostQuadOutputs > 96) {
    switch (units) {
      case 4:
        return sparse_units<S, 4>(task);
      case 5:
        return sparse_units<S, 5>(task);
      case 6:
        return sparse_units<S, 6>(task);
      case 7:
        return sparse_units<S, 7>(task);
      default:
        return sparse_units<S, 8>(task);
    }
  }
}
constexpr ConvRow kSparseRow = {
    .name = "sparse",
    .summary = "lists of non-zero pairs of channels, 16-bit sums",
    .isa = kIsa,
    .takes_signed = false,
    .is_padded = true,
    .most_input = Vector::kHasSignedPairs ? INT8_MAX : UINT8_MAX,
    .products16 = 2,
    .has_list_products = true,
    .list_group = 2,
    .usual_outputs = Vector::kUsualOutputs,
    .lanes32 = Vector::kLanes32,
    .pack = pack_sparse,
    .scratch = sparse_scratch,
    .run = conv_sparse,
};

constexpr ConvRow kSparseQuadRow = {
    .name = "sparse_quad",
    .summary = "lists of non-zero groups of four channels, 32-bit sums",
    .isa = kIsa,
    .takes_signed = false,
    .is_padded = true,
    .most_input = Vector::kMostQuadInput,
    .list_group = 4,
    .has_dot_products = Vector::kHasDotProducts,
    .most_outputs = kMostQuadOutputs,
    .usual_outputs = Vector::kUsualOutputs < kMostQuadOutputs ? Vector::kUsualOutputs : kMostQuadOutputs,
    .lanes32 = Vector::kLanes32,
    .pack = pack_sparse,
    .scratch = sparse_scratch,
    .run = conv_sparse_quad,
};

}  // namespace
}  // namespace nybble
