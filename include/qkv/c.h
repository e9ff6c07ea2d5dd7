// The C door to qkv, for C99 and later and for every language that can call C. It does what attention.h, trace.h, isa.h
// and threads.h do in C++, bit for bit; what an option means stands there in more words.
//
//   float *q, *k, *v, *o;                                      // [batch, heads, tokens, dim], dense
//   qkv_tensor query = qkv_dense(q, QKV_F32, 1, 8, 100, 64);
//   qkv_tensor key = qkv_dense(k, QKV_F32, 1, 2, 100, 64);
//   qkv_tensor value = qkv_dense(v, QKV_F32, 1, 2, 100, 64);
//   qkv_options options = QKV_OPTIONS_DEFAULT;
//   options.causal = QKV_BOTTOM_RIGHT;
//   qkv_output output = QKV_OUTPUT_DEFAULT;
//   output.out = qkv_dense(o, QKV_F32, 1, 8, 100, 64);
//   if (qkv_attention(&query, &key, &value, &options, &output) != QKV_OK) puts(qkv_last_error());
//
// Errors. Functions return a status. When it is not QKV_OK, qkv_last_error() says which argument was wrong, what was
// expected and what came. QKV_INVALID_ARGUMENT means that nothing was written. No exception leaves the library, and a null
// pointer where an argument is required is an error like any other.
// Memory is the caller's: nothing is kept after a call, nothing has to be freed. Calls may run side by side in threads.
// Growth. A struct begins with its size in bytes, set by its _DEFAULT or _init. The library takes a struct that is shorter
// than its own for an older one, whose missing fields have their defaults. Fields are only ever added at the end, and with
// them QKV_C_ABI_VERSION grows. qkv_tensor is the exception: it never changes.
#ifndef QKV_C_H
#define QKV_C_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define QKV_C_API __attribute__((visibility("default")))
#else
#define QKV_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define QKV_C_ABI_VERSION 1

// What a function returns.
enum {
  QKV_OK = 0,
  QKV_INVALID_ARGUMENT = 1,
  QKV_NO_MEMORY = 2,
  QKV_FAILED = 3  // anything else
};

// qkv_tensor.dtype
enum {
  QKV_F32 = 0,
  QKV_BOOL = 1,  // one byte, 0 or 1
  QKV_F16 = 2,   // IEEE 754 half
  QKV_BF16 = 3,  // the upper half of a float
  QKV_I8 = 4     // signed, with a scale beside it
};

// qkv_options.causal
enum {
  QKV_NOT_CAUSAL = 0,
  QKV_BOTTOM_RIGHT = 1,  // the last query sees every key
  QKV_TOP_LEFT = 2       // query i sees keys up to i
};

// A view of [batch, heads, tokens, dim]. Strides count elements, not bytes. For query, key, value and out the last one must
// be 1; the others are free (0 repeats an entry of an input, a negative one walks backwards). data must be aligned to its
// elements; it is not written to where the tensor is an input.
typedef struct qkv_tensor {
  void* data;  // null: there is no such tensor
  int32_t dtype;
  int32_t reserved;  // 0
  int64_t shape[4];
  int64_t strides[4];
} qkv_tensor;

// Options of every function that computes scores; a null pointer in their place means the defaults. An array is a pointer
// and how many elements it has; null: not given.
typedef struct qkv_options {
  size_t struct_size;
  // Query i stands at position i + keys − queries (with QKV_TOP_LEFT: i) and sees keys from position − window_left to
  // position + window_right. −1 (default) leaves a side open.
  int64_t window_left, window_right;
  float scale;        // multiplies query·key, if has_scale is 1
  int32_t has_scale;  // 0 (default): the scale is 1/√dim
  float softcap;      // scores become softcap·tanh(scores / softcap); 0 (default): they stay
  int32_t causal;
  int32_t threads;     // to use at most; 0 (default): as many as the machine has
  int32_t reserved;    // 0
  qkv_tensor mask;     // bool, 1 = may attend; [batch, heads_q, queries, keys], a 1 repeats
  qkv_tensor bias;     // float32, added to the scaled scores; shape as mask
  qkv_tensor k_scale;  // for int8 keys, required there: float32, shape of key with
  qkv_tensor v_scale;  // a last dimension of 1; a 1 repeats. v_scale: of values
  const float* sinks;  // [heads_q] logits that join the denominator and have no value
  int64_t sinks_size;
  const float* alibi_slopes;  // [heads_q] adds −slope·|query position − key index|
  int64_t alibi_slopes_size;
  const int32_t* key_lengths;  // [batch] later keys do not exist for this batch entry
  int64_t key_lengths_size;
  // Packed sequences: query [1, heads_q, total, dim] is cut at cu_seqlens_q [n+1] (0, then rising, at last total), key and
  // value at cu_seqlens_k [n+1]. Not with mask or bias.
  const int32_t* cu_seqlens_q;
  int64_t cu_seqlens_q_size;
  const int32_t* cu_seqlens_k;
  int64_t cu_seqlens_k_size;
  // Paged keys: key and value are pools [pages, heads_kv, page, ·]; key k of batch entry b lies in page
  // block_table[b][k / page]. [batch, pages of an entry], with key_lengths.
  const int32_t* block_table;
  int64_t block_table_size;
} qkv_options;

// What each query looked at. The caller says what is wanted by giving arrays; each may be null. p is a weight after the
// softmax, sink in the denominator. A row with no visible key: lse and max −inf, entropy and remainder 0, no top keys.
//
//   qkv_trace trace = QKV_TRACE_DEFAULT;
//   trace.top = 4;
//   qkv_trace_sizes(&query, &key, &options, &trace);           // fills rows, tops, columns, blocks
//   trace.top_keys = malloc(trace.tops * sizeof *trace.top_keys);
//   output.trace = &trace;                                     // then call qkv_attention
typedef struct qkv_trace {
  size_t struct_size;
  int32_t top;    // keys to report for each query, 0 to 1024
  int32_t block;  // side of the block map's squares, in tokens; 0: no map
  // Elements that each array of a kind has. An array given with another number than qkv_trace_sizes() says is refused.
  int64_t rows;     // batch·heads_q·queries (packed: heads_q·total)
  int64_t tops;     // rows·top
  int64_t columns;  // batch·heads_q·keys (packed: heads_q·total of the keys)
  int64_t blocks;   // batch·heads_q·⌈queries/block⌉·⌈keys/block⌉
  // [rows]
  float* lse;        // ln Σ e^score, sink included
  float* max;        // largest score over keys
  float* entropy;    // −Σ p·ln p in nats; effective keys = e^entropy
  float* remainder;  // 1 − Σ top_weights
  // [tops], [rows][top]: largest weight first, ties to the lower index
  int32_t* top_keys;   // unused: −1
  float* top_weights;  // unused: 0
  // [columns]
  float* received;   // Σ p over the queries
  int32_t* visible;  // how many queries could see the key
  // [blocks]
  float* block_mass;  // Σ p over the square
  float* block_max;   // largest p in it
  // Written by qkv_trace_sizes() and qkv_attention(); of packed sequences, their number and the longest.
  int64_t batch, heads, queries, keys;
} qkv_trace;

typedef struct qkv_output {
  size_t struct_size;
  // [batch, heads_q, queries, dim of value] (packed: [1, heads_q, total, ·]) of QKV_F32, QKV_F16 or QKV_BF16, required.
  qkv_tensor out;
  float* lse;  // [batch, heads_q, queries] (packed: [heads_q, total]), or null
  int64_t lse_size;
  qkv_trace* trace;  // or null
} qkv_output;

// What qkv_attention() left: one part of a split attention for qkv_merge(), or the forward pass for
// qkv_attention_backward(). In an array all parts have the same struct_size.
typedef struct qkv_part {
  size_t struct_size;
  qkv_tensor out;
  const float* lse;
  int64_t lse_size;
} qkv_part;

// What qkv_attention_backward() writes; each is optional, with the shape of what it is the gradient of.
typedef struct qkv_gradients {
  size_t struct_size;
  qkv_tensor d_query, d_key, d_value;  // QKV_F32, QKV_F16 or QKV_BF16
  qkv_tensor d_bias;                   // float32, of options.bias: repeated entries hold the sum
  float* d_sinks;                      // [heads_q]
  int64_t d_sinks_size;
} qkv_gradients;

#define QKV_NO_TENSOR                           \
  {                                             \
    0, QKV_F32, 0, {0, 0, 0, 0}, { 0, 0, 0, 0 } \
  }
#define QKV_OPTIONS_DEFAULT                                                                   \
  {                                                                                           \
    sizeof(qkv_options), -1, -1, 0, 0, 0, QKV_NOT_CAUSAL, 0, 0, QKV_NO_TENSOR, QKV_NO_TENSOR, \
        QKV_NO_TENSOR, QKV_NO_TENSOR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                      \
  }
#define QKV_TRACE_DEFAULT \
  { sizeof(qkv_trace), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define QKV_OUTPUT_DEFAULT \
  { sizeof(qkv_output), QKV_NO_TENSOR, 0, 0, 0 }
#define QKV_PART_DEFAULT \
  { sizeof(qkv_part), QKV_NO_TENSOR, 0, 0 }
#define QKV_GRADIENTS_DEFAULT \
  { sizeof(qkv_gradients), QKV_NO_TENSOR, QKV_NO_TENSOR, QKV_NO_TENSOR, QKV_NO_TENSOR, 0, 0 }

// The same for languages without C's macros; struct_size is what the caller has allocated.
QKV_C_API int qkv_options_init(qkv_options* options, size_t struct_size);
QKV_C_API int qkv_trace_init(qkv_trace* trace, size_t struct_size);
QKV_C_API int qkv_output_init(qkv_output* output, size_t struct_size);
QKV_C_API int qkv_part_init(qkv_part* part, size_t struct_size);
QKV_C_API int qkv_gradients_init(qkv_gradients* gradients, size_t struct_size);

// A densely packed tensor.
static inline qkv_tensor qkv_dense(const void* data, int32_t dtype, int64_t batch, int64_t heads,
                                   int64_t tokens, int64_t dim) {
  qkv_tensor t = QKV_NO_TENSOR;
  t.data = (void*)(uintptr_t)data;  // -Wcast-qual: inputs are not written to
  t.dtype = dtype;
  t.shape[0] = batch, t.shape[1] = heads, t.shape[2] = tokens, t.shape[3] = dim;
  t.strides[3] = 1, t.strides[2] = dim, t.strides[1] = tokens * dim;
  t.strides[0] = heads * tokens * dim;
  return t;
}

// softmax(query·keyᵀ·scale …)·value. query [batch, heads_q, queries, dim], key [batch, heads_kv, keys, dim], value
// [batch, heads_kv, keys, dim of value]; heads_q a multiple of heads_kv, both dims 1 to 1024. All three of one float type,
// or key and value int8. No output may overlap an input or another output.
QKV_C_API int qkv_attention(const qkv_tensor* query, const qkv_tensor* key, const qkv_tensor* value,
                            const qkv_options* options, const qkv_output* output);

// Fills rows, tops, columns and blocks, batch, heads, queries and keys of `trace` from trace->top and trace->block.
QKV_C_API int qkv_trace_sizes(const qkv_tensor* query, const qkv_tensor* key,
                              const qkv_options* options, qkv_trace* trace);

// Gradients of Σ out·d_out + Σ lse·d_lse; forward is what qkv_attention() left of the same call, d_out has the shape of out,
// d_lse [d_lse_size] that of lse (or null). No int8, no pages.
QKV_C_API int qkv_attention_backward(const qkv_tensor* query, const qkv_tensor* key,
                                     const qkv_tensor* value, const qkv_options* options,
                                     const qkv_part* forward, const qkv_tensor* d_out,
                                     const float* d_lse, int64_t d_lse_size,
                                     const qkv_gradients* gradients);

// Attention over the union of the parts' keys. output->trace is not used. out and lse may be those of a part, exactly; else
// they must not overlap one.
QKV_C_API int qkv_merge(const qkv_part* parts, int64_t parts_size, const qkv_output* output);

// The exact weights of queries [query_begin, query_end) for keys [key_begin, key_end), from the lse [batch, heads_q, queries]
// of the whole rows. out: QKV_F32 [batch, heads_q, query_end − query_begin, key_end − key_begin].
QKV_C_API int qkv_weights(const qkv_tensor* query, const qkv_tensor* key,
                          const qkv_options* options, const float* lse, int64_t lse_size,
                          int64_t query_begin, int64_t query_end, int64_t key_begin,
                          int64_t key_end, const qkv_tensor* out);

// A pool of the program's own: calls task(data, i) once for each i in [0, count), on at most `threads` (2 or more) threads, the
// caller's among them or not, and returns when all have ended. Tasks run side by side, and ask for no further tasks. The lowest
// i are best handed out first: where tasks differ, the long ones stand there. `context` is what qkv_set_parallel_for() was
// given.
typedef void (*qkv_parallel_for)(void* context, int threads, int64_t count,
                                 void (*task)(void* data, int64_t index), void* data);
// From now on every task of qkv runs on `pool`; null: on qkv's own threads again, which sleep between calls. Not to be called
// while another thread is inside qkv. Results do not depend on the pool, not even in their bits.
QKV_C_API void qkv_set_parallel_for(qkv_parallel_for pool, void* context);
// What `threads` = 0 means: QKV_NUM_THREADS of the environment, else one for each core that the process may use. 0, with an
// error, if QKV_NUM_THREADS is no positive integer.
QKV_C_API int qkv_default_threads(void);

// What went wrong in this thread's last call that did not return QKV_OK; "" if there was none. Valid until the next such.
QKV_C_API const char* qkv_last_error(void);

// "avx512", "avx2", "neon" or "scalar": the best this CPU has, or what the environment variable QKV_ISA names. Null, with
// an error, if that is unknown or not supported.
QKV_C_API const char* qkv_isa(void);
// Those that this build holds and this CPU runs, best first; null from their number on.
QKV_C_API const char* qkv_supported_isa(int index);
// "major.minor.patch" of the library.
QKV_C_API const char* qkv_version(void);
// QKV_C_ABI_VERSION of the library.
QKV_C_API int qkv_c_abi_version(void);

#ifdef __cplusplus
}
#endif

#endif  // QKV_C_H
