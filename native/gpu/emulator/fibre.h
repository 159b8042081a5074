// Fibres: functions that can stop and continue later, each on its own stack.
#pragma once

#include <cstddef>
#include <memory>

namespace nybble::gpu::emulator {

class Fibre {
 public:
  static constexpr std::size_t kStackBytes = 64 << 10;

  Fibre();
  ~Fibre();
  Fibre(Fibre&&) noexcept;
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // The next resume() begins `entry(argument)`, which may never return: it ends by leave().
  void start(void (*entry)(void*), void* argument);
  // From the scheduler: run until it leaves.
  void resume();
  // From inside: back to the scheduler.
  void leave();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nybble::gpu::emulator
