// Found in place of the compiler's header in the emulated build: SIMDe computes what the intrinsics of AVX2, AVX-512
// and VNNI do, for a processor that has none of them. What SIMDe 0.7.4 lacks, or does not compute bit for bit, is
// supplied.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

// Names that SIMDe 0.7.4 does not give, or gives wrongly: its _mm512_madd_epi16 has the arguments of the masked one.
#ifndef __mmask16
using __mmask16 = simde__mmask16;
using __mmask32 = simde__mmask32;
using __mmask64 = simde__mmask64;
#endif
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#undef _mm512_shuffle_i64x2
#define _mm512_shuffle_i64x2(a, b, order) simde_mm512_shuffle_i64x2(a, b, order)

#include "../supplied.h"

// A later SIMDe may have these.
#ifndef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32 supplied::mm512_cvtepi16_epi32
#endif
#ifndef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16 supplied::mm512_cvtepi32_epi16
#endif
#ifndef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8 supplied::mm512_cvtepi32_epi8
#endif
#ifndef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps supplied::mm512_cvtepi32_ps
#endif
#ifndef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32 supplied::mm512_cvtepi8_epi32
#endif
#ifndef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 supplied::mm512_cvtepu16_epi32
#endif
#ifndef _mm512_cvtepu8_epi16
#define _mm512_cvtepu8_epi16 supplied::mm512_cvtepu8_epi16
#endif
#ifndef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32 supplied::mm512_cvtepu8_epi32
#endif
#ifndef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 supplied::mm512_cvtps_epi32
#endif
#ifndef _mm512_cvttps_epi32
#define _mm512_cvttps_epi32 supplied::mm512_cvttps_epi32
#endif
#ifndef _mm512_cvtusepi16_epi8
#define _mm512_cvtusepi16_epi8 supplied::mm512_cvtusepi16_epi8
#endif
#ifndef _mm512_mask_sub_epi16
#define _mm512_mask_sub_epi16 supplied::mm512_mask_sub_epi16
#endif
#ifndef _mm512_maskz_loadu_epi32
#define _mm512_maskz_loadu_epi32 supplied::mm512_maskz_loadu_epi32
#endif
#ifndef _mm512_mask_storeu_epi8
#define _mm512_mask_storeu_epi8 supplied::mm512_mask_storeu_epi8
#endif
#ifndef _mm512_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi8 supplied::mm512_maskz_loadu_epi8
#endif
#ifndef _mm512_mulhi_epu16
#define _mm512_mulhi_epu16 supplied::mm512_mulhi_epu16
#endif
#ifndef _mm512_sra_epi32
#define _mm512_sra_epi32 supplied::mm512_sra_epi32
#endif
#ifndef _mm512_srai_epi32
#define _mm512_srai_epi32 supplied::mm512_srai_epi32
#endif
#ifndef _mm512_testn_epi32_mask
#define _mm512_testn_epi32_mask supplied::mm512_testn_epi32_mask
#endif

// SIMDe rounds the product before it adds.
#undef _mm256_fmadd_ps
#define _mm256_fmadd_ps supplied::mm256_fmadd_ps
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps supplied::mm512_fmadd_ps
