// The lock of everything that the engines of a process share.
#pragma once

#include <mutex>

namespace nybble {

// Held only briefly. A fork waits for it, so that it is never held in the child by a thread that does not exist there.
std::mutex& process_mutex();

}  // namespace nybble
