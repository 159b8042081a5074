// One block of threads as fibres: warps in random order, collectives as meeting points of a warp's lanes.
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "gpu/emulator/fibre.h"
#include "gpu/emulator/fragments.h"
#include "gpu/emulator/shared.h"

namespace nybble::gpu::emulator {

using Function = void (*)(const void* params);

// An operation of all lanes of a warp together.
enum class Meeting : std::uint8_t { none, warp_barrier, matrices, product16, product8 };

// Which block of which launch.
struct Place {
  int x, y, index;
  std::uint64_t launch;
};

class Block {
 public:
  explicit Block(int threads);

  // Of the order in which warps and lanes run.
  void seed(std::uint64_t seed) { random_.seed(seed); }

  // Runs a block of a launch to its end. Throws Error on what a thread does wrong, and where threads wait for ever.
  void run(Function function, const void* params, std::size_t shared_bytes, const Place& place);

  // For the thread that runs, by device.h.
  int thread() const { return thread_; }
  int threads() const { return static_cast<int>(lanes_.size()); }
  int x() const { return place_.x; }
  int y() const { return place_.y; }
  // The launch, and the thread within it, in 24 and 40 bits.
  std::uint64_t author() const {
    return place_.launch << kLaunchShift |
           (static_cast<std::uint64_t>(place_.index) * 1024 + static_cast<std::uint64_t>(thread_));
  }
  static bool of_one_launch(std::uint64_t a, std::uint64_t b) { return a >> kLaunchShift == b >> kLaunchShift; }
  Access access() const;
  SharedMemory& shared() { return shared_; }
  void barrier();
  // Returns once all lanes of the warp have arrived; `detail` must be the same for all. The last one to arrive calls
  // `act`.
  template <typename Act>
  void meet(Meeting meeting, int detail, const Act& act);
  int warp() const { return thread_ / 32; }
  int lane() const { return thread_ % 32; }
  Fragments& fragments() { return warps_[static_cast<std::size_t>(warp())].fragments; }
  std::uint32_t (&addresses())[32] { return warps_[static_cast<std::size_t>(warp())].addresses; }
  void pass_warp_barrier() { ++warps_[static_cast<std::size_t>(warp())].barriers; }

  struct Copy {
    std::uint32_t to;
    std::uint8_t bytes[16];
  };
  void begin_copy(std::uint32_t to, const std::uint8_t (&bytes)[16]);
  void commit_copies();
  void wait_for_copies(std::size_t groups_left);

 private:
  struct Lane {
    Fibre fibre;
    bool is_ready = false, is_done = false;
    std::vector<Copy> copies;              // not committed
    std::deque<std::vector<Copy>> groups;  // committed, the oldest first
  };
  struct Warp {
    Meeting meeting = Meeting::none;
    int detail = 0;
    int arrived = 0;
    std::uint64_t barriers = 0;
    Fragments fragments;
    std::uint32_t addresses[32];
  };

  static constexpr int kLaunchShift = 40;

  static void enter(void* block);
  void wait();
  void wake_warp();
  // Runs every lane that is ready in a warp; false if there was none.
  bool run_warp(int warp);
  void finish_thread();

  std::vector<Lane> lanes_;
  std::vector<Warp> warps_;
  SharedMemory shared_;
  std::mt19937_64 random_;
  Function function_ = nullptr;
  const void* params_ = nullptr;
  std::string error_;
  Place place_{};
  int thread_ = 0, at_barrier_ = 0;
  std::uint64_t barriers_ = 1;
};

// The block that runs: launches take turns.
extern Block* running;

template <typename Act>
void Block::meet(Meeting meeting, int detail, const Act& act) {
  Warp& warp = warps_[static_cast<std::size_t>(this->warp())];
  if (warp.arrived == 0) {
    warp.meeting = meeting;
    warp.detail = detail;
  } else if (warp.meeting != meeting || warp.detail != detail) {
    throw Error("the lanes of a warp do not come to the same collective");
  }
  if (++warp.arrived < 32) {
    wait();
    return;
  }
  warp.arrived = 0;
  act();
  wake_warp();
}

}  // namespace nybble::gpu::emulator
