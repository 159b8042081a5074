// All kernels of one generation, as whoever includes this defines them: NYBBLE_GPU_ARCH is 75, 80 or 90 (and what
// follows them), NYBBLE_KERNEL one kernel.
#pragma once

#include "gpu/kernels/conv.h"
#include "gpu/kernels/layers.h"
#include "gpu/kernels/probe.h"
#include "gpu/kernels/stem.h"

namespace nybble::gpu {

#if NYBBLE_GPU_ARCH >= 90
using Arch = Hopper;
#elif NYBBLE_GPU_ARCH >= 80
using Arch = Ampere;
#else
using Arch = Turing;
#endif

using Typesu4s4 = Types<4, false>;
using Typess4s4 = Types<4, true>;
using Typesu8s8 = Types<8, false>;
using Typess8s8 = Types<8, true>;
constexpr s32 kTaps_one = kOneTap, kTaps_any = kAnyTaps;
constexpr s32 kRule_any = kAny, kRule_codes = kCodes;
constexpr s32 kStages = Arch::kAsync ? 3 : 2;

template <class T, s32 Rows, s32 Columns, s32 Depth, s32 TapMode, s32 How>
using ConvOf = Conv<Arch, T, Rows, Columns, Depth, kStages, TapMode, How>;

}  // namespace nybble::gpu

#define NYBBLE_GPU_CONV(TYPES, ROWS, COLUMNS, DEPTH, TAPS, RULE)                                    \
  NYBBLE_KERNEL(conv_##TYPES##_m##ROWS##n##COLUMNS##k##DEPTH##_##TAPS##_##RULE, ConvParams,         \
                (ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kTaps_##TAPS, kRule_##RULE>::kThreads), \
                (ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kTaps_##TAPS, kRule_##RULE>::kShared),  \
                convolve<ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kTaps_##TAPS, kRule_##RULE>>)
#define NYBBLE_GPU_JOIN(TYPES, ROWS, COLUMNS, DEPTH)                                     \
  NYBBLE_KERNEL(join_##TYPES##_m##ROWS##n##COLUMNS##k##DEPTH, JoinParams,                \
                (ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kOneTap, kCodes>::kThreads), \
                (ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kOneTap, kCodes>::kShared),  \
                join<ConvOf<Types##TYPES, ROWS, COLUMNS, DEPTH, kOneTap, kCodes>>)
#define NYBBLE_GPU_STEM(TYPES)                                                                                       \
  NYBBLE_KERNEL(stem_##TYPES, StemParams, (Stem<Arch, Types##TYPES>::kThreads), (Stem<Arch, Types##TYPES>::kShared), \
                run_stem<Stem<Arch, Types##TYPES>>)
#define NYBBLE_GPU_LAYER(NAME, PARAMS, FUNCTION) NYBBLE_KERNEL(layer_##NAME, PARAMS, kLayerThreads, 0, FUNCTION)
#define NYBBLE_GPU_PROBE(NAME) \
  NYBBLE_KERNEL(layer_##NAME, ProbeParams, kLayerThreads, kProbeShared, probe_instructions<Arch>)
