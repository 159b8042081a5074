// Three convolutions, lists between them, on several threads, one image at a time and whole batches: for
// ThreadSanitizer, which needs a program of its own. The results of all thread counts must agree, and those of several
// programs that run at once, come and go.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/cpu.h"
#include "core/program.h"
#include "core/thread_pool.h"
#include "steps/conv.h"

namespace {

constexpr int kChannels = 64, kSize = 9, kImages = 5, kRuns = 8;
constexpr std::size_t kValues = std::size_t{kImages} * kChannels * kSize * kSize;

std::unique_ptr<nybble::Program> make(nybble::Isa isa, int threads, int most_images) {
  std::vector<std::int8_t> weights(std::size_t{kChannels} * kChannels * 9);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::int8_t>(i * 7 / 3 % 16) - 8;
  constexpr std::int64_t kOffset = 1 << 16;
  auto made = std::make_unique<nybble::Program>(isa, threads, most_images, 8 * kOffset);
  nybble::Program& program = *made;
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
  program.set_outputs({before});
  return made;
}

std::vector<std::uint8_t> images() {
  std::vector<std::uint8_t> input(kValues);
  for (std::size_t i = 0; i < kValues; ++i) input[i] = static_cast<std::uint8_t>(i * i % 23 < 8 ? i % 16 : 0);
  return input;
}

std::vector<std::uint8_t> results(nybble::Program& program) {
  const std::vector<std::uint8_t> input = images();
  std::vector<std::uint8_t> output(kValues);
  for (int run = 0; run < kRuns; ++run) program.run_integer(input.data(), run % 2 == 0 ? kImages : 1, output.data());
  program.run_integer(input.data(), kImages, output.data());
  return output;
}

// Callers of three programs with different numbers of threads and equal weights, two callers each, and one that makes
// programs and drops them; runs pass their threads on at every step.
int wrong_at_once(nybble::Isa isa, const std::vector<std::uint8_t>& expected) {
  nybble::ThreadPool::shared().set_turn(0);
  std::vector<std::unique_ptr<nybble::Program>> programs;
  for (int threads : {1, 2, 3}) programs.push_back(make(isa, threads, 2));
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller)
    callers.emplace_back(
        [&, caller] { wrong += results(*programs[static_cast<std::size_t>(caller % 3)]) != expected; });
  callers.emplace_back([&] {
    for (int turn = 0; turn < 3; ++turn) wrong += results(*make(isa, 1 + turn, 1)) != expected;
  });
  for (std::thread& caller : callers) caller.join();
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  const std::vector<std::uint8_t> expected = results(*make(nybble::Isa::scalar, 1, 1));
  for (nybble::Isa isa : nybble::available_isas()) {
    for (int threads : {1, 2, 3})
      for (int together : {1, 2}) {
        const auto program = make(isa, threads, together);
        program->set_timing(true);
        const bool same = results(*program) == expected;
        std::printf("%s, %d thread(s), %d image(s) together: %s\n", nybble::isa_name(isa), threads, together,
                    same ? "right" : "WRONG");
        wrong += same ? 0 : 1;
      }
    const int of_several = wrong_at_once(isa, expected);
    std::printf("%s, several programs at once: %s\n", nybble::isa_name(isa), of_several == 0 ? "right" : "WRONG");
    wrong += of_several;
  }
  return wrong != 0;
}
