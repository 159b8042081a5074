// Every kernel of one generation: module.h makes each entry a NYBBLE_KERNEL, which whoever includes this defines.
//
// A convolution's name is conv_TYPE_mROWSnCOLUMNSkDEPTH_TAPS_RULE: nybble.backends.cuda.kernels makes it too.

// clang-format off
NYBBLE_GPU_CONV(u4s4, 64, 64, 32, one, any)
NYBBLE_GPU_CONV(u4s4, 64, 64, 32, any, any)
NYBBLE_GPU_CONV(u4s4, 64, 64, 32, one, narrow)
NYBBLE_GPU_CONV(u4s4, 64, 64, 32, any, narrow)
NYBBLE_GPU_CONV(u4s4, 128, 64, 32, one, any)
NYBBLE_GPU_CONV(u4s4, 128, 64, 32, any, any)
NYBBLE_GPU_CONV(u4s4, 128, 64, 32, one, narrow)
NYBBLE_GPU_CONV(u4s4, 128, 64, 32, any, narrow)
NYBBLE_GPU_CONV(u4s4, 128, 128, 64, one, any)
NYBBLE_GPU_CONV(u4s4, 128, 128, 64, any, any)
NYBBLE_GPU_CONV(u4s4, 128, 128, 64, one, narrow)
NYBBLE_GPU_CONV(u4s4, 128, 128, 64, any, narrow)
NYBBLE_GPU_CONV(s4s4, 64, 64, 32, one, any)
NYBBLE_GPU_CONV(s4s4, 64, 64, 32, any, any)
NYBBLE_GPU_CONV(u8s8, 64, 64, 32, one, any)
NYBBLE_GPU_CONV(u8s8, 64, 64, 32, any, any)
NYBBLE_GPU_CONV(s8s8, 64, 64, 32, one, any)
NYBBLE_GPU_CONV(s8s8, 64, 64, 32, any, any)
NYBBLE_GPU_STEM(u8s8)
NYBBLE_GPU_STEM(s8s8)
NYBBLE_GPU_LAYER(input, InputParams, read_input)
NYBBLE_GPU_LAYER(grouped, GroupedParams, convolve_groups)
NYBBLE_GPU_LAYER(depthwise, GroupedParams, convolve_depthwise)
NYBBLE_GPU_LAYER(pool, PoolParams, pool)
NYBBLE_GPU_LAYER(point, PointParams, compute_points)
NYBBLE_GPU_LAYER(concat, ConcatParams, concatenate)
NYBBLE_GPU_LAYER(scale, ScaleParams, scale_sums)
NYBBLE_GPU_PROBE(probe)
// clang-format on
