// How many threads are of use to this process; default_threads() of qkv/threads.h stands on it.
#pragma once

namespace qkv {

// Cores that the thread which asks first may run on, at most the cgroup's CPU quota rounded up; at least 1. Read once.
int available_cores();

// Cores that the CPU quotas of a cgroup and its parents allow, rounded up; 0: no limit. `membership` is the file
// /proc/self/cgroup, `mount` is /sys/fs/cgroup.
int quota_cores(const char* membership, const char* mount);

}  // namespace qkv
