/* BERT's encoder on an x86 processor, in fp32, int16 or int8: all layers in one call.
 *
 * PyTorch runs some fifty operations a layer, each a pass over memory. For one short text calling them takes longer
 * than what they compute, and for many texts the passes do. Here rows stay in the cache from a product to the norm
 * after it, and threads meet twice a layer (once in the last, if first tokens are read). The steps and their names are
 * those of `bothways.model`; `kernels.py` lays out the weights and calls `encode`. No Python is called here, so there is
 * no PyInit: the library is loaded by ctypes.
 */

#include <stdint.h>

/* W x + b. Output channels lie in panels, so that a panel's weights for one input (fp32), or for two (int16) or four
 * (int8) neighbouring ones, are neighbours in memory. */
typedef struct {
    const void
        *weight; /* [out / panel][in][panel], [out / panel][in / 2][panel][2] or [out / panel][in / 4][panel][4] */
    const float *scale; /* int16, int8: [groups][out], the value of one step */
    const float *sum;   /* int16, int8: [groups][out], scale × sum of a channel's integers in the group */
    const float *bias;  /* [out] */
    int64_t in, out;
} Linear;

typedef struct {
    const float *weight, *bias; /* [hidden] */
} Norm;

typedef struct {
    Linear query_key_value, output, expand, contract;
    Norm attention_norm, feed_forward_norm;
} Layer;

typedef enum { GELU, GELU_TANH, RELU } Activation;
typedef enum { FP32, INT16, INT8 } Format;

typedef struct {
    const Layer *layer; /* [layers] */
    int64_t layers, hidden, heads, feed_forward;
    int64_t format, group_size; /* int16, int8: so many neighbouring inputs share a scale */
    int64_t activation;
    float norm_epsilon;
} Encoder;

/* The functions of an OpenMP library by which PyTorch shares out work, so that both use the same threads; all 0: one
 * thread. */
typedef struct {
    void (*parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags); /* GOMP_parallel */
    void (*barrier)(void);                                                                /* GOMP_barrier */
    int (*thread)(void), (*threads)(void); /* omp_get_thread_num, omp_get_num_threads */
} OpenMP;

int layout(void);
int instruction_set(void);
int encode(const Encoder *encoder, const OpenMP *openmp, int64_t threads, int set, const int64_t *starts,
           int64_t sequences, float *hidden, float *firsts);

/* So that a library of an earlier version is not taken for this one: to be raised when what is above changes. */
int layout(void) {
    return 1 + 1000 * (int)(sizeof(Encoder) + sizeof(Layer));
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define ACTIVATION_MAX_INT16 2047 /* with weights up to 1023, 1024 products are summed exactly in 32 bits */
#define BLOCK 96 /* rows that go through a layer together: what is between its products then fits into a 1 MB cache */

typedef enum { STORE, ADD, ACTIVATE } Epilogue;

/* What a matrix is multiplied with: rows of numbers, and the same as integers unless products are in fp32. */
typedef struct {
    const float *x;         /* [rows][in] */
    int32_t *quantized;     /* [rows][in] of int16 or uint8 */
    float *scale, *minimum; /* [rows][groups]: x ≈ scale * quantized + minimum */
} Activations;

/* Memory that each thread has for itself. */
typedef struct {
    float *wide;            /* [BLOCK][feed_forward] */
    float *attention;       /* what `attend` needs for the longest sequence */
    int32_t *quantized;     /* [BLOCK][feed_forward or hidden] of int16 or uint8 */
    float *scale, *minimum; /* [BLOCK][groups] */
} ThreadScratch;

typedef struct {
    const Encoder *encoder;
    const OpenMP *openmp;
    int set;
    const int64_t *starts;
    int64_t sequences;
    float *hidden, *firsts;
    float *query_key_value; /* [tokens][3][hidden] */
    float *query;           /* [sequences][hidden] */
    float *context;         /* [tokens][hidden] */
    int64_t *next_head;     /* [layers]: of how many heads of sequences attention has next_head */
    ThreadScratch *scratch; /* [threads] */
} Call;

static void wait_for_others(const Call *call) {
    if (call->openmp) call->openmp->barrier();
}

#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define BEGIN_TARGET(names) PRAGMA(clang attribute push(__attribute__((target(names))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#define UNROLL PRAGMA(clang loop unroll(full))
#else
#define BEGIN_TARGET(names) PRAGMA(GCC push_options) PRAGMA(GCC target(names))
#define END_TARGET PRAGMA(GCC pop_options)
#define UNROLL PRAGMA(GCC unroll 8)
#endif

/* ---- AVX2 --------------------------------------------------------------------------------------------------- */

BEGIN_TARGET("avx2,fma")

/* [rows][columns] → [columns][width], zeros from `rows` on. `columns` and `width` are multiples of 8. */
static void transpose(int64_t rows, int64_t columns, const float *from, int64_t from_row, float *to, int64_t width) {
    for (int64_t j = 0; j < width; j += 8)
        for (int64_t c = 0; c < columns; c += 8) {
            __m256 x[8], y[8];
            UNROLL for (int i = 0; i < 8; i++) x[i] =
                j + i < rows ? _mm256_loadu_ps(from + (j + i) * from_row + c) : _mm256_setzero_ps();
            UNROLL for (int i = 0; i < 8; i += 2) {
                y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int h = 0; h < 2; h++) {
                x[i + 2 * h] = _mm256_shuffle_ps(y[i + h], y[i + h + 2], 0x44);
                x[i + 2 * h + 1] = _mm256_shuffle_ps(y[i + h], y[i + h + 2], 0xee);
            }
            UNROLL for (int i = 0; i < 4; i++) {
                _mm256_storeu_ps(to + (c + i) * width + j, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
                _mm256_storeu_ps(to + (c + i + 4) * width + j, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
            }
        }
}

INLINE float reduce_add_avx2(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float reduce_max_avx2(__m256 x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Two neighbouring products are added in 16 bits, which loses nothing of products up to 127 · 127. */
INLINE __m256i dot_int8_avx2(__m256i sum, __m256i a, __m256i w) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1)));
}

INLINE void store_bytes_avx2(uint8_t *where, __m256i x) {
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *)where, _mm_packus_epi16(words, words));
}

INLINE void store_words_avx2(int16_t *where, __m256i x) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((__m128i *)where, words);
}

#define LANES 8
#define VECTORS 2
#define ACTIVATION_MAX_INT8 127
#define VECTOR __m256
#define INTEGERS __m256i
#define V(name) _mm256_##name
#define NAME(name) name##_avx2
#define ROUND(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define CAST_PS _mm256_castsi256_ps
#define CAST_EPI32 _mm256_castps_si256
#define ZERO_INTEGERS _mm256_setzero_si256()
#define LOAD_INTEGERS(where) _mm256_loadu_si256((const __m256i *)(where))
#define STORE_INTEGERS(where, x) _mm256_storeu_si256((__m256i *)(where), x)
#define STORE_BYTES store_bytes_avx2
#define REDUCE_ADD reduce_add_avx2
#define REDUCE_MAX reduce_max_avx2
#define DOT_INT8 dot_int8_avx2
#define DOT_INT16(sum, a, w) _mm256_add_epi32(sum, _mm256_madd_epi16(a, w))
#define STORE_WORDS store_words_avx2
#define PAIR(first, second) _mm256_blend_epi16(first, _mm256_slli_epi32(second, 16), 0xaa)
#include "encoder.inc"
END_TARGET

/* ---- AVX-512 with VNNI -------------------------------------------------------------------------------------- */

#undef LANES
#undef VECTORS
#undef ACTIVATION_MAX_INT8
#undef VECTOR
#undef INTEGERS
#undef V
#undef NAME
#undef ROUND
#undef CAST_PS
#undef CAST_EPI32
#undef ZERO_INTEGERS
#undef LOAD_INTEGERS
#undef STORE_INTEGERS
#undef STORE_BYTES
#undef REDUCE_ADD
#undef REDUCE_MAX
#undef STORE_WORDS
#undef PAIR
#undef DOT_INT8
#undef DOT_INT16
BEGIN_TARGET("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#define LANES 16
#define VECTORS 4
#define ACTIVATION_MAX_INT8 255
#define VECTOR __m512
#define INTEGERS __m512i
#define V(name) _mm512_##name
#define NAME(name) name##_avx512
#define ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define CAST_PS _mm512_castsi512_ps
#define CAST_EPI32 _mm512_castps_si512
#define ZERO_INTEGERS _mm512_setzero_si512()
#define LOAD_INTEGERS _mm512_loadu_si512
#define STORE_INTEGERS _mm512_storeu_si512
#define STORE_BYTES(where, x) _mm_storeu_si128((__m128i *)(where), _mm512_cvtusepi32_epi8(x))
#define REDUCE_ADD _mm512_reduce_add_ps
#define REDUCE_MAX _mm512_reduce_max_ps
#define DOT_INT8 _mm512_dpbusd_epi32
#define DOT_INT16 _mm512_dpwssd_epi32
#define STORE_WORDS(where, x) _mm256_storeu_si256((__m256i *)(where), _mm512_cvtsepi32_epi16(x))
#define PAIR(first, second) _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16))
#include "encoder.inc"
END_TARGET

/* ---- for any of them ---------------------------------------------------------------------------------------- */

/* 0: none of these; 1: AVX2; 2: AVX-512 with VNNI as well. */
int instruction_set(void) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? 2
               : 1;
}

static void work(void *data) {
    Call *call = data;
    const int64_t thread = call->openmp ? call->openmp->thread() : 0;
    const int64_t threads = call->openmp ? call->openmp->threads() : 1;
    (call->set == 2 ? encode_avx512 : encode_avx2)(call->encoder, call, thread, threads);
}

/* A part of `memory` that begins at a multiple of 64 bytes; without memory only how much is needed is found. */
static void *part(char *memory, int64_t *used, int64_t bytes) {
    void *begin = memory ? memory + *used : 0;
    *used += (bytes + 63) / 64 * 64;
    return begin;
}

static int64_t lay_out(Call *call, int64_t threads, int64_t tokens, int64_t longest, char *memory) {
    const Encoder *e = call->encoder;
    const int64_t widest = e->feed_forward > e->hidden ? e->feed_forward : e->hidden, size = e->hidden / e->heads;
    const int64_t groups = e->format == FP32 ? 0 : widest / e->group_size, width = (longest + 15) / 16 * 16,
                  number = sizeof(float);
    int64_t used = 0;
    call->query_key_value = part(memory, &used, tokens * 3 * e->hidden * number);
    call->query = part(memory, &used, call->sequences * e->hidden * number);
    call->context = part(memory, &used, tokens * e->hidden * number);
    call->next_head = part(memory, &used, e->layers * (int64_t)sizeof(int64_t));
    call->scratch = part(memory, &used, threads * (int64_t)sizeof(ThreadScratch));
    for (int64_t t = 0; t < threads; t++) {
        ThreadScratch scratch = {.wide = part(memory, &used, BLOCK * e->feed_forward * number)};
        scratch.attention = part(memory, &used, (2 * width * size + 12 * width + 16 * size) * number);
        scratch.quantized = part(memory, &used, e->format == FP32 ? 0 : BLOCK * widest * (e->format == INT8 ? 1 : 2));
        scratch.scale = part(memory, &used, BLOCK * groups * number);
        scratch.minimum = part(memory, &used, BLOCK * groups * number);
        if (memory) call->scratch[t] = scratch;
    }
    return used;
}

/* The embeddings of a packed batch, `hidden` [tokens][hidden] → what the encoder makes of them, in their place. With
 * `firsts`, [sequences][hidden], only that of each sequence's first token, there. Returns 0, or -1 without memory. */
int encode(const Encoder *encoder, const OpenMP *openmp, int64_t threads, int set, const int64_t *starts,
           int64_t sequences, float *hidden, float *firsts) {
    Call call = {encoder, threads > 1 ? openmp : 0, set, starts, sequences, hidden, firsts, 0, 0, 0, 0, 0};
    int64_t longest = 0;
    for (int64_t s = 0; s < sequences; s++)
        if (starts[s + 1] - starts[s] > longest) longest = starts[s + 1] - starts[s];
    char *memory = malloc(lay_out(&call, threads, starts[sequences], longest, 0) + 63);
    if (!memory) return -1;
    lay_out(&call, threads, starts[sequences], longest, memory + (64 - (uintptr_t)memory % 64) % 64);
    memset(call.next_head, 0, encoder->layers * sizeof(int64_t));
    if (call.openmp)
        openmp->parallel(work, &call, (unsigned)threads, 0);
    else
        work(&call);
    free(memory);
    return 0;
}

#else
int instruction_set(void) {
    return 0;
}

int encode(const Encoder *encoder, const OpenMP *openmp, int64_t threads, int set, const int64_t *starts,
           int64_t sequences, float *hidden, float *firsts) {
    (void)encoder, (void)openmp, (void)threads, (void)set, (void)starts, (void)sequences, (void)hidden, (void)firsts;
    return -1;
}
#endif
