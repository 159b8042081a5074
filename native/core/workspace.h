// What a run needs beside its program: memory for values and counters. Runs of all programs take turns at it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "core/shares.h"

namespace nybble {

// How much of everything the runs of a program take, all threads together.
struct WorkspaceSize {
  int threads = 1;
  std::size_t arena = 0, scratch = 0;  // bytes
  std::size_t counters = 0, stamps = 0, list_times = 0;
};

// Where a thread is in its share of a run that has been interrupted.
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

// The workspaces of a process: as many as runs have been under way at once, each large enough for whoever took it.
class WorkspacePool {
 public:
  static WorkspacePool& shared();

  // A program's needs, as long as it lives. Workspaces larger than any living program's go back to the system.
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
