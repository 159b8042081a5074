// The operations that are no matrix products. A thread has eight channels of a pixel; threads count through both.
#pragma once

#include "gpu/kernels/epilogue.h"

namespace nybble::gpu {

constexpr s32 kLayerThreads = 128;

// The pixel and the first channel of this thread; false where there is none.
NYBBLE_DEVICE bool find_place(const Tensor& out, s32 pixels, s32& pixel, s32& channel) {
  // The index of the thread in the grid, divided by the groups of a pixel; the index itself may need 64 bits.
  const s32 groups = out.pitch / 8;
  const s32 rest = block_x() % groups * block_threads() + thread_index();
  pixel = block_x() / groups * block_threads() + rest / groups;
  channel = rest % groups * 8;
  return pixel < pixels;
}

struct Window {
  s32 height, width, out_height, out_width;
  s32 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};

// Where the window of a pixel of the result begins in the input.
struct Origin {
  s32 y, x;
  s64 image;  // the first pixel of its image
};

NYBBLE_DEVICE Origin origin_of(const Window& w, s32 pixel) {
  const s32 size = w.out_height * w.out_width;
  const s32 row = pixel % size / w.out_width, column = pixel % w.out_width;
  return {row * w.stride_h - w.pad_top, column * w.stride_w - w.pad_left,
          static_cast<s64>(pixel / size) * w.height * w.width};
}

// Network input (n, channel, y, x) or photos (n, y, x, channel), bytes, to the stored form.
struct InputParams {
  Tensor out;
  const u8* source;
  const u8* table;  // null, or (channels, 256) codes
  s32 pixels, image_pixels;
  s32 channel_step, pixel_step;
};

NYBBLE_DEVICE void read_input(const InputParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  const s64 image = static_cast<s64>(pixel / p.image_pixels) * p.image_pixels * p.out.channels;
  s32 v[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    const s32 c = channel + i;
    v[i] = 0;
    if (c >= p.out.channels) continue;
    const s64 at =
        image + static_cast<s64>(pixel % p.image_pixels) * p.pixel_step + static_cast<s64>(c) * p.channel_step;
    const u8 sample = global_load(p.source + at);
    v[i] = byte_at(p.table == nullptr ? sample : global_load(p.table + c * 256 + sample), 0, p.out.is_signed != 0);
  }
  store8(p.out, pixel, channel, v);
}

// Convolution of several groups: each channel multiplies its own group's inputs. Weights are bytes
// (tap, input of the group, channel), a pitch of the result for each of the first two.
struct GroupedParams {
  Epilogue epilogue;
  Tensor input;
  const s8* weights;
  const s32* bias;
  Window window;
  s32 pixels;
  s32 group_inputs, group_outputs;
};

NYBBLE_DEVICE void convolve_groups(const GroupedParams& p) {
  s32 pixel, channel;
  if (!find_place(p.epilogue.out, p.pixels, pixel, channel)) return;
  const Window& w = p.window;
  const Origin origin = origin_of(w, pixel);
  s32 v[8], first[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    v[i] = global_load(p.bias + channel + i);
    // Weights of padding are 0, so that any input will do.
    const s32 real = channel + i < p.epilogue.out.channels ? channel + i : 0;
    first[i] = real / p.group_outputs * p.group_inputs;
  }
  for (s32 ky = 0; ky < w.kernel_h; ++ky) {
    const s32 y = origin.y + ky * w.dilation_h;
    for (s32 kx = 0; kx < w.kernel_w; ++kx) {
      const s32 x = origin.x + kx * w.dilation_w;
      if (y < 0 || y >= w.height || x < 0 || x >= w.width) continue;
      const u8* source = pixel_address(p.input, origin.image + y * w.width + x);
      for (s32 c = 0; c < p.group_inputs; ++c) {
        const s64 row = static_cast<s64>(ky * w.kernel_w + kx) * p.group_inputs + c;
        const s8* at = p.weights + row * p.epilogue.out.pitch + channel;
        const Words2 weights = global_load(reinterpret_cast<const Words2*>(at));
        NYBBLE_UNROLL
        for (s32 i = 0; i < 8; ++i) {
          v[i] += byte_at(weights.word[i / 4], i % 4, true) * load1(p.input, source, first[i] + c);
        }
      }
    }
  }
  // Inline: a call would keep registers for itself, and the loops above would spill.
  finish8_inline(p.epilogue, pixel, channel, v);
}

// One input a channel: eight channels of a tap are one load of each operand.
NYBBLE_DEVICE void convolve_depthwise(const GroupedParams& p) {
  s32 pixel, channel;
  if (!find_place(p.epilogue.out, p.pixels, pixel, channel)) return;
  const Window& w = p.window;
  const Origin origin = origin_of(w, pixel);
  s32 v[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) v[i] = global_load(p.bias + channel + i);
  for (s32 ky = 0; ky < w.kernel_h; ++ky) {
    const s32 y = origin.y + ky * w.dilation_h;
    for (s32 kx = 0; kx < w.kernel_w; ++kx) {
      const s32 x = origin.x + kx * w.dilation_w;
      if (y < 0 || y >= w.height || x < 0 || x >= w.width || channel >= p.input.pitch) continue;
      s32 a[8];
      load8(p.input, origin.image + y * w.width + x, channel, a);
      const s64 at = static_cast<s64>(ky * w.kernel_w + kx) * p.epilogue.out.pitch + channel;
      const Words2 weights = global_load(reinterpret_cast<const Words2*>(p.weights + at));
      NYBBLE_UNROLL
      for (s32 i = 0; i < 8; ++i) v[i] += a[i] * byte_at(weights.word[i / 4], i % 4, true);
    }
  }
  finish8(p.epilogue, pixel, channel, v);
}

struct PoolParams {
  Tensor input, out;
  Window window;
  s32 pixels;
  s32 pad_bottom, pad_right;
  s32 average, count_padding;
};

NYBBLE_DEVICE s32 within(s32 v, s32 low, s32 high) { return clamped(v, low, high); }

// floor((2 sum + count) / (2 count)), the count with padding where that counts.
NYBBLE_DEVICE void average(const PoolParams& p, s32 y0, s32 x0, s32 (&v)[8]) {
  const Window& w = p.window;
  // A window that ceil mode adds ends with the padded image.
  const s32 y1 = within(y0 + w.kernel_h, y0, w.height + p.pad_bottom);
  const s32 x1 = within(x0 + w.kernel_w, x0, w.width + p.pad_right);
  s32 rows = y1 - y0, columns = x1 - x0;
  if (p.count_padding == 0) {
    rows = within(y1, 0, w.height) - within(y0, 0, w.height);
    columns = within(x1, 0, w.width) - within(x0, 0, w.width);
  }
  const s64 count = static_cast<s64>(rows) * columns;
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    const s64 up = 2 * static_cast<s64>(v[i]) + count, down = 2 * count;
    v[i] = static_cast<s32>(up >= 0 ? up / down : -((down - 1 - up) / down));
  }
}

NYBBLE_DEVICE void pool(const PoolParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  const Window& w = p.window;
  const Origin origin = origin_of(w, pixel);
  s32 v[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) v[i] = p.average != 0 || channel >= p.input.pitch ? 0 : kLowest;
  for (s32 ky = 0; ky < w.kernel_h; ++ky) {
    const s32 y = origin.y + ky * w.dilation_h;
    for (s32 kx = 0; kx < w.kernel_w; ++kx) {
      const s32 x = origin.x + kx * w.dilation_w;
      if (y < 0 || y >= w.height || x < 0 || x >= w.width || channel >= p.input.pitch) continue;
      s32 a[8];
      load8(p.input, origin.image + y * w.width + x, channel, a);
      NYBBLE_UNROLL
      for (s32 i = 0; i < 8; ++i) v[i] = p.average != 0 ? v[i] + a[i] : a[i] > v[i] ? a[i] : v[i];
    }
  }
  if (p.average != 0) average(p, origin.y, origin.x, v);
  store8(p.out, pixel, channel, v);
}

// Element by element: a value, or its product with another, or with one number per channel of the image.
struct PointParams {
  Epilogue epilogue;
  Tensor input, other;      // other: data null where there is none
  const u32* input_factor;  // null: `input` as it is
  s32 pixels, image_pixels;
  s32 is_gate;
  s32 input_shift;
};

// Rescales values whose results fit 32 bits; null factors: leaves them.
NYBBLE_DEVICE void rescale(const u32* factors, s32 shift, s32 channel, s32 (&v)[8]) {
  if (factors == nullptr) return;
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    v[i] = static_cast<s32>(requantized_wide(v[i], global_load(factors + channel + i), shift));
  }
}

NYBBLE_DEVICE void compute_points(const PointParams& p) {
  s32 pixel, channel;
  if (!find_place(p.epilogue.out, p.pixels, pixel, channel)) return;
  s32 v[8] = {};
  // The result may be padded to more channels than what is read.
  if (channel < p.input.pitch) load8(p.input, pixel, channel, v);
  rescale(p.input_factor, p.input_shift, channel, v);
  if (p.other.data != nullptr && channel < p.other.pitch) {
    s32 factor[8];
    load8(p.other, p.is_gate != 0 ? pixel / p.image_pixels : pixel, channel, factor);
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] *= factor[i];
  }
  finish8_inline(p.epilogue, pixel, channel, v);
}

constexpr s32 kMostParts = 16;

struct ConcatParams {
  Tensor out;
  Tensor part[kMostParts];
  s32 pixels, parts;
};

NYBBLE_DEVICE void concatenate(const ConcatParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  s32 v[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    v[i] = 0;
    s32 c = channel + i, part = 0;
    while (part < p.parts && c >= p.part[part].channels) c -= p.part[part++].channels;
    if (part < p.parts) v[i] = load1(p.part[part], pixel_address(p.part[part], pixel), c);
  }
  store8(p.out, pixel, channel, v);
}

// Sums to real logits.
struct ScaleParams {
  Tensor input, out;
  const u32* scale;         // float32, one per channel
  const u32* input_factor;  // null: `input` as it is
  s32 pixels;
  s32 input_shift;
};

NYBBLE_DEVICE void scale_sums(const ScaleParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  s32 v[8];
  load8(p.input, pixel, channel, v);
  rescale(p.input_factor, p.input_shift, channel, v);
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) v[i] = static_cast<s32>(divided(v[i], global_load(p.scale + channel + i)));
  store8(p.out, pixel, channel, v);
}

// Codes that only move: where each row, column and channel comes from, -1 for zeros. The channels of a pixel are those
// of map row_maps[row] + column_maps[column].
struct MoveParams {
  Tensor input, out;
  const s32 *rows, *columns, *row_maps, *column_maps, *channels;
  s32 pixels, height, width, out_height, out_width, map_pitch;
};

NYBBLE_DEVICE void move_codes(const MoveParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  const s32 size = p.out_height * p.out_width, place = pixel % size;
  const s32 row = place / p.out_width, column = place % p.out_width;
  const s32 y = global_load(p.rows + row), x = global_load(p.columns + column);
  s32 v[8] = {};
  if (y >= 0 && x >= 0) {
    const s64 first = static_cast<s64>(pixel / size) * p.height * p.width;
    const u8* source = pixel_address(p.input, first + y * p.width + x);
    const s32 map = global_load(p.row_maps + row) + global_load(p.column_maps + column);
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) {
      const s32 from = global_load(p.channels + map * p.map_pitch + channel + i);
      if (from >= 0) v[i] = load1(p.input, source, from);
    }
  }
  store8(p.out, pixel, channel, v);
}

// One axis of an interpolation: each row is `weight` of `divisor` parts of row `high`, the rest of row `low`.
struct Axis {
  const s32 *low, *high, *weight;
  s32 divisor;
};

struct BilinearParams {
  Tensor input, out;
  Axis rows, columns;
  s32 pixels, height, width, out_height, out_width;
};

// Adds a pixel, so many times. The result may be padded to more channels.
NYBBLE_DEVICE void add_pixel(const Tensor& from, s64 pixel, s32 channel, s64 times, s64 (&sums)[8]) {
  if (channel >= from.pitch) return;
  s32 v[8];
  load8(from, pixel, channel, v);
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) sums[i] += times * v[i];
}

// floor((2 sum + divisor) / (2 divisor)): halves go up.
NYBBLE_DEVICE void interpolate(const BilinearParams& p) {
  s32 pixel, channel;
  if (!find_place(p.out, p.pixels, pixel, channel)) return;
  const s32 size = p.out_height * p.out_width, place = pixel % size;
  const s32 row = place / p.out_width, column = place % p.out_width;
  const s64 first = static_cast<s64>(pixel / size) * p.height * p.width;
  const s64 above = first + static_cast<s64>(global_load(p.rows.low + row)) * p.width;
  const s64 below = first + static_cast<s64>(global_load(p.rows.high + row)) * p.width;
  const s32 left = global_load(p.columns.low + column), right = global_load(p.columns.high + column);
  const s64 y = global_load(p.rows.weight + row), x = global_load(p.columns.weight + column);
  s64 sums[8] = {};
  add_pixel(p.input, above + left, channel, (p.rows.divisor - y) * (p.columns.divisor - x), sums);
  add_pixel(p.input, above + right, channel, (p.rows.divisor - y) * x, sums);
  add_pixel(p.input, below + left, channel, y * (p.columns.divisor - x), sums);
  add_pixel(p.input, below + right, channel, y * x, sums);
  const s64 down = 2 * static_cast<s64>(p.rows.divisor) * p.columns.divisor;
  s32 v[8];
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) {
    const s64 up = 2 * sums[i] + down / 2;
    v[i] = static_cast<s32>(up >= 0 ? up / down : -((down - 1 - up) / down));
  }
  store8(p.out, pixel, channel, v);
}

// Normalised photos to the integers of the network's input, a byte each: 16 a thread, and a word for each thread that
// says whether one of them was NaN. The arrays are padded to whole groups of 16.
struct QuantizeParams {
  const u32* source;  // float32
  u8* out;
  u32* found;
  s64 count;
  u32 numerator, denominator, low, high;  // float32
};

NYBBLE_DEVICE void quantize_input(const QuantizeParams& p) {
  const s64 thread = static_cast<s64>(block_x()) * block_threads() + thread_index(), first = thread * 16;
  if (first >= p.count) return;
  Words4 codes{};
  u32 is_nan = 0;
  NYBBLE_UNROLL
  for (s32 i = 0; i < 16; ++i) {
    if (first + i >= p.count) break;
    const u32 value = global_load(p.source + first + i);
    is_nan |= (value & 0x7fffffffU) > 0x7f800000U ? 1 : 0;
    const s32 code = quantized(value, p.numerator, p.denominator, p.low, p.high);
    codes.word[i / 4] |= (static_cast<u32>(code) & 255U) << (8 * (i % 4));
  }
  global_store(reinterpret_cast<Words4*>(p.out + first), codes);
  global_store(p.found + thread, is_nan);
}

}  // namespace nybble::gpu
