// Convolution as a matrix product (implicit GEMM): rows are pixels (n, y, x), columns output channels, depth
// (tap, channel). A block computes a tile of Rows x Columns sums, half the rows and 32 columns a warp; a stage holds
// Depth bytes of each row and column.
#pragma once

#include "gpu/kernels/epilogue.h"
#include "gpu/kernels/products.h"

namespace nybble::gpu {

struct ConvParams {
  Epilogue epilogue;
  const u8* input;    // pixels of input_bytes each
  const u8* weights;  // a row of taps * input_bytes for each column: see below for their order
  const s32* bias;    // one per channel
  s32 input_bytes, height, width;
  s32 rows;  // pixels of all images
  s32 out_height, out_width;
  s32 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

// A convolution whose sums begin with those of another one, the projection: requantized, clamped, rescaled as its
// epilogue says. Both are of one pixel and have the same columns.
struct JoinParams {
  ConvParams conv, projection;
};

// How a depth step finds its bytes: at one pixel that is never outside the image, or at a tap that may be.
enum Taps : s32 { kOneTap = 0, kAnyTaps = 1 };

// Results: any form that the epilogue has; or unsigned nibbles, requantized in 32 bits, with a shortcut of unsigned
// nibbles or none.
enum Rule : s32 { kAny = 0, kCodes = 1 };

// Columns are permuted within each group of 32: fragment column 8j + 2q + e holds channel 8q + 2j + e, so that each
// thread has eight neighbouring channels of a row and stores them at once.
template <class Arch, class T, s32 Rows, s32 Columns, s32 Depth, s32 Stages, s32 TapMode, s32 How>
struct Conv {
  static constexpr s32 kWarpRows = Rows / 2, kWarpColumns = 32, kWarpsAcross = Columns / kWarpColumns;
  static constexpr s32 kThreads = 2 * kWarpsAcross * kWarp;
  static constexpr s32 kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
  static constexpr s32 kChunks = Depth / 16;
  static constexpr s32 kRowCopies = Rows * kChunks / kThreads;
  static constexpr s32 kColumnCopies = Columns * kChunks / kThreads;
  static constexpr s32 kStageBytes = (Rows + Columns) * Depth;
  static constexpr s32 kShared = Stages * kStageBytes;
  static constexpr s32 kScale = Arch::template kScale<T>;
  static_assert(kWarpRows % 16 == 0 && Columns % kWarpColumns == 0 && (kChunks == 2 || kChunks == 4));
  static_assert(kThreads % kChunks == 0 && Stages >= 2);

  // Where a chunk of 16 bytes lies in a stage: eight rows of one chunk fall into different banks.
  NYBBLE_DEVICE static u32 place(s32 row, s32 chunk) {
    constexpr s32 period = 8 / kChunks;
    return static_cast<u32>((row * kChunks + (chunk ^ ((row / period) & (kChunks - 1)))) * 16);
  }

  const ConvParams& p;
  s32 copy_row, copy_chunk;            // of this thread's first copy; others are kThreads / kChunks rows further
  s32 y0[kRowCopies], x0[kRowCopies];  // of the first tap
  s64 image[kRowCopies];               // first pixel of the row's image; below 0 where there is no such row
  s32 tap_y = 0, tap_x = 0, offset = 0;
  const u8* column;
  s32 accumulators[kRowTiles][kColumnTiles][4];
  Words4 row_chunks[Arch::kAsync ? 1 : kRowCopies], column_chunks[Arch::kAsync ? 1 : kColumnCopies];

  NYBBLE_DEVICE explicit Conv(const ConvParams& params) : p(params) {
    const s32 thread = thread_index();
    copy_row = thread / kChunks;
    copy_chunk = thread % kChunks;
    NYBBLE_UNROLL
    for (s32 i = 0; i < kRowCopies; ++i) {
      const s32 row = block_x() * Rows + copy_row + i * (kThreads / kChunks);
      const s32 pixels = p.out_height * p.out_width;
      const s32 n = row / pixels, pixel = row % pixels;
      y0[i] = pixel / p.out_width * p.stride_h - p.pad_top;
      x0[i] = pixel % p.out_width * p.stride_w - p.pad_left;
      image[i] = row < p.rows ? static_cast<s64>(n) * p.height * p.width : -1;
    }
    column = p.weights + static_cast<s64>(block_y() * Columns + copy_row) * depth_bytes() + copy_chunk * 16;
  }

  NYBBLE_DEVICE s32 depth_bytes() const { return p.kernel_h * p.kernel_w * p.input_bytes; }
  NYBBLE_DEVICE s32 steps() const { return depth_bytes() / Depth; }

  // Where a row's chunk of the step comes from; null where that is outside the image.
  NYBBLE_DEVICE const u8* row_source(s32 i) const {
    const s32 y = y0[i] + tap_y * p.dilation_h, x = x0[i] + tap_x * p.dilation_w;
    bool inside = image[i] >= 0;
    if constexpr (TapMode == kAnyTaps) inside = inside && y >= 0 && y < p.height && x >= 0 && x < p.width;
    if (!inside) return nullptr;
    return p.input + (image[i] + y * p.width + x) * p.input_bytes + offset + copy_chunk * 16;
  }

  NYBBLE_DEVICE const u8* column_source(s32 i) const {
    return column + static_cast<s64>(i * (kThreads / kChunks)) * depth_bytes();
  }

  NYBBLE_DEVICE u32 row_target(s32 slot, s32 i) const {
    return static_cast<u32>(slot * kStageBytes) + place(copy_row + i * (kThreads / kChunks), copy_chunk);
  }
  NYBBLE_DEVICE u32 column_target(s32 slot, s32 i) const { return Rows * Depth + row_target(slot, i); }

  NYBBLE_DEVICE void next_step() {
    column += Depth;
    offset += Depth;
    if constexpr (TapMode == kAnyTaps) {
      if (offset == p.input_bytes) {
        offset = 0;
        if (++tap_x == p.kernel_w) tap_x = 0, ++tap_y;
      }
    }
  }

  NYBBLE_DEVICE void copy_step(s32 slot) {
    NYBBLE_UNROLL
    for (s32 i = 0; i < kRowCopies; ++i) {
      const u8* from = row_source(i);
      copy_async(row_target(slot, i), from == nullptr ? p.input : from, from != nullptr);
    }
    NYBBLE_UNROLL
    for (s32 i = 0; i < kColumnCopies; ++i) copy_async(column_target(slot, i), column_source(i), true);
    next_step();
  }

  NYBBLE_DEVICE void read_step() {
    NYBBLE_UNROLL
    for (s32 i = 0; i < kRowCopies; ++i) {
      const u8* from = row_source(i);
      row_chunks[i] = from == nullptr ? Words4{} : global_load(reinterpret_cast<const Words4*>(from));
    }
    NYBBLE_UNROLL
    for (s32 i = 0; i < kColumnCopies; ++i) {
      column_chunks[i] = global_load(reinterpret_cast<const Words4*>(column_source(i)));
    }
    next_step();
  }

  NYBBLE_DEVICE void write_step(s32 slot) {
    NYBBLE_UNROLL
    for (s32 i = 0; i < kRowCopies; ++i) shared_store(row_target(slot, i), row_chunks[i]);
    NYBBLE_UNROLL
    for (s32 i = 0; i < kColumnCopies; ++i) shared_store(column_target(slot, i), column_chunks[i]);
  }

  NYBBLE_DEVICE s32 lane() const { return thread_index() % kWarp; }
  NYBBLE_DEVICE s32 first_row() const { return thread_index() / kWarp / kWarpsAcross * kWarpRows; }
  NYBBLE_DEVICE s32 first_column() const { return thread_index() / kWarp % kWarpsAcross * kWarpColumns; }
  // The first of the eight neighbouring channels that this thread has.
  NYBBLE_DEVICE s32 channel() const { return block_y() * Columns + first_column() + lane() % 4 * 8; }

  NYBBLE_DEVICE void start_sums() {
    NYBBLE_UNROLL
    for (s32 n = 0; n < kColumnTiles; ++n) {
      NYBBLE_UNROLL
      for (s32 e = 0; e < 2; ++e) {
        // Where sums are scaled the bias comes later.
        const s32 bias = kScale != 0 ? 0 : global_load(p.bias + channel() + n * 2 + e);
        NYBBLE_UNROLL
        for (s32 m = 0; m < kRowTiles; ++m) accumulators[m][n][e] = accumulators[m][n][2 + e] = bias;
      }
    }
  }

  NYBBLE_DEVICE void multiply_step(s32 slot) {
    const u32 rows = static_cast<u32>(slot * kStageBytes), columns = rows + Rows * Depth;
    const s32 row = first_row() + lane() % 16, row_chunk = lane() / 16;
    const s32 column_row = first_column() + lane() % 8 + lane() / 16 * 8, column_chunk = lane() / 8 % 2;
    NYBBLE_UNROLL
    for (s32 part = 0; part < kChunks; part += 2) {
      u32 a[kRowTiles][4];
      NYBBLE_UNROLL
      for (s32 m = 0; m < kRowTiles; ++m) load_matrices(a[m], rows + place(row + m * 16, part + row_chunk));
      NYBBLE_UNROLL
      for (s32 n = 0; n < kColumnTiles; n += 2) {
        u32 two[4];
        load_matrices(two, columns + place(column_row + n * 8, part + column_chunk));
        const u32 b0[2] = {two[0], two[1]}, b1[2] = {two[2], two[3]};
        NYBBLE_UNROLL
        for (s32 m = 0; m < kRowTiles; ++m) {
          Arch::template multiply<T>(accumulators[m][n], a[m], b0);
          Arch::template multiply<T>(accumulators[m][n + 1], a[m], b1);
        }
      }
    }
  }

  // Slots are filled Stages - 1 steps ahead. The barrier before a step's products is after all of the step before, so
  // that the slot of that one may be filled again.
  NYBBLE_DEVICE void run_async() {
    const s32 count = steps();
    NYBBLE_UNROLL
    for (s32 s = 0; s < Stages - 1; ++s) {
      if (s < count) copy_step(s);
      commit_async();
    }
    s32 slot = 0, filled = Stages - 1;
    for (s32 step = 0; step < count; ++step) {
      wait_async<Stages - 2>();
      block_barrier();
      if (step + Stages - 1 < count) copy_step(filled);
      commit_async();
      multiply_step(slot);
      slot = slot + 1 == Stages ? 0 : slot + 1;
      filled = filled + 1 == Stages ? 0 : filled + 1;
    }
  }

  // Through registers: loads are under way while the step before is multiplied.
  NYBBLE_DEVICE void run_through_registers() {
    const s32 count = steps();
    read_step();
    write_step(0);
    for (s32 step = 0; step < count; ++step) {
      block_barrier();
      if (step + 1 < count) read_step();
      multiply_step(step % 2);
      if (step + 1 < count) write_step((step + 1) % 2);
    }
  }

  NYBBLE_DEVICE s32 row_of(s32 m, s32 half) const {
    return block_x() * Rows + first_row() + m * 16 + half * 8 + lane() / 4;
  }

  // Sums that are scaled become sums, with the bias that comes later.
  NYBBLE_DEVICE void settle() {
    if constexpr (kScale == 0) return;
    NYBBLE_UNROLL
    for (s32 n = 0; n < kColumnTiles; ++n) {
      const Words2 bias = global_load(reinterpret_cast<const Words2*>(p.bias + channel() + n * 2));
      NYBBLE_UNROLL
      for (s32 m = 0; m < kRowTiles; ++m) {
        NYBBLE_UNROLL
        for (s32 i = 0; i < 4; ++i) {
          accumulators[m][n][i] = (accumulators[m][n][i] >> kScale) + static_cast<s32>(bias.word[i % 2]);
        }
      }
    }
  }

  // The eight neighbouring sums of a row.
  NYBBLE_DEVICE void sums_of(s32 m, s32 half, s32 (&v)[8]) const {
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = accumulators[m][i / 2][half * 2 + i % 2];
  }

  NYBBLE_DEVICE void finish() {
    const s32 first = channel();
    if (first >= p.epilogue.out.pitch) return;
    settle();
    NYBBLE_UNROLL
    for (s32 m = 0; m < kRowTiles; ++m) {
      NYBBLE_UNROLL
      for (s32 half = 0; half < 2; ++half) {
        const s32 row = row_of(m, half);
        if (row >= p.rows) continue;
        s32 v[8];
        sums_of(m, half, v);
        finish8(p.epilogue, row, first, v);
      }
    }
  }

  // Codes from 0 to 15: requantizing needs no care for sums below 0, and packing clamps. Two channels at a time, as the
  // factors of eight would not fit the registers.
  template <bool HasShortcut>
  NYBBLE_DEVICE void finish_codes() {
    const Epilogue& e = p.epilogue;
    const s32 first = channel();
    if (first >= e.out.pitch) return;
    settle();
    u32 others[kRowTiles][2] = {};
    if constexpr (HasShortcut) {
      NYBBLE_UNROLL
      for (s32 m = 0; m < kRowTiles; ++m) {
        NYBBLE_UNROLL
        for (s32 half = 0; half < 2; ++half) {
          if (row_of(m, half) < p.rows) others[m][half] = global_load(codes_of(e.shortcut, m, half));
        }
      }
    }
    const s32 half_unit = half_of(e.shift), shortcut_half = half_of(e.shortcut_shift);
    NYBBLE_UNROLL
    for (s32 n = 0; n < kColumnTiles; ++n) {
      const Words2 factor = global_load(reinterpret_cast<const Words2*>(e.factor + first + n * 2));
      Words2 shortcut_factor{};
      if constexpr (HasShortcut) {
        shortcut_factor = global_load(reinterpret_cast<const Words2*>(e.shortcut_factor + first + n * 2));
      }
      NYBBLE_UNROLL
      for (s32 m = 0; m < kRowTiles; ++m) {
        NYBBLE_UNROLL
        for (s32 i = 0; i < 4; ++i) {
          s32& sum = accumulators[m][n][i];
          if constexpr (HasShortcut) {
            const s32 code = nibble_at(others[m][i / 2], n * 2 + i % 2, false);
            sum += (code * static_cast<s32>(shortcut_factor.word[i % 2]) + shortcut_half) >> e.shortcut_shift;
          }
          sum = (sum * static_cast<s32>(factor.word[i % 2]) + half_unit) >> e.shift;
        }
      }
    }
    NYBBLE_UNROLL
    for (s32 m = 0; m < kRowTiles; ++m) {
      NYBBLE_UNROLL
      for (s32 half = 0; half < 2; ++half) {
        s32 v[8];
        sums_of(m, half, v);
        if (row_of(m, half) < p.rows) global_store(codes_of(e.out, m, half), pack_nibbles<false>(v));
      }
    }
  }

  // Where this thread's eight nibbles of a row lie.
  NYBBLE_DEVICE u32* codes_of(const Tensor& tensor, s32 m, s32 half) const {
    return reinterpret_cast<u32*>(tensor.data + static_cast<s64>(row_of(m, half)) * (tensor.pitch / 2) + channel() / 2);
  }

  // Replaces the projection's sums by their contribution to the sums of the other convolution.
  NYBBLE_DEVICE void rescale() {
    const Epilogue& e = p.epilogue;
    const s32 first = channel();
    settle();
    NYBBLE_UNROLL
    for (s32 n = 0; n < kColumnTiles; ++n) {
      const Words2 factor = global_load(reinterpret_cast<const Words2*>(e.factor + first + n * 2));
      const Words2 shortcut_factor = global_load(reinterpret_cast<const Words2*>(e.shortcut_factor + first + n * 2));
      NYBBLE_UNROLL
      for (s32 i = 0; i < 4; ++i) {
        NYBBLE_UNROLL
        for (s32 m = 0; m < kRowTiles; ++m) {
          s32& sum = accumulators[m][n][i];
          const s32 code = clamped(requantized(sum, factor.word[i % 2], e.shift), e.low, e.high);
          sum = requantized(code, shortcut_factor.word[i % 2], e.shortcut_shift);
        }
      }
    }
  }

  // Sums that begin with those of a projection. The host keeps them within 32 bits where they are scaled.
  NYBBLE_DEVICE void start_with(const Conv& projection) {
    start_sums();
    NYBBLE_UNROLL
    for (s32 m = 0; m < kRowTiles; ++m) {
      NYBBLE_UNROLL
      for (s32 n = 0; n < kColumnTiles; ++n) {
        NYBBLE_UNROLL
        for (s32 i = 0; i < 4; ++i) accumulators[m][n][i] += projection.accumulators[m][n][i] << kScale;
      }
    }
  }

  NYBBLE_DEVICE void add_up() {
    if constexpr (Arch::kAsync) {
      run_async();
    } else {
      run_through_registers();
    }
  }

  NYBBLE_DEVICE void run() {
    start_sums();
    add_up();
    if constexpr (How == kAny) {
      finish();
    } else if (p.epilogue.shortcut.data != nullptr) {
      finish_codes<true>();
    } else {
      finish_codes<false>();
    }
  }
};

template <class C>
NYBBLE_DEVICE void convolve(const ConvParams& p) {
  C(p).run();
}

template <class C>
NYBBLE_DEVICE void join(const JoinParams& p) {
  C projection(p.projection);
  projection.start_sums();
  projection.add_up();
  projection.rescale();
  // The stages are filled again.
  block_barrier();
  C conv(p.conv);
  conv.start_with(projection);
  conv.add_up();
  conv.template finish_codes<false>();
}

}  // namespace nybble::gpu
