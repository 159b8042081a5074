// A compiled network: steps over values in one arena. Threads and the memory of runs are shared by the process.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/tensor.h"
#include "core/workspace.h"

namespace nybble {

// A value in the arena. `offset` and sizes are for one image; n images that run together take n times each.
struct Value {
  Layout layout;
  std::int64_t offset = 0;
  // Lists of the non-zero groups of `list_group` channels of the value `lists_of`.
  bool is_lists = false;
  int lists_of = -1;
  std::int32_t list_group = 0, groups = 0, block_groups = 0, blocks = 0;
  std::int64_t bytes = 0;

  bool overlaps(const Value& other) const {
    return offset < other.offset + other.bytes && other.offset < offset + bytes;
  }
};

struct Requantize {
  std::vector<std::uint32_t> factor;  // a channel each
  int shift = 0;
  std::int32_t low = INT32_MIN, high = INT32_MAX;
};

// The epilogue of a step: what happens to its sums after the bias and the shortcut, before they are stored.
struct EpilogueSpec {
  bool relu = false;
  std::int32_t relu_maximum = INT32_MAX;
  bool requantize = false;
  Requantize rule;
  std::vector<std::int32_t>
      negative;            // factors of values below zero, a channel each, of either sign; empty: the rule's
  std::vector<int> table;  // of what requantizing gives, or empty
};

// What a step reads and writes: values, and lists of values.
struct Access {
  std::vector<int> reads;
  int reads_lists = -1;
  int writes = -1;
  std::vector<int> writes_lists;
};

// Called with the index of a tapped value and its elements as (images, channels, rows, columns).
using Tap = std::function<void(std::size_t tap, const std::uint8_t* nchw, std::int64_t images)>;

class Step;
struct Memory;

class Program {
 public:
  // Up to `most_images` go through each step together; the arena has room for them once for each thread, which takes
  // memory as soon as so many run.
  // Throws std::invalid_argument where a number is out of range, std::runtime_error where there are no such threads.
  Program(Isa isa, int threads, int most_images, std::int64_t arena_bytes);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int add_value(Element element, int channels, int height, int width, bool tight, std::int64_t offset);
  // Of single channels, or groups of two or four, in blocks of 16, 32 or 64 groups.
  int add_lists(int input, int group, int block_groups, std::int64_t offset);
  void set_input(int value);
  // Of several results each lies behind those before it in what a run fills: (images, channels, rows, columns) each.
  void set_outputs(const std::vector<int>& values);
  // A step reads a value, and lists unless their id is negative, whose contents must not have been overwritten. The
  // value and the lists that it writes must not overlap those or each other. Otherwise throws std::invalid_argument.
  void check(const Access& access) const;
  // Steps run in the order in which they are added. Checks `access` once more.
  void add_step(std::unique_ptr<Step> step, const Access& access);

  // Several threads may call these functions at once. A run waits while the process's threads are in use.

  // Integer input (images, channels, height, width).
  void run_integer(const std::uint8_t* nchw, std::int64_t images, std::uint8_t* out);
  // 8-bit samples (images, height, width, channels) through a table of 256 values per channel.
  void run_samples(const std::uint8_t* nhwc, const std::uint8_t* table, std::int64_t images, std::uint8_t* out);
  // float32 (images, channels, height, width): clip(rint(x * numerator / denominator), low, high).
  // Returns false, with nothing computed, where x has a NaN.
  bool run_float(const float* nchw, float numerator, float denominator, float low, float high, std::int64_t images,
                 std::uint8_t* out);
  // As run_integer, and `tap` sees each of `values` as soon as the step that writes it is done.
  void run_tapped(const std::uint8_t* nchw, std::int64_t images, std::uint8_t* out, const std::vector<int>& values,
                  const Tap& tap);

  // Nanoseconds of each step but for its lists, then of each of its lists (all threads' time by their number), in the
  // order the steps were added; summed over the runs since the last call.
  std::vector<std::int64_t> take_step_times();
  void set_timing(bool on) { timing_ = on; }

  const Value& value(int id) const;
  Isa isa() const { return isa_; }
  WeightStore& weights() { return weights_; }
  int input() const { return input_; }
  const std::vector<int>& outputs() const { return outputs_; }
  // Bytes of all results of one image.
  std::int64_t output_bytes() const;
  int threads() const { return size_.threads; }
  int most_images() const { return most_images_; }
  std::int64_t weight_bytes() const { return weight_bytes_; }
  std::int64_t arena_bytes() const { return static_cast<std::int64_t>(size_.arena); }

 private:
  // Where a run's input comes from: fills the input value for images [first, first + count).
  struct Source;
  class Run;
  void run(const Source& source, std::int64_t images, std::uint8_t* out, const std::vector<int>* taps, const Tap* tap);
  std::int64_t output_bytes(int value) const;
  void check_value(int id, const char* what) const;
  std::size_t scratch_bytes() const { return size_.scratch / static_cast<std::size_t>(size_.threads); }

  Isa isa_;
  int most_images_;
  std::int64_t arena_bytes_;  // of one image
  std::int64_t weight_bytes_ = 0;
  WeightStore weights_;
  std::vector<Value> values_;
  std::vector<bool> holds_;  // whether a value holds what its step wrote, after the steps added so far
  std::vector<std::unique_ptr<Step>> steps_;
  int input_ = -1;
  std::vector<int> outputs_;
  std::int64_t counters_ = 0;  // that any step uses
  WorkspaceSize size_;
  std::atomic<bool> timing_{false};
  std::mutex timed_;
  std::vector<std::int64_t> step_times_;  // as take_step_times has them; under timed_
};

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace nybble
