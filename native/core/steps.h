// The kinds of work a program is made of.
#pragma once

#include <memory>
#include <stdexcept>

#include "core/program.h"

namespace nybble {

// Where the values of the running batch lie.
struct Memory {
  std::uint8_t* arena;
  std::int64_t most_images;
  const std::vector<Value>* values;

  std::uint8_t* at(int value) const { return arena + (*values)[static_cast<std::size_t>(value)].offset * most_images; }
};

// A step is cut into chunks that any thread may take in any order.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::int64_t chunks(std::int64_t images) const = 0;
  virtual void run(const Memory& memory, std::int64_t chunk, std::int64_t images, std::uint8_t* scratch) const = 0;
  virtual std::int64_t scratch_bytes() const { return 0; }
  virtual std::int64_t weight_bytes() const { return 0; }

  int output = -1;
};

// Each throws std::invalid_argument where the parts do not fit; values are known to be in range.
std::unique_ptr<Step> make_list_step(const KernelTable& kernels, const std::vector<Value>& values, int input,
                                     int lists);
std::unique_ptr<Step> make_conv_step(const KernelTable& kernels, const std::vector<Value>& values, const ConvSpec& spec,
                                     WeightStore& store, int threads);
std::unique_ptr<Step> make_pool_step(const KernelTable& kernels, const std::vector<Value>& values,
                                     const PoolSpec& spec);
std::unique_ptr<Step> make_point_step(const std::vector<Value>& values, const PointSpec& spec);
std::unique_ptr<Step> make_scale_step(const std::vector<Value>& values, const ScaleSpec& spec);

// Lists of a value whose memory starts at `memory`, for a batch of at most `images`.
NonZeroLists lists_at(const Value& value, std::uint8_t* memory, std::int64_t images);

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace nybble
