#include "gpu/emulator/block.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace nybble::gpu::emulator {

Block* running = nullptr;

Block::Block(int threads) : lanes_(static_cast<std::size_t>(threads)), warps_(static_cast<std::size_t>(threads / 32)) {
  if (threads <= 0 || threads % 32 != 0) throw Error("a block has whole warps");
}

Access Block::access() const {
  return {thread_, thread_ / 32, barriers_, warps_[static_cast<std::size_t>(thread_ / 32)].barriers};
}

void Block::enter(void* block) {
  auto& self = *static_cast<Block*>(block);
  try {
    self.function_(self.params_);
    self.finish_thread();
  } catch (const Error& error) {
    self.error_ = error.what();
  }
  // After an error all other fibres are abandoned, so control never returns here.
  for (;;) self.lanes_[static_cast<std::size_t>(self.thread_)].fibre.leave();
}

void Block::finish_thread() {
  Lane& lane = lanes_[static_cast<std::size_t>(thread_)];
  for (const std::vector<Copy>& group : lane.groups) {
    if (!group.empty()) throw Error("a thread ends while its copies are under way");
  }
  if (!lane.copies.empty()) throw Error("a thread ends with copies that it never committed");
  lane.is_done = true;
  lane.is_ready = false;
}

void Block::wait() {
  Lane& lane = lanes_[static_cast<std::size_t>(thread_)];
  lane.is_ready = false;
  lane.fibre.leave();
}

void Block::wake_warp() {
  const std::size_t first = static_cast<std::size_t>(warp()) * 32;
  for (std::size_t i = first; i < first + 32; ++i) lanes_[i].is_ready = !lanes_[i].is_done;
}

void Block::barrier() {
  if (++at_barrier_ < threads()) {
    wait();
    return;
  }
  at_barrier_ = 0;
  ++barriers_;
  for (Lane& lane : lanes_) lane.is_ready = true;
}

bool Block::run_warp(int warp) {
  const int start = static_cast<int>(random_() % 32);
  bool found = false;
  for (int i = 0; i < 32 && error_.empty(); ++i) {
    const int thread = warp * 32 + (start + i) % 32;
    Lane& lane = lanes_[static_cast<std::size_t>(thread)];
    if (!lane.is_ready) continue;
    found = true;
    thread_ = thread;
    lane.fibre.resume();
  }
  return found;
}

void Block::run(Function function, const void* params, std::size_t shared_bytes, const Place& place) {
  function_ = function;
  params_ = params;
  place_ = place;
  at_barrier_ = 0;
  error_.clear();
  shared_.reset(shared_bytes);
  for (Warp& warp : warps_) warp.arrived = 0;
  for (Lane& lane : lanes_) {
    lane.is_ready = true;
    lane.is_done = false;
    lane.copies.clear();
    lane.groups.clear();
    lane.fibre.start(&Block::enter, this);
  }
  running = this;
  std::vector<int> order(warps_.size());
  std::iota(order.begin(), order.end(), 0);
  for (;;) {
    std::shuffle(order.begin(), order.end(), random_);
    // One warp at a time runs as far as it can, so that the others fall behind.
    const bool moved = std::any_of(order.begin(), order.end(), [&](int warp) { return run_warp(warp); });
    if (!error_.empty()) break;
    if (!moved) break;
  }
  running = nullptr;
  const std::string where = "block (" + std::to_string(place.x) + ", " + std::to_string(place.y) + "), ";
  if (!error_.empty()) throw Error(where + "thread " + std::to_string(thread_) + ": " + error_);
  if (!std::all_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.is_done; })) {
    throw Error(where + "threads wait for others that never come");
  }
}

void Block::begin_copy(std::uint32_t to, const std::uint8_t (&bytes)[16]) {
  shared_.begin_copy(to, 16, access());
  Copy& copy = lanes_[static_cast<std::size_t>(thread_)].copies.emplace_back();
  copy.to = to;
  std::memcpy(copy.bytes, bytes, 16);
}

void Block::commit_copies() {
  Lane& lane = lanes_[static_cast<std::size_t>(thread_)];
  lane.groups.push_back(std::move(lane.copies));
  lane.copies.clear();
}

void Block::wait_for_copies(std::size_t groups_left) {
  // Copies complete as late as possible: only when their thread waits for them.
  Lane& lane = lanes_[static_cast<std::size_t>(thread_)];
  while (lane.groups.size() > groups_left) {
    for (const Copy& copy : lane.groups.front()) std::memcpy(shared_.land_copy(copy.to, 16, access()), copy.bytes, 16);
    lane.groups.pop_front();
  }
}

}  // namespace nybble::gpu::emulator
