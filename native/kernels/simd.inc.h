// All kernels of an instruction set with vectors. Included by its file, inside its unnamed namespace, after the
// vector type `Vector` and the lists of that vector size.
#include "kernels/conv/chained.inc.h"
#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/pair.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/winograd.inc.h"
#include "kernels/pool/pool.inc.h"

// `quad_takes_any`: whether Vector::add_quads is exact for every unsigned input.
constexpr KernelTable simd_kernels(Isa isa, bool quad_takes_any) {
  return {
      .isa = isa,
      .conv_direct = conv_direct,
      .conv_sparse = conv_sparse,
      .conv_sparse_quad = conv_sparse_quad,
      .most_quad_outputs = kMostQuadOutputs,
      .conv_winograd = conv_winograd,
      .conv_wide = conv_wide,
      .conv_quad = conv_quad,
      .quad_takes_any = quad_takes_any,
      .dot_outputs = kDotOutputs,
      .conv_chained = conv_chained,
      .conv_pair = conv_pair,
      .conv_grouped = conv_grouped,
      .pair_lists = build_pair_lists,
      .quad_lists = build_quad_lists,
      .max_pool = max_pool,
      .average_pool = average_pool,
  };
}
