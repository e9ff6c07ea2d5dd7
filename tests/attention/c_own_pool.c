// A program in C puts its own threads under qkv: tests/attention/c_test.cc runs it.
#include <pthread.h>
#include <string.h>

#include "qkv/c.h"

// Null if all is well, else what is not.
const char* qkv_c_own_pool(void);

struct pool {
  int calls, threads;
  int64_t count;
};

struct half {
  void (*task)(void* data, int64_t index);
  void* data;
  int64_t first, count;
};

static void* run_half(void* context) {
  const struct half* h = context;
  for (int64_t i = h->first; i < h->count; i += 2) h->task(h->data, i);
  return NULL;
}

// Even indices in the caller, odd ones in a thread that lives as long as the call.
static void run_in_two(void* context, int threads, int64_t count,
                       void (*task)(void* data, int64_t index), void* data) {
  struct pool* p = context;
  struct half even = {task, data, 0, count};
  struct half odd = {task, data, 1, count};
  pthread_t other;
  const int started = pthread_create(&other, NULL, run_half, &odd) == 0;
  p->calls += 1;
  p->threads = threads;
  p->count = count;
  run_half(&even);
  if (started)
    pthread_join(other, NULL);
  else
    run_half(&odd);
}

enum { kHeads = 4, kKeys = 3, kDim = 2 };

static int weights(float* out) {
  float query[kHeads * kDim], key[kHeads * kKeys * kDim], lse[kHeads];
  for (int i = 0; i < kHeads * kDim; ++i) query[i] = 0.5f * (float)i;
  for (int i = 0; i < kHeads * kKeys * kDim; ++i) key[i] = 0.25f * (float)(i % 5);
  for (int i = 0; i < kHeads; ++i) lse[i] = (float)i;
  const qkv_tensor q = qkv_dense(query, QKV_F32, 1, kHeads, 1, kDim);
  const qkv_tensor k = qkv_dense(key, QKV_F32, 1, kHeads, kKeys, kDim);
  const qkv_tensor to = qkv_dense(out, QKV_F32, 1, kHeads, 1, kKeys);
  qkv_options options = QKV_OPTIONS_DEFAULT;
  options.threads = 2;
  return qkv_weights(&q, &k, &options, lse, kHeads, 0, 1, 0, kKeys, &to);
}

const char* qkv_c_own_pool(void) {
  float ours[kHeads * kKeys], own[kHeads * kKeys];
  struct pool pool = {0, 0, 0};
  if (qkv_default_threads() < 1) return qkv_last_error();
  if (weights(ours) != QKV_OK) return qkv_last_error();
  qkv_set_parallel_for(run_in_two, &pool);
  const int status = weights(own);
  qkv_set_parallel_for(NULL, NULL);
  if (status != QKV_OK) return qkv_last_error();
  if (pool.calls != 1 || pool.threads != 2 || pool.count != kHeads)
    return "the pool was not asked once, for two threads and a task for each head";
  if (memcmp(ours, own, sizeof own) != 0) return "the pool changes the result";
  if (weights(own) != QKV_OK) return qkv_last_error();
  return pool.calls == 1 ? NULL : "the pool is asked after it was taken away";
}
