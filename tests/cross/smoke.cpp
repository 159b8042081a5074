// A 3x3 convolution over an odd shape on every instruction set that this machine has, against plain loops.
// It needs no Python, so it runs where only a cross compiler and an emulator are.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "core/program.h"

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
  program.add_conv(conv);

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

}  // namespace

int main() {
  int wrong = 0;
  for (nybble::Isa isa : nybble::available_isas())
    for (int threads : {1, 2}) {
      const int count = differences(isa, threads);
      std::printf("%s, %d thread(s): %d differences\n", nybble::isa_name(isa), threads, count);
      wrong += count;
    }
  return wrong != 0;
}
