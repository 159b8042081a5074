// Factors as 32-bit lanes multiply by them.
#pragma once

#include <cstdint>
#include <vector>

namespace nybble {

// Low bits of a factor that is multiplied in two parts.
inline constexpr int kLowFactorBits = 12;

// v * factor, rounded off by `shift`, in 32-bit lanes. Where a product needs more bits, `factor` holds the bits above
// kLowFactorBits and `low` the others: with p = |v| * factor + half = 2^12 * (|v| * high + half / 2^12) + |v| * low,
// p >> shift is (|v| * high + half / 2^12 + (|v| * low >> 12)) >> (shift - 12), as a floor of a floor is the floor, and
// a half of at least 2^12 is a multiple of it.
struct LaneFactor {
  const std::uint32_t* factor = nullptr;
  const std::uint32_t* low = nullptr;  // null where 32 bits hold the products
  std::int32_t shift = 0;
};

// Owns the arrays that a LaneFactor points to.
class LaneFactorData {
 public:
  LaneFactorData() = default;
  // For values of at most `magnitude`. `factor` must live as long as this.
  LaneFactorData(const std::vector<std::uint32_t>& factor, std::int32_t shift, std::int64_t magnitude);
  LaneFactorData(const LaneFactorData&) = delete;
  LaneFactorData& operator=(const LaneFactorData&) = delete;
  LaneFactorData(LaneFactorData&&) = default;
  LaneFactorData& operator=(LaneFactorData&&) = default;

  // Whether 32-bit lanes are exact in one of the two ways.
  bool fits() const { return fits_; }
  const LaneFactor& get() const { return lanes_; }

 private:
  bool fits_ = true;
  std::vector<std::uint32_t> high_, low_;
  LaneFactor lanes_;
};

}  // namespace nybble
