// The table of a step: a function of the codes that its epilogue has written, applied while they are in the cache.
#pragma once

#include <memory>
#include <vector>

#include "core/program.h"
#include "kernels/table/kernels.h"

namespace nybble {

// `results` by codes in ascending order, which `input` stores, written as `output`. Throws std::invalid_argument unless
// there are 16, 128 (unsigned only) or 256 of them, each of which `output` can store.
std::unique_ptr<CodeTable> make_code_table(Element input, Element output, const std::vector<int>& results);

class OutputTable {
 public:
  OutputTable() = default;
  // Of a step that writes `output`, padded, with this epilogue; empty where that has none. The range that it
  // requantizes to is that of the codes. Throws std::invalid_argument where these do not fit together.
  OutputTable(Isa isa, const Layout& output, const EpilogueSpec& spec);

  bool empty() const { return table_ == nullptr; }
  // The output as the epilogue writes it: with the codes that the table replaces.
  const Layout& codes() const { return codes_; }
  // Pixels [first, first + count) of `values`; `channels` of them from `first_channel`, multiples of kChannelAlign.
  void apply(std::uint8_t* values, std::int64_t first, std::int64_t count, std::int32_t first_channel,
             std::int32_t channels) const;
  void apply(std::uint8_t* values, std::int64_t first, std::int64_t count) const {
    apply(values, first, count, 0, output_.stride);
  }

 private:
  std::unique_ptr<CodeTable> table_;
  TableKernel kernel_ = nullptr;
  Layout output_, codes_;
};

}  // namespace nybble
