// Convolution of any 8-bit types with 32-bit sums (vpmaddwd on values widened to 16 bits: exact), groups
// of one. Included by one file per instruction set, after the vector type V, inside its unnamed namespace.
//
// The input rows that one output row needs are first copied to scratch as 16-bit values, padding
// included. A window is then a number of contiguous runs: one a kernel row without dilation, which keeps
// a three-channel 7x7 window from wasting a lane on a fourth channel. Weights are bytes,
// [block][run][pair][output][2], runs of an odd length padded with a zero weight.

template <class V, int P>
void wide_pixels(const ConvTask& task, const OutputBlock& block, const std::int16_t* const* windows,
                 std::int64_t staged_row, std::int32_t vector, std::int32_t* sums) {
  const ConvShape& s = *task.shape;
  const PackedConv& packed = *task.packed;
  const std::int64_t pair_bytes = std::int64_t{block.outputs} * 2;
  const std::uint8_t* weights = packed.weights + block.offset + std::int64_t{vector} * 2 * V::kLanes32 * 2;
  typename V::I32 acc[P][2];
  for (int p = 0; p < P; ++p) acc[p][0] = acc[p][1] = V::set32(0);
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < packed.runs_per_row; ++c) {
      const std::int64_t start = r * staged_row + std::int64_t{c} * s.dilation_w * s.input.stride;
      for (std::int32_t k = 0; k < packed.run_pairs; ++k, weights += pair_bytes) {
        const auto w0 = V::widen_pairs(weights);
        const auto w1 = V::widen_pairs(weights + V::kLanes32 * 2);
        for (int p = 0; p < P; ++p) {
          const auto pair = V::broadcast_wide_pair(windows[p] + start + 2 * k);
          acc[p][0] = V::add32(acc[p][0], V::multiply_wide_pairs(pair, w0));
          acc[p][1] = V::add32(acc[p][1], V::multiply_wide_pairs(pair, w1));
        }
      }
    }
  for (int p = 0; p < P; ++p) {
    V::store32(sums + p * block.outputs, acc[p][0]);
    V::store32(sums + p * block.outputs + V::kLanes32, acc[p][1]);
  }
}

// Copies the input that the task's windows cover to `staged`, a row for each kernel row. Pixels outside
// the image are zero.
template <typename In>
void stage_rows(const ConvTask& task, std::int64_t staged_row, std::int16_t* staged) {
  const ConvShape& s = *task.shape;
  const In* input = static_cast<const In*>(task.input);
  if (s.pointwise()) {
    const In* source = input + task.first_pixel * s.input.stride;
    const std::int64_t count = std::int64_t{task.pixels} * s.input.stride;
    for (std::int64_t i = 0; i < count; ++i) staged[i] = source[i];
    for (std::int64_t i = count; i < staged_row; ++i) staged[i] = 0;
    return;
  }
  const std::int64_t image = task.first_pixel / s.output.pixels();
  const std::int64_t within = task.first_pixel % s.output.pixels();
  const std::int32_t top = static_cast<std::int32_t>(within / s.output.width) * s.stride_h - s.pad_top;
  const std::int32_t left = static_cast<std::int32_t>(within % s.output.width) * s.stride_w - s.pad_left;
  input += image * s.input.image_elements();

  // Elements of a staged row before, inside and after the image, in that order.
  const std::int64_t window = (staged_row - 2) / s.input.stride;
  const std::int64_t before = left < 0 ? (-left < window ? -left : window) : 0;
  const std::int64_t start = left > 0 ? left : 0;
  std::int64_t inside = s.input.width - start;
  if (inside > window - before) inside = window - before;
  if (inside < 0) inside = 0;
  for (std::int32_t r = 0; r < s.kernel_h; ++r, staged += staged_row) {
    const std::int32_t y = top + r * s.dilation_h;
    const bool present = y >= 0 && y < s.input.height;
    const std::int64_t from = present ? before * s.input.stride : staged_row;
    const std::int64_t to = present ? from + inside * s.input.stride : staged_row;
    for (std::int64_t i = 0; i < from; ++i) staged[i] = 0;
    if (present) {
      const In* source = input + (std::int64_t{y} * s.input.width + start) * s.input.stride;
      for (std::int64_t i = from; i < to; ++i) staged[i] = source[i - from];
    }
    for (std::int64_t i = to; i < staged_row; ++i) staged[i] = 0;
  }
}

// The task's pixels lie in one output row, or the convolution is pointwise.
void conv_wide(const ConvTask& task) {
  using V = Vector;
  constexpr std::int32_t kStep = 2 * V::kLanes32;
  const ConvShape& s = *task.shape;
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::int64_t staged_row = staged_row_elements(s, task.pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  std::int16_t* staged = reinterpret_cast<std::int16_t*>(sums + kWidePixels * block.outputs);
  if (s.input.element == Element::u8)
    stage_rows<std::uint8_t>(task, staged_row, staged);
  else
    stage_rows<std::int8_t>(task, staged_row, staged);

  for (std::int32_t p = 0; p < task.pixels; p += kWidePixels) {
    const std::int32_t count = task.pixels - p < kWidePixels ? task.pixels - p : kWidePixels;
    const std::int16_t* windows[kWidePixels];
    // A ragged end repeats its first pixel and drops the result.
    for (std::int32_t i = 0; i < kWidePixels; ++i)
      windows[i] = staged + std::int64_t{p + (i < count ? i : 0)} * s.stride_w * s.input.stride;
    for (std::int32_t vector = 0; vector < block.outputs / kStep; ++vector) {
      std::int32_t* target = sums + vector * kStep;
      if (count == 1)
        wide_pixels<V, 1>(task, block, windows, staged_row, vector, target);
      else
        wide_pixels<V, kWidePixels>(task, block, windows, staged_row, vector, target);
    }
    for (std::int32_t i = 0; i < count; ++i)
      finish_pixel<V>(*task.epilogue, s.output, task.first_pixel + p + i, block.first, block.outputs, task.shortcut,
                      task.output, [&](std::int32_t k) { return V::load32(sums + i * block.outputs + k); });
  }
}
