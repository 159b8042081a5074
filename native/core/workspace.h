// The memory of a run: values, scratch memory and counters. The programs of a process share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "core/shares.h"

namespace nybble {

// Sizes that the runs of a program need, for all threads together.
struct WorkspaceSize {
  int threads = 1;
  std::size_t arena = 0, scratch = 0;  // bytes
  std::size_t counters = 0, stamps = 0, list_times = 0;
};

// The position of a thread in an interrupted run.
struct Place {
  std::int64_t group = -1;
  std::size_t step = 0;
};

struct Workspace {
  explicit Workspace(const WorkspaceSize& size);
  bool fits(const WorkspaceSize& size) const;

  WorkspaceSize size;
  AlignedBytes arena, scratch;
  std::unique_ptr<std::atomic<std::int32_t>[]> finished;  // all 0 between runs
  std::vector<std::int64_t> stamps;                       // of each thread: input loaded, and each step done
  std::vector<std::int64_t> list_times;                   // of each thread: nanoseconds of each value that is lists
  std::vector<Place> places;                              // of each thread
  Shares shares;                                          // of so many threads as `size` says
};

// The workspaces of a process: as many as there have been concurrent runs.
class WorkspacePool {
 public:
  static WorkspacePool& shared();

  // Registers the size that a program needs until remove(), which frees workspaces that no other program needs.
  void add(const WorkspaceSize* need);
  void remove(const WorkspaceSize* need);

  std::unique_ptr<Workspace> take(const WorkspaceSize& need);
  void give_back(std::unique_ptr<Workspace> workspace);

 private:
  WorkspacePool() = default;

  // Under process_mutex().
  std::vector<const WorkspaceSize*> needs_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace nybble
