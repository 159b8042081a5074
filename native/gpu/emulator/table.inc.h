// What makes the list of kernels a table for the host.
#pragma once

#include "gpu/emulator/kernels.h"
#include "gpu/kernels/module.h"

#define NYBBLE_KERNEL(NAME, PARAMS, THREADS, SHARED, ...) \
  {#NAME,                                                 \
   [](const void* params) {                               \
     using namespace nybble::gpu;                         \
     __VA_ARGS__(*static_cast<const PARAMS*>(params));    \
   },                                                     \
   sizeof(nybble::gpu::PARAMS),                           \
   [] {                                                   \
     using namespace nybble::gpu;                         \
     return THREADS;                                      \
   }(),                                                   \
   [] {                                                   \
     using namespace nybble::gpu;                         \
     return std::size_t{SHARED};                          \
   }()},
