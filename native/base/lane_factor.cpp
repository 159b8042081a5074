#include "base/lane_factor.h"

#include <algorithm>

namespace nybble {

LaneFactorData::LaneFactorData(const std::vector<std::uint32_t>& factor, std::int32_t shift, std::int64_t magnitude)
    : lanes_{factor.data(), nullptr, shift} {
  if (factor.empty()) return;
  const std::int64_t most = *std::max_element(factor.begin(), factor.end());
  const std::int64_t half = shift > 0 ? std::int64_t{1} << (shift - 1) : 0;
  if (most == 0 || magnitude <= (INT32_MAX - half) / most) return;
  constexpr std::int64_t kLow = (std::int64_t{1} << kLowFactorBits) - 1;
  const std::int64_t least = (magnitude * kLow + half) >> kLowFactorBits;
  fits_ = shift > kLowFactorBits && magnitude <= INT32_MAX / kLow &&
          magnitude <= (INT32_MAX - least) / std::max<std::int64_t>(most >> kLowFactorBits, 1);
  if (!fits_) return;
  for (const std::uint32_t each : factor) {
    high_.push_back(each >> kLowFactorBits);
    low_.push_back(each & static_cast<std::uint32_t>(kLow));
  }
  lanes_ = {high_.data(), low_.data(), shift};
}

}  // namespace nybble
