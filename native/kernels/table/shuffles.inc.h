// Tables of codes, by shuffles of 16 bytes. Included by one file per instruction set, after its vector types.
//
// A shuffle picks byte (i % 16) of 16, or 0 where the top bit of i is set. For i below 128 it picks from parts[0]; then
// 16 is taken from i, time and again, and what is picked from parts[k] turns result i % 16 of the part before into that
// of part k. Once i is negative nothing changes any more. Other halves of 256 entries are found from i ^ 128 alike; in
// the half that i does not belong to it is negative from the start (the difference saturates), and picks 0.
#pragma once

#include "kernels/table/kernels.h"
#include "kernels/table/runs.inc.h"

namespace nybble {
namespace {

// N vectors, each with the results of its half of the table or 0.
template <class B, int N>
NYBBLE_INLINE void pick_half(const std::uint8_t (*parts)[16], typename B::Bytes (&index)[N],
                             typename B::Bytes (&results)[N]) {
  const auto step = B::set8(16);
  const auto first = B::load_part(parts[0]);
  for_each_index<N>([&](auto n) NYBBLE_LAMBDA { results[n] = B::pick(first, index[n]); });
  for_each_index<7>([&](auto k) NYBBLE_LAMBDA {
    const auto part = B::load_part(parts[k + 1]);
    for_each_index<N>([&](auto n) NYBBLE_LAMBDA {
      index[n] = B::sub_saturated8(index[n], step);
      results[n] = B::xor8(results[n], B::pick(part, index[n]));
    });
  });
}

template <class B, int kEntries, int N>
NYBBLE_INLINE void pick_results(const CodeTable& table, typename B::Bytes (&bytes)[N]) {
  using Bytes = typename B::Bytes;
  if constexpr (kEntries == 16) {
    const auto mask = B::set8(15);
    const auto part = B::load_part(table.parts[0]);
    for_each_index<N>([&](auto n) NYBBLE_LAMBDA { bytes[n] = B::pick(part, B::and8(bytes[n], mask)); });
  } else {
    Bytes index[N], low[N];
    const auto mask = B::set8(127), top = B::set8(-128);
    for_each_index<N>([&](auto n) NYBBLE_LAMBDA { index[n] = kEntries == 128 ? B::and8(bytes[n], mask) : bytes[n]; });
    pick_half<B, N>(table.parts, index, low);
    if constexpr (kEntries == 128) {
      for_each_index<N>([&](auto n) NYBBLE_LAMBDA { bytes[n] = low[n]; });
    } else {
      Bytes high[N];
      for_each_index<N>([&](auto n) NYBBLE_LAMBDA { index[n] = B::xor8(bytes[n], top); });
      pick_half<B, N>(table.parts + 8, index, high);
      for_each_index<N>([&](auto n) NYBBLE_LAMBDA { bytes[n] = B::or8(low[n], high[n]); });
    }
  }
}

// `units` times kChannelAlign bytes.
template <class B, int kEntries>
NYBBLE_INLINE void table_run(const CodeTable& table, const std::uint8_t* in, std::uint8_t* out, std::int64_t units,
                             const std::uint8_t* mask) {
  constexpr int kUnit = kChannelAlign / B::kBytes;
  typename B::Bytes kept[kUnit];
  for_each_index<kUnit>([&](auto i) NYBBLE_LAMBDA { kept[i] = B::load(mask + i * B::kBytes); });
  const auto together = [&](auto n) NYBBLE_LAMBDA {
    constexpr int N = decltype(n)::value;
    typename B::Bytes bytes[N];
    for_each_index<N>([&](auto i) NYBBLE_LAMBDA { bytes[i] = B::load(in + i * B::kBytes); });
    pick_results<B, kEntries, N>(table, bytes);
    for_each_index<N>([&](auto i) NYBBLE_LAMBDA { B::store(out + i * B::kBytes, B::and8(bytes[i], kept[i % kUnit])); });
    in += N * B::kBytes;
    out += N * B::kBytes;
  };
  for (; units >= 2; units -= 2) together(std::integral_constant<int, 2 * kUnit>{});
  if (units > 0) together(std::integral_constant<int, kUnit>{});
}

template <class B, int kEntries>
void table_shuffled(const TableTask& task) {
  table_pixels(task, [&](const std::uint8_t* in, std::uint8_t* out, std::int64_t units, const std::uint8_t* mask)
                         NYBBLE_LAMBDA { table_run<B, kEntries>(*task.table, in, out, units, mask); });
}

void table_shuffles(const TableTask& task) {
  if (task.table->entries == 16)
    table_shuffled<Staging, 16>(task);
  else if (task.table->entries == 128)
    table_shuffled<Staging, 128>(task);
  else
    table_shuffled<Staging, 256>(task);
}

}  // namespace
}  // namespace nybble
