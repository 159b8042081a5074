// Convolution of unsigned activations over lists of their non-zero channel pairs, with 16-bit sums.
// Included by one file per instruction set, after the vector type V, inside its unnamed namespace.
//
// For one pixel and kernel position the list names the pairs that are not zero. Each is broadcast and
// multiplied (vpmaddubsw) with one row of weights, two bytes for each output of the block, that is read
// from L1 as a memory operand; the sums of all outputs of the block stay in registers. There is no
// branch but the end of the list. A pair's product is at most largest activation * (|w0| + |w1|), which
// pack.cpp keeps within 16 bits (never saturating), and it cuts the work into visits such that the
// 16-bit sums of all visits between two widenings stay in range whatever the activations are.

template <class V, int N>
void sparse_block(const ConvTask& task) {
  constexpr int kOutputs = N * V::kLanes16;
  constexpr int kRow = kOutputs * 2;  // bytes of weights of one pair
  const ConvShape& s = *task.shape;
  const PackedConv& packed = *task.packed;
  const PairLists& lists = *task.lists;
  const OutputBlock& block = packed.blocks[task.block];
  const std::uint8_t* weights = packed.weights + block.offset;

  TileCoordinates* where = reinterpret_cast<TileCoordinates*>(task.scratch);
  std::int32_t* sums32 = reinterpret_cast<std::int32_t*>(task.scratch + sizeof(TileCoordinates));
  std::int16_t* sums16 = reinterpret_cast<std::int16_t*>(sums32 + kMostTilePixels * kOutputs);

  {
    std::int64_t image = task.first_pixel / s.output.pixels();
    std::int64_t within = task.first_pixel % s.output.pixels();
    std::int32_t y = static_cast<std::int32_t>(within / s.output.width);
    std::int32_t x = static_cast<std::int32_t>(within % s.output.width);
    for (std::int32_t p = 0; p < task.pixels; ++p) {
      where->rows[p] = y * s.stride_h - s.pad_top;
      where->columns[p] = x * s.stride_w - s.pad_left;
      where->images[p] = image * s.input.pixels();
      if (++x == s.output.width) {
        x = 0;
        if (++y == s.output.height) {
          y = 0;
          ++image;
        }
      }
    }
  }

  bool fresh16 = true, fresh32 = true;
  for (std::int32_t v = 0; v < packed.visit_count; ++v) {
    const SparseVisit& visit = packed.visits[v];
    const SparseItem* items = packed.items + visit.first_item;
    const bool last = v + 1 == packed.visit_count;
    // The next visit's weights come from L2 or beyond: asked for now, a few lines a pixel.
    const std::uint8_t* ahead = last ? nullptr : weights + std::int64_t{items[visit.items].first_pair} * kRow;
    const std::int32_t lines = last ? 0 : visit.pairs_ahead * (kRow / 64);
    const std::int32_t lines_each = (lines + task.pixels - 1) / task.pixels;
    for (std::int32_t p = 0; p < task.pixels; ++p) {
      for (std::int32_t n = 0; n < lines_each && !last; ++n, ahead += 64) __builtin_prefetch(ahead, 0, 2);
      typename V::I16 acc[N];
      if (fresh16)
        for (int j = 0; j < N; ++j) acc[j] = V::set16(0);
      else
        for (int j = 0; j < N; ++j) acc[j] = V::load16(sums16 + p * kOutputs + j * V::kLanes16);

      for (std::int32_t t = 0; t < visit.items; ++t) {
        const SparseItem& item = items[t];
        const std::int32_t y = where->rows[p] + item.dy, x = where->columns[p] + item.dx;
        if (static_cast<std::uint32_t>(y) >= static_cast<std::uint32_t>(s.input.height) ||
            static_cast<std::uint32_t>(x) >= static_cast<std::uint32_t>(s.input.width))
          continue;
        const std::int64_t pixel = where->images[p] + std::int64_t{y} * s.input.width + x;
        const std::uint16_t* ends = lists.ends + pixel * lists.blocks + item.block;
        const std::uint32_t* entries = lists.entries + pixel * lists.pairs;
        const std::uint32_t* entry = entries + (item.block > 0 ? ends[-1] : 0);
        const std::uint32_t* end = entries + ends[0];
        const std::uint8_t* rows = weights + std::int64_t{item.first_pair} * kRow;
        for (; entry != end; ++entry) {
          const auto pair = V::broadcast_pair(entry);
          const std::uint8_t* row = rows + V::pair_index(entry) * kRow;
          for (int j = 0; j < N; ++j) acc[j] = V::add16(acc[j], V::multiply_pairs(pair, row + j * V::kBytes));
        }
      }

      if (last) {
        const std::int32_t* sums = sums32 + p * kOutputs;
        const auto finish = [&](const auto& values) {
          finish_pixel<V>(*task.epilogue, s.output, task.first_pixel + p, block.first, kOutputs, task.shortcut,
                          task.output, values);
        };
        // i is a multiple of kLanes32: the low or the high half of an accumulator.
        const auto widened = [&](std::int32_t i) {
          return i % V::kLanes16 == 0 ? V::widen_low(acc[i / V::kLanes16]) : V::widen_high(acc[i / V::kLanes16]);
        };
        if (fresh32)
          finish(widened);
        else
          finish([&](std::int32_t i) { return V::add32(widened(i), V::load32(sums + i)); });
      } else if (visit.widen) {
        std::int32_t* sums = sums32 + p * kOutputs;
        for (int j = 0; j < N; ++j) {
          if (fresh32)
            V::store_widened(sums + j * V::kLanes16, acc[j]);
          else
            V::store_widened_sum(sums + j * V::kLanes16, acc[j], sums + j * V::kLanes16);
        }
      } else {
        for (int j = 0; j < N; ++j) V::store16(sums16 + p * kOutputs + j * V::kLanes16, acc[j]);
      }
    }
    fresh16 = visit.widen;
    if (visit.widen) fresh32 = false;
  }
}

void conv_sparse(const ConvTask& task) {
  using V = Vector;
  // Blocks hold 32 to 256 outputs, a multiple of 32.
  constexpr int kStep = kChannelAlign / V::kLanes16;
  switch (task.packed->blocks[task.block].outputs / kChannelAlign) {
    case 1:
      return sparse_block<V, 1 * kStep>(task);
    case 2:
      return sparse_block<V, 2 * kStep>(task);
    case 3:
      return sparse_block<V, 3 * kStep>(task);
    case 4:
      return sparse_block<V, 4 * kStep>(task);
    case 5:
      return sparse_block<V, 5 * kStep>(task);
    case 6:
      return sparse_block<V, 6 * kStep>(task);
    case 7:
      return sparse_block<V, 7 * kStep>(task);
    default:
      return sparse_block<V, 8 * kStep>(task);
  }
}
