// The part of the module that shows the table of convolution kernels.
#pragma once

#include <nanobind/nanobind.h>

void bind_rows(nanobind::module_& m);
