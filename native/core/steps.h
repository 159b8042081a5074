// The kinds of work a program is made of.
#pragma once

#include <memory>

#include "core/output_lists.h"
#include "core/program.h"

namespace nybble {

// A step is cut into chunks that any thread may take in any order.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::int64_t chunks(std::int64_t images) const = 0;
  virtual void run(const Memory& memory, std::int64_t chunk, std::int64_t images, std::uint8_t* scratch) const = 0;
  virtual std::int64_t scratch_bytes() const { return 0; }
  virtual std::int64_t weight_bytes() const { return 0; }
  // How many `Memory::finished` it uses.
  virtual std::int64_t counters(std::int64_t) const { return 0; }

  int output = -1;
  OutputLists output_lists;
};

// Each throws std::invalid_argument where the parts do not fit; values are known to be in range.
std::unique_ptr<Step> make_conv_step(const KernelTable& kernels, const std::vector<Value>& values, const ConvSpec& spec,
                                     WeightStore& store, int threads);
std::unique_ptr<Step> make_pool_step(const KernelTable& kernels, const std::vector<Value>& values,
                                     const PoolSpec& spec);
std::unique_ptr<Step> make_point_step(const KernelTable& kernels, const std::vector<Value>& values,
                                      const PointSpec& spec);
std::unique_ptr<Step> make_table_step(const KernelTable& kernels, const std::vector<Value>& values,
                                      const TableSpec& spec);
std::unique_ptr<Step> make_mul_step(const KernelTable& kernels, const std::vector<Value>& values, const MulSpec& spec);
std::unique_ptr<Step> make_concat_step(const std::vector<Value>& values, const ConcatSpec& spec);
std::unique_ptr<Step> make_scale_step(const std::vector<Value>& values, const ScaleSpec& spec);

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace nybble
