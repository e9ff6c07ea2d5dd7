// Where qkv's threads come from, and how an embedding program puts its own there.
//
// By default qkv keeps one pool for the process. Its threads start when a call first wants them, sleep between calls, are
// joined at exit, and are forgotten in a child process, which starts its own. A call with `threads` = 1 starts none. One call
// at a time has the pool: a second caller, like a call from inside a task, works alone in its own thread.
//
// `threads` = 0 means: as many as the environment variable QKV_NUM_THREADS says (a positive integer, anything else is refused
// with std::invalid_argument), or else one for each core the process may use: those of its affinity mask, at most its
// cgroup's CPU quota. Both are read once. No call uses more than 64 threads, or than there are cores where those are more.
// OMP_NUM_THREADS is not read: qkv does not use OpenMP.
#pragma once

#include <cstdint>

namespace qkv {

// A pool: calls body(data, i) once for each i in [0, count), on at most `threads` (≥ 2) threads, the caller's among them or
// not, and returns when all have ended. body does not throw, may be called from several threads at the same time, and asks
// for no further tasks. The lowest i are best handed out first: where tasks differ, the long ones stand there.
// `context` is what set_parallel_for was given. What the pool itself throws reaches qkv's caller.
using ParallelFor = void (*)(void* context, int threads, std::int64_t count,
                             void (*body)(void* data, std::int64_t index), void* data);

// What `threads` = 0 means, as above. Throws std::invalid_argument if QKV_NUM_THREADS is no positive integer.
int default_threads();

// From now on every task of qkv runs on `pool`; nullptr: on qkv's own again. Not to be called while another thread is inside
// qkv. Results do not depend on the pool, not even in their bits.
void set_parallel_for(ParallelFor pool, void* context);

}  // namespace qkv
