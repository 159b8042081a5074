// The first convolution of a network on photos: reads the input without a conversion, and may pool its result.
//
// A block computes a tile of the pool's result, 64 channels of it. It needs a region of at most 256 pixels of the
// convolution's result, and these a patch of the input, which lies in shared memory as four channels of one byte per
// pixel. So a row of the window is 32 contiguous bytes: the depth of one product, for windows of at most eight columns.
// Its fragments are read as words; neighbouring pixels overlap.
#pragma once

#include "gpu/kernels/epilogue.h"
#include "gpu/kernels/products.h"

namespace nybble::gpu {

struct StemParams {
  Epilogue epilogue;  // of the convolution; `out` is the pool's result
  const u8* source;   // integers (n, channel, y, x) or photos (n, y, x, channel)
  const u8* table;    // null, or (channels, 256) codes of samples
  const u8* weights;  // (64 channels each, row of the window, channel, 32 bytes): column order as for Conv
  const s32* bias;
  s32 height, width, channels, channel_step, pixel_step;
  s32 kernel_h, stride_h, stride_w, pad_top, pad_left, dilation_h;
  s32 conv_height, conv_width;
  // Of the pool; a window of one pixel where there is none.
  s32 pool_kernel_h, pool_kernel_w, pool_stride_h, pool_stride_w;
  s32 pool_pad_top, pool_pad_left, pool_dilation_h, pool_dilation_w;
  s32 out_height, out_width;
  s32 tile_h, tile_w, tiles_down, tiles_across;
  s32 region_h, region_w, patch_h, patch_w;
};

template <class Arch, class T>
struct Stem {
  static constexpr s32 kRows = 256, kColumns = 64, kThreads = 256;
  static constexpr s32 kWarpRows = 64, kWarpColumns = 32, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr s32 kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
  // The patch and the weights, or the sums of 32 channels.
  static constexpr s32 kShared = kRows * kWarpColumns * 4;

  const StemParams& p;
  s32 image, tile_y, tile_x;  // the first pixel of the tile
  s32 accumulators[kRowTiles][kColumnTiles][4];

  NYBBLE_DEVICE explicit Stem(const StemParams& params) : p(params) {
    const s32 tiles = p.tiles_down * p.tiles_across, tile = block_x() % tiles;
    image = block_x() / tiles;
    tile_y = tile / p.tiles_across * p.tile_h;
    tile_x = tile % p.tiles_across * p.tile_w;
  }

  NYBBLE_DEVICE s32 lane() const { return thread_index() % kWarp; }
  NYBBLE_DEVICE s32 first_row() const { return thread_index() / kWarp / kWarpsAcross * kWarpRows; }
  NYBBLE_DEVICE s32 half() const { return thread_index() / kWarp % kWarpsAcross; }
  // The first pixel of the region, which may lie outside the convolution's result.
  NYBBLE_DEVICE s32 region_y() const { return tile_y * p.pool_stride_h - p.pool_pad_top; }
  NYBBLE_DEVICE s32 region_x() const { return tile_x * p.pool_stride_w - p.pool_pad_left; }
  NYBBLE_DEVICE u32 weights_place() const { return static_cast<u32>((p.patch_h * p.patch_w * 4 + 127) / 128 * 128); }

  // Chunks of 16 bytes of weights: eight rows of one chunk fall into different banks.
  NYBBLE_DEVICE static u32 place(s32 row, s32 chunk) {
    return static_cast<u32>((row * 2 + (chunk ^ (row / 4 & 1))) * 16);
  }

  NYBBLE_DEVICE u32 input_pixel(s32 y, s32 x) const {
    if (y < 0 || y >= p.height || x < 0 || x >= p.width) return 0;
    const s64 first = static_cast<s64>(image) * p.height * p.width * p.channels;
    const u8* at = p.source + first + static_cast<s64>(y * p.width + x) * p.pixel_step;
    u32 codes = 0;
    NYBBLE_UNROLL
    for (s32 c = 0; c < 4; ++c) {
      if (c >= p.channels) break;
      u32 code = global_load(at + static_cast<s64>(c) * p.channel_step);
      if (p.table != nullptr) code = global_load(p.table + c * 256 + code);
      codes |= code << (8 * c);
    }
    return codes;
  }

  NYBBLE_DEVICE void fill() {
    const s32 y0 = region_y() * p.stride_h - p.pad_top, x0 = region_x() * p.stride_w - p.pad_left;
    for (s32 i = thread_index(); i < p.patch_h * p.patch_w; i += kThreads) {
      shared_store(static_cast<u32>(i * 4), input_pixel(y0 + i / p.patch_w, x0 + i % p.patch_w));
    }
    const s32 chunks = p.kernel_h * kColumns * 2;
    const auto* from = reinterpret_cast<const Words4*>(p.weights) + static_cast<s64>(block_y()) * chunks;
    for (s32 i = thread_index(); i < chunks; i += kThreads) {
      shared_store(weights_place() + place(i / 2, i % 2), global_load(from + i));
    }
  }

  NYBBLE_DEVICE void start_sums() {
    const s32 channel = block_y() * kColumns + half() * kWarpColumns + lane() % 4 * 8;
    NYBBLE_UNROLL
    for (s32 n = 0; n < kColumnTiles; ++n) {
      NYBBLE_UNROLL
      for (s32 e = 0; e < 2; ++e) {
        const s32 bias = global_load(p.bias + channel + n * 2 + e);
        NYBBLE_UNROLL
        for (s32 m = 0; m < kRowTiles; ++m) accumulators[m][n][e] = accumulators[m][n][2 + e] = bias;
      }
    }
  }

  NYBBLE_DEVICE void multiply() {
    // Bytes of the patch where each row of fragments begins. Rows beyond the region read its first pixel.
    u32 pixel[kRowTiles][2];
    NYBBLE_UNROLL
    for (s32 m = 0; m < kRowTiles; ++m) {
      NYBBLE_UNROLL
      for (s32 e = 0; e < 2; ++e) {
        const s32 row = first_row() + m * 16 + e * 8 + lane() / 4;
        const s32 real = row < p.region_h * p.region_w ? row : 0;
        const s32 y = real / p.region_w * p.stride_h, x = real % p.region_w * p.stride_w;
        pixel[m][e] = static_cast<u32>((y * p.patch_w + x + lane() % 4) * 4);
      }
    }
    const u32 next_row = static_cast<u32>(p.dilation_h * p.patch_w * 4);
    const s32 column = half() * kWarpColumns + lane() % 8 + lane() / 16 * 8, chunk = lane() / 8 % 2;
    u32 weights = weights_place() + place(column, chunk);
    NYBBLE_ROLLED
    for (s32 ky = 0; ky < p.kernel_h; ++ky) {
      u32 a[kRowTiles][4];
      NYBBLE_UNROLL
      for (s32 m = 0; m < kRowTiles; ++m) {
        NYBBLE_UNROLL
        for (s32 i = 0; i < 4; ++i) a[m][i] = shared_load<u32>(pixel[m][i % 2] + static_cast<u32>(i / 2 * 16));
        NYBBLE_UNROLL
        for (s32 e = 0; e < 2; ++e) pixel[m][e] += next_row;
      }
      NYBBLE_UNROLL
      for (s32 n = 0; n < kColumnTiles; n += 2) {
        u32 two[4];
        load_matrices(two, weights + static_cast<u32>(n * 8 * 32));
        const u32 b0[2] = {two[0], two[1]}, b1[2] = {two[2], two[3]};
        NYBBLE_UNROLL
        for (s32 m = 0; m < kRowTiles; ++m) {
          Arch::template multiply<T>(accumulators[m][n], a[m], b0);
          Arch::template multiply<T>(accumulators[m][n + 1], a[m], b1);
        }
      }
      weights += kColumns * 32;
    }
  }

  // Where four sums of a pixel lie. Neighbouring pixels differ in their banks, and so do those two apart.
  NYBBLE_DEVICE static u32 sums_place(s32 row, s32 chunk) {
    return static_cast<u32>((row * 8 + (chunk ^ ((row ^ row / 2) & 1))) * 16);
  }

  NYBBLE_DEVICE void store_sums() {
    NYBBLE_UNROLL
    for (s32 m = 0; m < kRowTiles; ++m) {
      NYBBLE_UNROLL
      for (s32 e = 0; e < 2; ++e) {
        const s32 row = first_row() + m * 16 + e * 8 + lane() / 4;
        NYBBLE_UNROLL
        for (s32 part = 0; part < 2; ++part) {
          Words4 words{};
          NYBBLE_UNROLL
          for (s32 i = 0; i < 4; ++i) {
            words.word[i] = static_cast<u32>(accumulators[m][part * 2 + i / 2][e * 2 + i % 2]);
          }
          shared_store(sums_place(row, lane() % 4 * 2 + part), words);
        }
      }
    }
  }

  // The largest sums of a window. What follows keeps their order, so that this is the pool of the codes.
  NYBBLE_DEVICE void largest(s32 y, s32 x, s32 group, s32 (&v)[8]) const {
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = kLowest;
    const s32 y0 = y * p.pool_stride_h - p.pool_pad_top, x0 = x * p.pool_stride_w - p.pool_pad_left;
    for (s32 ky = 0; ky < p.pool_kernel_h; ++ky) {
      const s32 conv_y = y0 + ky * p.pool_dilation_h;
      for (s32 kx = 0; kx < p.pool_kernel_w; ++kx) {
        const s32 conv_x = x0 + kx * p.pool_dilation_w;
        if (conv_y < 0 || conv_y >= p.conv_height || conv_x < 0 || conv_x >= p.conv_width) continue;
        const s32 row = (conv_y - region_y()) * p.region_w + conv_x - region_x();
        NYBBLE_UNROLL
        for (s32 part = 0; part < 2; ++part) {
          const Words4 words = shared_load<Words4>(sums_place(row, group * 2 + part));
          NYBBLE_UNROLL
          for (s32 i = 0; i < 4; ++i) {
            const s32 sum = static_cast<s32>(words.word[i]);
            v[part * 4 + i] = sum > v[part * 4 + i] ? sum : v[part * 4 + i];
          }
        }
      }
    }
  }

  NYBBLE_DEVICE void finish(s32 columns) {
    for (s32 i = thread_index(); i < p.tile_h * p.tile_w * 4; i += kThreads) {
      const s32 y = tile_y + i / 4 / p.tile_w, x = tile_x + i / 4 % p.tile_w;
      const s32 channel = block_y() * kColumns + columns * kWarpColumns + i % 4 * 8;
      if (y >= p.out_height || x >= p.out_width || channel >= p.epilogue.out.pitch) continue;
      s32 v[8];
      largest(y, x, i % 4, v);
      finish8(p.epilogue, (static_cast<s64>(image) * p.out_height + y) * p.out_width + x, channel, v);
    }
  }

  NYBBLE_DEVICE void run() {
    fill();
    start_sums();
    block_barrier();
    multiply();
    NYBBLE_ROLLED
    for (s32 columns = 0; columns < kWarpsAcross; ++columns) {
      block_barrier();
      if (half() == columns) store_sums();
      block_barrier();
      finish(columns);
    }
  }
};

template <class S>
NYBBLE_DEVICE void run_stem(const StemParams& p) {
  S(p).run();
}

}  // namespace nybble::gpu
