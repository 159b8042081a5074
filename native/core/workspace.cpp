#include "core/workspace.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/process_mutex.h"

namespace nybble {

Workspace::Workspace(const WorkspaceSize& wanted)
    : size(wanted),
      arena(wanted.arena),
      scratch(wanted.scratch),
      finished(std::make_unique<std::atomic<std::int32_t>[]>(wanted.counters)),
      stamps(wanted.stamps),
      list_times(wanted.list_times),
      places(static_cast<std::size_t>(wanted.threads)),
      shares(wanted.threads) {}

bool Workspace::fits(const WorkspaceSize& wanted) const {
  return size.threads == wanted.threads && size.arena >= wanted.arena && size.scratch >= wanted.scratch &&
         size.counters >= wanted.counters && size.stamps >= wanted.stamps && size.list_times >= wanted.list_times;
}

WorkspacePool& WorkspacePool::shared() {
  // Never destroyed: programs may be, when static objects go.
  static WorkspacePool* const pool = new WorkspacePool;
  return *pool;
}

void WorkspacePool::add(const WorkspaceSize* need) {
  const std::lock_guard lock(process_mutex());
  needs_.push_back(need);
  idle_.reserve(64);
}

void WorkspacePool::remove(const WorkspaceSize* need) {
  std::vector<std::unique_ptr<Workspace>> surplus;
  const std::lock_guard lock(process_mutex());
  needs_.erase(std::find(needs_.begin(), needs_.end(), need));
  // A workspace of a size that no program needs.
  const auto is_needed = [&](const std::unique_ptr<Workspace>& workspace) {
    return std::any_of(needs_.begin(), needs_.end(), [&](const WorkspaceSize* other) {
      return other->threads == workspace->size.threads && other->arena >= workspace->size.arena;
    });
  };
  const auto kept = std::partition(idle_.begin(), idle_.end(), is_needed);
  std::move(kept, idle_.end(), std::back_inserter(surplus));
  idle_.erase(kept, idle_.end());
}

std::unique_ptr<Workspace> WorkspacePool::take(const WorkspaceSize& need) {
  std::unique_ptr<Workspace> outgrown;
  WorkspaceSize size = need;
  {
    const std::lock_guard lock(process_mutex());
    // The most recently returned one is most likely in the caches.
    for (auto place = idle_.rbegin(); place != idle_.rend(); ++place)
      if ((*place)->fits(need)) {
        std::unique_ptr<Workspace> found = std::move(*place);
        idle_.erase(std::next(place).base());
        return found;
      }
    // One that is too small is replaced by one that is large enough for its previous and its next user.
    const auto small = std::find_if(idle_.begin(), idle_.end(), [&](const std::unique_ptr<Workspace>& workspace) {
      return workspace->size.threads == need.threads;
    });
    if (small != idle_.end()) {
      outgrown = std::move(*small);
      idle_.erase(small);
      size.arena = std::max(size.arena, outgrown->size.arena);
      size.scratch = std::max(size.scratch, outgrown->size.scratch);
      size.counters = std::max(size.counters, outgrown->size.counters);
      size.stamps = std::max(size.stamps, outgrown->size.stamps);
      size.list_times = std::max(size.list_times, outgrown->size.list_times);
    }
  }
  outgrown.reset();
  return std::make_unique<Workspace>(size);
}

void WorkspacePool::give_back(std::unique_ptr<Workspace> workspace) {
  const std::lock_guard lock(process_mutex());
  idle_.push_back(std::move(workspace));
}

}  // namespace nybble
