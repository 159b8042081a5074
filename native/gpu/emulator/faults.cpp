// Kernels of one or two warps that do something wrong, and the same done right: what the emulator has to tell apart.
#include "gpu/emulator/device.h"
#include "gpu/emulator/kernels.h"

namespace nybble::gpu {
namespace {

struct FaultParams {
  u8* data;
};

u32 place(s32 thread) { return static_cast<u32>(thread) * 16; }
// Another thread of the same warp, and the same one of the other.
s32 neighbour() { return thread_index() ^ 1; }
s32 other_warp() { return thread_index() ^ kWarp; }
Words4* element(const FaultParams& p, s32 index) { return reinterpret_cast<Words4*>(p.data) + index; }

void nothing_wrong(const FaultParams& p) {
  shared_store(place(thread_index()), Words4{{1, 2, 3, 4}});
  warp_barrier();
  shared_load<Words4>(place(neighbour()));
  block_barrier();
  global_store(element(p, thread_index()), shared_load<Words4>(place(other_warp())));
}

void write_all() {
  shared_store(place(thread_index()), Words4{});
  block_barrier();
}

void no_warp_barrier(const FaultParams&) {
  write_all();
  shared_store(place(thread_index()), Words4{});
  shared_load<Words4>(place(neighbour()));
}

void warp_barrier_for_the_block(const FaultParams&) {
  write_all();
  shared_store(place(thread_index()), Words4{});
  warp_barrier();
  shared_load<Words4>(place(other_warp()));
}

void no_barrier_before_the_next_write(const FaultParams&) {
  shared_store(place(thread_index()), Words4{});
  block_barrier();
  shared_load<Words4>(place(other_warp()));
  shared_store(place(thread_index()), Words4{});
}

void two_writers(const FaultParams&) { shared_store(0, Words4{}); }

void matrices_without_a_barrier(const FaultParams&) {
  u32 r[4];
  shared_store(place(thread_index()), Words4{});
  load_matrices(r, place(thread_index()));
}

void never_written(const FaultParams&) { shared_load<Words4>(place(thread_index())); }
void beyond_shared(const FaultParams&) { shared_store(place(thread_index() + 1), Words4{}); }
void off_alignment(const FaultParams&) { shared_store(4, Words4{}); }

void no_wait(const FaultParams& p) {
  copy_async(place(thread_index()), p.data, false);
  commit_async();
  shared_load<Words4>(place(thread_index()));
}

void wait_for_too_few(const FaultParams& p) {
  for (s32 i = 0; i < 2; ++i) {
    if (i == 1) copy_async(place(thread_index()), p.data, false);
    commit_async();
  }
  wait_async<1>();
  shared_load<Words4>(place(thread_index()));
}

void ends_while_copying(const FaultParams& p) {
  copy_async(place(thread_index()), p.data, false);
  commit_async();
}

void global_never_written(const FaultParams& p) { global_load(element(p, thread_index())); }
void beyond_global(const FaultParams& p) { global_store(element(p, thread_index() + 1), {}); }
void global_off_alignment(const FaultParams& p) { global_store(reinterpret_cast<Words4*>(p.data + 4), {}); }
void global_two_writers(const FaultParams& p) { global_store(element(p, 0), {}); }

void global_written_and_read(const FaultParams& p) {
  global_store(element(p, thread_index()), {});
  block_barrier();
  global_load(element(p, other_warp()));
}

void half_a_warp(const FaultParams&) {
  if (thread_index() % 2 == 0) warp_barrier();
}

void two_collectives(const FaultParams&) {
  u32 r[4];
  shared_store(place(thread_index()), Words4{});
  block_barrier();
  if (thread_index() % 2 == 0) {
    warp_barrier();
  } else {
    load_matrices(r, place(thread_index()));
  }
}

void half_a_block(const FaultParams&) {
  if (thread_index() < kWarp) block_barrier();
}

}  // namespace
}  // namespace nybble::gpu

#define NYBBLE_FAULT(NAME)                                                                            \
  {#NAME, [](const void* p) { nybble::gpu::NAME(*static_cast<const nybble::gpu::FaultParams*>(p)); }, \
   sizeof(nybble::gpu::FaultParams), 64, 64 * 16}

const nybble::gpu::emulator::Kernel kTable[] = {
    NYBBLE_FAULT(nothing_wrong),
    NYBBLE_FAULT(no_warp_barrier),
    NYBBLE_FAULT(warp_barrier_for_the_block),
    NYBBLE_FAULT(no_barrier_before_the_next_write),
    NYBBLE_FAULT(two_writers),
    NYBBLE_FAULT(matrices_without_a_barrier),
    NYBBLE_FAULT(never_written),
    NYBBLE_FAULT(beyond_shared),
    NYBBLE_FAULT(off_alignment),
    NYBBLE_FAULT(no_wait),
    NYBBLE_FAULT(wait_for_too_few),
    NYBBLE_FAULT(ends_while_copying),
    NYBBLE_FAULT(global_never_written),
    NYBBLE_FAULT(beyond_global),
    NYBBLE_FAULT(global_off_alignment),
    NYBBLE_FAULT(global_two_writers),
    NYBBLE_FAULT(global_written_and_read),
    NYBBLE_FAULT(half_a_warp),
    NYBBLE_FAULT(two_collectives),
    NYBBLE_FAULT(half_a_block),
};

const std::span<const nybble::gpu::emulator::Kernel> nybble::gpu::emulator::kFaults = kTable;
