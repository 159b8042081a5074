// Any processor: no vector types.
#pragma once
