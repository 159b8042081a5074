// Owns the arrays that an Epilogue points to.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

class EpilogueData {
 public:
  // `output` is where results go; vectors have its channel count and are padded to its stride.
  EpilogueData(const Layout& output, std::vector<std::int32_t> bias);

  void add_shortcut(const Layout& shortcut, std::int64_t magnitude, bool requantize, const Requantize& rule);
  void set_relu(std::int32_t maximum);
  void set_requantize(const Requantize& rule);

  const Epilogue& get() const { return epilogue_; }

 private:
  std::vector<std::uint32_t> padded(const std::vector<std::uint32_t>& factor, const char* what) const;

  Layout output_;
  std::vector<std::int32_t> bias_;
  std::vector<std::uint32_t> shortcut_factor_, factor_;
  std::vector<float> scale_;
  Epilogue epilogue_;
};

}  // namespace nybble
