// The one seam to threads. A program that embeds qkv may put its own pool behind it.
#pragma once

#include <cstdint>
#include <functional>

namespace qkv {

// Calls body(i) once for each i in [0, count), on at most `threads` threads (0: all the machine offers), handing out the
// lowest i first; returns when all are done. threads = 1 or count = 1 runs in the caller and starts nothing. If bodies
// throw, one of the exceptions is rethrown after all have ended.
void parallel_for(int threads, std::int64_t count, const std::function<void(std::int64_t)>& body);

// How many threads parallel_for(threads, count, …) would use.
int thread_count(int threads, std::int64_t count);

}  // namespace qkv
