// On every instruction set that this machine has, against plain loops: a 3x3 convolution over an odd shape, and a table
// of codes, whose result for 0 must not show in the padding channels.
// It needs no Python, so it runs where only a cross compiler and an emulator are.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "core/output_table.h"
#include "core/program.h"
#include "steps/conv.h"

namespace {

constexpr int kInputs = 5, kOutputs = 7, kHeight = 6, kWidth = 9, kImages = 2;

// 9 * 5 * 15 * 8 is far from any bound of 32 bits; the values reach both ends of u4 and s4.
std::int32_t expected(const std::uint8_t* image, const std::vector<std::int8_t>& weights, int output, int row,
                      int column) {
  std::int32_t sum = output * 100 - 300;
  for (int channel = 0; channel < kInputs; ++channel)
    for (int y = 0; y < 3; ++y)
      for (int x = 0; x < 3; ++x) {
        const int from_row = row + y - 1, from_column = column + x - 1;
        if (from_row < 0 || from_row >= kHeight || from_column < 0 || from_column >= kWidth) continue;
        sum += image[(channel * kHeight + from_row) * kWidth + from_column] *
               weights[static_cast<std::size_t>(((output * kInputs + channel) * 3 + y) * 3 + x)];
      }
  return sum;
}

int differences(nybble::Isa isa, int threads) {
  std::vector<std::uint8_t> input(kImages * kInputs * kHeight * kWidth);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<std::uint8_t>(i * 7 % 16);
  std::vector<std::int8_t> weights(kOutputs * kInputs * 9);
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<std::int8_t>(static_cast<int>(i * 5 % 16) - 8);

  constexpr std::int64_t kOffset = 1 << 14;
  nybble::Program program(isa, threads, kImages, 2 * kOffset);
  nybble::ConvSpec conv;
  conv.input = program.add_value(nybble::Element::u8, kInputs, kHeight, kWidth, true, 0);
  conv.output = program.add_value(nybble::Element::s32, kOutputs, kHeight, kWidth, false, kOffset);
  program.set_input(conv.input);
  program.set_output(conv.output);
  conv.kernel_h = conv.kernel_w = 3;
  conv.pad_top = conv.pad_left = 1;
  conv.method = "direct";
  conv.magnitude = 15;
  conv.weights = weights.data();
  conv.weight_count = weights.size();
  for (int output = 0; output < kOutputs; ++output) conv.bias.push_back(output * 100 - 300);
  nybble::add_conv(program, conv);

  std::vector<std::int32_t> result(kImages * kOutputs * kHeight * kWidth);
  program.run_integer(input.data(), kImages, reinterpret_cast<std::uint8_t*>(result.data()));

  int wrong = 0;
  std::size_t at = 0;
  for (int image = 0; image < kImages; ++image)
    for (int output = 0; output < kOutputs; ++output)
      for (int row = 0; row < kHeight; ++row)
        for (int column = 0; column < kWidth; ++column, ++at)
          wrong +=
              result[at] != expected(input.data() + image * kInputs * kHeight * kWidth, weights, output, row, column);
  return wrong;
}

int table_differences(nybble::Isa isa, int entries) {
  constexpr int kChannels = 33, kStride = 64, kPixels = 5;
  std::vector<int> results;
  for (int code = 0; code < entries; ++code) results.push_back((code * 7 + 3) % 256);
  const auto table = nybble::make_code_table(nybble::Element::u8, nybble::Element::u8, results);
  std::vector<std::uint8_t> values(kPixels * kStride);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<std::uint8_t>(i % kStride < kChannels ? static_cast<int>(i) * 5 % entries : 0);
  const std::vector<std::uint8_t> before = values;
  nybble::TableTask task{table.get(), values.data(), values.data(), kStride, kStride, kPixels, kStride, kChannels};
  nybble::table_kernels(isa).run(task);
  int wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    wrong += values[i] != (i % kStride < kChannels ? results[before[i]] : 0);
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  for (nybble::Isa isa : nybble::available_isas())
    for (int entries : {16, 128, 256}) {
      const int count = table_differences(isa, entries);
      std::printf("%s, table of %d codes: %d differences\n", nybble::isa_name(isa), entries, count);
      wrong += count;
    }
  for (nybble::Isa isa : nybble::available_isas())
    for (int threads : {1, 2}) {
      const int count = differences(isa, threads);
      std::printf("%s, %d thread(s): %d differences\n", nybble::isa_name(isa), threads, count);
      wrong += count;
    }
  return wrong != 0;
}
