// Three convolutions, lists between them, on several threads, one image at a time and whole batches: for
// ThreadSanitizer, which needs a program of its own. The results of all thread counts must agree.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/cpu.h"
#include "core/program.h"
#include "steps/conv.h"

namespace {

constexpr int kChannels = 64, kSize = 9, kImages = 5, kRuns = 8;
constexpr std::size_t kValues = std::size_t{kImages} * kChannels * kSize * kSize;

std::vector<std::uint8_t> results(nybble::Isa isa, int threads, int most_images) {
  std::vector<std::int8_t> weights(std::size_t{kChannels} * kChannels * 9);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::int8_t>(i * 7 / 3 % 16) - 8;
  constexpr std::int64_t kOffset = 1 << 16;
  nybble::Program program(isa, threads, most_images, 8 * kOffset);
  int before = program.add_value(nybble::Element::u8, kChannels, kSize, kSize, true, 0);
  program.set_input(before);
  int lists = -1;
  for (int step = 0; step < 3; ++step) {
    nybble::ConvSpec conv;
    conv.input = before;
    conv.output = program.add_value(nybble::Element::u8, kChannels, kSize, kSize, false, (2 * step + 1) * kOffset);
    conv.kernel_h = conv.kernel_w = 3;
    conv.pad_top = conv.pad_left = 1;
    conv.method = lists < 0 ? "direct" : "sparse";
    conv.lists = lists;
    conv.magnitude = 15;
    // Two blocks of outputs and many tiles, so that threads meet in most of them.
    conv.block_outputs = 32;
    conv.tile_pixels = 7;
    conv.weights = weights.data();
    conv.weight_count = weights.size();
    conv.bias.assign(kChannels, 5);
    conv.relu = conv.requantize = true;
    conv.rule.factor.assign(kChannels, 3);
    conv.rule.shift = 8;
    conv.rule.low = 0;
    conv.rule.high = 15;
    if (isa != nybble::Isa::scalar && step < 2) {
      lists = program.add_lists(conv.output, 2, 16, (2 * step + 2) * kOffset);
      conv.output_lists = {lists};
    }
    nybble::add_conv(program, conv);
    before = conv.output;
  }
  program.set_output(before);

  std::vector<std::uint8_t> input(kValues), output(kValues);
  for (std::size_t i = 0; i < kValues; ++i) input[i] = static_cast<std::uint8_t>(i * i % 23 < 8 ? i % 16 : 0);
  program.set_timing(true);
  for (int run = 0; run < kRuns; ++run) program.run_integer(input.data(), run % 2 == 0 ? kImages : 1, output.data());
  program.run_integer(input.data(), kImages, output.data());
  return output;
}

}  // namespace

int main() {
  int wrong = 0;
  const std::vector<std::uint8_t> expected = results(nybble::Isa::scalar, 1, 1);
  for (nybble::Isa isa : nybble::available_isas())
    for (int threads : {1, 2, 3})
      for (int together : {1, 2}) {
        const bool same = results(isa, threads, together) == expected;
        std::printf("%s, %d thread(s), %d image(s) together: %s\n", nybble::isa_name(isa), threads, together,
                    same ? "right" : "WRONG");
        wrong += same ? 0 : 1;
      }
  return wrong != 0;
}
