// One lock for what all engines of a process share.
#pragma once

#include <mutex>

namespace nybble {

// Held for moments only. A fork waits for it, so that a child never finds it held by a thread that it does not have.
std::mutex& process_mutex();

}  // namespace nybble
